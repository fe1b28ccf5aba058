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

impl ReviewOutcome {
    /// Returns whether what was judged may pass. Without a judgement it may not.
    #[must_use]
    pub fn accepts(&self) -> bool {
        matches!(self, Self::Judgement(judgement) if judgement.accepts)
    }

    /// Returns why what was judged may not pass; empty if it may.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Judgement(judgement) => judgement.reasons.clone(),
            Self::Failed(failure) => vec![format!("there is no judgement: {failure}")],
        }
    }

    /// Returns the failure that a step has whose output may not pass; `None` if it may. An output that
    /// a reviewer refused may be better next time; without a judgement another one is as good.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let reasons = self.reasons().join("; ");
        match self {
            Self::Judgement(judgement) if judgement.accepts => None,
            Self::Judgement(_) => {
                Some(Failure::new(FailureKind::Review, "not_accepted", reasons).retryable(true))
            }
            Self::Failed(_) => Some(Failure::new(FailureKind::Review, "no_judgement", reasons)),
        }
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
