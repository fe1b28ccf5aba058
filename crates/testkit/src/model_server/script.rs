//! What the scripted server is asked, and what it answers.

use std::time::Duration;

use serde_json::Value;

use super::stream::{End, Manner};

/// A form in which models are asked over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFormat {
    /// `POST …/chat/completions`.
    OpenAi,
    /// `POST …/messages`.
    Anthropic,
}

/// A request as the server received it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// In which form.
    pub format: WireFormat,
    /// The key that came with it.
    pub key: Option<String>,
    /// The whole body.
    pub body: Value,
}

impl Asked {
    /// Returns the model that is asked for.
    #[must_use]
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    /// Returns what holds for the whole conversation.
    #[must_use]
    pub fn system(&self) -> String {
        match self.format {
            WireFormat::Anthropic => text_of(&self.body["system"]),
            WireFormat::OpenAi => {
                let of_system = |m: &&Value| matches!(m["role"].as_str(), Some("system" | "developer"));
                self.messages().iter().filter(of_system).map(|m| text_of(&m["content"])).collect()
            }
        }
    }

    /// Returns the text of the last message: of the user, or a tool's result.
    #[must_use]
    pub fn last(&self) -> String {
        self.messages().last().map(|m| text_of(&m["content"])).unwrap_or_default()
    }

    /// Returns how often the model has spoken in this conversation.
    #[must_use]
    pub fn turns(&self) -> usize {
        self.messages().iter().filter(|m| m["role"] == "assistant").count()
    }

    /// Returns the names of the tools that it may call.
    #[must_use]
    pub fn tools(&self) -> Vec<&str> {
        let tools = self.body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
        tools.iter().filter_map(|t| t.pointer("/function/name").or_else(|| t.get("name"))?.as_str()).collect()
    }

    /// Returns whether the conversation holds `text` anywhere.
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        self.system().contains(text) || self.messages().iter().any(|m| text_of(&m["content"]).contains(text))
    }

    /// Returns the length of the conversation in tokens, counted as characters / 4.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens_of(&["system", "messages", "tools"]) + self.schema_tokens()
    }

    /// Returns how many of these are the schema of the answer.
    #[must_use]
    pub fn schema_tokens(&self) -> u64 {
        self.tokens_of(&["response_format", "output_config"])
    }

    fn tokens_of(&self, parts: &[&str]) -> u64 {
        let chars: usize =
            parts.iter().filter_map(|part| self.body.get(part)).map(|v| v.to_string().chars().count()).sum();
        (chars as u64).div_ceil(4)
    }

    /// Returns whether the answer is wanted in pieces.
    #[must_use]
    pub fn streamed(&self) -> bool {
        self.body["stream"] == true
    }

    fn messages(&self) -> &[Value] {
        self.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

/// Returns the text of a message's content, which is a text or a list of parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part["text"].as_str() {
                Some(text) => text.to_owned(),
                None => text_of(&part["content"]),
            })
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    }
}

/// What the server does with one request.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) what: What,
    pub(super) after: Duration,
    pub(super) tokens: Option<(u64, u64)>,
    pub(super) apart: (u64, u64),
    pub(super) finish: Option<&'static str>,
    pub(super) by: Option<&'static str>,
    pub(super) cut: bool,
    pub(super) manner: Manner,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// A message of the model.
    Says { text: String, calls: Vec<(String, Value)>, refusal: Option<String> },
    /// A status other than 200.
    Status { status: u16, retry_after: Option<String>, body: String },
    /// Anything as the body of a 200.
    Raw(String),
    /// Anything as a stream.
    Events(Vec<String>),
    /// The connection ends without an answer.
    HangUp,
}

impl Reply {
    fn new(what: What) -> Self {
        let (after, manner) = (Duration::ZERO, Manner::default());
        Self { what, after, tokens: None, apart: (0, 0), finish: None, by: None, cut: false, manner }
    }

