//! The JSON in an answer.

use foreplan_core::json::parse_value;
use serde_json::Value;

use crate::Answer;

/// Longest answer that is read: a plan of several thousand steps.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why an answer holds no JSON that can be used. The text is for the model as well as for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoJson {
    /// There is nothing at all.
    #[error("the answer is empty; answer with JSON")]
    Empty,
    /// It is longer than what is read.
    #[error("the answer has {0} bytes, and {ANSWER_BYTES_MAX} are read")]
    TooLong(usize),
    /// It broke off.
    #[error("the answer was cut at the limit of output tokens; answer shorter, or raise the limit")]
    Cut,
    /// There is none, or it is broken in this way.
    #[error("the answer is not JSON ({0}); answer with one JSON object and nothing around it")]
    Absent(String),
    /// There are several, so none can be meant for sure.
    #[error("the answer holds {0} JSON values; answer with one and nothing else")]
    Several(usize),
}

/// Words of providers for an answer that was cut at its token limit.
const CUT: [&str; 5] = ["length", "max_tokens", "MAX_TOKENS", "incomplete", "model_length"];

/// Returns the JSON of a structured answer. It may stand in prose or in a code fence as long as
/// there is only one: models add such words even when they are told not to.
///
/// # Errors
///
/// If there is none, or more than one.
pub fn structured(answer: &Answer) -> Result<Value, NoJson> {
    let text = answer.text.trim();
    if text.is_empty() {
        return Err(NoJson::Empty);
    }
    if text.len() > ANSWER_BYTES_MAX {
        return Err(NoJson::TooLong(text.len()));
    }
    let whole = match parse_value(text) {
        Ok(value) => return Ok(value),
        Err(error) => error.to_string(),
    };
    if answer.finish.as_deref().is_some_and(|finish| CUT.contains(&finish)) {
        return Err(NoJson::Cut);
    }
    let fenced = fenced(text);
    let mut found = if fenced.is_empty() { embedded(text) } else { fenced };
    found.dedup();
    match found.len() {
        0 => Err(NoJson::Absent(whole)),
        1 => Ok(found.remove(0)),
        several => Err(NoJson::Several(several)),
    }
}

/// Returns the objects and arrays in code fences.
fn fenced(text: &str) -> Vec<Value> {
    let blocks = text.split("```").skip(1).step_by(2);
    let bodies = blocks.map(|block| block.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).trim());
    bodies.filter_map(|body| parse_value(body).ok()).filter(|v| v.is_object() || v.is_array()).collect()
}

/// Returns the outermost objects, and lists of objects, in prose. Other brackets, such as `[1]`, are
/// no answer.
fn embedded(text: &str) -> Vec<Value> {
    let mut values = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find(['{', '[']).map(|found| at + found) {
        let mut reader =
            serde_json::Deserializer::from_str(&text[start..]).into_iter::<serde::de::IgnoredAny>();
        let is_json = matches!(reader.next(), Some(Ok(_)));
        let end = start + reader.byte_offset();
        at = if is_json { end } else { start + 1 };
        if is_json
            && let Ok(value) = parse_value(&text[start..end])
            && holds_objects(&value)
        {
            values.push(value);
        }
    }
    values
}

fn holds_objects(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(items) => !items.is_empty() && items.iter().all(Value::is_object),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Value, NoJson> {
        structured(&Answer { text: text.to_owned(), ..Answer::default() })
    }

    #[test]
    fn json_is_accepted_where_it_is_unambiguous() {
        let expected = Ok(json!({"a": 1}));
        for text in [
            r#"{"a": 1}"#,
            "  {\"a\": 1}\n",
            "```json\n{\"a\": 1}\n```",
            "```\n{\"a\": 1}\n```",
            "Here it is:\n```json\n{\"a\": 1}\n```\nThat is [1] all.",
            "Sure! {\"a\": 1} (see [1])",
            "Use {braces}: {\"a\": 1}",
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(read("The list: [{\"a\": 1}]."), Ok(json!([{"a": 1}])));
        assert_eq!(read("7"), Ok(json!(7)));
    }

    #[test]
    fn a_repeated_value_is_one_value() {
        assert_eq!(read("{\"a\": 1} and again {\"a\": 1}"), Ok(json!({"a": 1})));
    }

    #[test]
    fn several_values_are_ambiguous() {
        assert_eq!(read("{\"a\": 1} or {\"a\": 2}"), Err(NoJson::Several(2)));
        assert_eq!(read("```\n{\"a\": 1}\n```\n```\n{\"a\": 2}\n```"), Err(NoJson::Several(2)));
    }

    #[test]
    fn prose_and_broken_json_are_no_answer() {
        for text in ["I cannot do that.", "{\"a\": ", "see [1]", "\u{0}\u{7}"] {
            assert!(matches!(read(text), Err(NoJson::Absent(_))), "{text:?}");
        }
        assert_eq!(read(" \n"), Err(NoJson::Empty));
    }

    #[test]
    fn a_cut_answer_says_that_it_was_cut() {
        let answer =
            Answer { text: "{\"a\": {}".to_owned(), finish: Some("length".to_owned()), ..Answer::default() };
        assert_eq!(structured(&answer), Err(NoJson::Cut));
    }
}
