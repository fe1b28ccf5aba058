//! What each verb takes.

use std::path::PathBuf;

use clap::Args;
use foreplan_core::{digest::Digest, goal::ApprovalMode, id::StepId};

use super::{approval_mode, name_and_value};
use crate::config::PlannerName;

/// A project as an argument.
#[derive(Clone, Debug, Args)]
pub struct ProjectArg {
    /// Folder of the project
    #[arg(value_name = "PROJECT")]
    pub folder: Option<PathBuf>,
}

/// What a run is for.
#[derive(Clone, Debug, Args)]
pub struct IntentArgs {
    /// What the run is for, in words
    #[arg(long, value_name = "TEXT")]
    pub goal: Option<String>,
    /// An artifact wanted (derive planner); may be repeated
    #[arg(long, value_name = "ARTIFACT")]
    pub produce: Vec<String>,
    /// A param; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub params: Vec<(String, String)>,
}

/// Who plans a run.
#[derive(Clone, Debug, Args)]
pub struct PlannerArg {
    /// Who plans: project, derive[=ARTIFACT,…], runbook=FILE or model=PROVIDER/NAME
    #[arg(long, value_name = "PLANNER", default_value = "project", hide_default_value = true)]
    pub planner: PlannerName,
}

/// Who carries a run on.
#[derive(Clone, Copy, Debug, Args)]
pub struct DetachArg {
    /// Only record it; another process, or `resume`, carries the run on
    #[arg(long)]
    pub detach: bool,
}

/// How a run begins.
#[derive(Clone, Debug, Args)]
pub struct BeginArgs {
    /// The same key is the same run
    #[arg(long)]
    pub key: Option<String>,
    /// Which plans need a person: auto, risky or always
    #[arg(long, value_name = "MODE", value_parser = approval_mode, env = "FOREPLAN_APPROVE")]
    pub approve: Option<ApprovalMode>,
    /// Who carries it on.
    #[command(flatten)]
    pub detach: DetachArg,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The project.
    #[command(flatten)]
    pub project: ProjectArg,
    /// What it is for.
    #[command(flatten)]
    pub intent: IntentArgs,
    /// Who plans.
    #[command(flatten)]
    pub planner: PlannerArg,
    /// How it begins.
    #[command(flatten)]
    pub begin: BeginArgs,
}

/// Arguments of `plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// The project.
    #[command(flatten)]
    pub project: ProjectArg,
    /// What it is for.
    #[command(flatten)]
    pub intent: IntentArgs,
    /// Who plans.
    #[command(flatten)]
    pub planner: PlannerArg,
    /// Write the plan with its envelope to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A project and a plan file.
#[derive(Clone, Debug, Args)]
#[command(allow_missing_positional = true)]
pub struct PlanFileArgs {
    /// Folder of the project
    #[arg(value_name = "PROJECT")]
    pub folder: Option<PathBuf>,
    /// The plan file
    #[arg(value_name = "PLAN", required = true)]
    pub plan: PathBuf,
    /// A param; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub params: Vec<(String, String)>,
}

/// Arguments of `apply`.
#[derive(Clone, Debug, Args)]
pub struct ApplyArgs {
    /// The plan.
    #[command(flatten)]
    pub file: PlanFileArgs,
    /// How it begins.
    #[command(flatten)]
    pub begin: BeginArgs,
}

/// Arguments of `runs`.
#[derive(Clone, Debug, Args)]
pub struct RunsArgs {
    /// Only those that do not go on by themselves, with the reason and since when
    #[arg(long)]
    pub stuck: bool,
    /// Figures over all runs
    #[arg(long, conflicts_with = "stuck")]
    pub stats: bool,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
}

/// A run.
#[derive(Clone, Debug, Args)]
pub struct RunArg {
    /// Full id, unique ending of six or more characters, or `last`
    pub run: String,
}

/// Arguments of `show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// What each step added
    #[arg(long)]
    pub context: bool,
}

/// Arguments of `watch`.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// Exit as the run does
    #[arg(long)]
    pub exit_status: bool,
}

/// Arguments of `logs`.
#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// Only this step
    pub step: Option<StepId>,
    /// Go on until the run ends or waits
    #[arg(short, long)]
    pub follow: bool,
}

/// Arguments of `diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// Two versions [default: the last two]
    #[arg(num_args = 2, value_names = ["V1", "V2"])]
    pub versions: Vec<u32>,
}

/// Arguments of `approve`.
#[derive(Clone, Debug, Args)]
pub struct ApproveArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// The step that waits, where it is not the plan
    pub step: Option<StepId>,
    /// What you saw; required without a terminal
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<Digest>,
    /// Who carries it on.
    #[command(flatten)]
    pub detach: DetachArg,
}

/// Arguments of `reject`.
#[derive(Clone, Debug, Args)]
pub struct RejectArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Arguments of `edit`.
#[derive(Clone, Debug, Args)]
pub struct EditArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// Take the plan from this file
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Who carries it on.
    #[command(flatten)]
    pub detach: DetachArg,
}

