//! Answers in the wire formats of the providers, whole or as a stream of events.

use serde_json::{Value, json};

use super::{
    script::{Asked, Reply, What, WireFormat},
    stream::{Stream, named},
};

/// Pieces into which a streamed text is cut.
const STREAM_PIECES: usize = 4;

/// What goes over the wire.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) retry_after: Option<String>,
    pub(super) body: Body,
}

/// A body, or what becomes one piece by piece.
pub(super) enum Body {
    Whole(String),
    Stream(Stream),
}

/// Renders a reply; nothing if the connection ends without one. `number` names the answer.
pub(super) fn render(reply: &Reply, asked: &Asked, number: usize) -> Option<Response> {
    let ok = |content_type, body| Response { status: 200, content_type, retry_after: None, body };
    let whole = |body| ok("application/json", Body::Whole(body));
    let stream =
        |events| ok("text/event-stream", Body::Stream(Stream::new(events, asked.format, &reply.manner)));
    Some(match &reply.what {
        What::HangUp => return None,
        What::Raw(body) => whole(body.clone()),
        What::Events(events) => stream(events.clone()),
        What::Status { status, retry_after, body } => Response {
            status: *status,
            content_type: "application/json",
            retry_after: retry_after.clone(),
            body: Body::Whole(body.clone()),
        },
        What::Says { text, calls, refusal } => {
            let said = Said { text, calls, refusal: refusal.as_deref(), number, asked, reply };
            match (asked.format, asked.streamed()) {
                (WireFormat::OpenAi, false) => whole(said.openai().to_string()),
                (WireFormat::Anthropic, false) => whole(said.anthropic().to_string()),
                (WireFormat::OpenAi, true) => stream(said.openai_events()),
                (WireFormat::Anthropic, true) => stream(said.anthropic_events()),
            }
        }
    })
}

struct Said<'a> {
    text: &'a str,
    calls: &'a [(String, Value)],
    refusal: Option<&'a str>,
    number: usize,
    asked: &'a Asked,
    reply: &'a Reply,
}

