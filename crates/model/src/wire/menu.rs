//! The tools as a model sees them: a line for each, and a schema that asks for their typed inputs.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use foreplan_core::{
    derive::{made_by, needed_by},
    tool::{Inventory, ToolDescriptor},
};
use serde_json::{Map, Value, json};

use super::strict::{admits_null, cut, is_required, object, or_null, resolve, strict};

/// Tools that one prompt shows. More of them cost more tokens than the steps that they make, and
/// models choose worse among them.
pub const TOOLS_MAX: usize = 64;

/// Fields of all typed inputs together; the inputs of tools beyond are asked for as JSON text.
const FIELDS_MAX: usize = 1_000;

/// How deep the type of an input or output is written out.
const TYPE_DEPTH_MAX: usize = 3;

/// Longest type of an input or output, in characters.
const TYPE_CHARS_MAX: usize = 400;

/// Words shorter than this say nothing about a tool.
const WORD_CHARS_MIN: usize = 3;

/// Types of plain values, each of which a form says once.
const SCALARS: [&str; 4] = ["boolean", "integer", "number", "string"];

/// The tools that a prompt shows.
#[derive(Clone, Debug)]
pub struct Menu {
    tools: Vec<Arc<ToolDescriptor>>,
    all: usize,
}

impl Menu {
    /// Chooses what is shown of an inventory: everything, if it fits. Else `used` first, then the
    /// tools that share most words with `about`, each with the tools that produce what it needs, up
    /// to [`TOOLS_MAX`]; equals in the order of their names.
    #[must_use]
    pub fn choose(inventory: &Inventory, about: &str, used: &BTreeSet<&str>) -> Self {
        let all: Vec<Arc<ToolDescriptor>> = inventory.tools().cloned().collect();
        if all.len() <= TOOLS_MAX {
            return Self { all: all.len(), tools: all };
        }
        let about = words(about);
        let rank = |tool: &ToolDescriptor| {
            let own = words(&format!("{} {}", tool.name, tool.description));
            (used.contains(tool.name.as_str()), own.intersection(&about).count())
        };
        let mut ranked: Vec<usize> = (0..all.len()).collect();
        ranked.sort_by_key(|at| std::cmp::Reverse(rank(&all[*at])));
        let mut chosen: BTreeSet<usize> = BTreeSet::new();
        for at in ranked {
            take(at, &all, &mut chosen);
        }
        Self { tools: chosen.iter().map(|at| Arc::clone(&all[*at])).collect(), all: all.len() }
    }

    /// Returns the tools, in the order of their names.
    #[must_use]
    pub fn tools(&self) -> &[Arc<ToolDescriptor>] {
        &self.tools
    }

    /// Returns how many tools of the inventory are not shown.
    #[must_use]
    pub fn hidden(&self) -> usize {
        self.all - self.tools.len()
    }

    /// Returns one line for each tool: `load(path: string) -> {rows: [any]} · read · local: Reads rows`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.tools.iter().map(|tool| line(tool)).collect()
    }

    /// Returns the names of the tools.
    pub(super) fn names(&self) -> Vec<&str> {
        self.tools.iter().map(|tool| tool.name.as_str()).collect()
    }

    /// Returns the capabilities that serve the tools.
    pub(super) fn capabilities(&self) -> BTreeSet<&str> {
        self.tools.iter().flat_map(|tool| &tool.capabilities).map(|capability| capability.as_str()).collect()
    }

    /// Returns the schema of each tool's input, every value a literal or a reference.
    pub(super) fn inputs(&self) -> Inputs<'_> {
        let (mut left, mut scalars) = (FIELDS_MAX, BTreeSet::new());
        let mut input = |tool: &'_ Arc<ToolDescriptor>| {
            typed(&tool.input, &mut left, &mut scalars).unwrap_or_else(|| reference("json"))
        };
        let inputs: Vec<Value> = self.tools.iter().map(&mut input).collect();
        Inputs { of_tools: self.names().into_iter().zip(inputs).collect(), scalars }
    }
}

