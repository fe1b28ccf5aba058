//! What is seen of a streamed answer on the wire. The client library makes an answer of the pieces; kept
//! here is what it drops, and what must be known of an answer that never comes to its end.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use foreplan_core::call::Tokens;
use genai::{
    adapter::AdapterKind,
    chat::{ChatFrameSink, FrameCtx, RawFrameRef, ToolCall, Usage},
};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::exchange::tokens;

/// Hears every piece of one stream.
pub(crate) struct Pieces {
    form: AdapterKind,
    seen: Mutex<Seen>,
}

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct Seen {
    /// When the last sign of life came, or when the request began.
    pub last: Instant,
    /// Pieces that say something; a sign of life without content is none.
    pub count: usize,
    /// Bytes of all pieces, as they came.
    pub bytes: usize,
    /// Whether the mark came by which the form ends an answer.
    pub ended: bool,
    /// Whether a piece came that cannot be read. The library passes over some of them.
    pub unread: bool,
    /// The error that came in place of a piece.
    pub error: Option<Value>,
    /// The model that the server says answers.
    pub answered_by: Option<String>,
    /// The words of a refusal in `OpenAI`'s form.
    pub refusal: String,
    /// Calls in `OpenAI`'s form, in the order in which they began.
    calls: Vec<CallPieces>,
    /// By the index that the server gives them: the call that pieces go to.
    open: HashMap<Option<u64>, usize>,
    /// What the provider has counted so far, in its own words.
    usage: Map<String, Value>,
}

/// A call of which pieces came.
#[derive(Debug, Default)]
struct CallPieces {
    id: Option<String>,
    name: String,
    arguments: String,
}

impl Pieces {
    pub(crate) fn new(form: AdapterKind) -> Self {
        let seen = Seen {
            last: Instant::now(),
            count: 0,
            bytes: 0,
            ended: false,
            unread: false,
            error: None,
            answered_by: None,
            refusal: String::new(),
            calls: Vec::new(),
            open: HashMap::new(),
            usage: Map::new(),
        };
        Self { form, seen: Mutex::new(seen) }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tokens that the provider has counted so far; none where it counts at the end only.
    pub(crate) fn tokens(&self) -> Tokens {
        let usage = Value::Object(self.seen().usage.clone());
        match self.form {
            AdapterKind::Anthropic => tokens_of_anthropic(&usage),
            AdapterKind::OpenAI => tokens(&serde_json::from_value::<Usage>(usage).unwrap_or_default()),
            _ => Tokens::default(),
        }
    }
}

impl ChatFrameSink for Pieces {
    fn on_frame(&self, _: &FrameCtx, frame: RawFrameRef<'_>) {
        let mut seen = self.seen();
        seen.last = Instant::now();
        seen.bytes += frame.data.len();
        if frame.data.is_empty() {
            return;
        }
        seen.count += 1;
        match frame.json() {
            Some(piece) => seen.piece(self.form, frame.event, &piece),
            None if self.form == AdapterKind::OpenAI && frame.data == "[DONE]" => seen.ended = true,
            None => seen.unread = true,
        }
    }
}

impl Seen {
    fn piece(&mut self, form: AdapterKind, event: Option<&str>, piece: &Value) {
        let text = |path: &str| piece.pointer(path).and_then(Value::as_str);
        let error = piece.get("error").or_else(|| piece.pointer("/response/error"));
        if let Some(error) = error.filter(|error| !error.is_null()) {
            self.error = Some(error.clone());
        }
        let (model, usage, ended) = match form {
            AdapterKind::OpenAI => {
                self.openai(piece);
                (text("/model"), piece.get("usage"), false)
            }
            AdapterKind::Anthropic => {
                let usage = piece.pointer("/message/usage").or_else(|| piece.get("usage"));
                (text("/message/model"), usage, event == Some("message_stop"))
            }
            AdapterKind::Gemini => {
                // A prompt that is blocked is answered without a candidate, and so without its end.
                let blocked = text("/promptFeedback/blockReason").is_some();
                (text("/modelVersion"), None, blocked || text("/candidates/0/finishReason").is_some())
            }
            AdapterKind::Ollama => (None, None, piece["done"] == true),
            _ => {
                let ended = matches!(text("/type"), Some("response.completed" | "response.incomplete"));
                if text("/type") == Some("error") {
                    self.error = Some(piece.clone());
                }
                (text("/response/model"), None, ended)
            }
        };
        if let (None, Some(model)) = (&self.answered_by, model) {
            self.answered_by = Some(model.to_owned());
        }
        if let Some(Value::Object(usage)) = usage {
            self.usage.extend(usage.iter().map(|(name, count)| (name.clone(), count.clone())));
        }
        self.ended |= ended;
    }

