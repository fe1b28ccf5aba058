//! Requests and answers in the words of the client library.

use foreplan_core::call::Tokens;
use genai::{
    adapter::AdapterKind,
    chat::{
        ChatMessage, ChatOptions, ChatRequest, ChatResponse, ChatResponseFormat, JsonSpec, MessageContent,
        ReasoningEffort, StopReason, Tool, ToolCall, ToolResponse, Usage,
    },
};
use serde_json::Value;

use crate::{
    Answer, ErrorKind, Message, Request, ToolUse,
    fault::{Fault, words},
    price::Price,
};

/// Returns a request and its options as the library wants them.
pub(crate) fn request(request: &Request, adapter: AdapterKind) -> (ChatRequest, ChatOptions) {
    let mut chat = ChatRequest::from_messages(request.messages.iter().map(message).collect());
    if !request.system.is_empty() {
        chat = chat.with_system(&request.system);
    }
    if !request.tools.is_empty() {
        chat = chat.with_tools(request.tools.iter().map(|tool| {
            Tool::new(tool.name.as_str()).with_description(&tool.description).with_schema(tool.input.clone())
        }));
    }
    // The raw answer is needed for what the library drops: refusals.
    let mut options = ChatOptions::default().with_capture_raw_body(true);
    if adapter == AdapterKind::OpenAI {
        // The library takes `-low`, `-medium`, `-high` and `-max` off the end of a model's name unless an
        // effort is given. A budget is one that this form does not send.
        options = options.with_reasoning_effort(ReasoningEffort::Budget(0));
    }
    if let Some(max) = request.max_output_tokens {
        options = options.with_max_tokens(max);
    }
    if let Some(output) = &request.output {
        let spec = JsonSpec::new(output.name.as_str(), output.schema.clone());
        options = options.with_response_format(ChatResponseFormat::JsonSpec(spec));
    }
    (chat, options)
}

fn message(message: &Message) -> ChatMessage {
    match message {
        Message::User { text } => ChatMessage::user(text.as_str()),
        Message::Assistant { text, calls } => {
            let calls = calls.iter().map(|call| ToolCall {
                call_id: call.id.clone(),
                fn_name: call.name.clone(),
                fn_arguments: call.input.clone(),
                thought_signatures: None,
            });
            let mut content = MessageContent::default();
            if !text.is_empty() {
                content.push(text.as_str());
            }
            content.extend(MessageContent::from_tool_calls(calls.collect()));
            ChatMessage::assistant(content)
        }
        Message::Tool { id, content } => ChatMessage::tool(ToolResponse::new(id.as_str(), content.as_str())),
    }
}

/// Reads an answer of `OpenAI`'s form on which the library gave up: it wants arguments of calls to be
/// JSON, and a model that writes others must be told so instead.
pub(crate) fn salvaged(cause: &genai::Error, price: &Price) -> Option<Answer> {
    let genai::Error::ChatResponseGeneration { response_body: body, .. } = cause else { return None };
    let choice = body.pointer("/choices/0")?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let call = |call: &Value| {
        let function = call.get("function")?;
        let arguments = text(function.get("arguments")).unwrap_or_default();
        let input = match arguments.trim() {
            "" => Value::Object(serde_json::Map::new()),
            _ => serde_json::from_str(&arguments).unwrap_or(Value::String(arguments)),
        };
        Some(ToolUse { id: text(call.get("id"))?, name: text(function.get("name"))?, input })
    };
    let calls =
        choice.pointer("/message/tool_calls")?.as_array()?.iter().map(call).collect::<Option<Vec<_>>>()?;
    let usage = body.get("usage").cloned().unwrap_or_default();
    let tokens = tokens(&serde_json::from_value(usage).unwrap_or_default());
    Some(Answer {
        text: text(choice.pointer("/message/content")).unwrap_or_default(),
        calls,
        finish: text(choice.get("finish_reason")),
        answered_by: text(body.get("model")),
        cost_microusd: price.cost_microusd(&tokens),
        tokens,
        retries: 0,
    })
}

/// Reads an answer.
///
/// # Errors
///
/// If the model refused or said nothing.
pub(crate) fn answer(response: ChatResponse, price: &Price) -> Result<Answer, Fault> {
    let refusal = response.captured_raw_body.as_ref().and_then(refusal);
    let tokens = tokens(&response.usage);
    let answer = Answer {
        text: response.texts().concat(),
        calls: response.tool_calls().into_iter().map(tool_use).collect(),
        finish: response.stop_reason.as_ref().map(|reason| reason.raw().to_owned()),
        answered_by: Some(response.provider_model_iden.model_name.to_string()),
        cost_microusd: price.cost_microusd(&tokens),
        tokens,
        retries: 0,
    };
    let spent = |fault: Fault| Fault { spent: tokens, ..fault };
    if let Some(words) = refusal {
        return Err(spent(refused(&words)));
    }
    if matches!(response.stop_reason, Some(StopReason::ContentFilter(_))) {
        return Err(spent(refused(&words(&answer.text))));
    }
    if answer.text.trim().is_empty() && answer.calls.is_empty() {
        let finish = answer.finish.as_deref().map(words).unwrap_or_default();
        return Err(spent(match response.stop_reason.as_ref().is_some_and(StopReason::is_max_tokens) {
            true => Fault::new(
                ErrorKind::Malformed,
                format!("its tokens ran out before it answered ({finish}); raise the limit of output tokens"),
            ),
            false => {
                Fault::new(ErrorKind::Malformed, format!("the answer is empty (it stopped with `{finish}`)"))
            }
        }));
    }
    Ok(answer)
}

fn refused(words: &str) -> Fault {
    let said = if words.is_empty() { String::new() } else { format!(" (it says: {words})") };
    Fault::new(ErrorKind::Refused, format!("the model refuses to answer{said}; say the goal in other words"))
}

/// Returns the refusal that an answer of `OpenAI`'s form holds.
fn refusal(body: &Value) -> Option<String> {
    let text = body.pointer("/choices/0/message/refusal")?.as_str()?;
    Some(words(text)).filter(|text| !text.is_empty())
}

fn tool_use(call: &ToolCall) -> ToolUse {
    // Arguments arrive as JSON in a text from some servers; what cannot be read stays a text.
    let input = match &call.fn_arguments {
        Value::String(text) if text.trim().is_empty() => Value::Object(serde_json::Map::new()),
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
        Value::Null => Value::Object(serde_json::Map::new()),
        other => other.clone(),
    };
    ToolUse { id: call.call_id.clone(), name: call.fn_name.clone(), input }
}

pub(crate) fn tokens(usage: &Usage) -> Tokens {
    let count = |n: Option<i32>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    Tokens {
        input: count(usage.prompt_tokens),
        cached: count(usage.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens)),
        output: count(usage.completion_tokens),
        reasoning: count(
            usage.completion_tokens_details.as_ref().and_then(|details| details.reasoning_tokens),
        ),
    }
}