/// The schemas of the tools' inputs.
pub(super) struct Inputs<'m> {
    /// Each tool's, by its name.
    pub(super) of_tools: Vec<(&'m str, Value)>,
    /// The types of plain values that they refer to.
    pub(super) scalars: BTreeSet<&'static str>,
}

/// Takes a tool, and what makes what it needs, while there is room.
fn take(at: usize, all: &[Arc<ToolDescriptor>], chosen: &mut BTreeSet<usize>) {
    let mut open = vec![at];
    while let Some(at) = open.pop() {
        if chosen.len() >= TOOLS_MAX || !chosen.insert(at) {
            continue;
        }
        for need in needed_by(&all[at]) {
            let makes = |tool: &ToolDescriptor| made_by(tool).iter().any(|made| made.artifact == need);
            let known = chosen.iter().any(|at| makes(&all[*at]));
            if !known && let Some(producer) = all.iter().position(|tool| makes(tool)) {
                open.push(producer);
            }
        }
    }
}

fn words(text: &str) -> HashSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .map(|word| word.to_lowercase().trim_end_matches('s').to_owned())
        .filter(|word| word.chars().count() >= WORD_CHARS_MIN)
        .collect()
}

fn line(tool: &ToolDescriptor) -> String {
    let capabilities: Vec<&str> = tool.capabilities.iter().map(|capability| capability.as_str()).collect();
    let description = tool.description.split_whitespace().collect::<Vec<_>>().join(" ");
    let description = if description.is_empty() { description } else { format!(": {description}") };
    format!(
        "{}{} -> {} · {} · {}{description}",
        tool.name,
        parameters(&tool.input),
        shortened(type_text(&tool.output, &tool.output, 0)),
        tool.effect.as_str(),
        capabilities.join("|"),
    )
}

fn parameters(input: &Value) -> String {
    let text = shortened(type_text(input, input, 0));
    match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        Some(fields) => format!("({fields})"),
        None => format!("({text})"),
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(TYPE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Returns a schema as a type that people write: `{rows: [string], total?: integer}`.
#[must_use]
pub fn type_text(root: &Value, schema: &Value, depth: usize) -> String {
    let schema = resolve(root, schema);
    if depth > TYPE_DEPTH_MAX {
        return "…".to_owned();
    }
    if let Some(only) = schema.get("const") {
        return only.to_string();
    }
    let joined = |values: &[Value], text: &dyn Fn(&Value) -> String| {
        values.iter().map(text).collect::<Vec<_>>().join("|")
    };
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return joined(values, &ToString::to_string);
    }
    if let Some(parts) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        return joined(parts, &|part| type_text(root, part, depth + 1));
    }
    match schema.get("type") {
        Some(Value::Array(kinds)) => joined(kinds, &|kind| kind.as_str().unwrap_or("any").to_owned()),
        Some(Value::String(kind)) if kind == "array" => match schema.get("items") {
            Some(items) => format!("[{}]", type_text(root, items, depth + 1)),
            None => "[any]".to_owned(),
        },
        Some(Value::String(kind)) if kind == "object" => match schema.get("properties") {
            Some(Value::Object(properties)) => fields_text(root, schema, properties, depth),
            _ => "object".to_owned(),
        },
        Some(Value::String(kind)) => kind.clone(),
        _ if schema.get("properties").is_some() => type_text(root, &with_type(schema), depth),
        _ => "any".to_owned(),
    }
}

fn with_type(schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema["type"] = "object".into();
    schema
}

fn fields_text(root: &Value, schema: &Value, properties: &Map<String, Value>, depth: usize) -> String {
    let field = |(name, property): (&String, &Value)| {
        let optional = if is_required(schema, name) { "" } else { "?" };
        format!("{name}{optional}: {}", type_text(root, property, depth + 1))
    };
    format!("{{{}}}", properties.iter().map(field).collect::<Vec<_>>().join(", "))
}

