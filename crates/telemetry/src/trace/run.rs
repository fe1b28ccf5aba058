//! The run as a whole: its anchor, its ends, and what else happened meanwhile.

use foreplan_core::{
    event::{Event, RunFailure},
    fork::Origin,
    goal::Parent,
    id::RunId,
    input::Input,
    time::Timestamp,
    trace::{ROOT, SpanId},
};

use super::{At, Trace};
use crate::{
    Service, semconv,
    span::{AuditSpan, EVENTS_MAX, Note},
};

/// From acceptance, or from a retry, to an end.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    ends: u32,
    since: Timestamp,
    first: u64,
    notes: Vec<Note>,
    notes_dropped: u32,
    over: bool,
}

impl Life {
    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

impl Trace {
    pub(super) fn accepted(&mut self, at: At<'_>) -> Option<AuditSpan> {
        let Input::Submit { spec, by, .. } = at.cause() else { return None };
        self.spec = Some(spec.clone());
        self.life = Life { since: at.time(), first: at.seq(), ..Life::default() };
        let mut span = self
            .build(ROOT, "", Service::Tracker, "run accepted")
            .times(at.time(), at.time())
            .text(semconv::WORKFLOW_NAME, spec.project.clone())
            .text(semconv::BY, by.clone())
            .text_if(semconv::GOAL, self.content(spec.goal.clone()));
        if let Some(Origin { run, seq, .. }) = spec.origin {
            span = span
                .text(semconv::ORIGIN_RUN, run.to_string())
                .int(semconv::ORIGIN_SEQ, seq)
                .link_to_run(run, "forked from");
        }
        if let Some(Parent { run, step, attempt }) = &spec.parent {
            span = span.text(semconv::PARENT_RUN, run.to_string()).link_to(
                *run,
                SpanId::attempt(*run, step, *attempt),
                "step of",
            );
        }
        Some(span.done(at.seq(), at.closing, &self.options.redact))
    }

    /// Shows that another run began from this one, also after the end of this one.
    pub(super) fn forked(&self, at: At<'_>, run: RunId, seq: u64, by: &str) -> AuditSpan {
        self.build("fork", &run.to_string(), Service::Tracker, "run forked")
            .parent(self.anchor())
            .times(at.time(), at.time())
            .text(semconv::FORK_RUN, run.to_string())
            .int(semconv::ORIGIN_SEQ, seq)
            .text(semconv::BY, by)
            .link_to_run(run, "forked as")
            .done(at.seq(), at.closing, &self.options.redact)
    }

    /// Keeps what has no span of its own for the span of the run.
    pub(super) fn note(&mut self, at: At<'_>, event: &Event) {
        if self.life.notes.len() >= EVENTS_MAX {
            self.life.notes_dropped += 1;
            return;
        }
        let note = |name: &str| Note::new(at.time(), name, at.seq());
        let of = |name: &str, step: &foreplan_core::id::StepId| note(name).text(semconv::STEP, step.as_str());
        let note = match event {
            Event::StepSkipped { step, reason } => {
                of("step skipped", step).text_if(semconv::REASON, self.content(reason.as_str()))
            }
            Event::StepExpanded { step, items } => {
                of("step expanded", step).text("foreplan.items", items.to_string())
            }
            Event::ChildWaits { step, .. } => of("child run waits", step),
            Event::ChildGoesOn { step, .. } => of("child run goes on", step),
            Event::StepReady { step } => of("step ready", step),
            Event::StepReused { step } => of("step reused", step),
            Event::RetryScheduled { step, .. } => of("retry scheduled", step),
            Event::StepSucceeded { step } => of("step succeeded", step),
            Event::StepFailed { step, failure } => of("step failed", step)
                .text(semconv::ERROR_TYPE, failure.kind.as_str())
                .text(semconv::FAILURE_CODE, failure.code.as_str()),
            Event::StepRetried { step } => of("step retried", step),
            Event::GoalRevised { by } => note("goal revised").text(semconv::BY, by.as_str()),
            Event::RunPaused { by } => note("run paused").text_if(semconv::BY, self.content(by.as_str())),
            Event::RunResumed { by } => note("run resumed").text(semconv::BY, by.as_str()),
            Event::RunReopened { by } => note("run reopened").text(semconv::BY, by.as_str()),
            Event::OwnerChanged { by } => note("owner changed").text(semconv::BY, by.as_str()),
            _ => return,
        };
        self.life.notes.push(note);
    }

