//! From what a tool of a server answers to an output or a failure.

use foreplan_core::failure::{EffectState, Failure, FailureKind};
use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock, ResourceContents};
use serde_json::{Value, json};

use super::super::{OUTPUT_BYTES_MAX, output_too_large, text};

/// Returns the output that an answer stands for.
///
/// What is structured is the output. Without it, the text is: as JSON where `declared` says what it
/// is, else as `{"text": …}`.
pub(super) fn output(answer: CallToolResponse, declared: Option<&Value>) -> Result<Value, Failure> {
    let result = match answer {
        CallToolResponse::Complete(result) => result,
        CallToolResponse::InputRequired(_) => {
            return Err(unusable(
                "input_required",
                "the tool asks its caller for input, which a step has not",
            ));
        }
        _ => {
            return Err(unusable(
                "task_started",
                "the tool answers with a task of its own, not with a result",
            ));
        }
    };
    let (text, binary) = contents(&result);
    if text.len() > OUTPUT_BYTES_MAX {
        return Err(output_too_large("what the server answered"));
    }
    if result.is_error == Some(true) {
        return Err(failed(&text));
    }
    match (result.structured_content, declared) {
        (Some(structured), Some(_)) => Ok(structured),
        (Some(Value::Object(mut fields)), None) => {
            fields.entry("text").or_insert_with(|| text.into());
            Ok(Value::Object(fields))
        }
        (Some(other), None) => Ok(json!({"text": text, "value": other})),
        (None, _) if text.is_empty() && !binary.is_empty() => {
            let message = format!(
                "the tool answered with {} only; use one that writes it to a file, or returns text",
                binary.join(", ")
            );
            Err(unusable("binary_content", message))
        }
        (None, Some(_)) => text::output(&text, declared),
        (None, None) => Ok(json!({"text": text})),
    }
}

/// The call was made, so that what it did is done; only its answer cannot be used.
fn unusable(code: &str, message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Tool, code, message).retryable(false).effect(EffectState::Unknown)
}

/// Returns the failure that a tool reports by itself: typed if it says so in JSON.
fn failed(text: &str) -> Failure {
    text::error_in(text).unwrap_or_else(|| {
        let message = if text.trim().is_empty() { "the tool failed and said nothing" } else { text.trim() };
        Failure::new(FailureKind::Tool, "mcp_tool_error", message)
    })
}

/// Returns the texts of an answer, one after the other, and what else it holds.
fn contents(result: &CallToolResult) -> (String, Vec<String>) {
    let (mut texts, mut binary) = (Vec::new(), Vec::new());
    for block in &result.content {
        match block {
            ContentBlock::Text(text) => texts.push(text.text.as_str()),
            ContentBlock::ResourceLink(link) => texts.push(link.uri.as_str()),
            ContentBlock::Resource(resource) => match &resource.resource {
                ResourceContents::TextResourceContents { text, .. } => texts.push(text.as_str()),
                ResourceContents::BlobResourceContents { mime_type, .. } => {
                    binary.push(mime_type.clone().unwrap_or_else(|| "binary data".to_owned()));
                }
                _ => binary.push("a resource of an unknown kind".to_owned()),
            },
            ContentBlock::Image(image) => binary.push(image.mime_type.clone()),
            ContentBlock::Audio(audio) => binary.push(audio.mime_type.clone()),
            _ => binary.push("content of an unknown kind".to_owned()),
        }
    }
    (texts.join("\n"), binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(result: Value, declared: Option<&Value>) -> Result<Value, Failure> {
        let result: CallToolResult = serde_json::from_value(result).unwrap();
        output(CallToolResponse::Complete(result), declared)
    }

    #[test]
    fn text_is_a_field_of_that_name() {
        let texts = json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
        assert_eq!(of(texts, None), Ok(json!({"text": "a\nb"})));
        assert_eq!(of(json!({"content": []}), None), Ok(json!({"text": ""})));
    }

    #[test]
    fn text_is_json_where_the_output_is_declared() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let text = json!({"content": [{"type": "text", "text": "{\"n\": 3}"}]});
        assert_eq!(of(text, Some(&schema)), Ok(json!({"n": 3})));
    }

    #[test]
    fn structured_content_is_the_output() {
        let schema = json!({"type": "object"});
        let both = json!({"content": [{"type": "text", "text": "x"}], "structuredContent": {"n": 3}});
        assert_eq!(of(both.clone(), Some(&schema)), Ok(json!({"n": 3})));
        assert_eq!(of(both, None), Ok(json!({"n": 3, "text": "x"})));
    }

    #[test]
    fn an_error_is_a_failure_with_its_text() {
        let error = json!({"content": [{"type": "text", "text": "no such file"}], "isError": true});
        let failure = of(error, None).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.message.as_str()), ("mcp_tool_error", "no such file"));
    }

    #[test]
    fn an_image_alone_is_refused_by_its_type() {
        let image = json!({"content": [{"type": "image", "data": "aGk=", "mimeType": "image/png"}]});
        let failure = of(image, None).unwrap_err();
        assert_eq!(failure.code, "binary_content");
        assert!(
            failure.message.contains("image/png") && failure.retryable == Some(false),
            "{}",
            failure.message
        );
    }
}
