//! A decision as lines: events as they are, actions behind `>`.

use foreplan_core::{
    action::{Action, Work},
    event::{Event, Gate, ReviewOf, RunFailure},
    run::Decision,
};

/// Returns what was decided, one line for each event and action.
pub(crate) fn said(decision: &Decision) -> Vec<String> {
    decision.events.iter().map(event).chain(decision.actions.iter().map(action)).collect()
}

fn reviewed(of: &ReviewOf) -> String {
    match of {
        ReviewOf::Plan { version } => format!("v{version}"),
        ReviewOf::Output { step, attempt } => format!("{step}#{attempt}"),
    }
}

fn work(work: &Work) -> String {
    match work {
        Work::Tool { tool, .. } => tool.to_string(),
        Work::Agent { max, .. } => format!("agent, {} calls, {} tokens", max.model_calls, max.tokens),
    }
}

fn event(event: &Event) -> String {
    match event {
        Event::RunAccepted => "accepted".to_owned(),
        Event::PlanRequested { request } => format!("plan {request} asked"),
        Event::PlanRefused { reason } => format!("plan refused: {reason}"),
        Event::PlanProposed { version, parent: None, .. } => format!("v{version} proposed"),
        Event::PlanProposed { version, parent: Some(parent), .. } => {
            format!("v{version} proposed for v{parent}")
        }
        Event::ReviewRequested { review, of } => format!("review {review} of {} asked", reviewed(of)),
        Event::Reviewed { review, accepts: true } => format!("review {review} passed"),
        Event::Reviewed { review, accepts: false } => format!("review {review} not passed"),
        Event::ApprovalRequested { gate: asked, .. } => format!("{} to be approved", gate(asked)),
        Event::ApprovalGranted { gate: asked, by } => format!("{} approved by {by}", gate(asked)),
        Event::PlanAdopted { version } => format!("v{version} adopted"),
        Event::QuestionAsked { step, question: None } => format!("{step} asks"),
        Event::QuestionAsked { step, question: Some(question) } => format!("{step} asks: {question}"),
        Event::QuestionAnswered { step, by } => format!("{step} answered by {by}"),
        Event::ReplanRequested { step: None } => "replan asked".to_owned(),
        Event::ReplanRequested { step: Some(step) } => format!("replan asked about {step}"),
        Event::ReplanDecided { decision } => format!("decided: {decision}"),
        Event::ReplanRefused { reason } => format!("replan refused: {reason}"),
        Event::GoalRevised { by } => format!("goal revised by {by}"),
        Event::RunPaused { by } => format!("paused: {by}"),
        Event::RunResumed { by } => format!("resumed by {by}"),
        Event::RunReopened { by } => format!("reopened by {by}"),
        Event::RunForked { run, seq, by } => format!("forked at {seq} as {run} by {by}"),
        Event::OwnerChanged { by } => format!("owned by {by}"),
        Event::RunSucceeded => "run succeeded".to_owned(),
        Event::RunFailed { reason } => format!("run failed: {}", why(reason)),
        Event::RunCancelled { by, .. } => format!("run cancelled by {by}"),
        Event::RunRejected { by, reason } => format!("run rejected by {by}: {reason}"),
        Event::ChildWaits { step, attempt } => format!("child {step}#{attempt} waits"),
        Event::ChildGoesOn { step, attempt } => format!("child {step}#{attempt} goes on"),
        Event::StepSkipped { .. }
        | Event::StepExpanded { .. }
        | Event::StepReady { .. }
        | Event::StepReused { .. }
        | Event::AttemptStarted { .. }
        | Event::EffectPermitted { .. }
        | Event::AttemptSucceeded { .. }
        | Event::AttemptFailed { .. }
        | Event::LateResultRecorded { .. }
        | Event::RetryScheduled { .. }
        | Event::OutcomeUnknown { .. }
        | Event::OutcomeResolved { .. }
        | Event::StepSucceeded { .. }
        | Event::StepFailed { .. }
        | Event::StepRetried { .. } => step_event(event),
    }
}