    pub(super) fn reopened(&mut self, at: At<'_>, event: &Event) {
        let ends = self.life.ends;
        self.life = Life { ends, since: at.time(), first: at.seq(), ..Life::default() };
        self.note(at, event);
    }

    /// Completes everything that the end of the run leaves without an answer, then the run.
    pub(super) fn ended(&mut self, at: At<'_>, event: &Event, spans: &mut Vec<AuditSpan>) {
        let (outcome, by, reason) = outcome(event);
        self.withdraw_all(at, outcome, spans);
        spans.extend(self.plan_closed(at, outcome, None));
        spans.extend(self.plan_abandoned(at, outcome));
        spans.extend(self.replan_closed(at, outcome, None));
        self.abandon_reviews(at, spans);
        self.abandon_attempts(at, spans);
        self.life.ends += 1;
        let life = std::mem::take(&mut self.life);
        self.life.ends = life.ends;
        self.life.over = true;
        let project = self.spec.as_ref().map_or_else(String::new, |spec| spec.project.clone());
        let name = format!("{} {project}", semconv::INVOKE_WORKFLOW);
        let mut span = self
            .build("workflow", &life.ends.to_string(), Service::Tracker, name)
            .parent(self.anchor())
            .times(life.since, at.time())
            .text(semconv::OPERATION, semconv::INVOKE_WORKFLOW)
            .text(semconv::WORKFLOW_NAME, project)
            .text(semconv::OUTCOME, outcome)
            .text_if(semconv::BY, by)
            .int(semconv::PLAN_VERSION, u64::from(self.plans.version()))
            .usage(&self.usage);
        if outcome != "succeeded" {
            let kind = match event {
                Event::RunFailed { reason } => failure_kind(reason),
                _ => outcome,
            };
            span = span.error(kind, self.content(reason.as_deref()).flatten());
        }
        span =
            life.notes.into_iter().fold(span, crate::span::Build::event).events_dropped(life.notes_dropped);
        spans.push(span.done(life.first, at.closing, &self.options.redact));
    }
}

/// Returns how a run ended, by whom, and why.
fn outcome(event: &Event) -> (&'static str, Option<String>, Option<String>) {
    match event {
        Event::RunFailed { reason } => ("failed", None, Some(message(reason))),
        Event::RunCancelled { by, reason } => ("cancelled", Some(by.clone()), reason.clone()),
        Event::RunRejected { by, reason } => ("rejected", Some(by.clone()), Some(reason.clone())),
        _ => ("succeeded", None, None),
    }
}

fn failure_kind(reason: &RunFailure) -> &'static str {
    match reason {
        RunFailure::NoPlan { .. } => "no_plan",
        RunFailure::Step { .. } => "step",
        RunFailure::Decided { .. } => "decided",
        RunFailure::Budget { .. } => "budget",
        RunFailure::ApprovalTimeout => "approval_timeout",
    }
}

fn message(reason: &RunFailure) -> String {
    match reason {
        RunFailure::NoPlan { message, .. }
        | RunFailure::Step { message, .. }
        | RunFailure::Decided { message, .. } => message.clone(),
        RunFailure::Budget { limit } => format!("the limit `{limit}` was reached"),
        RunFailure::ApprovalTimeout => "nobody approved or answered in time".to_owned(),
    }
}
