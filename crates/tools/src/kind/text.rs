//! What programs and servers answer: text that may be JSON.

use foreplan_core::{
    failure::{EffectState, Failure, FailureKind},
    json,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// How much of an answer that is no JSON a message shows.
const SHOWN_BYTES_MAX: usize = 200;

/// Returns the output that `text` stands for.
///
/// Without a declared output, a JSON object is itself, and everything else, nothing included, is
/// `{"text": …}`. With one, it must be JSON of any type (nothing stands for `{}`), unless the output
/// is declared to have a `text`.
pub(crate) fn output(text: &str, declared: Option<&Value>) -> Result<Value, Failure> {
    let trimmed = text.trim();
    let parsed = json::parse_value(trimmed);
    let Some(schema) = declared else {
        return match parsed {
            Ok(object @ Value::Object(_)) => Ok(object),
            Err(e) if serde_json::from_str::<serde_json::Map<String, Value>>(trimmed).is_ok() => {
                Err(no_json(trimmed, &e))
            }
            _ => Ok(json!({"text": text.trim_end_matches(['\r', '\n'])})),
        };
    };
    match parsed {
        Ok(value) => Ok(value),
        Err(_) if trimmed.is_empty() => Ok(json!({})),
        Err(_) if schema["properties"].get("text").is_some() => {
            Ok(json!({"text": text.trim_end_matches(['\r', '\n'])}))
        }
        Err(e) => Err(no_json(trimmed, &e)),
    }
}

fn no_json(text: &str, error: &json::Error) -> Failure {
    let shown = &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)];
    let message = format!("the output is not the JSON that is declared: {error}; it begins with: {shown}");
    Failure::new(FailureKind::OutputSchema, "invalid_json", message)
}

/// Returns the failure that `{"error": {…}}` in `text` types.
pub(crate) fn error_in(text: &str) -> Option<Failure> {
    typed_failure(serde_json::from_str::<Value>(text.trim()).ok()?.get("error")?)
}

/// Returns the failure that `{"code", "message", "retryable", "effect"}` types. Only the code is
/// needed.
pub(crate) fn typed_failure(error: &Value) -> Option<Failure> {
    #[derive(Deserialize)]
    struct Typed {
        code: String,
        #[serde(default)]
        message: String,
        retryable: Option<bool>,
        effect: Option<EffectState>,
    }
    let Typed { code, message, retryable, effect } = Typed::deserialize(error).ok()?;
    let mut failure = Failure::new(FailureKind::Tool, code, message);
    failure.retryable = retryable;
    failure.effect = effect;
    Some(failure)
}

/// Returns the output's schema: the declared one; a `text` if `renames` calls it something; else
/// nothing is known, so that an undeclared `text` is no artifact.
pub(crate) fn output_schema(
    declared: Option<&Value>,
    renames: &std::collections::BTreeMap<String, String>,
) -> Value {
    match declared {
        Some(schema) => schema.clone(),
        None if renames.contains_key("text") => super::sole_field_schema("text", json!({"type": "string"})),
        None => json!({"type": "object"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undeclared_output_is_an_object_or_a_text() {
        for (text, expected) in [
            ("{\"a\": 1}\n", json!({"a": 1})),
            ("hello\n", json!({"text": "hello"})),
            ("42", json!({"text": "42"})),
            ("[1]", json!({"text": "[1]"})),
            ("{not json}", json!({"text": "{not json}"})),
            ("", json!({"text": ""})),
        ] {
            assert_eq!(output(text, None), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_declared_output_is_json() {
        let declared = json!({"type": "object", "properties": {"a": {}}});
        assert_eq!(output("[1, 2]", Some(&declared)), Ok(json!([1, 2])));
        assert_eq!(output("", Some(&declared)), Ok(json!({})));
        let failure = output("done", Some(&declared)).unwrap_err();
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::OutputSchema, "invalid_json"));
        assert!(failure.message.contains("begins with: done"), "{failure}");
        let text = json!({"type": "object", "properties": {"text": {"type": "string"}}});
        assert_eq!(output("done\n", Some(&text)), Ok(json!({"text": "done"})));
    }

    #[test]
    fn json_that_no_reader_agrees_on_is_refused() {
        for text in [r#"{"a": 1, "a": 2}"#, r#"{"n": 9007199254740993}"#] {
            assert_eq!(output(text, None).unwrap_err().code, "invalid_json");
        }
    }

    #[test]
    fn an_error_object_types_the_failure() {
        let failure =
            error_in(r#"{"error": {"code": "busy", "retryable": true, "effect": "none"}}"#).unwrap();
        assert_eq!((failure.code.as_str(), failure.retryable), ("busy", Some(true)));
        assert_eq!(failure.effect, Some(EffectState::None));
        assert_eq!(error_in(r#"{"error": "busy"}"#), None);
        assert_eq!(error_in("busy"), None);
    }
}
