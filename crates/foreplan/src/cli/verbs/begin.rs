//! Verbs that begin with an intent: `run`, `plan`, `check`, `apply`.

use std::{path::Path, sync::Arc};

use foreplan_core::{
    envelope::Envelope,
    finding::Finding,
    goal::{RunSpec, WhenBusy},
    id::RunId,
    input::Proposal,
    plan::Plan,
};
use uuid::Uuid;

use crate::{
    cli::{
        args::{ApplyArgs, IntentArgs, PlanArgs, PlanFileArgs, PlannerArg, RunArgs},
        error::Failure,
        exit::Exit,
        lines::{CheckLine, FindingLine, PlanLine},
        paint::clean,
        render,
        session::Session,
    },
    config::{Overrides, PlanFile},
};

/// Plans, asks, executes, prints the result.
///
/// # Errors
///
/// If the run cannot be accepted or carried on.
pub(crate) async fn run(session: &mut Session, args: &RunArgs) -> Result<Exit, Failure> {
    let (approval, key) = (args.begin.approve, args.begin.key.clone());
    let overrides = Overrides { approval, key, ..overrides(&args.intent, &args.planner) };
    let spec = session.place.project.spec(&overrides)?;
    begin(session, spec, args.begin.detach.detach).await
}

/// Plans and checks, and executes nothing.
///
/// # Errors
///
/// If there is no plan, or it cannot be written.
pub(crate) async fn plan(session: &mut Session, args: &PlanArgs) -> Result<Exit, Failure> {
    let spec = Arc::new(session.place.project.spec(&overrides(&args.intent, &args.planner))?);
    let planned = session.system.plan(Arc::clone(&spec)).await?;
    let by = planned.by;
    let (plan, envelope, findings) = taken_apart(planned.proposal)?;
    let valid = envelope.is_some();
    if let Some(path) = args.output.as_ref().filter(|_| valid) {
        write(path, &PlanFile { plan: plan.clone(), envelope: envelope.clone() })?;
        session.output.note(&format!("wrote {}", path.display()));
        let next = with_params(session, "apply", &[&path.display().to_string()], &args.intent.params);
        session.output.note(&format!("Next: {next}"));
    }
    if session.output.is_json() {
        session.output.line(&PlanLine { by, plan, envelope, findings });
    } else {
        let review = render::plan::Review {
            goal: &spec.goal,
            plan: &plan,
            envelope: envelope.as_ref(),
            by: &by,
            reviewer: spec.review.as_ref(),
            findings: &findings,
        };
        session.output.result(&render::plan::review(&session.output.look(), &review));
    }
    Ok(if valid { Exit::Ok } else { Exit::NoPlan })
}

/// Checks a plan file against the tools of a project.
///
/// # Errors
///
/// If the file is no plan.
pub(crate) async fn check(session: &mut Session, args: &PlanFileArgs) -> Result<Exit, Failure> {
    let file = PlanFile::read(&args.plan)?;
    let (spec, plan) = spec_of(session, file.plan, args)?;
    let (_, _, findings) = taken_apart(session.system.check(&plan, &spec))?;
    let errors = findings.iter().filter(|f| f.is_error()).count();
    if session.output.is_json() {
        let advice = findings.len() - errors;
        for finding in findings {
            session.output.line(&FindingLine { finding });
        }
        session.output.line(&CheckLine { valid: errors == 0, errors, advice });
    } else {
        let look = session.output.look();
        let mut text = render::plan::findings(&look, &findings);
        text.push_str(&render::plan::findings_summary(&look, &findings));
        session.output.result(&format!("{text}\n"));
    }
    Ok(if errors == 0 { Exit::Ok } else { Exit::NoPlan })
}

/// Executes exactly this plan; the envelope in its file is the approval.
///
/// # Errors
///
/// If the plan cannot be adopted, or a tool changed since the envelope was made.
pub(crate) async fn apply(session: &mut Session, args: &ApplyArgs) -> Result<Exit, Failure> {
    let PlanFile { plan, envelope } = PlanFile::read(&args.file.plan)?;
    let file = with_approved_params(&args.file, envelope.as_ref());
    let (mut spec, plan) = spec_of(session, plan, &file)?;
    let (_, now, findings) = taken_apart(session.system.check(&plan, &spec))?;
    let Some(now) = now else {
        return Err(Failure::new(Exit::NoPlan, "the plan cannot be adopted").findings(findings));
    };
    spec.key.clone_from(&args.begin.key);
    if let Some(mode) = args.begin.approve {
        spec.approval.mode = mode;
    }
    if let Some(approved) = &envelope {
        refuse_stale(session, approved, &now, &file)?;
        if approved.plan == now.plan {
            spec.approval.envelope = Some(approved.digest());
        } else {
            session.output.note("note: the plan was changed after its envelope was made; it asks again");
        }
    }
    begin(session, spec, args.begin.detach.detach).await
}

