//! `fork`: a new run from a point of another.

use std::sync::Arc;

use foreplan_core::{
    fork::Refusal,
    goal::{PlannerSpec, RunSpec},
    id::RunId,
    run::Fork,
};
use uuid::Uuid;

use crate::{
    cli::{args::ForkArgs, error::Failure, exit::Exit, paint::count, session::Session},
    config::{Overrides, PlanFile, PlannerName},
    system,
};

/// Begins a run from a point of another, which keeps what that one found out and makes none of its
/// irreversible calls again.
///
/// # Errors
///
/// If a call is in hand there or nobody knows what became of it, or the spec makes no sense.
pub(crate) async fn fork(session: &mut Session, args: &ForkArgs) -> Result<Exit, Failure> {
    let origin = session.resolve(&args.run.run).await?;
    let point = match session.system.fork_point(origin, args.at).await {
        Ok(point) => point,
        Err(error) => return Err(refused(session, origin, args.at, error)),
    };
    let spec = spec(session, &point, args)?;
    let kept = point.kept(&spec.params).len();
    let (run, by) = (RunId(Uuid::now_v7()), session.by.clone());
    let forked = session.system.fork(run, spec, &by).await;
    forked.map_err(|error| refused(session, origin, args.at, error))?;
    if !session.output.is_json() {
        let seq = args.at;
        let kept = count(kept, "result");
        session.output.note(&format!("Run {run}, forked from run {origin} at entry {seq}: {kept} kept"));
    }
    if args.detach.detach {
        return super::begin::detached(session, run).await;
    }
    session.carry_on(run, 0).await
}

/// Returns what the fork is for: what its origin was, with what the command line sets beside it.
fn spec(session: &Session, point: &Fork, args: &ForkArgs) -> Result<RunSpec, Failure> {
    let mut spec = point.spec.as_ref().clone();
    let mut origin = point.origin;
    let produce = &args.intent.produce;
    spec.params.extend(session.place.project.given(&args.intent.params)?);
    if let Some(goal) = &args.intent.goal {
        spec.goal.clone_from(goal);
    }
    if let Some(planner) = &args.planner {
        spec.planner = named(session, planner, &spec.planner, args)?;
    } else if !produce.is_empty() || args.intent.goal.is_some() {
        match &mut spec.planner {
            PlannerSpec::Derive { produce: wanted } if !produce.is_empty() => wanted.clone_from(produce),
            PlannerSpec::Derive { .. } => {
                return Err(Failure::usage(
                    "the derive planner makes artifacts, and a goal in words names none",
                )
                .next("say what is wanted: --produce ARTIFACT"));
            }
            _ if !produce.is_empty() => {
                return Err(
                    Failure::usage("only the derive planner takes --produce").next("add --planner derive")
                );
            }
            _ => {}
        }
    }
    let asks_planner = args.planner.is_some() || args.intent.goal.is_some() || !produce.is_empty();
    origin.keeps_plan &= !asks_planner;
    spec.approval.envelope = None;
    spec.approval.mode = args.approve.unwrap_or(spec.approval.mode);
    spec.key = None;
    spec.origin = Some(origin);
    Ok(spec)
}

fn named(
    session: &Session,
    name: &PlannerName,
    own: &PlannerSpec,
    args: &ForkArgs,
) -> Result<PlannerSpec, Failure> {
    match (name, own) {
        (PlannerName::Project, _) => {
            let overrides = Overrides {
                goal: args.intent.goal.clone(),
                produce: args.intent.produce.clone(),
                params: args.intent.params.clone(),
                ..Overrides::default()
            };
            Ok(session.place.project.spec(&overrides)?.planner)
        }
        (PlannerName::Model(model), _) => Ok(PlannerSpec::Model { model: model.clone() }),
        (PlannerName::Runbook(path), _) => {
            Ok(PlannerSpec::Runbook { plan: Arc::new(PlanFile::read(path)?.plan) })
        }
        (PlannerName::Derive(wanted), own) => {
            let given = [wanted, &args.intent.produce].into_iter().find(|list| !list.is_empty()).cloned();
            match (given, own) {
                (Some(produce), _) => Ok(PlannerSpec::Derive { produce }),
                (None, PlannerSpec::Derive { produce }) if args.intent.goal.is_none() => {
                    Ok(PlannerSpec::Derive { produce: produce.clone() })
                }
                _ => Err(Failure::usage("the derive planner must know which artifacts are wanted")
                    .next("say it: --planner derive=ARTIFACT")),
            }
        }
    }
}

fn refused(session: &Session, run: RunId, at: u64, error: system::Error) -> Failure {
    let hints = &session.output.hints;
    let system::Error::Fork(refusal) = &error else { return session.refused(run, error) };
    let elsewhere = |before: Option<u64>, after: Option<u64>| {
        let at = |seq: u64| hints.run("fork", run, &["--at", &seq.to_string()]);
        match (before.map(at), after.map(at)) {
            (Some(before), Some(after)) => Some(format!("fork before it: {before}, or after it: {after}")),
            (Some(before), None) => Some(format!("fork before it: {before}")),
            (None, Some(after)) => Some(format!("fork after it: {after}")),
            (None, None) => None,
        }
    };
    let show = format!("look at it: {}", hints.run("show", run, &[]));
    let next = match refusal {
        Refusal::NoEntry { .. } => format!("the record numbers them: {}", hints.run("audit", run, &[])),
        Refusal::InHand { before, after, .. } | Refusal::Unknown { before, after, .. } => {
            elsewhere(*before, *after).unwrap_or(show)
        }
        Refusal::Busy { .. } => {
            format!("wait until it is done, then fork: {}", hints.run("watch", run, &[]))
        }
        Refusal::Unresolved { step } => {
            let resolve = hints.run("resolve", run, &[step.as_str(), "--happened"]);
            let fork = hints.run("fork", run, &["--at", &at.to_string()]);
            format!("say what became of it: {resolve} (or --not-happened), then: {fork}")
        }
    };
    Failure::from(error).next(next)
}
