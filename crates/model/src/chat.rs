//! A conversation with a model: what is sent, and what comes back.

use foreplan_core::{
    call::{Purpose, Tokens},
    digest::Digest,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a model is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// What it is asked for.
    pub purpose: Purpose,
    /// The digest of the prompt template, for the record.
    pub prompt: Digest,
    /// What holds for the whole conversation.
    pub system: String,
    /// The conversation, oldest first; it ends with the user or with tool results.
    pub messages: Vec<Message>,
    /// The tools that it may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolSpec>,
    /// The form of the final answer; absent: text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputSchema>,
    /// How many tokens the answer may have; absent: as many as the model allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
}

impl Request {
    /// Returns the SHA-256 of the canonical JSON: what names the request on record.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// From whoever asks.
    User {
        /// What it says.
        text: String,
    },
    /// From the model, in an earlier turn.
    Assistant {
        /// What it said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
        /// The tools that it asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<ToolUse>,
    },
    /// What a tool returned, or why it failed.
    Tool {
        /// The [`ToolUse::id`] that it answers.
        id: String,
        /// The result as text, mostly JSON.
        content: String,
    },
}

/// A tool as it is shown to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name, within what providers accept.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of the input: an object.
    pub input: Value,
}

/// The form of a structured answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputSchema {
    /// A short name that providers want.
    pub name: String,
    /// JSON Schema. Providers get a form of it that they accept; the caller checks the answer
    /// against its own.
    pub schema: Value,
}

/// A tool call that a model asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolUse {
    /// Names the call within the conversation.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The input, unchecked. Text that is no JSON stands here as a string.
    pub input: Value,
}

/// What a model answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Text; of a structured answer, its JSON.
    pub text: String,
    /// The tools that it asks for.
    pub calls: Vec<ToolUse>,
    /// Why it stopped, in the provider's word.
    pub finish: Option<String>,
    /// The model that the server says answered.
    pub answered_by: Option<String>,
    /// Tokens sent and received, those of attempts included that the provider counted and that came to
    /// nothing.
    pub tokens: Tokens,
    /// Micro-dollars, by the price table.
    pub cost_microusd: u64,
    /// How often it was asked again because of a transient error.
    pub retries: u32,
}
