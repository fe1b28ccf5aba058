//! What a run does when reality disagrees with its plan: strategies, rules, and the decisions that
//! replanners make.
//!
//! [`rules`] answers from the rules of a run; [`decide`] and [`exhausted`] say what its strategy
//! makes of a failure that no rule and no replanner knows. The replanner calls them; the state
//! machine carries out what was decided.

mod patch;
pub mod rules;
mod strategy;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::Plan;

pub use patch::{Insert, Patch, PatchError};
pub use strategy::{Failed, Next, decide, exhausted};

/// How a run answers a step that failed for good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplanPolicy {
    /// What is tried first.
    pub strategy: Strategy,
    /// What is tried when a patch was refused or did not help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Strategy>,
    /// Automatic replans, refused ones included; absent: the limit of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// A model that is asked when no rule and no derivation has an answer, as `provider/name`;
    /// absent: the one that planned, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Answers to known failures, asked before anything else; the first match wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl Default for ReplanPolicy {
    fn default() -> Self {
        Self { strategy: Strategy::LocalPatch, escalate: None, max: None, model: None, rules: Vec::new() }
    }
}

/// What is done about a plan that does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The run fails.
    FailFast,
    /// The plan is changed at the point of failure.
    #[default]
    LocalPatch,
    /// The planner is asked again, with what is known now.
    FullReplan,
}

/// An answer to a known failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// CEL over `failure`, `step`, `steps` and `params`.
    pub when: String,
    /// How often the rule may answer in one run; absent: as often as replans are allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Tries the step again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
    /// Counts the step as skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip: bool,
    /// Puts a step before the failed one, then tries that again. `{step}` stands for its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insert: Option<Value>,
    /// Puts another step in the place of the failed one: the fields given here replace its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<Value>,
    /// Asks the planner again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full_replan: bool,
    /// Ends the run as succeeded with what is done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finish: bool,
    /// Ends the run as failed, for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<String>,
    /// Asks a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
}

/// What a replanner answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum ReplanDecision {
    /// The step gets a new allowance of attempts.
    Retry,
    /// The step counts as skipped.
    Skip,
    /// The plan changes around the step.
    Patch(Patch),
    /// Another plan takes the place of this one.
    NewPlan {
        /// The plan as a whole.
        plan: Arc<Plan>,
    },
    /// The planner is asked again, from the goal.
    FullReplan,
    /// The run ends as succeeded with what is done.
    Finish,
    /// The run ends as failed.
    Fail {
        /// Why.
        reason: String,
    },
    /// A person is asked: to retry, to skip or to fail.
    Ask {
        /// The question.
        question: String,
    },
    /// This replanner has no answer.
    Pass,
}

impl ReplanDecision {
    /// Returns the name that the record shows.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::Patch(_) => "patch",
            Self::NewPlan { .. } => "new_plan",
            Self::FullReplan => "full_replan",
            Self::Finish => "finish",
            Self::Fail { .. } => "fail",
            Self::Ask { .. } => "ask",
            Self::Pass => "pass",
        }
    }
}
