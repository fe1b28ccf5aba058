//! A run as people and programs see it: the shape of `show RUN --json`. A contract: fields are
//! added, never changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    digest::Digest,
    failure::Failure,
    forecast::Forecast,
    fork::Origin,
    goal::Parent,
    id::{Capability, RunId, StepId, ToolName},
    time::{self, Timestamp},
    tool::Effect,
};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A plan is being made or checked.
    Planning,
    /// A person must say something before anything more can happen.
    Waiting,
    /// Steps run.
    Running,
    /// The replanner was asked.
    Replanning,
    /// A person paused it, or too many workers were lost.
    Paused,
    /// The goal is reached.
    Succeeded,
    /// The goal is not reached.
    Failed,
    /// A person ended it.
    Cancelled,
    /// A person refused the plan.
    Rejected,
}

impl Status {
    /// Returns whether nothing more happens unless a person retries.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Rejected)
    }

    /// Returns the word that people and programs read.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Replanning => "replanning",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Its dependencies are not done, or there is no room for it yet.
    Pending,
    /// An attempt runs, or another is scheduled.
    Running,
    /// A person must approve, answer or resolve.
    Waiting,
    /// It is done.
    Succeeded,
    /// It failed for good.
    Failed,
    /// It was not needed.
    Skipped,
    /// A later plan version, or the end of the run, made it unnecessary.
    Superseded,
    /// The run was cancelled before it was done.
    Cancelled,
}

impl StepStatus {
    /// Returns the word that people and programs read.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitKind {
    /// The approval of its first plan.
    PlanApproval,
    /// The approval of a step.
    StepApproval,
    /// The approval of a later plan version.
    ReplanApproval,
    /// The answer to a question.
    Question,
    /// The outcome of an irreversible call.
    UnknownOutcome,
    /// What the child run of a goal step waits for.
    ChildRun,
}

/// A run as `show RUN --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// The run.
    pub run: RunId,
    /// Its project.
    pub project: String,
    /// What it is for.
    pub goal: String,
    /// Its params.
    pub params: Map<String, Value>,
    /// Where it stands.
    pub status: Status,
    /// When it was accepted.
    #[serde(with = "time::rfc3339")]
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(with = "time::rfc3339::option", default)]
    #[schemars(with = "Option<String>")]
    pub ended_at: Option<Timestamp>,
    /// Why it failed, was cancelled or was rejected.
    pub reason: Option<String>,
    /// All that it waits for.
    pub waiting: Vec<WaitView>,
    /// The first of `waiting`.
    pub waiting_for: Option<WaitView>,
    /// The plan in force, or the one that waits for approval.
    pub plan: Option<PlanView>,
    /// The steps of the plan in force.
    pub steps: Vec<StepView>,
    /// The plan versions after the first.
    pub replans: Vec<ReplanView>,
    /// The step of another run that it carries out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What reviewers said, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reviews: Vec<ReviewView>,
    /// The result, once there is one.
    pub result: Option<Value>,
    /// The run that it was forked from, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What was used.
    pub usage: UsageView,
    /// The journal.
    pub journal: JournalView,
}

impl RunView {
    /// Returns the child run of the first thing that the run waits for.
    #[must_use]
    pub fn child_that_waits(&self) -> Option<RunId> {
        self.waiting_for.as_ref()?.child
    }
}

/// Something that a run waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaitView {
    /// What kind of thing.
    pub kind: WaitKind,
    /// The step that it is about.
    pub step: Option<StepId>,
    /// The child run that waits in the place of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<RunId>,
    /// What an approval must name.
    pub digest: Option<Digest>,
    /// The question.
    pub question: Option<String>,
    /// JSON Schema of the answer.
    pub schema: Option<Value>,
    /// Since when.
    #[serde(with = "time::rfc3339")]
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// Complete commands that answer it; filled by the command line.
    pub commands: Vec<String>,
}

/// A plan version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanView {
    /// Its version, from 1.
    pub version: u32,
    /// Its digest.
    pub digest: Digest,
    /// Its steps, as reviewed.
    pub steps: Vec<PlanStepView>,
    /// What it can use at most.
    #[serde(default)]
    pub forecast: Forecast,
}

/// A step as a plan lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanStepView {
    /// The step.
    pub id: StepId,
    /// What it does.
    pub title: String,
    /// Its tool.
    pub tool: Option<ToolName>,
    /// Its pool.
    pub capability: Option<Capability>,
    /// What it does to the world.
    pub effect: Option<Effect>,
    /// The steps that it waits for.
    pub needs: Vec<StepId>,
}

/// A step as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepView {
    /// The step.
    pub id: StepId,
    /// Where it stands.
    pub status: StepStatus,
    /// Attempts over the whole run.
    pub attempts: u32,
    /// The plan version in which it last ran.
    pub plan_version: u32,
    /// The worker of the last attempt.
    pub worker: Option<String>,
    /// When the last attempt began.
    #[serde(with = "time::rfc3339::option", default)]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// When the last attempt ended.
    #[serde(with = "time::rfc3339::option", default)]
    #[schemars(with = "Option<String>")]
    pub ended_at: Option<Timestamp>,
    /// Whether a gate (a schema or an `expect`) passed its output.
    pub verified: bool,
    /// Its output.
    pub output: Option<Value>,
    /// The run that carries its last attempt out, of a goal step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<RunId>,
    /// Why it failed, or its last attempt did.
    pub failure: Option<Failure>,
    /// Why it was skipped.
    pub reason: Option<String>,
}

/// An adopted plan version after the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplanView {
    /// The version.
    pub version: u32,
    /// Why a plan was looked at again: `step_failed`, `goal_revised`, `edited`.
    pub trigger: String,
    /// The step that it was about.
    pub step: Option<StepId>,
    /// What was decided: `patch`, `new_plan`, `full_replan`, `edit`.
    pub decision: String,
    /// Who decided.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What a reviewer said of a plan, or of an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReviewView {
    /// Counts the reviews of the run, from 1.
    pub review: u32,
    /// The plan version that was judged; absent: an output was.
    pub version: Option<u32>,
    /// The step whose output was judged.
    pub step: Option<StepId>,
    /// The attempt that returned it.
    pub attempt: Option<u32>,
    /// Who judged.
    pub by: String,
    /// When.
    #[serde(with = "time::rfc3339")]
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Whether it was accepted. Without a judgement it was not.
    pub accepts: bool,
    /// Why.
    pub reasons: Vec<String>,
}

/// What a run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageView {
    /// Calls to models.
    pub model_calls: u32,
    /// What a step-by-step agent would have needed at least: a call for each tool call, and one to
    /// finish.
    pub react_calls_at_least: u32,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Micro-dollars.
    pub cost_microusd: u64,
}

/// Where a run's journal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalView {
    /// How many entries.
    pub entries: u64,
    /// The hash of the last; absent where the journal makes it on export only.
    pub head: Option<Digest>,
}
