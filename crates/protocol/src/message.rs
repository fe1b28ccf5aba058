//! The messages between the tracker and the other agents.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use foreplan_core::{
    action::Trigger,
    budget::{StepMax, Usage},
    call::{Call, Occurrence},
    digest::Digest,
    finding::Finding,
    goal::RunSpec,
    id::{Capability, ClaimId, RunId, StepId, ToolName},
    input::{Asker, AttemptReply, Input, PlanAnswer},
    payload::Output,
    plan::{CompiledPlan, Plan},
    policy::ReplanDecision,
    review::{ReviewOutcome, ReviewSubject},
    tool::Effect,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

/// Everything that goes over the bus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum Message {
    /// Tracker → planner.
    Plan(Arc<PlanRequest>),
    /// Tracker → replanner.
    Replan(Arc<ReplanRequest>),
    /// Tracker → reviewer.
    Review(Arc<ReviewRequest>),
    /// Tracker → executor.
    Step(Arc<StepRequest>),
    /// Tracker → executors.
    Cancel(Cancel),
    /// Tracker → the executor that asked.
    PermitAnswer(PermitAnswer),
    /// Executor → tracker.
    PermitRequest(PermitRequest),
    /// Planner, replanner, reviewer or executor → tracker.
    Reply {
        /// The run.
        run: RunId,
        /// The answer.
        reply: Reply,
    },
    /// A client, or the tracker's own timers → tracker.
    Input {
        /// The run.
        run: RunId,
        /// What the run must react to.
        input: Input,
    },
}

/// Asks for a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanRequest {
    /// The run.
    pub run: RunId,
    /// Counts the requests of the run, from 1.
    pub request: u32,
    /// What is wanted.
    pub spec: Arc<RunSpec>,
    /// Why a plan is asked for again, and what is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ReplanContext>,
    /// What people answered to the planner's questions, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<PlanAnswer>,
}

/// Asks what to do about a plan that does not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplanRequest {
    /// The run.
    pub run: RunId,
    /// The journal sequence that the answer must name.
    pub basis: u64,
    /// What is wanted.
    pub spec: Arc<RunSpec>,
    /// What happened.
    pub context: ReplanContext,
}

/// What is known when a plan is looked at again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplanContext {
    /// Why.
    pub trigger: Arc<Trigger>,
    /// The plan in force, if there is one.
    #[schemars(with = "Option<Plan>")]
    pub plan: Option<Arc<CompiledPlan>>,
    /// Outputs of the steps that are done.
    pub outputs: BTreeMap<StepId, Output>,
    /// Status of every step, as `show` names it.
    pub statuses: BTreeMap<StepId, String>,
    /// Tools that failed for good in this run.
    pub failed_tools: Vec<ToolName>,
    /// Attempts of the step that failed, over the whole run; 0 if it is about none.
    #[serde(default)]
    pub attempts: u32,
    /// How often each rule has answered, by its position.
    #[serde(deserialize_with = "by_position")]
    pub rule_uses: BTreeMap<u32, u32>,
    /// How many replans were asked for because of this step before.
    pub earlier_replans: u32,
    /// The step whose patch added or changed the one that failed, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patched_for: Option<StepId>,
}

/// Reads keys that are numbers: where the kind of a message is read first, its keys are kept as text.
fn by_position<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<u32, u32>, D::Error> {
    let written = BTreeMap::<String, u32>::deserialize(from)?;
    let read = written.into_iter().map(|(at, uses)| Ok((at.parse().map_err(D::Error::custom)?, uses)));
    read.collect()
}

/// Asks a model for a judgement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReviewRequest {
    /// The run.
    pub run: RunId,
    /// What the answer must name: counts the reviews of the run, from 1.
    pub review: u32,
    /// What is wanted.
    pub spec: Arc<RunSpec>,
    /// The model: `provider/name`.
    pub model: String,
    /// What is judged.
    pub subject: ReviewSubject,
}

