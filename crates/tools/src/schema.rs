//! JSON Schemas, compiled once and checked at every call.

use foreplan_core::payload::fits_within;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

/// Violations that a message names; the rest would only repeat the same mistake.
const VIOLATIONS_MAX: usize = 3;

/// A value above this size is not shown in a message: it would hide what is wrong with it.
const SHOWN_BYTES_MAX: usize = 200;

/// A schema that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSchema(String);

/// A compiled schema. The two that most tools have cost next to nothing.
#[derive(Debug)]
pub(crate) enum Check {
    /// Everything fits.
    Anything,
    /// Every object fits.
    Object,
    /// What the validator says.
    Compiled(Box<Validator>),
}

impl Check {
    pub(crate) fn compile(schema: &Value) -> Result<Self, InvalidSchema> {
        match constraints(schema).as_deref() {
            Some([]) => return Ok(Self::Anything),
            Some([("type", Value::String(word))]) if word == "object" => return Ok(Self::Object),
            _ => {}
        }
        jsonschema::options()
            .should_validate_formats(true)
            .build(schema)
            .map(|validator| Self::Compiled(Box::new(validator)))
            .map_err(|e| InvalidSchema(describe(&e)))
    }

    /// Returns what does not fit and where, as a text for people; nothing if `value` fits.
    pub(crate) fn violation(&self, value: &Value) -> Option<String> {
        match self {
            Self::Anything => None,
            Self::Object if value.is_object() => None,
            Self::Object => Some("it must be an object".to_owned()),
            Self::Compiled(validator) if validator.is_valid(value) => None,
            Self::Compiled(validator) => {
                let found: Vec<_> =
                    validator.iter_errors(value).take(VIOLATIONS_MAX).map(|e| describe(&e)).collect();
                Some(found.join("; "))
            }
        }
    }
}

/// Returns the keywords of `schema` that constrain, or nothing for `false` and what is no schema.
fn constraints(schema: &Value) -> Option<Vec<(&str, &Value)>> {
    const ANNOTATIONS: [&str; 6] = ["$schema", "title", "description", "default", "examples", "deprecated"];
    match schema {
        Value::Bool(true) => Some(Vec::new()),
        Value::Object(fields) => Some(
            fields
                .iter()
                .filter(|(key, _)| !ANNOTATIONS.contains(&key.as_str()))
                .map(|(key, value)| (key.as_str(), value))
                .collect(),
        ),
        _ => None,
    }
}

fn describe(error: &ValidationError<'_>) -> String {
    let what = if fits_within(error.instance(), SHOWN_BYTES_MAX) {
        error.to_string()
    } else {
        error.masked().to_string()
    };
    match error.instance_path().as_str() {
        "" => what,
        path => format!("at `{path}`: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_without_constraints_are_not_compiled() {
        for schema in [json!(true), json!({}), json!({"$schema": "x", "title": "T"})] {
            assert!(matches!(Check::compile(&schema), Ok(Check::Anything)), "{schema}");
        }
        assert!(matches!(Check::compile(&json!({"type": "object"})), Ok(Check::Object)));
        assert!(matches!(Check::compile(&json!(false)), Ok(Check::Compiled(_))));
    }

    #[test]
    fn a_violation_names_its_place() {
        let check = Check::compile(&json!({
            "type": "object",
            "properties": {"tickets": {"type": "array", "items": {"type": "string"}}},
        }));
        let message = check.unwrap().violation(&json!({"tickets": ["a", 2]})).unwrap();
        assert!(message.starts_with("at `/tickets/1`: 2 is not of type"), "{message}");
    }

    #[test]
    fn a_large_value_is_not_repeated_in_the_message() {
        let check = Check::compile(&json!({"type": "string"})).unwrap();
        let message = check.violation(&json!(vec!["row"; 10_000])).unwrap();
        assert!(message.len() < 200, "{message}");
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        let message = Check::compile(&json!({"type": "text"})).unwrap_err().to_string();
        assert!(message.contains("/type"), "{message}");
    }
}