impl Said<'_> {
    fn tokens(&self) -> (u64, u64) {
        self.reply.tokens.unwrap_or_else(|| {
            let calls: usize =
                self.calls.iter().map(|(name, input)| name.len() + input.to_string().len()).sum();
            (self.asked.tokens(), ((self.text.chars().count() + calls) as u64).div_ceil(4))
        })
    }

    fn model(&self) -> &str {
        self.reply.by.unwrap_or(self.asked.model())
    }

    fn openai_finish(&self) -> &'static str {
        self.reply.finish.unwrap_or(if self.calls.is_empty() { "stop" } else { "tool_calls" })
    }

    fn anthropic_finish(&self) -> &'static str {
        let usual = match (self.refusal, self.calls.is_empty()) {
            (Some(_), _) => "refusal",
            (None, true) => "end_turn",
            (None, false) => "tool_use",
        };
        self.reply.finish.unwrap_or(usual)
    }

    fn openai_usage(&self) -> Value {
        let ((input, output), (cached, reasoning)) = (self.tokens(), self.reply.apart);
        json!({
            "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        })
    }

    fn anthropic_usage(&self, output: u64) -> Value {
        let ((input, _), (cached, _)) = (self.tokens(), self.reply.apart);
        json!({
            "input_tokens": input.saturating_sub(cached), "output_tokens": output,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached,
        })
    }

    fn openai_calls(&self) -> Vec<Value> {
        let call = |(at, (name, input)): (usize, &(String, Value))| {
            let id = format!("call_{}_{at}", self.number);
            json!({"index": at, "id": id, "type": "function", "function": {"name": name, "arguments": arguments(input)}})
        };
        self.calls.iter().enumerate().map(call).collect()
    }

    fn openai(&self) -> Value {
        let mut message = json!({"role": "assistant", "content": null});
        if !self.text.is_empty() {
            message["content"] = self.text.into();
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = self.openai_calls().into();
        }
        if let Some(words) = self.refusal {
            message["refusal"] = words.into();
        }
        json!({
            "id": format!("chatcmpl-{}", self.number), "object": "chat.completion", "created": 0,
            "model": self.model(),
            "choices": [{"index": 0, "message": message, "finish_reason": self.openai_finish()}],
            "usage": self.openai_usage(),
        })
    }

    fn openai_events(&self) -> Vec<String> {
        let event = |choices: Value, usage: Value| {
            let chunk = json!({
                "id": format!("chatcmpl-{}", self.number), "object": "chat.completion.chunk", "created": 0,
                "model": self.model(), "choices": choices, "usage": usage,
            });
            format!("data: {chunk}\n\n")
        };
        let chunk = |delta: Value, finish: Value| {
            event(json!([{"index": 0, "delta": delta, "finish_reason": finish}]), Value::Null)
        };
        let say = |delta: Value| chunk(delta, Value::Null);
        let mut events = vec![say(json!({"role": "assistant", "content": ""}))];
        events.extend(pieces(self.text).map(|piece| say(json!({"content": piece}))));
        let refusal = pieces(self.refusal.unwrap_or_default());
        events.extend(refusal.map(|piece| say(json!({"refusal": piece}))));
        for mut call in self.openai_calls() {
            let at = call["index"].clone();
            let arguments = call["function"]["arguments"].take();
            call["function"]["arguments"] = "".into();
            events.push(say(json!({"tool_calls": [call]})));
            events.extend(
                pieces(arguments.as_str().unwrap_or_default()).map(|piece| {
                    say(json!({"tool_calls": [{"index": at, "function": {"arguments": piece}}]}))
                }),
            );
        }
        events.push(chunk(json!({}), self.openai_finish().into()));
        if self.asked.body["stream_options"]["include_usage"] == true {
            events.push(event(json!([]), self.openai_usage()));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    fn anthropic_content(&self) -> Vec<Value> {
        let text = self.refusal.unwrap_or(self.text);
        let text = (!text.is_empty()).then(|| json!({"type": "text", "text": text}));
        let call = |(at, (name, input)): (usize, &(String, Value))| json!({"type": "tool_use", "id": format!("toolu_{}_{at}", self.number), "name": name, "input": input});
        text.into_iter().chain(self.calls.iter().enumerate().map(call)).collect()
    }

    fn anthropic(&self) -> Value {
        json!({
            "id": format!("msg_{}", self.number), "type": "message", "role": "assistant",
            "model": self.model(), "content": self.anthropic_content(),
            "stop_reason": self.anthropic_finish(), "stop_sequence": null,
            "usage": self.anthropic_usage(self.tokens().1),
        })
    }

    fn anthropic_events(&self) -> Vec<String> {
        let mut message = self.anthropic();
        message["content"] = json!([]);
        message["stop_reason"] = Value::Null;
        message["usage"] = self.anthropic_usage(1);
        let mut events = vec![named(&json!({"type": "message_start", "message": message}))];
        for (at, mut block) in self.anthropic_content().into_iter().enumerate() {
            let deltas: Vec<Value> = match block["type"].as_str() {
                Some("text") => {
                    let text = block["text"].as_str().unwrap_or_default().to_owned();
                    block["text"] = "".into();
                    pieces(&text).map(|piece| json!({"type": "text_delta", "text": piece})).collect()
                }
                _ => {
                    let input = arguments(&block["input"]);
                    block["input"] = json!({});
                    pieces(&input)
                        .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                        .collect()
                }
            };
            let start = json!({"type": "content_block_start", "index": at, "content_block": block});
            events.extend([named(&start), named(&json!({"type": "ping"}))]);
            let delta = |delta| named(&json!({"type": "content_block_delta", "index": at, "delta": delta}));
            events.extend(deltas.into_iter().map(delta));
            events.push(named(&json!({"type": "content_block_stop", "index": at})));
        }
        let end = json!({
            "type": "message_delta",
            "delta": {"stop_reason": self.anthropic_finish(), "stop_sequence": null},
            "usage": {"output_tokens": self.tokens().1},
        });
        events.extend([named(&end), named(&json!({"type": "message_stop"}))]);
        events
    }
}

/// Returns the arguments of a call as models write them: JSON in a text. A text stands as it is, so
/// that a script can send what is no JSON.
fn arguments(input: &Value) -> String {
    match input {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Cuts a text into a few pieces at character boundaries.
fn pieces(text: &str) -> impl Iterator<Item = String> {
    let chars: Vec<char> = text.chars().collect();
    let length = chars.len().div_ceil(STREAM_PIECES).max(1);
    chars.chunks(length).map(|piece| piece.iter().collect()).collect::<Vec<String>>().into_iter()
}
