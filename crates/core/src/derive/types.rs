//! What two tools mean by one artifact: their JSON types, where the schemas say them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Error,
    graph::{Graph, Tool},
    knuth::Best,
};

/// A set of JSON types; a bit for each of [`NAMES`].
type Types = u8;

const NAMES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
const NULL: Types = 1;
const INTEGER: Types = 1 << 2;
const NUMBER: Types = 1 << 3;

/// How many references in a row are followed: a schema has one or two.
const REFERENCES_MAX: usize = 8;

/// Refuses a graph where two tools that could take part in the plan, as producers or consumers,
/// have types for one artifact that nothing satisfies both.
pub(super) fn check(
    graph: &Graph<'_>,
    wanted: &BTreeSet<usize>,
    trees: &[Option<Best>],
) -> Result<(), Error> {
    let usable = |tool: &usize| graph.tools[*tool].needs.iter().all(|need| trees[*need].is_some());
    let mut seen = BTreeSet::new();
    let mut open: Vec<usize> = wanted.iter().copied().collect();
    let mut tools = BTreeSet::new();
    while let Some(artifact) = open.pop() {
        if graph.artifacts[artifact].given.is_some() || !seen.insert(artifact) {
            continue;
        }
        for &tool in graph.artifacts[artifact].producers.iter().filter(|tool| usable(tool)) {
            tools.insert(tool);
            open.extend(&graph.tools[tool].needs);
        }
    }
    seen.iter().try_for_each(|artifact| check_artifact(graph, *artifact, &tools))
}

fn check_artifact(graph: &Graph<'_>, at: usize, tools: &BTreeSet<usize>) -> Result<(), Error> {
    let artifact = &graph.artifacts[at];
    let made =
        artifact.producers.iter().filter(|t| tools.contains(t)).map(|t| (*t, made(&graph.tools[*t], at)));
    let used = artifact
        .consumers
        .iter()
        .filter(|t| tools.contains(t))
        .map(|t| (*t, property(&graph.tools[*t].descriptor.input, &artifact.name)));
    let mut known: Vec<(usize, Types)> = Vec::new();
    for (tool, types) in made.chain(used).filter_map(|(tool, types)| Some((tool, types?))) {
        if let Some((first, first_types)) = known.iter().find(|(_, earlier)| !overlap(*earlier, types)) {
            return Err(Error::Conflict {
                artifact: artifact.name.clone(),
                first: graph.tools[*first].descriptor.name.clone(),
                first_type: describe(*first_types),
                second: graph.tools[tool].descriptor.name.clone(),
                second_type: describe(types),
            });
        }
        known.push((tool, types));
    }
    Ok(())
}

fn made(tool: &Tool<'_>, artifact: usize) -> Option<Types> {
    let (_, field) = tool.makes.iter().find(|(made, _)| *made == artifact)?;
    property(&tool.descriptor.output, field)
}

fn property(schema: &Value, name: &str) -> Option<Types> {
    types(schema, resolve(schema, schema).get("properties")?.get(name)?)
}

/// Returns the schema that a local reference leads to, or the schema itself.
pub(super) fn resolve<'v>(root: &'v Value, schema: &'v Value) -> &'v Value {
    let mut at = schema;
    for _ in 0..REFERENCES_MAX {
        let Some(pointer) = at.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')) else {
            break;
        };
        let Some(target) = root.pointer(pointer) else { break };
        at = target;
    }
    at
}

/// Returns the types that a schema allows; `None` where it does not say.
fn types(root: &Value, schema: &Value) -> Option<Types> {
    let schema = resolve(root, schema);
    let named = |name: &Value| -> Option<Types> {
        let at = NAMES.iter().position(|n| name.as_str() == Some(n))?;
        Some(1 << at)
    };
    let all = |parts: &Value, of: &dyn Fn(&Value) -> Option<Types>| -> Option<Types> {
        parts.as_array()?.iter().try_fold(0, |types, part| Some(types | of(part)?))
    };
    if let Some(name) = schema.get("type") {
        return if name.is_array() { all(name, &named) } else { named(name) };
    }
    if let Some(value) = schema.get("const") {
        return Some(type_of(value));
    }
    if let Some(values) = schema.get("enum") {
        return all(values, &|value| Some(type_of(value)));
    }
    let parts = schema.get("anyOf").or_else(|| schema.get("oneOf"))?;
    // A part that leads back to this schema by reference would never end; it says nothing.
    all(parts, &|part| {
        if part.get("$ref").is_some() { direct(resolve(root, part)) } else { types(root, part) }
    })
}

fn direct(schema: &Value) -> Option<Types> {
    schema.get("type").filter(|name| name.is_string()).and_then(|_| types(schema, schema))
}

fn type_of(value: &Value) -> Types {
    let at = match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(n) if n.is_i64() || n.is_u64() => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    };
    1 << at
}

/// Returns whether a value can have both. That both may be null is no agreement.
fn overlap(a: Types, b: Types) -> bool {
    let widen = |types: Types| if types & NUMBER == 0 { types } else { types | INTEGER };
    let common = widen(a) & widen(b);
    let only_null = a == NULL || b == NULL;
    if only_null { common != 0 } else { common & !NULL != 0 }
}

fn describe(types: Types) -> String {
    let names: Vec<&str> =
        NAMES.iter().enumerate().filter(|(at, _)| types & (1 << at) != 0).map(|(_, name)| *name).collect();
    names.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_are_read_through_references_and_unions() {
        let root = json!({"$defs": {"row": {"type": "object"}}});
        assert_eq!(types(&root, &json!({"$ref": "#/$defs/row"})).map(describe).as_deref(), Some("object"));
        let optional = json!({"anyOf": [{"$ref": "#/$defs/row"}, {"type": "null"}]});
        assert_eq!(types(&root, &optional).map(describe).as_deref(), Some("null or object"));
        assert_eq!(
            types(&root, &json!({"enum": ["a", 1]})).map(describe).as_deref(),
            Some("integer or string")
        );
        assert_eq!(types(&root, &json!({"minLength": 1})), None);
        assert_eq!(types(&root, &json!(true)), None);
    }

    #[test]
    fn an_integer_is_a_number_and_two_optional_values_agree_in_more_than_null() {
        let of = |schema: Value| types(&schema, &schema).unwrap();
        assert!(overlap(of(json!({"type": "integer"})), of(json!({"type": "number"}))));
        assert!(!overlap(of(json!({"type": ["string", "null"]})), of(json!({"type": ["array", "null"]}))));
    }
}
