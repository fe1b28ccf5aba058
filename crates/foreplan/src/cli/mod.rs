//! The command line: what a person types, and what they see.
//!
//! Every verb is thin: it parses, asks the library, renders. What it shows is made by the pure
//! functions of [`render`]; what it exits with is one of [`exit::Exit`].

pub mod args;
mod ask;
mod drive;
pub mod error;
pub mod exit;
mod follow;
pub mod hints;
pub mod history;
pub mod lines;
mod live;
mod log;
mod models;
mod notify;
pub mod output;
pub mod paint;
mod place;
pub mod render;
mod session;
mod signals;
mod traces;
mod verbs;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser as _;

use args::{Cli, Verb};
use error::Failure;
use exit::Exit;
use output::Output;

/// Runs one command and returns what the process exits with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    place::read_env(&folder(&cli));
    // What `.env` adds may change what is meant.
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::chain(Exit::Internal, "the runtime did not start", &error);
            return Output::new(&cli.global).failure(&failure).into();
        }
    };
    let spans = log::begin(runtime.handle());
    let exit = runtime.block_on(verbs::dispatch(cli));
    if let Some(spans) = spans {
        spans.end();
    }
    // A question that nobody answered any more still reads the terminal.
    runtime.shutdown_background();
    exit.into()
}

/// Returns where the project is looked for, before anything of it is read.
fn folder(cli: &Cli) -> PathBuf {
    let named = match &cli.verb {
        Verb::Run(args) => args.project.folder.as_deref(),
        Verb::Plan(args) => args.project.folder.as_deref(),
        Verb::Check(args) => args.folder.as_deref(),
        Verb::Apply(args) => args.file.folder.as_deref(),
        Verb::Tools(args) => args.project.folder.as_deref(),
        Verb::Doctor(args) => args.folder.as_deref(),
        #[cfg(feature = "nats")]
        Verb::Serve(args) => args.project.folder.as_deref(),
        #[cfg(feature = "nats")]
        Verb::Nats(_) | Verb::Dead(_) => None,
        Verb::Runs(_)
        | Verb::Show(_)
        | Verb::Watch(_)
        | Verb::Logs(_)
        | Verb::Diff(_)
        | Verb::Approve(_)
        | Verb::Reject(_)
        | Verb::Edit(_)
        | Verb::Answer(_)
        | Verb::Resolve(_)
        | Verb::Revise(_)
        | Verb::Pause(_)
        | Verb::Resume(_)
        | Verb::Cancel(_)
        | Verb::Retry(_)
        | Verb::Fork(_)
        | Verb::Audit(_)
        | Verb::Replay(_)
        | Verb::Init(_)
        | Verb::Schema(_)
        | Verb::Prune(_)
        | Verb::Completions(_) => None,
    };
    named.or(cli.global.project.as_deref()).unwrap_or(Path::new(".")).to_owned()
}