/// Params that were approved with the plan need not be given again.
fn with_approved_params(args: &PlanFileArgs, approved: Option<&Envelope>) -> PlanFileArgs {
    let mut args = args.clone();
    for (name, value) in approved.iter().flat_map(|envelope| &envelope.params) {
        if !args.params.iter().any(|(given, _)| given == name) {
            args.params.push((name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
        }
    }
    args
}

/// A tool or param that changed makes an approval worthless: what was approved is not what would run.
fn refuse_stale(
    session: &Session,
    approved: &Envelope,
    now: &Envelope,
    args: &PlanFileArgs,
) -> Result<(), Failure> {
    let tools = approved.stale_tools(now);
    let stale: Vec<String> =
        tools.iter().map(ToString::to_string).chain(approved.stale_params(now)).collect();
    if stale.is_empty() || approved.plan != now.plan {
        return Ok(());
    }
    let names: Vec<String> = stale.iter().map(|name| format!("`{}`", clean(name))).collect();
    let again = with_params(session, "plan", &["-o", &args.plan.display().to_string()], &args.params);
    Err(Failure::new(
        Exit::NoPlan,
        format!("plan is stale: {} changed since it was approved", names.join(", ")),
    )
    .next(format!("plan again: {again}")))
}

/// Returns a command with the params that this one was given.
fn with_params(session: &Session, verb: &str, arguments: &[&str], params: &[(String, String)]) -> String {
    let params: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let params = params.iter().flat_map(|param| ["--param", param]);
    let all: Vec<&str> = arguments.iter().copied().chain(params).collect();
    session.output.hints.command(verb, &all)
}

async fn begin(session: &mut Session, spec: RunSpec, detach: bool) -> Result<Exit, Failure> {
    let by = session.by.clone();
    let made = RunId(Uuid::now_v7());
    busy_group(session, &spec).await?;
    let run = session.system.submit(made, Arc::new(spec), &by).await?;
    if run != made {
        session.output.note(&format!("Run {run} has this key already."));
    } else if !session.output.is_json() {
        session.output.note(&format!("Run {run}"));
    }
    if detach {
        return detached(session, run).await;
    }
    let seen = if run == made { 0 } else { session.state(run).await?.seq() };
    session.carry_on(run, seen).await
}

/// Says for whom the run will wait, where only one of its group may be active.
async fn busy_group(session: &mut Session, spec: &RunSpec) -> Result<(), Failure> {
    let Some(group) = spec.group.as_ref().filter(|group| group.when_busy == WhenBusy::Wait) else {
        return Ok(());
    };
    let active = session.system.store().journal.active_in_group(&spec.project, &group.name).await?;
    if let Some(first) = active.first().filter(|first| spec.key.is_none() || first.run.key != spec.key) {
        let (run, status) = (first.run.run, first.progress.status.as_str());
        let show = session.output.hints.run("show", run, &[]);
        session.output.note(&format!(
            "Waiting: run {run} of the group `{}` is {status}, and one runs at a time. Look: {show}",
            group.name
        ));
    }
    Ok(())
}

pub(super) async fn detached(session: &mut Session, run: RunId) -> Result<Exit, Failure> {
    if session.output.is_json() {
        let view = session.view(run).await?;
        session.output.line(&view);
    } else {
        if session.system.is_remote() {
            let watch = session.output.hints.run("watch", run, &[]);
            session.output.note(&format!("Submitted. Follow it: {watch}"));
        } else {
            let resume = session.output.hints.run("resume", run, &[]);
            session.output.note(&format!("Recorded. Carry it on: {resume}"));
        }
        session.output.result(&format!("{run}\n"));
    }
    Ok(Exit::Ok)
}

fn overrides(intent: &IntentArgs, planner: &PlannerArg) -> Overrides {
    Overrides {
        planner: planner.planner.clone(),
        goal: intent.goal.clone(),
        produce: intent.produce.clone(),
        params: intent.params.clone(),
        ..Overrides::default()
    }
}

/// Returns what a run of a plan file is for.
fn spec_of(session: &Session, plan: Plan, args: &PlanFileArgs) -> Result<(RunSpec, Arc<Plan>), Failure> {
    let goal = Some(plan.goal.clone()).filter(|goal| !goal.is_empty());
    let plan = Arc::new(plan);
    let overrides = Overrides {
        plan: Some(Arc::clone(&plan)),
        params: args.params.clone(),
        goal: goal
            .or_else(|| session.place.project.file().goal.clone())
            .or_else(|| Some(file_name(&args.plan))),
        ..Overrides::default()
    };
    Ok((session.place.project.spec(&overrides)?, plan))
}

fn file_name(path: &Path) -> String {
    format!("Execute {}", path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}

/// Returns the parts of a proposal: the plan, what an approval covers if it is valid, and what
/// `check` says.
fn taken_apart(proposal: Proposal) -> Result<(Plan, Option<Envelope>, Vec<Finding>), Failure> {
    match proposal {
        Proposal::Valid { plan, envelope, findings } => {
            Ok((plan.plan().as_ref().clone(), Some(Envelope::clone(&envelope)), findings))
        }
        Proposal::Invalid { plan, findings } => Ok((plan.as_ref().clone(), None, findings)),
        Proposal::None { message, .. } | Proposal::Question { question: message } => {
            Err(Failure::new(Exit::NoPlan, message))
        }
    }
}

fn write(path: &Path, file: &PlanFile) -> Result<(), Failure> {
    std::fs::write(path, file.to_text())
        .map_err(|e| Failure::chain(Exit::Usage, &format!("cannot write `{}`", path.display()), &e))
}
