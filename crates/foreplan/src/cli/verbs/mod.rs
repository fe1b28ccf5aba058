//! The verbs: each parses, asks the library, renders.

mod begin;
mod edit;
mod fork;
mod init;
mod look;
mod record;
mod replay;
mod say;
mod schema;
#[cfg(feature = "nats")]
mod serve;
mod tend;
mod trail;

use super::{
    args::{Cli, Verb},
    error::Failure,
    exit::Exit,
    output::Output,
    session::{Means, Session},
    traces,
};

/// Does what the command line asks, and returns what to exit with.
pub(crate) async fn dispatch(cli: Cli) -> Exit {
    let Cli { global, verb } = cli;
    let mut output = Output::new(&global);
    let alone = match &verb {
        Verb::Init(args) => Some(init::init(&mut output, args)),
        Verb::Schema(args) => Some(schema::schema(&mut output, args)),
        Verb::Completions(args) => Some(tend::completions(*args)),
        Verb::Doctor(args) => Some(tend::doctor(&mut output, &global, args).await),
        Verb::Tools(args) => Some(tend::tools(&mut output, &global, args).await),
        #[cfg(feature = "nats")]
        Verb::Serve(args) => Some(serve::serve(&mut output, &global, args).await),
        #[cfg(feature = "nats")]
        Verb::Nats(verb) => Some(serve::nats(&mut output, &global, verb).await),
        #[cfg(feature = "nats")]
        Verb::Dead(args) => Some(serve::dead(&mut output, &global, args).await),
        _ => None,
    };
    if let Some(outcome) = alone {
        return outcome.unwrap_or_else(|failure| output.failure(&failure));
    }
    let (named, means) = needs(&verb);
    let mut session = match Session::open(output, &global, named, means).await {
        Ok(session) => session,
        Err((output, failure)) => return output.failure(&failure),
    };
    let outcome = with_runs(&mut session, verb).await;
    session.system.shutdown().await;
    traces::tell(&mut session.output, &session.system);
    outcome.unwrap_or_else(|failure| session.output.failure(&failure))
}

/// Returns the project that a verb names as an argument, and what it needs.
fn needs(verb: &Verb) -> (Option<&std::path::Path>, Means) {
    match verb {
        Verb::Run(args) => (args.project.folder.as_deref(), Means::Tools),
        Verb::Plan(args) => (args.project.folder.as_deref(), Means::Tools),
        Verb::Check(args) => (args.folder.as_deref(), Means::Tools),
        Verb::Apply(args) => (args.file.folder.as_deref(), Means::Tools),
        Verb::Tools(args) => (args.project.folder.as_deref(), Means::Tools),
        Verb::Doctor(args) => (args.folder.as_deref(), Means::Look),
        Verb::Approve(_)
        | Verb::Edit(_)
        | Verb::Answer(_)
        | Verb::Resolve(_)
        | Verb::Revise(_)
        | Verb::Resume(_)
        | Verb::Retry(_)
        | Verb::Fork(_) => (None, Means::Tools),
        Verb::Reject(_) | Verb::Pause(_) | Verb::Cancel(_) | Verb::Prune(_) => (None, Means::Record),
        Verb::Runs(_)
        | Verb::Show(_)
        | Verb::Watch(_)
        | Verb::Logs(_)
        | Verb::Diff(_)
        | Verb::Audit(_)
        | Verb::Replay(_)
        | Verb::Init(_)
        | Verb::Schema(_)
        | Verb::Completions(_) => (None, Means::Look),
        #[cfg(feature = "nats")]
        Verb::Serve(_) | Verb::Nats(_) | Verb::Dead(_) => (None, Means::Look),
    }
}

async fn with_runs(session: &mut Session, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Run(args) => begin::run(session, &args).await,
        Verb::Plan(args) => begin::plan(session, &args).await,
        Verb::Check(args) => begin::check(session, &args).await,
        Verb::Apply(args) => begin::apply(session, &args).await,
        Verb::Runs(args) => look::runs(session, &args).await,
        Verb::Show(args) => look::show(session, &args).await,
        Verb::Watch(args) => look::watch(session, &args).await,
        Verb::Logs(args) => look::logs(session, &args).await,
        Verb::Diff(args) => record::diff(session, &args).await,
        Verb::Audit(args) => record::audit(session, &args).await,
        Verb::Fork(args) => fork::fork(session, &args).await,
        Verb::Replay(args) => replay::replay(session, &args).await,
        Verb::Prune(args) => record::prune(session, &args).await,
        Verb::Approve(args) => say::approve(session, args).await,
        Verb::Reject(args) => say::reject(session, args).await,
        Verb::Edit(args) => say::edit(session, &args).await,
        Verb::Answer(args) => say::answer(session, args).await,
        Verb::Resolve(args) => say::resolve(session, args).await,
        Verb::Revise(args) => say::revise(session, args).await,
        Verb::Pause(args) => say::pause(session, &args).await,
        Verb::Resume(args) => say::resume(session, &args).await,
        Verb::Cancel(args) => say::cancel(session, args).await,
        Verb::Retry(args) => say::retry(session, args).await,
        Verb::Tools(_) | Verb::Init(_) | Verb::Doctor(_) | Verb::Schema(_) | Verb::Completions(_) => {
            Ok(Exit::Ok)
        }
        #[cfg(feature = "nats")]
        Verb::Serve(_) | Verb::Nats(_) | Verb::Dead(_) => Ok(Exit::Ok),
    }
}
