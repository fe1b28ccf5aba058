//! Verbs in which a person says something to a run.

use std::sync::Arc;

use foreplan_core::{
    id::RunId,
    input::{CommandKind, Resolution},
    json,
    payload::Output as Value,
    view::{RunView, Status, WaitKind, WaitView},
};
use foreplan_journal::RunFilter;

use crate::{
    cli::{
        args::{
            AnswerArgs, ApproveArgs, CancelArgs, EditArgs, RejectArgs, ResolveArgs, ResumeArgs, RetryArgs,
            ReviseArgs, RunArg,
        },
        ask,
        error::Failure,
        exit::Exit,
        session::Session,
    },
    system,
};

use super::edit;

/// Approves what waits. Without `--digest` it shows what waits, and asks.
///
/// # Errors
///
/// If nothing of the kind waits, or it is not what was approved.
pub(crate) async fn approve(session: &mut Session, args: ApproveArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    let view = session.view(run).await?;
    let wait = waiting_approval(&view, args.step.as_ref().map(|s| s.as_str()));
    let digest = match args.digest {
        Some(digest) => digest,
        None => {
            let wait = wait.ok_or_else(|| nothing_waits(session, run, "approval"))?;
            if !session.output.can_ask() {
                let command = wait.commands.first().cloned().unwrap_or_default();
                return Err(Failure::usage("without a terminal, --digest must say what you approve").next(
                    format!(
                        "look at it with {}, then: {command}",
                        session.output.hints.run("show", run, &[])
                    ),
                ));
            }
            let digest = wait.digest;
            session.show_what_waits(&view).await?;
            let yes = ask::yes(&session.output, "Approve? Only `yes` is accepted: ").await;
            match digest.filter(|_| yes) {
                Some(digest) => digest,
                None => {
                    session.output.note("Not approved; the run still waits.");
                    return Ok(Exit::Waiting);
                }
            }
        }
    };
    let step = args.step.or_else(|| wait.and_then(|wait| wait.step.clone()));
    command(session, run, CommandKind::Approve { step, digest }, args.detach.detach).await
}

fn waiting_approval<'a>(view: &'a RunView, step: Option<&str>) -> Option<&'a WaitView> {
    view.waiting.iter().find(|wait| match wait.kind {
        WaitKind::PlanApproval | WaitKind::ReplanApproval => step.is_none(),
        WaitKind::StepApproval => step.is_none_or(|id| wait.step.as_ref().is_some_and(|s| s.as_str() == id)),
        WaitKind::Question | WaitKind::UnknownOutcome | WaitKind::ChildRun => false,
    })
}

fn nothing_waits(session: &Session, run: RunId, what: &str) -> Failure {
    Failure::usage(format!("nothing of run {run} waits for {what}")).next(session.output.hints.run(
        "show",
        run,
        &[],
    ))
}

/// Rejects what waits; the run ends.
///
/// # Errors
///
/// If nothing waits.
pub(crate) async fn reject(session: &mut Session, args: RejectArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    record(session, run, CommandKind::Reject { reason: args.reason }).await
}

/// Puts another plan in the place of the run's.
///
/// # Errors
///
/// If the plan cannot be adopted, or has moved meanwhile.
pub(crate) async fn edit(session: &mut Session, args: &EditArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    let Some((parent, proposal)) = edit::edited(session, run, args.plan.as_deref()).await? else {
        session.output.note("Nothing changed.");
        return Ok(Exit::Ok);
    };
    command(session, run, CommandKind::Edit { parent, proposal }, args.detach.detach).await
}

/// Answers a question.
///
/// # Errors
///
/// If the step asks nothing, or the answer does not fit.
pub(crate) async fn answer(session: &mut Session, args: AnswerArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    let view = session.view(run).await?;
    let asks =
        view.waiting.iter().find(|w| w.kind == WaitKind::Question && w.step.as_ref() == Some(&args.step));
    let value = Arc::new(ask::answer(&args.value, asks.and_then(|wait| wait.schema.as_ref()))?);
    let kind = CommandKind::Answer { step: args.step, value, verdicts: Default::default() };
    command(session, run, kind, args.detach.detach).await
}