/// Arguments of `answer`.
#[derive(Clone, Debug, Args)]
pub struct AnswerArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// The step that asks
    pub step: StepId,
    /// The answer: text, or JSON where the question asks for more
    pub value: String,
    /// Who carries it on.
    #[command(flatten)]
    pub detach: DetachArg,
}

/// Arguments of `resolve`.
#[derive(Clone, Debug, Args)]
pub struct ResolveArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// The step
    pub step: StepId,
    /// What became of it.
    #[command(flatten)]
    pub what: ResolveWhat,
    /// The output of the step, as JSON
    #[arg(long, value_name = "JSON", conflicts_with_all = ["not_happened", "fail"])]
    pub output: Option<String>,
    /// Who carries it on.
    #[command(flatten)]
    pub detach: DetachArg,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ResolveWhat {
    /// It happened: the step succeeded
    #[arg(long)]
    pub happened: bool,
    /// It did not happen: the step may be tried again
    #[arg(long)]
    pub not_happened: bool,
    /// The step failed, whatever happened
    #[arg(long)]
    pub fail: bool,
}

/// Arguments of `revise`.
#[derive(Clone, Debug, Args)]
pub struct ReviseArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// What changes.
    #[command(flatten)]
    pub intent: IntentArgs,
    /// Who carries it on.
    #[command(flatten)]
    pub detach: DetachArg,
}

/// Arguments of `resume`.
#[derive(Clone, Debug, Args)]
pub struct ResumeArgs {
    /// Full id, unique ending of six or more characters, or `last`
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub run: Option<String>,
    /// All interrupted and paused runs
    #[arg(long)]
    pub all: bool,
    /// Who carries it on.
    #[command(flatten)]
    pub detach: DetachArg,
}

/// Arguments of `cancel`.
#[derive(Clone, Debug, Args)]
pub struct CancelArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Arguments of `retry`.
#[derive(Clone, Debug, Args)]
pub struct RetryArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// From this step on [default: from what failed]
    #[arg(long, value_name = "STEP")]
    pub from: Option<StepId>,
    /// Who carries it on.
    #[command(flatten)]
    pub detach: DetachArg,
}

/// Arguments of `audit`.
#[derive(Clone, Debug, Args)]
pub struct AuditArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// Check the hash chain and print only whether it holds
    #[arg(long)]
    pub verify: bool,
    /// Write the run's trace to a file that Jaeger's page opens
    #[arg(short, long, value_name = "FILE", conflicts_with = "verify")]
    pub output: Option<std::path::PathBuf>,
    /// Compare the run's trace with what Jaeger holds
    #[arg(long, value_name = "URL", conflicts_with = "output")]
    pub jaeger: Option<String>,
    /// Print the run's trace as a tree
    #[arg(long, conflicts_with_all = ["verify", "output", "jaeger"])]
    pub spans: bool,
}

/// Arguments of `replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// Decide by the approval mode, the replan rules and the limits that the project file has now
    #[arg(long)]
    pub policy: bool,
}

/// Arguments of `fork`.
#[derive(Clone, Debug, Args)]
pub struct ForkArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// The last entry of the run that counts, as `audit` numbers them
    #[arg(long, value_name = "ENTRY")]
    pub at: u64,
    /// What is otherwise.
    #[command(flatten)]
    pub intent: IntentArgs,
    /// Who plans: project, derive[=ARTIFACT,…], runbook=FILE or model=PROVIDER/NAME
    /// [default: nobody, the plan is kept; with another goal the run's own planner]
    #[arg(long, value_name = "PLANNER")]
    pub planner: Option<PlannerName>,
    /// Which plans need a person: auto, risky or always
    #[arg(long, value_name = "MODE", value_parser = approval_mode, env = "FOREPLAN_APPROVE")]
    pub approve: Option<ApprovalMode>,
    /// Who carries it on.
    #[command(flatten)]
    pub detach: DetachArg,
}

/// Arguments of `tools`.
#[derive(Clone, Debug, Args)]
pub struct ToolsArgs {
    /// The project.
    #[command(flatten)]
    pub project: ProjectArg,
    /// Only this tool, with its schemas
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The effects of the tools of MCP servers, as the servers hint at them, to check and paste
    #[arg(long, conflicts_with = "name")]
    pub suggest: bool,
}

/// Arguments of `init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// Folder to make the project in
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// What to start from: report (data tools) or commands
    #[arg(long, value_name = "NAME", default_value = "report")]
    pub template: String,
}

/// Arguments of `schema`.
#[derive(Clone, Debug, Args)]
pub struct SchemaArgs {
    /// Only this one
    pub name: Option<String>,
}

/// Arguments of `prune`.
#[derive(Clone, Debug, Args)]
pub struct PruneArgs {
    /// Runs that ended longer ago than this: 90d
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    pub ended: std::time::Duration,
    /// Only say what would be deleted
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `completions`.
#[derive(Clone, Copy, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}
