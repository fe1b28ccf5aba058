//! Judgements by a model: of a plan before a person approves it, and of an output after its step
//! ran. A judgement is an opinion on record; it carries nothing out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    failure::{Failure, FailureKind},
    finding::Finding,
    payload::Output,
    plan::{Plan, Step},
};

/// What is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "subject", rename_all = "snake_case")]
pub enum ReviewSubject {
    /// A plan that passed `check`.
    Plan {
        /// The plan.
        plan: Arc<Plan>,
        /// What `check` advises.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        findings: Vec<Finding>,
    },
    /// What a step returned.
    Output {
        /// The step as the plan has it: its `outcome` says what the output must show.
        step: Box<Step>,
        /// What the step was given.
        input: Arc<Value>,
        /// What it returned.
        output: Output,
    },
}

/// What a reviewer thinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Judgement {
    /// Whether it would let this pass.
    pub accepts: bool,
    /// Why; at least one reason if it would not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

impl Judgement {
    /// Returns the failure that a step has whose output was not accepted; `None` if it was.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        (!self.accepts).then(|| Failure::new(FailureKind::Review, "not_accepted", self.reasons.join("; ")))
    }
}

/// What came of a review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewOutcome {
    /// The reviewer's opinion.
    Judgement(Judgement),
    /// There is none: the model could not be asked, or answered something unusable.
    Failed(Failure),
}