/// Returns the schema of a typed input; `None` if the tool takes any field, or there is no room.
fn typed(input: &Value, left: &mut usize, scalars: &mut BTreeSet<&'static str>) -> Option<Value> {
    let root = input;
    let input = resolve(root, input);
    let empty = Map::new();
    let properties = match input.get("properties") {
        Some(properties) => properties.as_object()?,
        None if input.get("additionalProperties") == Some(&Value::Bool(false)) => &empty,
        None => return None,
    };
    *left = left.checked_sub(properties.len())?;
    let field = |(name, property): (&String, &Value)| {
        (name.clone(), value_schema(root, property, !is_required(input, name), scalars))
    };
    Some(object(properties.iter().map(field)))
}

/// Returns the schema of one value: a literal, a reference, or a template where text is wanted.
fn value_schema(
    root: &Value,
    property: &Value,
    optional: bool,
    scalars: &mut BTreeSet<&'static str>,
) -> Value {
    let mut with_definitions = resolve(root, property).clone();
    for key in ["$defs", "definitions"] {
        if let (Some(definitions), Value::Object(fields)) = (root.get(key), &mut with_definitions) {
            fields.entry(key).or_insert_with(|| definitions.clone());
        }
    }
    let description = with_definitions.get("description").and_then(Value::as_str).map(cut);
    let literal = strict(&with_definitions).map(without_description);
    let scalar =
        literal.as_ref().and_then(|literal| SCALARS.into_iter().find(|name| *literal == of_type(name)));
    scalars.extend(scalar);
    let mut ways = match (scalar, literal) {
        (Some(scalar), _) => vec![reference(scalar)],
        (None, Some(literal)) => ways(literal, admits_text(&with_definitions)),
        (None, None) if admits_text(&with_definitions) => {
            vec![reference("ref"), reference("template"), reference("json")]
        }
        (None, None) => vec![reference("ref"), reference("json")],
    };
    if optional {
        ways.push(json!({"type": "null"}));
    }
    match (description, ways.len()) {
        (Some(text), _) => json!({"anyOf": ways, "description": text}),
        (None, 1) => ways.remove(0),
        (None, _) => json!({"anyOf": ways}),
    }
}

/// Returns the ways to write a value: as itself, as a reference, and as a template where text is wanted.
fn ways(literal: Value, admits_text: bool) -> Vec<Value> {
    let mut ways = vec![reference("ref")];
    if admits_text {
        ways.push(reference("template"));
    }
    ways.push(object([("value".to_owned(), literal)]));
    ways
}

fn of_type(name: &str) -> Value {
    json!({"type": name})
}

fn without_description(mut schema: Value) -> Value {
    if let Value::Object(fields) = &mut schema {
        fields.remove("description");
    }
    schema
}

fn admits_text(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
        Some(kind) => kind == "string",
        None => !admits_null(schema) && schema.get("enum").is_none() && schema.get("const").is_none(),
    }
}

fn reference(definition: &str) -> Value {
    json!({"$ref": format!("#/$defs/{definition}")})
}

/// Returns the definitions that the schemas of values refer to: the ways, and these plain values.
pub(super) fn value_definitions(scalars: &BTreeSet<&'static str>) -> Vec<(String, Value)> {
    let text = |name: &str, what: &str| {
        let field = json!({"type": "string", "description": what});
        (name.to_owned(), object([(name.to_owned(), field)]))
    };
    let scalar = |name: &&str| ((*name).to_owned(), json!({"anyOf": ways(of_type(name), *name == "string")}));
    let mut definitions = vec![
        text("ref", "step.field, or params.name"),
        text("template", "text with {{ step.field }} in it"),
        text("json", "JSON as text; inside, {\"$ref\": \"step.field\"} stands for a value"),
    ];
    definitions.extend(scalars.iter().map(scalar));
    definitions
}

/// Returns the schema of a value that nothing is known of.
pub(super) fn any_value() -> Value {
    json!({"anyOf": [reference("ref"), reference("template"), reference("json")]})
}

/// Returns the schema of a value that may be left out.
pub(super) fn any_value_or_null() -> Value {
    or_null(any_value())
}

#[cfg(test)]
mod tests {
    use foreplan_core::digest::Digest;

    use super::*;

    fn tool(name: &str, description: &str, input: Value, output: Value) -> ToolDescriptor {
        serde_json::from_value(json!({
            "name": name, "description": description, "input": input, "output": output, "effect": "read",
            "capabilities": ["local"], "digest": Digest::of_bytes(b""), "cost": 1,
        }))
        .unwrap()
    }