/// Says what became of a call.
///
/// # Errors
///
/// If nobody asks, or the output is not JSON.
pub(crate) async fn resolve(session: &mut Session, args: ResolveArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    let resolution = if args.what.happened {
        let text = args.output.as_deref().unwrap_or("{}");
        let value = json::parse_value(text).map_err(|e| {
            Failure::usage(format!("--output is not JSON: {e}")).next("give the step's output as JSON")
        })?;
        Resolution::Happened(Value::inline(value))
    } else if args.what.not_happened {
        Resolution::NotHappened
    } else {
        Resolution::Fail
    };
    let kind = CommandKind::Resolve { step: args.step, resolution, verdicts: Default::default() };
    command(session, run, kind, args.detach.detach).await
}

/// Amends the goal.
///
/// # Errors
///
/// If nothing is amended, a param is wrong, or the run has ended.
pub(crate) async fn revise(session: &mut Session, args: ReviseArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    let params = session.place.project.given(&args.intent.params)?;
    let produce = Some(args.intent.produce).filter(|produce| !produce.is_empty());
    if args.intent.goal.is_none() && produce.is_none() && params.is_empty() {
        return Err(Failure::usage("nothing is amended").next("give --goal, --produce or --param"));
    }
    let kind = CommandKind::Revise { goal: args.intent.goal, produce, params };
    command(session, run, kind, args.detach.detach).await
}

/// Lets a run start no further steps.
///
/// # Errors
///
/// If it has ended.
pub(crate) async fn pause(session: &mut Session, args: &RunArg) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run).await?;
    record(session, run, CommandKind::Pause).await
}

/// Ends a run.
///
/// # Errors
///
/// If it has ended.
pub(crate) async fn cancel(session: &mut Session, args: CancelArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    record(session, run, CommandKind::Cancel { reason: args.reason }).await
}

/// Runs again from what failed.
///
/// # Errors
///
/// If there is nothing to run again.
pub(crate) async fn retry(session: &mut Session, args: RetryArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    command(session, run, CommandKind::Retry { from: args.from }, args.detach.detach).await
}

/// Carries a paused or interrupted run on, or all that are interrupted.
///
/// # Errors
///
/// If it has ended.
pub(crate) async fn resume(session: &mut Session, args: &ResumeArgs) -> Result<Exit, Failure> {
    let Some(name) = &args.run else { return resume_all(session).await };
    let run = session.resolve(name).await?;
    let state = session.state(run).await?;
    match state.status() {
        status if status.is_ended() => {
            let view = session.view(run).await?;
            let what = Failure::usage(format!("run {run} has ended: {}", status.as_str()));
            let show = session.output.hints.run("show", run, &[]);
            Err(what.next(session.output.hints.next(&view).unwrap_or(show)))
        }
        Status::Paused => command(session, run, CommandKind::Resume, args.detach.detach).await,
        _ => session.carry_on(run, state.seq()).await,
    }
}

async fn resume_all(session: &mut Session) -> Result<Exit, Failure> {
    let open = session.system.runs(RunFilter { open: true, limit: None }).await?;
    let goes_on = |status| matches!(status, Status::Planning | Status::Running | Status::Replanning);
    let taken = session.system.resume_all().await?;
    let taken: Vec<(RunId, u64)> = open
        .iter()
        .filter(|record| goes_on(record.progress.status) && taken.contains(&record.run.run))
        .map(|record| (record.run.run, record.head.seq + 1))
        .collect();
    if taken.is_empty() {
        session.output.note("No run is interrupted.");
        return Ok(Exit::Ok);
    }
    session.carry_all(taken).await
}

/// Sends a command and carries the run on, unless it is only to be recorded.
async fn command(
    session: &mut Session,
    run: RunId,
    kind: CommandKind,
    detach: bool,
) -> Result<Exit, Failure> {
    if detach {
        return record(session, run, kind).await;
    }
    // A journal that does not verify is said to be one, before anybody acts on it.
    let seen = session.state(run).await?.seq();
    let by = session.by.clone();
    session.system.command(run, &by, kind).await.map_err(|error| session.refused(run, error))?;
    session.carry_on(run, seen).await
}

/// Records a command, executes nothing, and says where the run stands.
async fn record(session: &mut Session, run: RunId, kind: CommandKind) -> Result<Exit, Failure> {
    let by = session.by.clone();
    session
        .system
        .record(run, &by, kind)
        .await
        .map_err(|error: system::Error| session.refused(run, error))?;
    let view = session.view(run).await?;
    if session.output.is_json() {
        session.output.line(&view);
    } else {
        let look = session.output.look();
        session.output.result(&format!("{}\n", crate::cli::render::run::ending(&look, &view)));
    }
    Ok(Exit::Ok)
}
