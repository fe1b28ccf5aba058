//! Asking the person at the terminal.

use std::io::Write as _;

use foreplan_core::json;
use serde_json::Value;

use super::{error::Failure, output::Output, signals::Signals};

/// Returns whether the person typed `yes`, and nothing else.
pub(crate) async fn yes(output: &Output, question: &str) -> bool {
    line(output, question).await.as_deref() == Some("yes")
}

/// Returns the line that the person typed; nothing if the input has ended.
pub(crate) async fn line(output: &Output, question: &str) -> Option<String> {
    if !output.can_ask() {
        return None;
    }
    // Listened for before the question is seen: Ctrl-C may be the answer at once.
    let mut signals = Signals::new().ok()?;
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "{question}").and_then(|()| err.flush());
    drop(err);
    let read = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        std::io::stdin().read_line(&mut text).ok().filter(|read| *read > 0).map(|_| text)
    });
    // A signal leaves the question open: nothing is in flight then.
    tokio::select! {
        text = read => text.ok().flatten().map(|text| text.trim().to_owned()),
        _ = signals.next() => {
            let _ = writeln!(std::io::stderr());
            None
        }
    }
}

/// Returns the value that a text is the answer of: text where text fits, else JSON.
///
/// # Errors
///
/// If the question asks for more than text and this is not JSON.
pub(crate) fn answer(text: &str, schema: Option<&Value>) -> Result<Value, Failure> {
    let plain = Value::String(text.to_owned());
    let Some(schema) = schema else { return Ok(plain) };
    if takes_text(schema, &plain) {
        return Ok(plain);
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
        let value = json::parse_value(text).ok().filter(|value| allowed.contains(value));
        return value.ok_or_else(|| {
            let allowed: Vec<String> = allowed
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect();
            Failure::usage(format!("`{text}` is not among the answers"))
                .next(format!("answer with one of: {}", allowed.join(", ")))
        });
    }
    json::parse_value(text).map_err(|e| {
        Failure::usage(format!("the answer `{text}` is not JSON: {e}"))
            .next(format!("the question takes values that fit {schema}"))
    })
}

fn takes_text(schema: &Value, text: &Value) -> bool {
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
        return allowed.contains(text);
    }
    match schema.get("type") {
        Some(Value::String(kind)) => kind == "string",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string") && !is_json(text),
        _ => false,
    }
}

fn is_json(text: &Value) -> bool {
    text.as_str().is_some_and(|text| json::parse_value(text).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_text_where_text_fits_and_json_elsewhere() {
        let read = |text: &str, schema: Value| answer(text, Some(&schema)).ok();
        assert_eq!(answer("5", None).unwrap(), json!("5"));
        assert_eq!(read("5", json!({"type": "string"})), Some(json!("5")));
        assert_eq!(read("5", json!({"type": "integer"})), Some(json!(5)));
        assert_eq!(read("yes", json!({"enum": ["yes", "no"]})), Some(json!("yes")));
        assert_eq!(read("true", json!({"enum": [true, false]})), Some(json!(true)));
        assert_eq!(read("a", json!({"type": "object"})), None);
        assert_eq!(read("null", json!({"type": ["string", "null"]})), Some(json!(null)));
    }
}