/// Asks for one step to be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepRequest {
    /// The run.
    pub run: RunId,
    /// The project whose executors are asked.
    #[serde(default = "no_project")]
    pub project: Arc<str>,
    /// The step, or the item of a `for_each`.
    pub step: StepId,
    /// Counts per step id over the whole run.
    pub attempt: u32,
    /// The plan version that asks.
    pub plan_version: u32,
    /// What is to be done.
    #[serde(flatten)]
    pub work: StepWork,
    /// What it does to the world: an irreversible call needs a permit.
    pub effect: Effect,
    /// The pool.
    pub capability: Capability,
    /// The bound input; large parts are `{"$payload": …}`.
    pub input: Arc<Value>,
    /// Stable over attempts; absent for reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Digest>,
    /// How long the attempt may take.
    pub timeout: Duration,
}

/// What an executor is asked to do. In JSON its fields stand beside those of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StepWork {
    /// One call.
    Tool {
        /// The tool.
        tool: ToolName,
        /// The digest that the executor's tool must have.
        tool_digest: Digest,
    },
    /// The loop of an agent step.
    Agent {
        /// What it works with.
        agent: Arc<AgentWork>,
    },
}

/// What an agent step works with, and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentWork {
    /// The digest that the specialist must have: its model and its own instructions.
    pub digest: Digest,
    /// What the step is called.
    pub title: String,
    /// What the step must show, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// What the model is told.
    pub instructions: String,
    /// The only tools that it may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ListedTool>,
    /// JSON Schema of the answer; absent: text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The outputs of the steps that it depends on; large ones are `{"$payload": …}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<StepId, Value>,
    /// What the attempt may use.
    pub max: StepMax,
}

/// A tool that an agent step lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListedTool {
    /// Its name.
    pub tool: ToolName,
    /// The digest that the executor's tool must have.
    pub tool_digest: Digest,
    /// What a call does to the world, as approved.
    pub effect: Effect,
}

fn no_project() -> Arc<str> {
    "".into()
}

/// Stops an attempt whose result is no longer wanted. A hint: the journal is the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancel {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// The attempt.
    pub attempt: u32,
}

/// Asks whether an irreversible call may be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PermitRequest {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// The attempt.
    pub attempt: u32,
    /// Which call, inside an agent step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Occurrence>,
    /// Who asks: the permit is its own.
    #[serde(flatten)]
    pub asker: Asker,
}

/// Says whether an irreversible call may be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PermitAnswer {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// The attempt that asked.
    pub attempt: u32,
    /// Which call of the attempt: 0 for a tool step's only one, else from 1.
    #[serde(default)]
    pub call: u32,
    /// Which taking in hand of the request it is for, as the question said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimId>,
    /// Whether it may.
    pub granted: bool,
}

/// What planners, replanners and executors answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// A planner's.
    Plan {
        /// Which request this answers.
        request: u32,
        /// The planner.
        by: String,
        /// The plan, or why there is none.
        outcome: PlanOutcome,
        /// What planning used.
        usage: Usage,
        /// The calls that were made for it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<Call>,
    },
    /// A replanner's.
    Replan {
        /// The journal sequence that the request named.
        basis: u64,
        /// The replanner.
        by: String,
        /// Why, for the record.
        reason: String,
        /// The decision.
        decision: ReplanDecision,
        /// Which rule answered.
        rule: Option<u32>,
        /// What replanning used.
        usage: Usage,
        /// The calls that were made for it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<Call>,
    },
    /// A reviewer's.
    Review {
        /// What the request named.
        review: u32,
        /// The reviewer: the model's name.
        by: String,
        /// The judgement, or why there is none.
        outcome: ReviewOutcome,
        /// What it used.
        usage: Usage,
        /// The calls that were made for it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<Call>,
    },
    /// An executor's; its verdicts are empty until the tracker's shell has looked.
    Step(AttemptReply),
}

/// What a planner answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanOutcome {
    /// A plan, not yet checked.
    Plan(Arc<Plan>),
    /// There is none.
    None {
        /// A stable word: `no_producer`.
        code: String,
        /// Why, and what to do.
        message: String,
        /// Details with their places.
        findings: Vec<Finding>,
    },
    /// The planner must know more before it can answer.
    Question {
        /// What it asks a person.
        question: String,
    },
}
