//! JSON Schemas in the form that providers' strict modes take: closed objects whose fields are all
//! required, no keyword beyond types, enumerations and alternatives. What cannot be said in that
//! form is asked for as JSON text and checked the same.

use serde_json::{Map, Value, json};

/// How deep a schema may nest: providers allow five levels below what is around it.
const DEPTH_MAX: usize = 5;

/// Fields and alternatives of one schema: providers allow some thousands for all of them together.
const PARTS_MAX: usize = 100;

/// Longest enumeration that is passed on; the check knows the longer ones.
const ENUM_MAX: usize = 50;

/// Longest description that is passed on, in characters.
const DESCRIPTION_CHARS_MAX: usize = 120;

/// Returns the strict form of `schema`; `None` if there is none.
#[must_use]
pub(super) fn strict(schema: &Value) -> Option<Value> {
    Strict { root: schema, parts: 0 }.of(schema, 0)
}

/// Returns a closed object with these fields, all required.
#[must_use]
pub(super) fn object(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    let properties: Map<String, Value> = fields.into_iter().collect();
    let required: Vec<&String> = properties.keys().collect();
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

/// Returns a schema that also admits null.
#[must_use]
pub(super) fn or_null(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// Takes out of a value in the strict form of `schema` the nulls that stand for fields left out.
#[must_use]
pub(super) fn without_absent(value: Value, schema: &Value) -> Value {
    prune(value, schema, schema, 0)
}

/// Returns whether `schema` admits null itself.
#[must_use]
pub(super) fn admits_null(schema: &Value) -> bool {
    let named = |kind: &Value| kind == "null";
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(named),
        Some(kind) => named(kind),
        None => {
            let alternatives = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key)?.as_array());
            let listed = schema.get("enum").and_then(Value::as_array);
            alternatives.flatten().any(admits_null)
                || listed.is_some_and(|values| values.contains(&Value::Null))
        }
    }
}

/// Returns the schema that a local reference leads to, or the schema itself.
#[must_use]
pub(super) fn resolve<'v>(root: &'v Value, schema: &'v Value) -> &'v Value {
    let mut at = schema;
    for _ in 0..DEPTH_MAX {
        let target =
            at.get("$ref").and_then(Value::as_str).and_then(|to| root.pointer(to.strip_prefix('#')?));
        match target {
            Some(target) => at = target,
            None => break,
        }
    }
    at
}

struct Strict<'a> {
    root: &'a Value,
    parts: usize,
}

impl Strict<'_> {
    fn of(&mut self, schema: &Value, depth: usize) -> Option<Value> {
        self.parts += 1;
        if depth > DEPTH_MAX || self.parts > PARTS_MAX {
            return None;
        }
        let schema = resolve(self.root, schema);
        if schema.get("$ref").is_some() || schema.get("allOf").is_some() {
            return None;
        }
        let mut made = self.form(schema, depth)?;
        if let (Some(text), Value::Object(fields)) =
            (schema.get("description").and_then(Value::as_str), &mut made)
        {
            fields.insert("description".to_owned(), cut(text).into());
        }
        Some(made)
    }

    fn form(&mut self, schema: &Value, depth: usize) -> Option<Value> {
        if let Some(only) = schema.get("const") {
            return is_scalar(only).then(|| json!({"enum": [only]}));
        }
        if let Some(alternatives) = schema.get("anyOf").or_else(|| schema.get("oneOf")) {
            let all: Option<Vec<Value>> =
                alternatives.as_array()?.iter().map(|schema| self.of(schema, depth + 1)).collect();
            return Some(json!({"anyOf": all?}));
        }
        let listed = schema.get("enum").and_then(Value::as_array);
        if let Some(values) = listed.filter(|values| values.len() <= ENUM_MAX) {
            return values.iter().all(is_scalar).then(|| json!({"enum": values}));
        }
        match schema.get("type")? {
            Value::Array(kinds) => {
                let simple = |kind: &Value| !matches!(kind.as_str(), Some("object" | "array") | None);
                kinds.iter().all(simple).then(|| json!({"type": kinds}))
            }
            kind => match kind.as_str()? {
                "array" => {
                    let items = self.of(schema.get("items")?, depth + 1)?;
                    Some(json!({"type": "array", "items": items}))
                }
                "object" => self.fields(schema, depth),
                simple => Some(json!({"type": simple})),
            },
        }
    }

    fn fields(&mut self, schema: &Value, depth: usize) -> Option<Value> {
        let properties = schema.get("properties")?.as_object().filter(|properties| !properties.is_empty())?;
        let mut fields = Vec::with_capacity(properties.len());
        for (name, property) in properties {
            let made = self.of(property, depth + 1)?;
            let optional = !is_required(schema, name) && !admits_null(resolve(self.root, property));
            fields.push((name.clone(), if optional { or_null(made) } else { made }));
        }
        Some(object(fields))
    }
}

/// Returns whether an object must have this field.
#[must_use]
pub(super) fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|required| required == name))
}

fn prune(value: Value, schema: &Value, root: &Value, depth: usize) -> Value {
    let schema = resolve(root, schema);
    if depth > DEPTH_MAX {
        return value;
    }
    match value {
        Value::Object(fields) => {
            let Some(properties) = schema.get("properties") else { return Value::Object(fields) };
            let kept = fields.into_iter().filter_map(|(name, value)| {
                let Some(property) = properties.get(&name) else { return Some((name, value)) };
                let absent =
                    value.is_null() && !is_required(schema, &name) && !admits_null(resolve(root, property));
                (!absent).then(|| (name, prune(value, property, root, depth + 1)))
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => {
            let Some(item) = schema.get("items") else { return Value::Array(items) };
            items.into_iter().map(|value| prune(value, item, root, depth + 1)).collect()
        }
        scalar => scalar,
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

/// Returns the beginning of a description.
pub(super) fn cut(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(DESCRIPTION_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_become_fields_that_may_be_null_and_unknown_keywords_go() {
        let schema = json!({"type": "object", "required": ["path"], "properties": {
            "path": {"type": "string", "minLength": 1, "description": "where"},
            "depth": {"type": "integer", "minimum": 0},
        }});
        let expected = json!({
            "type": "object", "required": ["path", "depth"], "additionalProperties": false, "properties": {
                "path": {"type": "string", "description": "where"},
                "depth": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        }});
        assert_eq!(strict(&schema), Some(expected));
    }

    #[test]
    fn what_strict_modes_cannot_say_has_no_strict_form() {
        for loose in [
            json!({}),
            json!(true),
            json!({"type": "object"}),
            json!({"type": "array"}),
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"allOf": [{"type": "string"}]}),
            json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}}),
        ] {
            assert_eq!(strict(&loose), None, "{loose}");
        }
    }

    #[test]
    fn references_inside_the_schema_are_followed() {
        let schema =
            json!({"type": "array", "items": {"$ref": "#/$defs/row"}, "$defs": {"row": {"type": "string"}}});
        assert_eq!(strict(&schema), Some(json!({"type": "array", "items": {"type": "string"}})));
    }

    #[test]
    fn a_null_is_taken_out_where_it_stands_for_a_field_left_out_and_nowhere_else() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": ["string", "null"]}, "b": {"type": "string"}, "c": {"type": ["string", "null"]},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"d": {"type": "integer"}}}},
        }});
        let value = json!({"a": null, "b": null, "c": null, "rows": [{"d": null}], "more": null});
        let expected = json!({"a": null, "c": null, "rows": [{}], "more": null});
        assert_eq!(without_absent(value, &schema), expected);
    }
}
