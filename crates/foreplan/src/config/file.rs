//! The form of `foreplan.toml`, as types. Unknown keys are errors everywhere but in the sections
//! that later versions own.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use foreplan_core::{
    budget::Limits,
    goal::{ApprovalMode, Group, Review},
    id::{Capability, ToolName},
    policy::ReplanPolicy,
    time,
};
use foreplan_tools::declare;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{ModelSection, TelemetrySection};

/// A project file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// What runs of this project are for; `{name}` stands for a param.
    pub goal: Option<String>,
    /// The project.
    pub project: ProjectSection,
    /// The params that runs take.
    pub params: BTreeMap<String, Param>,
    /// Who makes plans.
    pub planner: PlannerSection,
    /// When a person is asked.
    pub approval: ApprovalSection,
    /// A model's opinion of plans and outputs.
    pub review: Option<Review>,
    /// What happens when reality disagrees with a plan.
    pub replan: ReplanPolicy,
    /// The tools.
    pub tools: ToolsSection,
    /// Who executes what; absent: one pool for all tools.
    pub specialists: Vec<SpecialistSection>,
    /// At most one run of a group at a time.
    pub concurrency: Option<Group>,
    /// Who is told when a run waits or fails.
    pub notify: Option<NotifySection>,
    /// What a run may use.
    pub limits: Limits,
    /// Where runs are kept.
    pub store: StoreSection,
    /// Models, for planners and agents, by `provider/name` or `provider`.
    pub models: BTreeMap<String, ModelSection>,
    /// The deployment that carries the runs on; absent: this process does.
    pub bus: Option<BusSection>,
    /// Where traces go.
    pub telemetry: TelemetrySection,
}

/// The project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectSection {
    /// Its name; absent: that of its folder.
    pub name: Option<String>,
}

/// A param that runs take.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// What kind of value it takes.
    #[serde(rename = "type", default)]
    pub kind: ParamType,
    /// The value where none is given; absent: one must be given.
    #[serde(default)]
    pub default: Option<Value>,
    /// The only values that are allowed.
    #[serde(rename = "enum", default)]
    pub values: Vec<Value>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

/// What kind of value a param takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParamType {
    /// Text, as given.
    #[default]
    String,
    /// A whole number within ±(2^53−1).
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A JSON array.
    Array,
    /// A JSON object.
    Object,
}

impl ParamType {
    /// Returns the word that the file uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
        }
    }

    /// Returns whether a value is of this kind.
    #[must_use]
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

/// Who makes plans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlannerSection {
    /// How plans are made.
    pub kind: PlannerKind,
    /// For `derive`: the artifacts wanted.
    pub produce: Vec<String>,
    /// For `runbook`: the plan file, relative to the project file.
    pub plan: Option<PathBuf>,
    /// For `model`: `provider/name`.
    pub model: Option<String>,
    /// For `model`: a file with advice, relative to the project file.
    pub guidance: Option<PathBuf>,
}

/// How plans are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlannerKind {
    /// Backwards from the wanted artifacts over the tools' types.
    #[default]
    Derive,
    /// From a plan that somebody wrote.
    Runbook,
    /// By a model.
    Model,
}

/// When a person is asked before anything happens.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApprovalSection {
    /// Which plans need a person.
    pub mode: ApprovalMode,
    /// How long a run waits for one.
    #[serde(with = "time::text")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

impl Default for ApprovalSection {
    fn default() -> Self {
        Self { mode: ApprovalMode::default(), timeout: foreplan_core::goal::APPROVAL_TIMEOUT_DEFAULT }
    }
}

/// Who executes what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpecialistSection {
    /// The pool's name.
    pub capability: Capability,
    /// The tools that it serves; absent: all.
    #[serde(default)]
    pub tools: Option<Vec<ToolName>>,
    /// How many steps it runs at once.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// The model that carries out its agent steps: `provider/name`.
    #[serde(default)]
    pub model: Option<String>,
    /// What that model is told in every step: the specialist's role.
    #[serde(default)]
    pub instructions: Option<String>,
}

/// Who is told when a run waits or fails.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifySection {
    /// When.
    #[serde(default = "NotifySection::on_default")]
    pub on: Vec<NotifyOn>,
    /// A command; `{text}` becomes one argument.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// A URL that gets the text as JSON.
    #[serde(default)]
    pub http: Option<String>,
}

impl NotifySection {
    fn on_default() -> Vec<NotifyOn> {
        vec![NotifyOn::Waiting, NotifyOn::Failed]
    }
}

/// When somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotifyOn {
    /// A run waits for a person.
    Waiting,
    /// A run failed.
    Failed,
    /// A run succeeded.
    Succeeded,
}

/// A deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BusSection {
    /// Its server: `nats://host:port`, several separated by commas.
    pub url: Option<String>,
    /// A credentials file, relative to the project file.
    pub creds: Option<PathBuf>,
    /// A file with an nkey seed, relative to the project file.
    pub nkey: Option<PathBuf>,
    /// Certificates, where the server asks for more than the system trusts.
    pub tls: Option<TlsSection>,
    /// The prefix of what answers are received on, where the user's permissions pin it; absent: `_INBOX`.
    pub inbox: Option<String>,
    /// The prefix of everything on the server; absent: `fp`.
    pub tenant: Option<String>,
}

/// Certificates. Paths are relative to the project file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSection {
    /// Trusted roots.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub cert: Option<PathBuf>,
    /// The client's key.
    pub key: Option<PathBuf>,
}

/// Where runs are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSection {
    /// A folder, relative to the project file; absent: `.foreplan`.
    pub path: Option<PathBuf>,
    /// How durable an entry is when it counts as written.
    pub sync: Sync,
    /// How large the file of the journal may grow, in MiB; absent: as the disk allows. Values that are
    /// kept beside it do not count.
    pub mebibytes_max: Option<u32>,
}

/// How durable an entry is when it counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sync {
    /// It outlives a power failure.
    #[default]
    Full,
    /// It outlives the process.
    Normal,
}

/// The tools, by kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToolsSection {
    /// Files that are read.
    pub file: Vec<declare::File>,
    /// jq filters, in process.
    pub jq: Vec<declare::Jq>,
    /// Commands.
    pub command: Vec<declare::Command>,
    /// HTTP requests.
    pub http: Vec<declare::Http>,
    /// Texts with values in them, in process.
    pub template: Vec<declare::Template>,
    /// MCP servers.
    pub mcp: Vec<declare::Mcp>,
}
