//! The lines of `--json`: a contract. Fields are added, never changed.

use foreplan_core::{
    call::Purpose,
    digest::Digest,
    envelope::Envelope,
    finding::Finding,
    id::{RunId, StepId},
    plan::Plan,
    time::{self, Timestamp},
    tool::ToolDescriptor,
    view::{Status, StepStatus, WaitKind},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::render::list;

/// Something that happened while a run was carried on.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "progress")]
pub struct ProgressLine {
    /// The run.
    pub run: RunId,
    /// When.
    #[serde(with = "time::rfc3339")]
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The step; null: the run.
    pub step: Option<StepId>,
    /// Where the step stands now.
    pub status: Option<StepStatus>,
    /// More, for people.
    pub message: String,
}

/// A run of a list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "run")]
pub struct RunLine {
    /// The run.
    pub run: RunId,
    /// Its project.
    pub project: String,
    /// What it is for.
    pub goal: String,
    /// Where it stands.
    pub status: Status,
    /// What it waits for.
    pub waiting_for: Option<WaitKind>,
    /// Since when it stands there.
    #[serde(with = "time::rfc3339")]
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// When it was accepted.
    #[serde(with = "time::rfc3339")]
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// Steps done.
    pub steps_done: u32,
    /// Steps of the plan in force.
    pub steps: u32,
    /// Adopted plan versions after the first.
    pub replans: u32,
    /// Whether no process carries it on although it could go on.
    pub interrupted: bool,
    /// Why it does not go on by itself, if it does not.
    pub stuck: Option<String>,
}

impl From<&list::Row> for RunLine {
    fn from(row: &list::Row) -> Self {
        Self {
            run: row.run,
            project: row.project.clone(),
            goal: row.goal.clone(),
            status: row.status,
            waiting_for: row.waiting,
            since: row.since,
            created_at: row.created_at,
            steps_done: row.steps.0,
            steps: row.steps.1,
            replans: row.replans,
            interrupted: row.interrupted,
            stuck: list::reason(row).map(|(reason, _)| reason.to_owned()),
        }
    }
}

/// Figures over many runs.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "stats")]
pub struct StatsLine {
    /// The figures.
    #[serde(flatten)]
    pub stats: list::Stats,
}

/// A plan: also the form of the file that `plan -o` writes.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "plan")]
pub struct PlanLine {
    /// Who made it.
    pub by: String,
    /// The plan.
    pub plan: Plan,
    /// What an approval of it covers.
    pub envelope: Option<Envelope>,
    /// What `check` says of it.
    pub findings: Vec<Finding>,
}

/// One finding of `check`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "finding")]
pub struct FindingLine {
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
}

/// The last line of `check`.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "check")]
pub struct CheckLine {
    /// Whether the plan can be adopted.
    pub valid: bool,
    /// How many findings keep it from that.
    pub errors: usize,
    /// How many a person should know.
    pub advice: usize,
}

/// A tool of the inventory.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "tool")]
pub struct ToolLine {
    /// The tool.
    #[serde(flatten)]
    pub tool: ToolDescriptor,
}

/// Whether a journal verifies.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "verify")]
pub struct VerifyLine {
    /// Whether every entry is the one that was written.
    pub verifies: bool,
    /// How many entries there are.
    pub entries: u64,
    /// The first that does not fit.
    pub fault: Option<FaultLine>,
}

/// A decision that would be another one now.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "otherwise")]
pub struct OtherwiseLine {
    /// The entry.
    pub seq: u64,
    /// What is on record.
    pub recorded: String,
    /// What would be decided now.
    pub now: String,
}

/// A call of a model with a prompt that is another one now: what it would answer, nobody knows.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "reworded")]
pub struct RewordedLine {
    /// The entry.
    pub seq: u64,
    /// What the model was asked for.
    pub purpose: Purpose,
    /// Which model was asked.
    pub model: String,
    /// The digest of the prompt on record.
    pub prompt: Digest,
}

/// The last line of `replay`.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "replay")]
pub struct ReplayLine {
    /// How many entries were decided again.
    pub entries: usize,
    /// How many of the decisions would be others.
    pub otherwise: usize,
    /// How many answers of models were asked for with other prompts than today's.
    pub reworded: usize,
}

/// Whether Jaeger holds what the journal says.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "jaeger")]
pub struct JaegerLine {
    /// Whether it does.
    pub agrees: bool,
    /// How many spans the journal makes.
    pub spans: usize,
    /// How many of its audit spans Jaeger holds, repetitions not counted.
    pub held: usize,
    /// Each span on which they do not agree.
    pub differences: Vec<DifferenceLine>,
}

/// A span on which Jaeger and the journal do not agree.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DifferenceLine {
    /// The entry that completed the span; absent: none did.
    pub seq: Option<u64>,
    /// The span's id.
    pub span: String,
    /// Its name.
    pub name: String,
    /// `missing`, `unknown` or `differs`.
    pub what: String,
    /// The fields that differ.
    pub fields: Vec<String>,
}

/// An entry that does not fit its chain.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FaultLine {
    /// The entry.
    pub seq: u64,
    /// Why it does not fit.
    pub reason: String,
}