    fn openai(&mut self, piece: &Value) {
        let Some(delta) = piece.pointer("/choices/0/delta") else { return };
        if let Some(words) = delta["refusal"].as_str() {
            self.refusal.push_str(words);
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(call);
        }
    }

    /// Adds a piece of a call to the one that it belongs to. A server that counts badly, or not at all,
    /// begins a call with a new id: two calls must not become one, nor one two.
    fn call(&mut self, piece: &Value) {
        let index = piece["index"].as_u64();
        let id = piece["id"].as_str().filter(|id| !id.is_empty());
        let goes_on = |call: &CallPieces| match (&call.id, id) {
            (Some(known), Some(id)) => known == id,
            (None, Some(_)) => call.arguments.is_empty(),
            (_, None) => true,
        };
        let open = self.open.get(&index).copied().filter(|at| goes_on(&self.calls[*at]));
        let at = open.unwrap_or_else(|| {
            self.calls.push(CallPieces::default());
            self.open.insert(index, self.calls.len() - 1);
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if let (None, Some(id)) = (&call.id, id) {
            call.id = Some(id.to_owned());
        }
        if let (true, Some(name)) = (call.name.is_empty(), piece["function"]["name"].as_str()) {
            call.name = name.to_owned();
        }
        match &piece["function"]["arguments"] {
            Value::Null => {}
            Value::String(text) => call.arguments.push_str(text),
            whole => call.arguments.push_str(&whole.to_string()),
        }
    }

    /// Returns the calls in `OpenAI`'s form; nothing if one has no id or no name, which no whole answer
    /// may lack either.
    pub(crate) fn take_calls(&mut self) -> Option<Vec<ToolCall>> {
        let call = |CallPieces { id, name, arguments }: CallPieces| {
            let fn_arguments = match arguments.trim() {
                "" => Value::Object(Map::new()),
                text => serde_json::from_str(text).unwrap_or(Value::String(arguments)),
            };
            let fn_name = Some(name).filter(|name| !name.is_empty())?;
            Some(ToolCall { call_id: id?, fn_name, fn_arguments, thought_signatures: None })
        };
        std::mem::take(&mut self.calls).into_iter().map(call).collect()
    }
}

/// Tokens in Anthropic's words: what is read from its cache or written to it is counted apart.
fn tokens_of_anthropic(usage: &Value) -> Tokens {
    // What no model can count counts as nothing, as in whole answers.
    let count = |name: &str| usage[name].as_i64().and_then(|n| u32::try_from(n).ok()).map_or(0, u64::from);
    let cached = count("cache_read_input_tokens");
    Tokens {
        input: count("input_tokens") + count("cache_creation_input_tokens") + cached,
        cached,
        output: count("output_tokens"),
        reasoning: 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn calls(pieces: &[Value]) -> Option<Vec<(String, String, Value)>> {
        let all = Pieces::new(AdapterKind::OpenAI);
        for call in pieces {
            let piece = json!({"choices": [{"delta": {"tool_calls": [call]}}]});
            all.seen().piece(AdapterKind::OpenAI, None, &piece);
        }
        let calls = all.seen().take_calls()?;
        Some(calls.into_iter().map(|call| (call.call_id, call.fn_name, call.fn_arguments)).collect())
    }

    fn read(id: &str, path: &str) -> (String, String, Value) {
        (id.to_owned(), "read".to_owned(), json!({"path": path}))
    }

    #[test]
    fn pieces_of_calls_find_their_call_however_the_server_counts() {
        let expected = Some(vec![read("a", "x"), read("b", "y")]);
        let begin = |index: Value, id: &str| json!({"index": index, "id": id, "function": {"name": "read", "arguments": ""}});
        let more = |index: Value, text: &str| json!({"index": index, "function": {"arguments": text}});
        let as_promised = [
            begin(json!(0), "a"),
            begin(json!(1), "b"),
            more(json!(1), "{\"path\": "),
            more(json!(0), "{\"path\": \"x\""),
            more(json!(1), "\"y\"}"),
            more(json!(0), "}"),
        ];
        assert_eq!(calls(&as_promised), expected);
        for counted in [json!(0), Value::Null, json!(4_294_967_295_u64)] {
            let badly = [
                begin(counted.clone(), "a"),
                more(counted.clone(), "{\"path\": \"x\"}"),
                begin(counted.clone(), "b"),
                more(counted.clone(), "{\"path\": \"y\"}"),
            ];
            assert_eq!(calls(&badly), expected, "{counted}");
        }
        let repeating =
            |text: &str| json!({"index": 1, "id": "a", "function": {"name": "read", "arguments": text}});
        assert_eq!(calls(&[repeating("{\"path\":"), repeating("\"x\"}")]), Some(vec![read("a", "x")]));
        let whole = json!({"index": 0, "id": "a", "function": {"name": "read", "arguments": {"path": "x"}}});
        assert_eq!(calls(&[whole]), Some(vec![read("a", "x")]));
    }

    #[test]
    fn every_form_marks_the_end_of_its_answers() {
        use AdapterKind::{Anthropic, Gemini, Ollama, OpenAI, OpenAIResp};
        let cases = [
            (OpenAI, None, json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}), false),
            (Anthropic, Some("message_delta"), json!({"delta": {"stop_reason": "end_turn"}}), false),
            (Anthropic, Some("message_stop"), json!({"type": "message_stop"}), true),
            (Gemini, None, json!({"candidates": [{"content": {}}]}), false),
            (Gemini, None, json!({"candidates": [{"finishReason": "STOP"}]}), true),
            (Gemini, None, json!({"promptFeedback": {"blockReason": "SAFETY"}}), true),
            (Ollama, None, json!({"message": {}, "done": false}), false),
            (Ollama, None, json!({"message": {}, "done": true}), true),
            (OpenAIResp, None, json!({"type": "response.output_text.done"}), false),
            (OpenAIResp, None, json!({"type": "response.failed"}), false),
            (OpenAIResp, None, json!({"type": "response.completed"}), true),
            (OpenAIResp, None, json!({"type": "response.incomplete"}), true),
        ];
        for (form, event, piece, ended) in cases {
            let pieces = Pieces::new(form);
            pieces.seen().piece(form, event, &piece);
            assert_eq!(pieces.seen().ended, ended, "{form:?} {piece}");
        }
    }

    #[test]
    fn an_error_in_the_place_of_a_piece_is_kept_whatever_the_form() {
        use AdapterKind::{Anthropic, Gemini, Ollama, OpenAI, OpenAIResp};
        let cases = [
            (OpenAI, json!({"error": {"message": "m"}})),
            (Anthropic, json!({"type": "error", "error": {"message": "m"}})),
            (Gemini, json!({"error": {"code": 503, "message": "m"}})),
            (Ollama, json!({"error": "m"})),
            (OpenAIResp, json!({"type": "error", "message": "m"})),
            (OpenAIResp, json!({"type": "response.failed", "response": {"error": {"message": "m"}}})),
        ];
        for (form, piece) in cases {
            let pieces = Pieces::new(form);
            pieces.seen().piece(form, None, &json!({"error": null}));
            assert_eq!(pieces.seen().error, None, "{form:?}");
            pieces.seen().piece(form, None, &piece);
            let error = pieces.seen().error.clone().unwrap_or_default();
            let fault = crate::fault::Fault::of_event(&error, None);
            assert!(fault.transient && fault.message.contains("it says: m"), "{form:?}: {fault:?}");
        }
    }

    #[test]
    fn counts_that_cannot_be_are_none() {
        for odd in [json!(u64::MAX), json!(-1), json!("7"), json!(1.5), Value::Null] {
            let usage = json!({"input_tokens": odd, "cache_read_input_tokens": 3, "output_tokens": odd});
            assert_eq!(
                tokens_of_anthropic(&usage),
                Tokens { input: 3, cached: 3, ..Tokens::default() },
                "{odd}"
            );
        }
    }

    #[test]
    fn a_call_that_lacks_its_id_or_its_name_is_none() {
        assert_eq!(calls(&[json!({"index": 0, "function": {"name": "read", "arguments": "{}"}})]), None);
        assert_eq!(calls(&[json!({"index": 0, "id": "a", "function": {"arguments": "{}"}})]), None);
    }
}