    /// Answers with text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(What::Says { text: text.into(), calls: Vec::new(), refusal: None })
    }

    /// Answers with JSON, as models do when they were given a schema. Nothing checks that it fits.
    #[must_use]
    pub fn json(value: &Value) -> Self {
        Self::text(value.to_string())
    }

    /// Asks for a tool, whether it exists or not. May be repeated: see [`Self::and_call`].
    pub fn call(tool: impl Into<String>, input: Value) -> Self {
        Self::text("").and_call(tool, input)
    }

    /// Asks for one more tool in the same answer.
    #[must_use]
    pub fn and_call(mut self, tool: impl Into<String>, input: Value) -> Self {
        if let What::Says { calls, .. } = &mut self.what {
            calls.push((tool.into(), input));
        }
        self
    }

    /// Refuses.
    pub fn refusal(words: impl Into<String>) -> Self {
        Self::new(What::Says { text: String::new(), calls: Vec::new(), refusal: Some(words.into()) })
    }

    /// Fails with an HTTP status; the body is an error as providers send it.
    #[must_use]
    pub fn status(status: u16, message: &str) -> Self {
        let body = serde_json::json!({"error": {"message": message}}).to_string();
        Self::new(What::Status { status, retry_after: None, body })
    }

    /// Says in a failed answer when to come back: seconds, or an HTTP date.
    #[must_use]
    pub fn retry_after(mut self, when: impl Into<String>) -> Self {
        if let What::Status { retry_after, .. } = &mut self.what {
            *retry_after = Some(when.into());
        }
        self
    }

    /// Answers 200 with a body that is used as it stands: malformed JSON, say.
    pub fn raw(body: impl Into<String>) -> Self {
        Self::new(What::Raw(body.into()))
    }

    /// Answers 200 with a stream of these events, used as they stand, whether one was asked for or not.
    pub fn events(events: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(What::Events(events.into_iter().map(Into::into).collect()))
    }

    /// Closes the connection without an answer.
    #[must_use]
    pub fn hang_up() -> Self {
        Self::new(What::HangUp)
    }

    /// Waits before it answers.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.after = wait;
        self
    }

    /// Reports so many tokens sent and received; otherwise they are counted as characters / 4.
    #[must_use]
    pub fn tokens(mut self, input: u64, output: u64) -> Self {
        self.tokens = Some((input, output));
        self
    }

    /// Says how many of the tokens sent were in its cache, and how many of those received were reasoning,
    /// which Anthropic's form does not say.
    #[must_use]
    pub fn tokens_apart(mut self, cached: u64, reasoning: u64) -> Self {
        self.apart = (cached, reasoning);
        self
    }

    /// Says why it stopped, in the provider's word.
    #[must_use]
    pub fn finish(mut self, reason: &'static str) -> Self {
        self.finish = Some(reason);
        self
    }

    /// Says that another model answered than was asked, as providers do for names that stand for the newest.
    #[must_use]
    pub fn by(mut self, model: &'static str) -> Self {
        self.by = Some(model);
        self
    }

    /// Stops in the middle of the body, or of a piece of it, and closes the connection.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.cut = true;
        self
    }

    /// Waits before every piece of a stream.
    #[must_use]
    pub fn every(mut self, pause: Duration) -> Self {
        self.manner.pause = pause;
        self
    }

    /// Waits in the middle of a stream.
    #[must_use]
    pub fn stall(mut self, wait: Duration) -> Self {
        self.manner.stall = wait;
        self
    }

    /// Ends a stream in order, but without the mark of its end.
    #[must_use]
    pub fn unmarked(self) -> Self {
        self.ends(End::Unmarked)
    }

    /// Ends a stream in order in its middle.
    #[must_use]
    pub fn early(self) -> Self {
        self.ends(End::Early)
    }

    /// Ends a stream in its middle with an error of this kind in the place of a piece.
    #[must_use]
    pub fn error(self, kind: &str, message: &str) -> Self {
        self.ends(End::Error { kind: kind.to_owned(), message: message.to_owned() })
    }

    /// Says a piece from the middle of a stream again and again.
    #[must_use]
    pub fn endless(self) -> Self {
        self.ends(End::Never)
    }

    fn ends(mut self, end: End) -> Self {
        self.manner.end = end;
        self
    }
}
