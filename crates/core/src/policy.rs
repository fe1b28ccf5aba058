//! What a run does when reality disagrees with its plan: strategies, rules, and the decisions that
//! replanners make.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    id::StepId,
    plan::{Plan, Step},
};

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
    /// Answers to known failures, asked before anything else; the first match wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl Default for ReplanPolicy {
    fn default() -> Self {
        Self { strategy: Strategy::LocalPatch, escalate: None, max: None, rules: Vec::new() }
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

/// A change to a plan, applied to the version that the request named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Patch {
    /// Steps to add, each before the steps that are to wait for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub insert: Vec<Insert>,
    /// Steps to put in the place of those named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub replace: BTreeMap<StepId, Step>,
    /// Steps to take out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<StepId>,
}

/// A step to add to a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Insert {
    /// The new step.
    pub step: Step,
    /// The steps that wait for it.
    pub before: Vec<StepId>,
}

/// A patch that cannot be applied to the plan it was made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It names a step that the plan does not have.
    #[error("the patch names `{0}`, which is no step of the plan")]
    UnknownStep(StepId),
    /// It adds a step under an id that the plan has.
    #[error("the patch adds `{0}`, which the plan has already")]
    DuplicateStep(StepId),
}

impl Patch {
    /// Returns the plan that results from applying this patch to `plan`. Steps that needed a
    /// dropped one no longer do.
    ///
    /// # Errors
    ///
    /// If the patch and the plan do not fit; whether the result is a good plan is for `check`.
    pub fn apply(&self, plan: &Plan) -> Result<Plan, PatchError> {
        let mut plan = plan.clone();
        let position = |plan: &Plan, id: &StepId| {
            plan.steps.iter().position(|s| s.id == *id).ok_or_else(|| PatchError::UnknownStep(id.clone()))
        };
        for (id, step) in &self.replace {
            let at = position(&plan, id)?;
            plan.steps[at] = step.clone();
            rename_needs(&mut plan, id, &step.id);
        }
        for id in &self.drop {
            let at = position(&plan, id)?;
            plan.steps.remove(at);
            for step in &mut plan.steps {
                step.needs.retain(|n| n != id);
            }
        }
        for Insert { step, before } in &self.insert {
            if plan.steps.iter().any(|s| s.id == step.id) {
                return Err(PatchError::DuplicateStep(step.id.clone()));
            }
            let mut first = plan.steps.len();
            for id in before {
                let at = position(&plan, id)?;
                plan.steps[at].needs.push(step.id.clone());
                first = first.min(at);
            }
            plan.steps.insert(first, step.clone());
        }
        Ok(plan)
    }
}

fn rename_needs(plan: &mut Plan, from: &StepId, to: &StepId) {
    if from == to {
        return;
    }
    for need in plan.steps.iter_mut().flat_map(|s| &mut s.needs).filter(|n| *n == from) {
        *need = to.clone();
    }
}
