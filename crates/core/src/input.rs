//! What reaches a run: the causes of its journal's entries.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    budget::Usage,
    call::{Call, Occurrence},
    digest::{Digest, LazyDigest},
    envelope::{Envelope, SealedEnvelope},
    failure::Failure,
    finding::Finding,
    fork::Kept,
    goal::RunSpec,
    id::{ClaimId, RunId, StepId},
    payload::Output,
    plan::{CompiledPlan, Plan},
    policy::ReplanDecision,
    review::ReviewOutcome,
    time::Timestamp,
};

/// Something that a run must react to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// The client submits the run.
    Submit {
        /// What was asked for.
        spec: Arc<RunSpec>,
        /// Who asked.
        by: String,
        /// What a fork takes over from its origin.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kept: Vec<Kept>,
    },
    /// The planner answers.
    Planned(PlanReply),
    /// The shell answers [`crate::action::Action::Evaluate`].
    Evaluated {
        /// One verdict for each step asked about.
        ready: Vec<(StepId, Readiness)>,
    },
    /// A worker answers a step request.
    Result(AttemptReply),
    /// A worker asks whether it may make an irreversible call.
    Permit {
        /// The step.
        step: StepId,
        /// The attempt that asks.
        attempt: u32,
        /// Which call, inside an agent step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<Occurrence>,
        /// Who asks: the permit is its own. A request may be in two hands.
        #[serde(flatten)]
        asker: Asker,
    },
    /// The replanner answers.
    Replanned(ReplanReply),
    /// A child run says where it stands. Its end is a [`Input::Result`].
    Child {
        /// The step that it carries out.
        step: StepId,
        /// The attempt.
        attempt: u32,
        /// Whether nothing happens before a person speaks.
        waits: bool,
    },
    /// The reviewer answers.
    Reviewed(ReviewReply),
    /// A person, or a program in their name, commands.
    Command(Command),
    /// A point in time that [`crate::run::Run::next_wake`] named has come.
    Wake,
    /// Another process took the run over: the workers of the previous one are gone.
    Takeover {
        /// Who carries the run on.
        by: String,
    },
}

impl Input {
    /// Returns what was used for an answer to come, and the calls that were made for it.
    #[must_use]
    pub fn used(&self) -> (Usage, &[Call]) {
        match self {
            Self::Planned(reply) => (reply.usage, &reply.calls),
            Self::Result(reply) => (reply.usage, &reply.calls),
            Self::Replanned(reply) => (reply.usage, &reply.calls),
            Self::Reviewed(reply) => (reply.usage, &reply.calls),
            Self::Submit { .. }
            | Self::Evaluated { .. }
            | Self::Permit { .. }
            | Self::Child { .. }
            | Self::Command(_)
            | Self::Wake
            | Self::Takeover { .. } => (Usage::default(), &[]),
        }
    }
}

/// What a planner answers, checked by the shell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanReply {
    /// Which request of the run this answers, from 1.
    pub request: u32,
    /// The planner: `derive`, `runbook`, a model's name.
    pub by: String,
    /// The plan, or why there is none.
    pub proposal: Proposal,
    /// What planning used.
    #[serde(default, skip_serializing_if = "Usage::is_zero")]
    pub usage: Usage,
    /// The calls that were made for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
}

/// A plan that somebody proposes, with what `check` says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "proposal", rename_all = "snake_case")]
pub enum Proposal {
    /// A plan without errors.
    Valid {
        /// The plan.
        #[schemars(with = "Plan")]
        plan: Arc<CompiledPlan>,
        /// What an approval of it covers.
        #[schemars(with = "Envelope")]
        envelope: Arc<SealedEnvelope>,
        /// Advice only.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        findings: Vec<Finding>,
    },
    /// A plan that cannot be adopted.
    Invalid {
        /// The plan as it came.
        plan: Arc<Plan>,
        /// At least one error.
        findings: Vec<Finding>,
    },
    /// There is no plan.
    None {
        /// A stable word: `no_producer`.
        code: String,
        /// Why, and what to do.
        message: String,
    },
    /// The planner must know more before there is a plan.
    Question {
        /// What it asks a person.
        question: String,
    },
}

/// What a person answered to a planner's question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanAnswer {
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: Arc<Value>,
    /// Who answered.
    pub by: String,
}

/// The verdict on a step whose dependencies are done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// It can start.
    Go,
    /// Its `when` is false, or it refers to a skipped step without a default.
    Skip {
        /// Why, for people.
        reason: String,
    },
    /// Its input cannot be bound or its `when` cannot be evaluated.
    Fail(Failure),
    /// It is a `for_each` over this many items.
    Items(u32),
}

/// Who asks for a permit. Earlier versions did not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Asker {
    /// The worker, as its answer to the request will name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Which taking in hand of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimId>,
}

