//! Schemas as declarations give them: a map of fields, or a file.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value, json};

use super::{Common, Error};
use crate::{pattern::Pattern, project::Project};

/// The words for types that a field may have.
const TYPES: [&str; 8] = ["string", "integer", "number", "boolean", "array", "object", "null", "any"];

/// Field → type: a word (`"array"`, with `?` for an optional field) or a JSON Schema.
#[derive(Clone, Debug, Default, PartialEq, schemars::JsonSchema)]
pub struct Fields(Map<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let fields = Map::<String, Value>::deserialize(from)?;
        for (field, of) in &fields {
            property(of).map_err(|e| D::Error::custom(format_args!("field `{field}`: {e}")))?;
        }
        Ok(Self(fields))
    }
}

impl Fields {
    /// Returns the JSON Schema of an object with these fields; `closed` refuses any other.
    pub(crate) fn schema(&self, closed: bool) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (field, of) in &self.0 {
            // Deserialization refused whatever is no property.
            let Ok((schema, optional)) = property(of) else { continue };
            properties.insert(field.clone(), schema);
            if !optional {
                required.push(Value::from(field.clone()));
            }
        }
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        if closed {
            schema["additionalProperties"] = false.into();
        }
        schema
    }
}

/// Returns the schema of a field, and whether the field may be absent.
fn property(of: &Value) -> Result<(Value, bool), String> {
    match of {
        Value::String(word) => {
            let (name, optional) = word.strip_suffix('?').map_or((word.as_str(), false), |name| (name, true));
            match name {
                "any" => Ok((json!({}), optional)),
                name if TYPES.contains(&name) => Ok((json!({"type": name}), optional)),
                _ => Err(format!(
                    "`{word}` is no type; use {} (with `?` if it may be absent), or a JSON Schema",
                    TYPES.join(", ")
                )),
            }
        }
        Value::Object(_) | Value::Bool(_) => Ok((of.clone(), false)),
        _ => Err("a type is a word like \"array\" or a JSON Schema".to_owned()),
    }
}

/// What a tool takes and returns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) input: Value,
    pub(crate) output: Value,
}

/// One side of a declaration: fields, or a file.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) fields: Option<&'a Fields>,
    pub(crate) file: Option<&'a String>,
}

impl Side<'_> {
    /// Returns the schema, if one is declared. An input is closed: a field that no tool knows is a
    /// mistake. An output may hold more than it promises.
    fn schema(self, common: Common<'_>, project: &Project, is_input: bool) -> Result<Option<Value>, Error> {
        let key = if is_input { "input_schema" } else { "output_schema" };
        match (self.fields, self.file) {
            (None, None) => Ok(None),
            (Some(fields), None) => Ok(Some(fields.schema(is_input))),
            (None, Some(path)) => read_schema(project, path).map(Some).map_err(|e| common.error(key, e)),
            (Some(_), Some(_)) => Err(common.error(key, "the fields are declared too; keep one of the two")),
        }
    }

    pub(crate) fn output(self, common: Common<'_>, project: &Project) -> Result<Option<Value>, Error> {
        self.schema(common, project, false)
    }

    /// Returns the input's schema. What is not declared follows from the placeholders in `patterns`:
    /// each is a required field. What is declared must have them.
    pub(crate) fn input<'p>(
        self,
        common: Common<'_>,
        project: &Project,
        patterns: impl IntoIterator<Item = (&'static str, &'p Pattern)>,
    ) -> Result<Value, Error> {
        let declared = self.schema(common, project, true)?;
        let mut fields = BTreeSet::new();
        for (key, pattern) in patterns {
            for field in pattern.fields() {
                if let Some(schema) = declared.as_ref().filter(|_| self.fields.is_some()) {
                    check_placeholder(field, schema).map_err(|e| common.error(key, e))?;
                }
                fields.insert(field.to_owned());
            }
        }
        Ok(declared.unwrap_or_else(|| from_placeholders(&fields)))
    }
}

fn check_placeholder(field: &str, schema: &Value) -> Result<(), String> {
    if schema["properties"].get(field).is_none() {
        return Err(format!(
            "the placeholder `{{{field}}}` is no field of `input`; declare it, or write `{{{{{field}}}}}` for the text"
        ));
    }
    let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|name| name == field));
    if required {
        Ok(())
    } else {
        Err(format!("the placeholder `{{{field}}}` is optional; make it required"))
    }
}

fn from_placeholders(fields: &BTreeSet<String>) -> Value {
    if fields.is_empty() {
        return json!({"type": "object"});
    }
    let scalar = json!({"type": ["string", "number", "boolean"]});
    let properties: Map<_, _> = fields.iter().map(|field| (field.clone(), scalar.clone())).collect();
    json!({"type": "object", "properties": properties, "required": fields})
}

fn read_schema(project: &Project, path: &str) -> Result<Value, String> {
    let file = project.existing(path).map_err(|e| e.to_string())?;
    let text = std::fs::read_to_string(file).map_err(|e| format!("`{path}` cannot be read: {e}"))?;
    foreplan_core::json::parse_value(&text).map_err(|e| format!("`{path}` is no JSON: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &str) -> Value {
        serde_json::from_str::<Fields>(fields).unwrap().schema(true)
    }

    #[test]
    fn words_and_schemas_make_one_object() {
        assert_eq!(
            schema(r#"{"tickets": "array", "limit": "integer?", "mode": {"enum": ["a", "b"]}, "x": "any"}"#),
            json!({
                "type": "object",
                "properties": {
                    "tickets": {"type": "array"},
                    "limit": {"type": "integer"},
                    "mode": {"enum": ["a", "b"]},
                    "x": {},
                },
                "required": ["tickets", "mode", "x"],
                "additionalProperties": false,
            })
        );
    }

    #[test]
    fn an_unknown_word_is_named_with_the_known_ones() {
        let message = serde_json::from_str::<Fields>(r#"{"tickets": "list"}"#).unwrap_err().to_string();
        assert!(message.contains("field `tickets`: `list` is no type; use string"), "{message}");
    }
}
