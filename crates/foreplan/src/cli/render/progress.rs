//! What a person sees while a run goes on.

use std::time::Duration;

use foreplan_core::{
    event::{Entry, Event, Gate, ReviewOf},
    failure::Failure,
    id::StepId,
    input::{AttemptOutcome, AttemptReply, Input},
    time::Timestamp,
    view::StepStatus,
};

use super::Look;
use crate::cli::paint::{Tone, clean, clock, cut, span};

/// Something that a person who watches should see.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// The step; absent: the run.
    pub step: Option<StepId>,
    /// Where the step stands now.
    pub status: Option<StepStatus>,
    /// More, for people.
    pub message: String,
    /// How long it took.
    pub took: Option<Duration>,
}

/// Returns what a person who watches should see of an entry.
#[must_use]
pub fn lines(entry: &Entry) -> Vec<Line> {
    entry.events.iter().filter_map(|event| line_of(entry, event)).collect()
}

/// Returns what is with a person, a reviewer or a child run.
fn with_others(entry: &Entry, event: &Event) -> Option<Line> {
    let (step, status, message) = match (event, &entry.cause) {
        (Event::ReviewRequested { of: ReviewOf::Output { step, .. }, .. }, _) => {
            (Some(step.clone()), Some(StepStatus::Running), "what it returned is reviewed".to_owned())
        }
        (Event::ApprovalRequested { gate: Gate::Step(step), .. }, _) => {
            (Some(step.clone()), Some(StepStatus::Waiting), "waits for approval".to_owned())
        }
        (Event::ApprovalRequested { .. }, _) => (None, None, "the plan waits for approval".to_owned()),
        (Event::OutcomeUnknown { step }, _) => {
            (Some(step.clone()), Some(StepStatus::Waiting), "nobody knows whether it happened".to_owned())
        }
        (Event::ChildWaits { step, .. }, _) => {
            (Some(step.clone()), Some(StepStatus::Waiting), "its run waits".to_owned())
        }
        (Event::ChildGoesOn { step, .. }, _) => {
            (Some(step.clone()), Some(StepStatus::Running), "its run goes on".to_owned())
        }
        (Event::ReviewRequested { .. }, _) => (None, None, "the plan is reviewed".to_owned()),
        (Event::Reviewed { accepts: false, .. }, Input::Reviewed(reply)) => {
            let reasons = reply.outcome.reasons().join("; ");
            (None, None, format!("{} does not accept: {reasons}", reply.by))
        }
        _ => return None,
    };
    Some(Line { at: entry.at, step, status, message, took: None })
}