    fn object_of(required: &str) -> Value {
        json!({"type": "object", "required": [required], "properties": {required: {"type": "string"}}})
    }

    #[test]
    fn a_tool_is_one_line_with_its_types() {
        let input = json!({"type": "object", "required": ["path"], "properties": {
            "path": {"type": "string"}, "depth": {"type": ["integer", "null"]},
        }});
        let output = json!({"type": "object", "required": ["rows"], "properties": {
            "rows": {"type": "array", "items": {"type": "object", "properties": {"id": {"enum": ["a", 1]}}}},
        }});
        let inventory = Inventory::from_iter([tool("load", "Reads\n rows", input, output)]);
        let menu = Menu::choose(&inventory, "", &BTreeSet::new());
        assert_eq!(
            menu.lines(),
            [
                "load(path: string, depth?: integer|null) -> {rows: [{id?: \"a\"|1}]} · read · local: Reads rows"
            ]
        );
    }

    #[test]
    fn a_typed_input_takes_a_literal_or_a_reference_for_each_field_and_a_loose_one_takes_json() {
        let input = json!({"type": "object", "required": ["n"], "properties": {
            "n": {"type": "integer"}, "rows": {"type": "array"}, "kind": {"enum": ["a", "b"]},
            "name": {"type": "string", "description": "whose"},
        }});
        let inventory =
            Inventory::from_iter([tool("a", "", input, json!({})), tool("b", "", json!({}), json!({}))]);
        let inputs = Menu::choose(&inventory, "", &BTreeSet::new());
        let Inputs { of_tools: inputs, scalars } = inputs.inputs();
        let fields = &inputs[0].1["properties"];
        assert_eq!(fields["n"], json!({"$ref": "#/$defs/integer"}));
        let name = json!({"anyOf": [{"$ref": "#/$defs/string"}, {"type": "null"}], "description": "whose"});
        assert_eq!(fields["name"], name);
        let literal = |schema: Value| object([("value".to_owned(), schema)]);
        let kind = literal(json!({"enum": ["a", "b"]}));
        assert_eq!(fields["kind"], json!({"anyOf": [{"$ref": "#/$defs/ref"}, kind, {"type": "null"}]}));
        let definitions: Map<String, Value> = value_definitions(&scalars).into_iter().collect();
        let integer = literal(json!({"type": "integer"}));
        assert_eq!(definitions["integer"], json!({"anyOf": [{"$ref": "#/$defs/ref"}, integer]}));
        let text = literal(json!({"type": "string"}));
        assert_eq!(
            definitions["string"],
            json!({"anyOf": [{"$ref": "#/$defs/ref"}, {"$ref": "#/$defs/template"}, text]})
        );
        assert!(!definitions.contains_key("boolean"));
        assert_eq!(
            fields["rows"],
            json!({"anyOf": [{"$ref": "#/$defs/ref"}, {"$ref": "#/$defs/json"}, {"type": "null"}]})
        );
        assert_eq!(inputs[1].1, json!({"$ref": "#/$defs/json"}));
    }

    #[test]
    fn of_a_large_inventory_the_tools_in_use_and_those_the_goal_speaks_of_are_shown_with_their_producers() {
        let mut tools: Vec<ToolDescriptor> =
            (0..200).map(|at| tool(&format!("other_{at}"), "nothing", json!({}), json!({}))).collect();
        tools.push(tool("weekly", "Writes the ticket report", object_of("counts"), json!({})));
        tools.push(tool("zz_count", "", json!({}), object_of("counts")));
        tools.push(tool("zz_used", "", json!({}), json!({})));
        let inventory = Inventory::from_iter(tools);
        let menu = Menu::choose(&inventory, "a report of all tickets", &BTreeSet::from(["zz_used"]));
        let names = menu.names();
        assert_eq!(names.len(), TOOLS_MAX);
        assert_eq!(menu.hidden(), 203 - TOOLS_MAX);
        for name in ["weekly", "zz_count", "zz_used"] {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
    }
}
