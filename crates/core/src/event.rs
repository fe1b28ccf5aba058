//! What happened to a run, in the past tense. Events name their cause's values and never repeat
//! them: the output of a step stands in the [`Input`] of the same entry.

use serde::{Deserialize, Serialize};

use crate::{
    call::Occurrence,
    digest::Digest,
    failure::Failure,
    id::{RunId, StepId},
    input::Input,
    time::Timestamp,
};

/// The version of entries that this crate writes. Older ones fold for ever.
pub const VERSION: u32 = 1;

/// One decision: all its events, under one sequence number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Entry {
    /// The form of this entry: [`VERSION`].
    pub v: u32,
    /// Counts the run's entries from 0.
    pub seq: u64,
    /// When it was decided; never before the previous entry.
    pub at: Timestamp,
    /// The input that led to it.
    pub cause: Input,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run exists. Its spec is the cause's.
    RunAccepted,
    /// The planner was asked.
    PlanRequested {
        /// Counts the requests of the run, from 1.
        request: u32,
    },
    /// A plan was proposed that could not be adopted; its findings are the cause's.
    PlanRefused {
        /// Why, in one line.
        reason: String,
    },
    /// A plan waits for its assumptions, its approval, or nothing.
    PlanProposed {
        /// The version that it becomes.
        version: u32,
        /// The version that it replaces.
        parent: Option<u32>,
        /// The plan's digest.
        plan: Digest,
        /// The envelope's digest: what an approval names.
        envelope: Digest,
    },
    /// A reviewer was asked for its opinion. An attempt whose output is reviewed is not done before it
    /// has answered.
    ReviewRequested {
        /// Counts the reviews of the run, from 1.
        review: u32,
        /// What is judged.
        of: ReviewOf,
    },
    /// The reviewer answered, or did not in time; what it said is the cause's.
    Reviewed {
        /// Which review.
        review: u32,
        /// Whether it accepts what it judged. Without a judgement it does not.
        accepts: bool,
    },
    /// A person is asked to approve.
    ApprovalRequested {
        /// What waits for it.
        gate: Gate,
        /// What must be approved.
        digest: Digest,
    },
    /// The approval was given.
    ApprovalGranted {
        /// What waited for it.
        gate: Gate,
        /// Who approved.
        by: String,
    },
    /// The plan that was proposed is the run's plan now.
    PlanAdopted {
        /// Its version.
        version: u32,
    },
    /// A step waits for what the shell finds out about it.
    StepSkipped {
        /// The step.
        step: StepId,
        /// Why.
        reason: String,
    },
    /// A `for_each` step became its items.
    StepExpanded {
        /// The step.
        step: StepId,
        /// How many items.
        items: u32,
    },
    /// A step can start as soon as there is room for it.
    StepReady {
        /// The step.
        step: StepId,
    },
    /// A step keeps the result of an earlier version.
    StepReused {
        /// The step.
        step: StepId,
    },
    /// A person is asked a question, by a human step, by a replanner, or by a planner.
    QuestionAsked {
        /// The step that asks; [`PLAN_STEP`](crate::id::PLAN_STEP) for a planner.
        step: StepId,
        /// The question, where it is not the step's own.
        question: Option<String>,
    },
    /// The question was answered; the answer is the cause's.
    QuestionAnswered {
        /// The step that asked.
        step: StepId,
        /// Who answered.
        by: String,
    },
    /// An attempt was sent to an executor.
    AttemptStarted {
        /// The step.
        step: StepId,
        /// Which attempt, counted over the whole run.
        attempt: u32,
        /// Whether it asks the `verify` tool about an earlier attempt.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        verify: bool,
    },
    /// A worker may make its irreversible call.
    EffectPermitted {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
        /// Which call, inside an agent step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<Occurrence>,
    },
    /// An attempt returned and passed its gates; its output is the cause's.
    AttemptSucceeded {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
    },
    /// An attempt failed.
    AttemptFailed {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
        /// Why; absent: the failure is the cause's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// The child run of a goal step waits for a person, or is paused.
    ChildWaits {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
    },
    /// The child run goes on.
    ChildGoesOn {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
    },
    /// A result came that nobody waits for any more; it is the cause's.
    LateResultRecorded {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
    },
    /// A step will be tried again.
    RetryScheduled {
        /// The step.
        step: StepId,
        /// When.
        at: Timestamp,
    },
    /// Nobody knows whether an irreversible call happened.
    OutcomeUnknown {
        /// The step.
        step: StepId,
    },
    /// Somebody said what became of it.
    OutcomeResolved {
        /// The step.
        step: StepId,
        /// Whether the effect happened; absent: the step failed whatever happened.
        happened: Option<bool>,
        /// A person, or the `verify` tool.
        by: String,
    },
    /// A step is done: a human step, an item list, or one that a person resolved.
    StepSucceeded {
        /// The step.
        step: StepId,
    },
    /// A step failed for good.
    StepFailed {
        /// The step.
        step: StepId,
        /// Why.
        failure: Failure,
    },
    /// A step gets a new allowance of attempts.
    StepRetried {
        /// The step.
        step: StepId,
    },
    /// The replanner was asked.
    ReplanRequested {
        /// The step that failed, if it is about one.
        step: Option<StepId>,
    },
    /// The replanner's decision is in force; it is the cause's.
    ReplanDecided {
        /// Its name: `retry`, `patch`, …
        decision: String,
    },
    /// The replanner's decision cannot be carried out.
    ReplanRefused {
        /// Why.
        reason: String,
    },
    /// The goal changed; the cause says how.
    GoalRevised {
        /// Who changed it.
        by: String,
    },
    /// Nothing more is started.
    RunPaused {
        /// Who paused it, or why it was paused.
        by: String,
    },
    /// The run goes on.
    RunResumed {
        /// Who resumed it.
        by: String,
    },
    /// An ended run goes on from a step.
    RunReopened {
        /// Who reopened it.
        by: String,
    },
    /// Another run began from this one.
    RunForked {
        /// The other run.
        run: RunId,
        /// The entry that it began from.
        seq: u64,
        /// Who forked it.
        by: String,
    },
    /// Another process carries the run on.
    OwnerChanged {
        /// Which.
        by: String,
    },
    /// The goal is reached. What is left is superseded.
    RunSucceeded,
    /// The goal is not reached.
    RunFailed {
        /// Why.
        reason: RunFailure,
    },
    /// A person ended the run.
    RunCancelled {
        /// Who.
        by: String,
        /// Why.
        reason: Option<String>,
    },
    /// A person refused what waited.
    RunRejected {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

/// What a reviewer judges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewOf {
    /// A proposed plan.
    Plan {
        /// The version that it becomes.
        version: u32,
    },
    /// What an attempt returned.
    Output {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
    },
}

/// What waits for an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The run's first plan.
    Plan,
    /// A later version.
    Replan,
    /// A step.
    Step(StepId),
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum RunFailure {
    /// No plan was adopted.
    NoPlan {
        /// A stable word.
        code: String,
        /// Why, and what to do.
        message: String,
    },
    /// A step failed and nothing was left to try.
    Step {
        /// The step.
        step: StepId,
        /// Why no replan helped.
        message: String,
    },
    /// A rule, a replanner or a person ended it.
    Decided {
        /// The step that it was about.
        step: Option<StepId>,
        /// Why.
        message: String,
    },
    /// A limit was reached.
    Budget {
        /// Which limit.
        limit: String,
    },
    /// Nobody approved or answered in time.
    ApprovalTimeout,
}