fn line_of(entry: &Entry, event: &Event) -> Option<Line> {
    let line = |step: Option<&StepId>, status: Option<StepStatus>, message: String| {
        Some(Line { at: entry.at, step: step.cloned(), status, message, took: None })
    };
    let about = |step: &StepId, status: StepStatus, message: String| line(Some(step), Some(status), message);
    let run = |message: String| line(None, None, message);
    match event {
        Event::PlanAdopted { version: 1 } => run("plan adopted".to_owned()),
        Event::PlanAdopted { version } => run(format!("plan version {version} adopted")),
        Event::PlanRefused { reason } => run(format!("plan refused: {reason}")),
        Event::ReviewRequested { .. }
        | Event::Reviewed { .. }
        | Event::ChildWaits { .. }
        | Event::ChildGoesOn { .. }
        | Event::ApprovalRequested { .. }
        | Event::OutcomeUnknown { .. } => with_others(entry, event),
        Event::ApprovalGranted { gate: Gate::Plan | Gate::Replan, by } => {
            run(format!("plan approved by {by}"))
        }
        Event::ApprovalGranted { gate: Gate::Step(step), by } => {
            about(step, StepStatus::Pending, format!("approved by {by}"))
        }
        Event::StepSkipped { step, reason } => about(step, StepStatus::Skipped, reason.clone()),
        Event::StepReused { step } => about(step, StepStatus::Succeeded, "kept from before".to_owned()),
        Event::QuestionAsked { step, .. } => about(step, StepStatus::Waiting, "asks a question".to_owned()),
        Event::AttemptStarted { step, attempt, verify } => {
            let what = if *verify { "asks whether it happened" } else { "" };
            let again = if *attempt > 1 && !verify { format!("attempt {attempt}") } else { what.to_owned() };
            about(step, StepStatus::Running, again)
        }
        Event::AttemptSucceeded { step, .. } => {
            Some(Line { took: reply(entry).map(took), ..about(step, StepStatus::Succeeded, String::new())? })
        }
        Event::RetryScheduled { step, .. } => {
            about(step, StepStatus::Running, format!("is tried again{}", because(failure(entry))))
        }
        Event::StepSucceeded { step } => about(step, StepStatus::Succeeded, String::new()),
        Event::StepFailed { step, failure } => Some(Line {
            took: reply(entry).map(took),
            ..about(step, StepStatus::Failed, failure.to_string())?
        }),
        Event::ReplanDecided { decision } => run(decided(entry, decision)),
        Event::ReplanRefused { reason } => run(format!("the replanner's decision was refused: {reason}")),
        Event::GoalRevised { by } => run(format!("goal revised by {by}")),
        Event::RunPaused { by } => run(format!("paused: {by}")),
        Event::RunResumed { by } | Event::RunReopened { by } => run(format!("goes on, by {by}")),
        Event::OwnerChanged { by } => run(format!("carried on by {by}")),
        Event::RunForked { run: fork, seq, by } => {
            run(format!("forked at entry {seq} as run {fork}, by {by}"))
        }
        Event::RunAccepted
        | Event::PlanRequested { .. }
        | Event::PlanProposed { .. }
        | Event::StepExpanded { .. }
        | Event::StepReady { .. }
        | Event::QuestionAnswered { .. }
        | Event::EffectPermitted { .. }
        | Event::AttemptFailed { .. }
        | Event::LateResultRecorded { .. }
        | Event::OutcomeResolved { .. }
        | Event::StepRetried { .. }
        | Event::ReplanRequested { .. }
        | Event::RunSucceeded
        | Event::RunFailed { .. }
        | Event::RunCancelled { .. }
        | Event::RunRejected { .. } => None,
    }
}

fn reply(entry: &Entry) -> Option<&AttemptReply> {
    match &entry.cause {
        Input::Result(reply) => Some(reply),
        _ => None,
    }
}

fn took(reply: &AttemptReply) -> Duration {
    reply.ended_at.since(reply.started_at)
}

fn failure(entry: &Entry) -> Option<&Failure> {
    let reply = reply(entry)?;
    match (&reply.verdicts.gate, &reply.outcome) {
        (Some(failure), _) | (None, AttemptOutcome::Failure(failure)) => Some(failure),
        (None, AttemptOutcome::Output(_)) => None,
    }
}

fn because(failure: Option<&Failure>) -> String {
    failure.map_or_else(String::new, |failure| format!(": {failure}"))
}

fn decided(entry: &Entry, decision: &str) -> String {
    match &entry.cause {
        Input::Replanned(reply) => format!("replan by {}: {decision}, {}", reply.by, reply.reason),
        _ => format!("replan: {decision}"),
    }
}

/// Returns one plain line, for pipes and logs.
#[must_use]
pub fn line(look: &Look, line: &Line) -> String {
    let mut text = look.paint.paint(Tone::Dim, &clock(line.at));
    text.push_str("  ");
    if let (Some(status), Some(step)) = (line.status, &line.step) {
        text.push_str(&look.paint.step(status));
        text.push_str("  ");
        text.push_str(step.as_str());
    }
    if let Some(took) = line.took {
        text.push_str(&look.paint.paint(Tone::Dim, &format!("  {}", span(took))));
    }
    if !line.message.is_empty() {
        let room = look.columns.max(60) - 20;
        let message = cut(&clean(&line.message), room);
        if line.step.is_some() {
            text.push_str("  ");
        }
        text.push_str(&message);
    }
    text.trim_end().to_owned()
}
