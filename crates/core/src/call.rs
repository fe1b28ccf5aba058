//! Calls that workers made while they answered: to models and to tools, as they stand on record.
//!
//! A worker reports them in its reply, so that the journal has them and the audit trail derives
//! their spans from it.

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, failure::Failure, id::ToolName, payload::Output, time::Timestamp, tool::Effect};

/// Calls that one reply may report: the most iterations of a step, with a few tool calls each. What
/// is beyond is counted in the usage and left out here.
pub const CALLS_MAX: usize = 256;

/// One call to a model or a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Call {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What was called.
    #[serde(flatten)]
    pub target: Target,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What was called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A model.
    Model(Box<ModelCall>),
    /// A tool.
    Tool(Box<ToolCall>),
}

/// A call to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ModelCall {
    /// Which model was asked: `provider/name`.
    pub model: String,
    /// What it was asked for.
    pub purpose: Purpose,
    /// The model that the server says answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// The digest of the prompt template.
    pub prompt: Digest,
    /// The digest of the request: what a recorded answer is found by.
    pub request: Digest,
    /// What it answered: text, and calls of tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Output>,
    /// Why it stopped, in the provider's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// Tokens sent and received.
    #[serde(default)]
    pub tokens: Tokens,
    /// Micro-dollars.
    #[serde(default)]
    pub cost_microusd: u64,
    /// How often it was asked again because of a transient error.
    #[serde(default)]
    pub retries: u32,
}

/// What a model is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A plan.
    Plan,
    /// A turn of an agent step.
    Act,
    /// A decision about a plan that does not hold.
    Replan,
    /// A judgement of a plan or an output.
    Review,
}

/// Tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Tokens {
    /// Sent, those from a cache included.
    pub input: u64,
    /// Of those sent, how many the provider had in its cache.
    pub cached: u64,
    /// Received, those of reasoning included.
    pub output: u64,
    /// Of those received, how many were reasoning.
    pub reasoning: u64,
}

/// An irreversible call that an agent step wants to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Occurrence {
    /// Counts the irreversible calls of the attempt, from 1.
    pub call: u32,
    /// The tool.
    pub tool: ToolName,
}

/// A call to a tool inside an agent step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ToolCall {
    /// The tool.
    pub tool: ToolName,
    /// Which one of that name.
    pub tool_digest: Digest,
    /// What a call does to the world.
    pub effect: Effect,
    /// What it was given.
    pub input: Output,
    /// What it returned; absent: it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
}
