//! Why an attempt did not do what its step asked for: data in the journal, readable after a
//! restart.

use serde::{Deserialize, Serialize};

/// Longest message of a failure, so that an entry with one stays small.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// The code of the failure that stands for a request that no worker took: the attempt did nothing,
/// and does not count.
pub const UNSERVED: &str = "unserved";

/// What kind of thing went wrong. Kinds from newer versions decode as [`FailureKind::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The tool ran and said that it failed.
    Tool,
    /// The attempt took longer than its step allows.
    Timeout,
    /// The worker that ran the attempt is gone.
    WorkerLost,
    /// The bound input does not fit the tool's schema, or could not be bound.
    InputSchema,
    /// The output does not fit its schema.
    OutputSchema,
    /// The step's `expect` does not hold, or could not be evaluated.
    ExpectFailed,
    /// A reviewer judged the output and refused it.
    Review,
    /// The model could not be asked or answered something unusable.
    Model,
    /// The model refused.
    ModelRefused,
    /// The plan itself is wrong: an expression that fails, a list over its maximum.
    Plan,
    /// A limit of the run or the step was reached.
    Budget,
    /// Nobody serves the capability.
    Unserved,
    /// The tool is not the one that was approved.
    ToolChanged,
    /// The run or the step was cancelled.
    Cancelled,
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

impl FailureKind {
    /// Returns the name that rules and JSON use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Timeout => "timeout",
            Self::WorkerLost => "worker_lost",
            Self::InputSchema => "input_schema",
            Self::OutputSchema => "output_schema",
            Self::ExpectFailed => "expect_failed",
            Self::Review => "review",
            Self::Model => "model",
            Self::ModelRefused => "model_refused",
            Self::Plan => "plan",
            Self::Budget => "budget",
            Self::Unserved => "unserved",
            Self::ToolChanged => "tool_changed",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of the effect of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EffectState {
    /// The effect did not happen.
    None,
    /// The effect happened although the call failed.
    Done,
    /// Nobody can tell.
    Unknown,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Failure {
    /// What kind of thing went wrong.
    pub kind: FailureKind,
    /// A stable word that rules match: `missing_migration`, `exit_2`.
    pub code: String,
    /// What happened, for a person.
    pub message: String,
    /// Whether the same call may succeed later. `None`: the kind decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// What is known of the effect. `None`: the tool's effect decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<EffectState>,
}

impl Failure {
    /// Makes a failure whose retryability and effect follow from its kind and its tool.
    pub fn new(kind: FailureKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            let cut = message.floor_char_boundary(MESSAGE_BYTES_MAX);
            message.truncate(cut);
            message.push('…');
        }
        Self { kind, code: code.into(), message, retryable: None, effect: None }
    }

    /// Says whether the same call may succeed later.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = Some(retryable);
        self
    }

    /// Says what is known of the effect.
    #[must_use]
    pub fn effect(mut self, effect: EffectState) -> Self {
        self.effect = Some(effect);
        self
    }

    /// Returns whether no worker took the request, so that one may take it later.
    #[must_use]
    pub fn is_unserved(&self) -> bool {
        self.kind == FailureKind::Unserved && self.code == UNSERVED
    }

    /// Returns whether another attempt makes sense. A gate that refused an output is never
    /// satisfied by asking again, and a changed tool stays changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable.unwrap_or(matches!(
            self.kind,
            FailureKind::Tool
                | FailureKind::Timeout
                | FailureKind::WorkerLost
                | FailureKind::OutputSchema
                | FailureKind::Model
                | FailureKind::Unknown
        ))
    }
}

/// Returns what an error says, with all that led to it. What was said already is not said again.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kinds_decode() {
        let failure: Failure =
            serde_json::from_str(r#"{"kind":"moon_phase","code":"x","message":"y"}"#).unwrap();
        assert_eq!(failure.kind, FailureKind::Unknown);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let failure = Failure::new(FailureKind::Tool, "x", "ä".repeat(MESSAGE_BYTES_MAX));
        assert!(failure.message.len() <= MESSAGE_BYTES_MAX + '…'.len_utf8());
    }
}
