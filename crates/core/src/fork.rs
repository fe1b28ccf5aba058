//! A run that begins where another one was: what it takes over, and why it may not begin there.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    id::{RunId, StepId, ToolName},
    payload::Output,
    time::Timestamp,
};

/// Where a run was forked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Origin {
    /// The run.
    pub run: RunId,
    /// Its last entry that counts.
    pub seq: u64,
    /// Whether the plan that it had there is proposed again, and no planner asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_plan: bool,
}

/// A result that a fork takes over. It stands as long as the step, what does it, and the values that
/// it refers to are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Kept {
    /// The step, or the item of a `for_each`.
    pub step: StepId,
    /// The digest of its definition; absent: only its call counts, since params changed that it
    /// mentions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Digest>,
    /// The digest of its tool, or of its specialist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub means: Option<Digest>,
    /// The digests of the results that it refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<(StepId, Digest)>,
    /// Whether params that change make it worthless.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mentions_params: bool,
    /// What it returned.
    pub output: Output,
    /// The irreversible call that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<DoneCall>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// An irreversible call that happened, and is never made again by a fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DoneCall {
    /// The tool.
    pub tool: ToolName,
    /// The digest of what it was given.
    pub input: Digest,
}

/// Why no run can begin there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The journal has no such entry.
    #[error("the run has no entry {seq}: its entries are 0 to {last}")]
    NoEntry {
        /// What was asked for.
        seq: u64,
        /// The last entry.
        last: u64,
    },
    /// A call that changes the world was made and has not returned.
    #[error("`{step}` is in hand at entry {seq}: a fork would make its call a second time")]
    InHand {
        /// The step.
        step: StepId,
        /// The entry that was asked for.
        seq: u64,
        /// The nearest entry before at which nothing is in hand.
        before: Option<u64>,
        /// The nearest entry after.
        after: Option<u64>,
    },
    /// Nobody knows whether an irreversible call happened.
    #[error(
        "nobody knows whether the irreversible call of `{step}` happened: a fork could make it a second time"
    )]
    Unknown {
        /// The step.
        step: StepId,
        /// The nearest entry before at which it was not made.
        before: Option<u64>,
        /// The nearest entry after at which it is known.
        after: Option<u64>,
    },
    /// The origin goes on, and makes an irreversible call right now.
    #[error("the run makes the irreversible call of `{step}` right now")]
    Busy {
        /// The step.
        step: StepId,
    },
    /// The origin's newest entry leaves an irreversible call of which nobody knows.
    #[error("nobody knows by now whether the irreversible call of `{step}` happened")]
    Unresolved {
        /// The step.
        step: StepId,
    },
}
