//! What a run waits for: a span of no length when somebody is asked, so that a trace shows what is
//! waited for, and one over the whole time when there is an answer.

use foreplan_core::{
    digest::Digest,
    event::Gate,
    id::StepId,
    input::{Command, CommandKind, Input},
    time::Timestamp,
    trace::SpanId,
};

use super::{At, Trace, attempts};
use crate::{
    Service, semconv,
    span::{AuditSpan, Build},
};

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// An approval.
    Gate(Gate),
    /// The answer to a question.
    Question(StepId),
    /// Whether an irreversible call happened.
    Outcome(StepId),
}

/// All that was and is waited for.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits {
    count: u32,
    open: Vec<Open>,
}

/// Something that has no answer yet.
#[derive(Clone, Debug)]
struct Open {
    key: Key,
    number: u32,
    at: Timestamp,
    first: u64,
    digest: Option<Digest>,
    link: Option<SpanId>,
}

impl Key {
    fn step(&self) -> Option<&StepId> {
        match self {
            Self::Gate(Gate::Step(step)) | Self::Question(step) | Self::Outcome(step) => Some(step),
            Self::Gate(Gate::Plan | Gate::Replan) => None,
        }
    }

    fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::Gate(_) => ("approval requested", "approval"),
            Self::Question(_) => ("question asked", "question"),
            Self::Outcome(_) => ("outcome unknown", "outcome"),
        }
    }

    fn gate(&self) -> &'static str {
        match self {
            Self::Gate(Gate::Plan) => "plan",
            Self::Gate(Gate::Replan) => "replan",
            Self::Gate(Gate::Step(_)) => "step",
            Self::Question(_) => "question",
            Self::Outcome(_) => "outcome",
        }
    }
}

impl Trace {
    pub(super) fn asked(
        &mut self,
        at: At<'_>,
        key: Key,
        digest: Option<Digest>,
        question: Option<&str>,
    ) -> AuditSpan {
        self.waits.count += 1;
        let number = self.waits.count;
        let attempt = key.step().and_then(|step| Some((step, *self.newest.get(step)?)));
        let attempt = attempt.map(|(step, attempt)| SpanId::attempt(self.run, step, attempt));
        let link = attempt.or_else(|| self.plans.newest().map(|plan| plan.span));
        let open = Open { key, number, at: at.time(), first: at.seq(), digest, link };
        let (asked, _) = open.key.names();
        let span = self
            .wait_span(&open, "asked", asked)
            .times(at.time(), at.time())
            .text_if(semconv::REASON, question.and_then(|question| self.content(question)))
            .done(at.seq(), at.closing, &self.options.redact);
        self.waits.open.push(open);
        span
    }

    pub(super) fn answered(&mut self, at: At<'_>, key: &Key, outcome: &str, by: &str) -> Option<AuditSpan> {
        let position = self.waits.open.iter().position(|open| open.key == *key)?;
        let open = self.waits.open.remove(position);
        if let (Key::Question(step) | Key::Outcome(step), true) = (key, outcome != "not_happened") {
            self.done.insert(step.clone(), self.id("answered", &open.number.to_string()));
        }
        Some(self.answer(at, &open, outcome, Some(by)))
    }

    /// Takes what became of an irreversible call: a person's word, or the answer of a `verify` tool.
    pub(super) fn resolved(
        &mut self,
        at: At<'_>,
        step: &StepId,
        happened: Option<bool>,
        by: &str,
        spans: &mut Vec<AuditSpan>,
    ) {
        let outcome = match happened {
            Some(true) => "happened",
            Some(false) => "not_happened",
            None => "failed",
        };
        spans.extend(self.answered(at, &Key::Outcome(step.clone()), outcome, by));
        if let Input::Result(reply) = at.cause() {
            self.attempt_closed(at, step, reply.attempt, attempts::End::Succeeded, spans);
        }
    }

    /// Completes the plan that waits, and the wait for its approval, without either.
    pub(super) fn withdraw_plan(
        &mut self,
        at: At<'_>,
        outcome: &str,
        reason: Option<&str>,
        spans: &mut Vec<AuditSpan>,
    ) {
        self.close_waits(at, outcome, spans, |key| matches!(key, Key::Gate(Gate::Plan | Gate::Replan)));
        spans.extend(self.plan_closed(at, outcome, reason));
    }

    /// Completes every wait without an answer.
    pub(super) fn withdraw_all(&mut self, at: At<'_>, outcome: &str, spans: &mut Vec<AuditSpan>) {
        self.close_waits(at, outcome, spans, |_| true);
    }

    fn close_waits(
        &mut self,
        at: At<'_>,
        outcome: &str,
        spans: &mut Vec<AuditSpan>,
        which: impl Fn(&Key) -> bool,
    ) {
        let (closed, open) = std::mem::take(&mut self.waits.open).into_iter().partition(|o| which(&o.key));
        self.waits.open = open;
        let closed: Vec<Open> = closed;
        spans.extend(closed.iter().map(|open| self.answer(at, open, outcome, None)));
    }

    fn answer(&self, at: At<'_>, open: &Open, outcome: &str, by: Option<&str>) -> AuditSpan {
        let (_, answered) = open.key.names();
        let mut span = self
            .wait_span(open, "answered", answered)
            .times(open.at, at.time())
            .text(semconv::OUTCOME, outcome)
            .text_if(semconv::BY, by);
        if let Input::Command(Command { kind: CommandKind::Answer { value, .. }, .. }) = at.cause() {
            span = span.text_if(semconv::ANSWER, self.content(value.to_string()));
        }
        if by.is_none() {
            span = span.error(outcome, None);
        }
        span.done(open.first, at.closing, &self.options.redact)
    }

    fn wait_span(&self, open: &Open, kind: &str, name: &str) -> Build {
        let step = open.key.step();
        let name = step.map_or_else(|| name.to_owned(), |step| format!("{name} {step}"));
        let span = self
            .build(kind, &open.number.to_string(), Service::Tracker, name)
            .parent(self.anchor())
            .text(semconv::GATE, open.key.gate())
            .text_if(semconv::STEP, step.map(StepId::as_str))
            .digest(semconv::GATE_DIGEST, open.digest);
        match (open.link, step) {
            (Some(link), Some(_)) => span.link(link, "about"),
            (Some(link), None) => span.link(link, "plan"),
            (None, _) => span,
        }
    }
}
