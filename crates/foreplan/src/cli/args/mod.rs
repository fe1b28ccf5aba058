//! What a person types. Help texts are part of the contract: short, in the imperative.

#[cfg(feature = "nats")]
mod services;
mod verbs;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use foreplan_core::goal::ApprovalMode;

#[cfg(feature = "nats")]
pub use services::{AccountArgs, DeadArgs, NatsVerb, ServeArgs, SetupArgs};
pub use verbs::{
    AnswerArgs, ApplyArgs, ApproveArgs, AuditArgs, BeginArgs, CancelArgs, CompletionsArgs, DetachArg,
    DiffArgs, EditArgs, ForkArgs, InitArgs, IntentArgs, LogsArgs, PlanArgs, PlanFileArgs, PlannerArg,
    ProjectArg, PruneArgs, RejectArgs, ReplayArgs, ResolveArgs, ResolveWhat, ResumeArgs, RetryArgs,
    ReviseArgs, RunArg, RunArgs, RunsArgs, SchemaArgs, ShowArgs, ToolsArgs, WatchArgs,
};

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
    /// Server of the deployment that carries the runs on [default: this process carries them on]
    #[arg(long, global = true, value_name = "URL", env = "NATS_URL")]
    pub nats: Option<String>,
    /// Credentials file for the server
    #[arg(long, global = true, value_name = "FILE", env = "NATS_CREDS")]
    pub nats_creds: Option<PathBuf>,
    /// Prefix of what this process receives answers on [default: _INBOX]
    #[arg(long, global = true, value_name = "PREFIX", env = "NATS_INBOX")]
    pub nats_inbox: Option<String>,
    /// Prefix of the deployment's names on the server [default: fp]
    #[arg(long, global = true, value_name = "NAME", env = "FOREPLAN_TENANT")]
    pub tenant: Option<String>,
    /// Print JSON lines
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", env = "FOREPLAN_COLOR")]
    pub color: ColorWhen,
    /// In whose name: written into the record [default: the user's name]
    #[arg(long = "as", global = true, value_name = "NAME", env = "FOREPLAN_AS")]
    pub by: Option<String>,
    /// Where answers of models come from.
    #[command(flatten)]
    pub models: ModelArgs,
}

/// Where answers of models come from, and where they are kept.
#[derive(Clone, Debug, Default, Args)]
pub struct ModelArgs {
    /// Take the answers of models from this session file, and ask no model
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "record_models")]
    pub replay_models: Option<PathBuf>,
    /// Add what models answer to this session file
    #[arg(long, global = true, value_name = "FILE")]
    pub record_models: Option<PathBuf>,
}

impl Global {
    /// Returns the server, where commands must name it to reach it.
    #[must_use]
    pub fn nats_named(&self) -> Option<String> {
        self.nats.clone().filter(|url| std::env::var("NATS_URL").ok().as_ref() != Some(url))
    }
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
    /// Make every decision of a run again, with what was recorded, and say what would be otherwise
    Replay(ReplayArgs),
    /// Begin a new run where this one was: results are kept, and no irreversible call is made again
    Fork(ForkArgs),
    /// List the tools of a project
    Tools(ToolsArgs),
    /// Serve a deployment: plan, execute, replan, carry runs on
    #[cfg(feature = "nats")]
    Serve(ServeArgs),
    /// Set a deployment up
    #[cfg(feature = "nats")]
    #[command(subcommand)]
    Nats(NatsVerb),
    /// Print what a deployment could not process
    #[cfg(feature = "nats")]
    Dead(DeadArgs),
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
