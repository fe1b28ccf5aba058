//! What a run asks its shell to do, as plain data. Every action can be repeated: replies name the
//! request, and the run accepts one.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    budget::StepMax,
    digest::Digest,
    event::ReviewOf,
    failure::Failure,
    id::{Capability, ClaimId, StepId, ToolName},
    tool::Effect,
};

/// Something that the shell must do after the entry is durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Ask the planner.
    RequestPlan {
        /// Counts the requests of the run, from 1.
        request: u32,
        /// Why a plan is asked for again.
        trigger: Option<Arc<Trigger>>,
    },
    /// Ask the replanner.
    RequestReplan {
        /// The journal sequence that the answer must name.
        basis: u64,
        /// What happened.
        trigger: Arc<Trigger>,
    },
    /// Ask the reviewer.
    RequestReview {
        /// Counts the reviews of the run, from 1.
        review: u32,
        /// What is judged.
        of: ReviewOf,
    },
    /// Find out whether these steps can start.
    Evaluate {
        /// Steps whose dependencies are done.
        steps: Vec<StepId>,
    },
    /// Send a step to an executor.
    RunStep(Dispatch),
    /// Make sure that the child run of a goal step exists and is carried on.
    RunGoal {
        /// The step, or the item of a `for_each`.
        step: StepId,
        /// Counts per step id over the whole run.
        attempt: u32,
        /// What the child run may use.
        max: StepMax,
    },
    /// Tell the child run of a goal step what to do.
    TellChild {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
        /// What.
        order: ChildOrder,
    },
    /// Stop an attempt whose result is no longer wanted.
    CancelAttempt {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
    },
    /// Tell a worker whether it may make its irreversible call.
    AnswerPermit {
        /// The step.
        step: StepId,
        /// The attempt that asked.
        attempt: u32,
        /// Which call of the attempt: 0 for a tool step's only one, else from 1.
        call: u32,
        /// Which taking in hand of the request it is for.
        claim: Option<ClaimId>,
        /// Whether it may.
        granted: bool,
    },
}

/// What a run tells its child runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildOrder {
    /// Its result is no longer wanted.
    Cancel,
    /// Start nothing more until told.
    Pause,
    /// Go on.
    Resume,
}

/// A step to be sent to an executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dispatch {
    /// The step, or the item of a `for_each`.
    pub step: StepId,
    /// Counts per step id over the whole run.
    pub attempt: u32,
    /// What is called.
    pub work: Work,
    /// What the call does to the world.
    pub effect: Effect,
    /// The pool that runs it.
    pub capability: Capability,
    /// How long the attempt may take.
    pub timeout: Duration,
    /// Whether this call asks the `verify` tool about an earlier one.
    pub verify: bool,
}

/// What an executor is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// One call: of the step's own tool, or of the one that verifies it.
    Tool {
        /// The tool.
        tool: ToolName,
        /// The digest that the executor's tool must have.
        tool_digest: Digest,
    },
    /// The loop of an agent step.
    Agent {
        /// The digest that the specialist must have.
        digest: Digest,
        /// What the attempt may use.
        max: StepMax,
    },
}

/// Why a plan is looked at again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "trigger", rename_all = "snake_case")]
pub enum Trigger {
    /// A step failed for good.
    StepFailed {
        /// The step.
        step: StepId,
        /// Why.
        failure: Failure,
    },
    /// A person amended the goal.
    GoalRevised,
    /// The plan that was proposed could not be adopted.
    PlanRefused {
        /// Why.
        message: String,
    },
}

impl Trigger {
    /// Returns the name that the record shows.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::StepFailed { .. } => "step_failed",
            Self::GoalRevised => "goal_revised",
            Self::PlanRefused { .. } => "plan_refused",
        }
    }

    /// Returns the step that it is about.
    #[must_use]
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::StepFailed { step, .. } => Some(step),
            Self::GoalRevised | Self::PlanRefused { .. } => None,
        }
    }
}