impl Asker {
    /// Returns whether a reply is surely another's.
    #[must_use]
    pub fn is_beside(&self, reply: &AttemptReply) -> bool {
        self.worker.as_ref().is_some_and(|own| *own != reply.worker)
            || self.claim.is_some() && self.claim != reply.claim
    }
}

/// What a worker answers to one step request, with the shell's verdicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AttemptReply {
    /// The step.
    pub step: StepId,
    /// The attempt.
    pub attempt: u32,
    /// What came of it.
    pub outcome: AttemptOutcome,
    /// Which worker ran it.
    pub worker: String,
    /// Which taking in hand of the request this is of, if it asked for a permit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimId>,
    /// The digest of the bound input; absent where it is not known. In JSON `input` names the kind of
    /// an entry's cause.
    #[serde(default, rename = "input_digest", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Digest>")]
    pub input: Option<LazyDigest>,
    /// When the worker began.
    pub started_at: Timestamp,
    /// When the worker ended.
    pub ended_at: Timestamp,
    /// What the attempt used.
    #[serde(default, skip_serializing_if = "Usage::is_zero")]
    pub usage: Usage,
    /// The calls that were made for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// What the shell found: the gates of this step, and the steps that its result unlocks.
    #[serde(default)]
    pub verdicts: Verdicts,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The tool returned.
    Output(Output),
    /// The tool failed, or could not be called.
    Failure(Failure),
}

/// What the shell evaluated of a result before the core sees it, so that one result is one input
/// and one entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Verdicts {
    /// Why the output does not pass the step's gates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<Failure>,
    /// One verdict for each step that the output unlocks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<(StepId, Readiness)>,
    /// Whether `done_when` holds now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
}

/// What a replanner answers, with the resulting plan checked by the shell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReplanReply {
    /// The journal sequence that the request named.
    pub basis: u64,
    /// The replanner: `rules`, `derive`, a model's name.
    pub by: String,
    /// Why, for the record.
    pub reason: String,
    /// The decision.
    pub decision: ReplanDecision,
    /// The plan that a patch or a new plan makes, with what `check` says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<Proposal>,
    /// Which rule answered, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// What replanning used.
    #[serde(default, skip_serializing_if = "Usage::is_zero")]
    pub usage: Usage,
    /// The calls that were made for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
}

/// What a reviewer answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReviewReply {
    /// Which review of the run, from 1.
    pub review: u32,
    /// The reviewer: the model's name.
    pub by: String,
    /// The judgement, or why there is none.
    pub outcome: ReviewOutcome,
    /// What it used.
    #[serde(default, skip_serializing_if = "Usage::is_zero")]
    pub usage: Usage,
    /// The calls that were made for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// What an accepted output unlocks.
    #[serde(default)]
    pub verdicts: Verdicts,
}

/// What a person asks of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Command {
    /// Made by the client, so that sending twice is one command.
    #[schemars(with = "String")]
    pub id: uuid::Uuid,
    /// Who commands.
    pub by: String,
    /// What.
    #[serde(flatten)]
    pub kind: CommandKind,
}

/// What a person can ask of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum CommandKind {
    /// Approves the plan that waits, or a step.
    Approve {
        /// The step; absent: the plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepId>,
        /// The digest that the person saw.
        digest: Digest,
    },
    /// Refuses what waits; the run ends.
    Reject {
        /// Why.
        reason: String,
    },
    /// Puts another plan in the place of this one.
    Edit {
        /// The version that the person edited.
        parent: u32,
        /// The plan, checked by the shell.
        proposal: Proposal,
    },
    /// Answers a question.
    Answer {
        /// The step that asks.
        step: StepId,
        /// The answer.
        value: Arc<Value>,
        /// Why the answer does not fit its schema, and what it unlocks if it does.
        #[serde(default)]
        verdicts: Verdicts,
    },
    /// Says what became of an irreversible call.
    Resolve {
        /// The step.
        step: StepId,
        /// What became of it.
        resolution: Resolution,
        /// What an output unlocks.
        #[serde(default)]
        verdicts: Verdicts,
    },
    /// Amends the goal.
    Revise {
        /// The new goal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        goal: Option<String>,
        /// The artifacts wanted now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        produce: Option<Vec<String>>,
        /// Params to set.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        params: Map<String, Value>,
    },
    /// Starts nothing more until `resume`.
    Pause,
    /// Goes on.
    Resume,
    /// Ends the run.
    Cancel {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Runs again from the failed step, or from another.
    Retry {
        /// From this step on; absent: from what failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<StepId>,
    },
    /// Puts on record that another run began from this one. Changes nothing else.
    Fork {
        /// The other run.
        run: RunId,
        /// The entry that it began from.
        seq: u64,
    },
}

/// What became of an irreversible call whose outcome was unknown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// It happened; the step succeeded with this output.
    Happened(Output),
    /// It did not happen; the step may be tried again.
    NotHappened,
    /// The step failed, whatever happened.
    Fail,
}
