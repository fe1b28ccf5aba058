//! What a person types. Help texts are part of the contract: short, in the imperative.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use foreplan_core::{digest::Digest, goal::ApprovalMode, id::StepId};

/// Plan-and-execute agents that can be audited.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "foreplan",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "RUN is a full id, a unique ending of six or more characters, or `last`.\n\
                  Exit codes: 0 done, 2 usage, 3 waiting, 4 no plan or stale, 5 rejected, 6 budget, \
                  7 does not verify, 8 unreachable, 10 failed."
)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What holds for every verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Folder of the project [default: the nearest one above with a foreplan.toml]
    #[arg(short = 'C', long = "project", global = true, value_name = "DIR", env = "FOREPLAN_PROJECT")]
    pub project: Option<PathBuf>,
    /// Folder that keeps the runs [default: .foreplan in the project]
    #[arg(long, global = true, value_name = "DIR", env = "FOREPLAN_STORE")]
    pub store: Option<PathBuf>,
    /// Print JSON lines
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", env = "FOREPLAN_COLOR")]
    pub color: ColorWhen,
    /// In whose name: written into the record [default: the user's name]
    #[arg(long = "as", global = true, value_name = "NAME", env = "FOREPLAN_AS")]
    pub by: Option<String>,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Plan, ask for approval where the mode says so, execute, print the result
    Run(RunArgs),
    /// Plan and check, and execute nothing
    Plan(PlanArgs),
    /// Check a plan against the tools of a project
    Check(PlanFileArgs),
    /// Execute exactly this plan
    Apply(ApplyArgs),
    /// List the runs, those that wait for you first
    Runs(RunsArgs),
    /// Show a run: its state, steps, results, and what it waits for
    Show(ShowArgs),
    /// Follow a run until it ends or waits
    Watch(WatchArgs),
    /// Print what commands of a run wrote
    Logs(LogsArgs),
    /// Compare two plan versions of a run
    Diff(DiffArgs),
    /// Approve the plan, or the step, that a run waits with
    Approve(ApproveArgs),
    /// Reject what a run waits with; the run ends
    Reject(RejectArgs),
    /// Edit the plan of a run in $EDITOR, or take it from a file
    Edit(EditArgs),
    /// Answer a question that a run asks
    Answer(AnswerArgs),
    /// Say what became of a call of which nobody knows whether it happened
    Resolve(ResolveArgs),
    /// Amend the goal of a run
    Revise(ReviseArgs),
    /// Start no further steps of a run
    Pause(RunArg),
    /// Carry a paused or interrupted run on
    Resume(ResumeArgs),
    /// End a run
    Cancel(CancelArgs),
    /// Run again from the failed step, keeping what is done
    Retry(RetryArgs),
    /// Print the record of a run: who decided what, when and why
    Audit(AuditArgs),
    /// List the tools of a project
    Tools(ToolsArgs),
    /// Start a project that runs without an edit
    Init(InitArgs),
    /// Say what is missing
    Doctor(ProjectArg),
    /// Print the JSON Schemas of plans, project files and output
    Schema(SchemaArgs),
    /// Delete old ended runs with their payloads
    Prune(PruneArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

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

/// Who carries a run on.
#[derive(Clone, Copy, Debug, Args)]
pub struct DetachArg {
    /// Only record it; another process, or `resume`, carries the run on
    #[arg(long)]
    pub detach: bool,
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

/// Arguments of `plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// The project.
    #[command(flatten)]
    pub project: ProjectArg,
    /// What it is for.
    #[command(flatten)]
    pub intent: IntentArgs,
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
}

/// Arguments of `init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// Folder to make the project in
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// What to start from: report, checklist or pipeline
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

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a param is given as NAME=VALUE".to_owned()),
    }
}

fn approval_mode(text: &str) -> Result<ApprovalMode, String> {
    match text {
        "auto" => Ok(ApprovalMode::Auto),
        "risky" => Ok(ApprovalMode::Risky),
        "always" => Ok(ApprovalMode::Always),
        _ => Err("one of auto, risky, always".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_project_may_be_left_out_before_a_plan() {
        let parse = |args: &[&str]| match Cli::try_parse_from(args).unwrap().verb {
            Verb::Check(check) => (check.folder, check.plan),
            other => panic!("{other:?}"),
        };
        assert_eq!(parse(&["foreplan", "check", "plan.json"]), (None, "plan.json".into()));
        assert_eq!(
            parse(&["foreplan", "check", "dir", "plan.json"]),
            (Some("dir".into()), "plan.json".into())
        );
    }

    #[test]
    fn resolve_takes_exactly_one_word() {
        let parse =
            |args: &[&str]| Cli::try_parse_from([&["foreplan", "resolve", "last", "deploy"], args].concat());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--happened", "--fail"]).is_err());
        assert!(parse(&["--fail", "--output", "1"]).is_err());
        assert!(parse(&["--happened", "--output", "1"]).is_ok());
    }
}