fn step_event(event: &Event) -> String {
    match event {
        Event::StepSkipped { step, reason } => format!("{step} skipped: {reason}"),
        Event::StepExpanded { step, items } => format!("{step} has {items} items"),
        Event::StepReady { step } => format!("{step} queued"),
        Event::StepReused { step } => format!("{step} reused"),
        Event::AttemptStarted { step, attempt, verify: false } => format!("{step}#{attempt} started"),
        Event::AttemptStarted { step, attempt, verify: true } => format!("{step}#{attempt} verifies"),
        Event::EffectPermitted { step, attempt, call: None } => format!("{step}#{attempt} permitted"),
        Event::EffectPermitted { step, attempt, call: Some(call) } => {
            format!("{step}#{attempt} permitted call {} of {}", call.call, call.tool)
        }
        Event::AttemptSucceeded { step, attempt } => format!("{step}#{attempt} succeeded"),
        Event::AttemptFailed { step, attempt, failure: None } => format!("{step}#{attempt} failed"),
        Event::AttemptFailed { step, attempt, failure: Some(failure) } => {
            format!("{step}#{attempt} failed: {}", failure.code)
        }
        Event::LateResultRecorded { step, attempt } => format!("{step}#{attempt} late"),
        Event::RetryScheduled { step, .. } => format!("{step} backs off"),
        Event::OutcomeUnknown { step } => format!("{step} unknown"),
        Event::OutcomeResolved { step, happened, by } => match happened {
            Some(true) => format!("{step} happened, says {by}"),
            Some(false) => format!("{step} did not happen, says {by}"),
            None => format!("{step} given up by {by}"),
        },
        Event::StepSucceeded { step } => format!("{step} done"),
        Event::StepFailed { step, failure } => format!("{step} failed: {}", failure.code),
        Event::StepRetried { step } => format!("{step} retried"),
        other => format!("{other:?}"),
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::RequestPlan { request, trigger: None } => format!("> plan {request}"),
        Action::RequestPlan { request, trigger: Some(trigger) } => {
            format!("> plan {request} because {}", trigger.name())
        }
        Action::RequestReplan { trigger, .. } => match trigger.step() {
            Some(step) => format!("> replan about {step}"),
            None => format!("> replan because {}", trigger.name()),
        },
        Action::RunGoal { step, attempt, max } => {
            format!("> goal {step}#{attempt}, {} calls, {} tokens", max.model_calls, max.tokens)
        }
        Action::TellChild { step, attempt, order } => {
            format!("> {} child {step}#{attempt}", format!("{order:?}").to_lowercase())
        }
        Action::RequestReview { review, .. } => format!("> review {review}"),
        Action::Evaluate { steps } => {
            let steps: Vec<_> = steps.iter().map(ToString::to_string).collect();
            format!("> evaluate {}", steps.join(" "))
        }
        Action::RunStep(dispatch) => {
            format!("> run {}#{} {}", dispatch.step, dispatch.attempt, work(&dispatch.work))
        }
        Action::CancelAttempt { step, attempt } => format!("> cancel {step}#{attempt}"),
        Action::AnswerPermit { step, attempt, granted, .. } => {
            format!("> permit {step}#{attempt} {}", if *granted { "granted" } else { "denied" })
        }
    }
}

fn gate(gate: &Gate) -> String {
    match gate {
        Gate::Plan => "plan".to_owned(),
        Gate::Replan => "replan".to_owned(),
        Gate::Step(step) => step.to_string(),
    }
}

fn why(reason: &RunFailure) -> String {
    match reason {
        RunFailure::NoPlan { code, .. } => format!("no plan, {code}"),
        RunFailure::Step { step, .. } => format!("step {step}"),
        RunFailure::Decided { message, .. } => format!("decided, {message}"),
        RunFailure::Budget { limit } => format!("limit {limit}"),
        RunFailure::ApprovalTimeout => "nobody answered".to_owned(),
    }
}
