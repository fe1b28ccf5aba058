//! Placeholders: `{field}` in arguments and URLs stands for a field of the input.

use foreplan_core::failure::{EffectState, Failure, FailureKind};
use serde_json::Value;

/// A text with placeholders. `{{field}}` stands for the text `{field}`; every other brace stands
/// for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some((field, tail)) = field_between(rest, "{{", "}}") {
                plain.push_str(&format!("{{{field}}}"));
                rest = tail;
            } else if let Some((field, tail)) = field_between(rest, "{", "}") {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Field(field.to_owned()));
                rest = tail;
            } else {
                plain.push('{');
                rest = &rest[1..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Self(parts)
    }

    /// Returns the fields that it takes, in order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Field(field) => Some(field.as_str()),
            Part::Text(_) => None,
        })
    }

    /// Returns the field that it is, if it is nothing else.
    #[cfg(feature = "http")]
    pub(crate) fn sole_field(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Field(field)] => Some(field),
            _ => None,
        }
    }

    pub(crate) fn is_literal(&self) -> bool {
        self.fields().next().is_none()
    }

    /// Returns the text with the input's fields in place, each through `encode`.
    pub(crate) fn fill(&self, input: &Value, encode: fn(&str) -> String) -> Result<String, Failure> {
        self.0.iter().try_fold(String::new(), |mut text, part| {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Field(field) => match input.get(field) {
                    Some(Value::String(value)) => text.push_str(&encode(value)),
                    Some(value) => text.push_str(&encode(&value.to_string())),
                    None => return Err(missing(field)),
                },
            }
            Ok(text)
        })
    }
}

/// Returns the failure of a call whose input has no such field.
pub(crate) fn missing(field: &str) -> Failure {
    let message = format!("the placeholder `{{{field}}}` has no value: the input has no field `{field}`");
    Failure::new(FailureKind::InputSchema, "input_schema", message).effect(EffectState::None)
}

fn field_between<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let (field, tail) = text.strip_prefix(open)?.split_once(close)?;
    let is_name = field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && field.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    is_name.then_some((field, tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filled(pattern: &str, input: &Value) -> String {
        Pattern::parse(pattern).fill(input, str::to_owned).unwrap()
    }

    #[test]
    fn only_names_in_braces_are_placeholders() {
        let input = json!({"a": "x y", "n": 3, "list": [1, "b"]});
        assert_eq!(filled("{a}-{n}", &input), "x y-3");
        assert_eq!(filled("{list}", &input), "[1,\"b\"]");
        assert_eq!(filled("{{a}} {} { a } {\"a\": 1} ${1}", &input), "{a} {} { a } {\"a\": 1} ${1}");
        assert_eq!(filled("awk {", &input), "awk {");
    }

    #[test]
    fn a_value_with_braces_is_not_filled_again() {
        assert_eq!(filled("{a}", &json!({"a": "{b}", "b": "secret"})), "{b}");
    }

    #[test]
    fn a_field_that_is_not_there_is_named() {
        let failure = Pattern::parse("{a}").fill(&json!({}), str::to_owned).unwrap_err();
        assert_eq!(failure.code, "input_schema");
        assert!(failure.message.contains("`{a}`"), "{failure}");
    }
}
