//! A run's trace, entry by entry.
//!
//! [`Trace`] folds the journal and returns the spans that each entry completes. Folding the same
//! entries gives the same spans, wherever it is stopped and begun again.
//!
//! Where every event of a journal is found, so that nothing that happened is missing:
//!
//! | events | where |
//! |---|---|
//! | `RunAccepted` | the anchor, the root of all |
//! | the four ends, `RunReopened` | `invoke_workflow`, one for each end |
//! | `RunForked` | `run forked`, with a link to the other run's trace |
//! | `PlanRequested PlanProposed PlanAdopted PlanRefused` | `plan`, one for each proposal ([`plans`]) |
//! | `ApprovalRequested ApprovalGranted`, `QuestionAsked QuestionAnswered`, `OutcomeUnknown OutcomeResolved` | two spans each, one when asked and one when answered ([`waits`]) |
//! | `AttemptStarted AttemptSucceeded AttemptFailed EffectPermitted LateResultRecorded` | `invoke_agent`, from both sides ([`attempts`]) |
//! | `ReplanRequested ReplanDecided ReplanRefused` | `replan decision` ([`plans`]) |
//! | `ReviewRequested Reviewed` | `review`, of a plan or of an attempt's output ([`reviews`]) |
//! | calls in replies | `chat`, `execute_tool` ([`calls`]) |
//! | everything else | an event of `invoke_workflow` |

mod attempts;
mod calls;
mod plans;
mod reviews;
mod run;
mod waits;

use std::{collections::HashMap, sync::Arc};

use foreplan_core::{
    budget::Usage,
    event::{Entry, Event},
    goal::RunSpec,
    id::{RunId, StepId},
    input::Input,
    time::Timestamp,
    trace::SpanId,
};

use crate::{
    Record, Redact, Service,
    span::{AuditSpan, Build, Closing},
};

/// What is exported beyond what happened, when and by whom.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether goals, prompts, inputs, outputs, reasons and messages are exported.
    pub content: bool,
    /// What is exported nowhere.
    pub redact: Redact,
}

/// Returns the spans that a journal completes, in the order in which it did.
#[must_use]
pub fn derive(run: RunId, records: &[Record], options: &Options) -> Vec<AuditSpan> {
    let mut trace = Trace::new(run, options.clone());
    records.iter().flat_map(|record| trace.feed(record)).collect()
}

/// A run's trace up to some entry.
#[derive(Clone, Debug)]
pub struct Trace {
    run: RunId,
    options: Options,
    next: u64,
    spec: Option<Arc<RunSpec>>,
    plans: plans::Plans,
    attempts: HashMap<(StepId, u32), attempts::Open>,
    newest: HashMap<StepId, u32>,
    /// The span that shows where a step's result came from.
    done: HashMap<StepId, SpanId>,
    waits: waits::Waits,
    reviews: reviews::Reviews,
    life: run::Life,
    usage: Usage,
}

/// The entry that is being folded.
#[derive(Clone, Copy)]
struct At<'a> {
    entry: &'a Entry,
    closing: Closing,
}

impl At<'_> {
    fn time(&self) -> Timestamp {
        self.entry.at
    }

    fn seq(&self) -> u64 {
        self.entry.seq
    }

    fn cause(&self) -> &Input {
        &self.entry.cause
    }
}

impl Trace {
    /// Begins the trace of a run.
    #[must_use]
    pub fn new(run: RunId, options: Options) -> Self {
        Self {
            run,
            options,
            next: 0,
            spec: None,
            plans: plans::Plans::default(),
            attempts: HashMap::new(),
            newest: HashMap::new(),
            done: HashMap::new(),
            waits: waits::Waits::default(),
            reviews: reviews::Reviews::default(),
            life: run::Life::default(),
            usage: Usage::default(),
        }
    }

    /// Returns the entry that comes next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Returns whether the run has ended; a retry may still follow.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.life.is_over()
    }

    /// Takes an entry and returns the spans that it completes. One that was taken before, or that
    /// does not follow the last, changes nothing.
    pub fn feed(&mut self, record: &Record) -> Vec<AuditSpan> {
        let entry = record.entry.as_ref();
        if entry.seq != self.next {
            return Vec::new();
        }
        self.next += 1;
        let at = At { entry, closing: Closing { seq: entry.seq, hash: record.hash } };
        let mut spans = Vec::new();
        self.calls(at, &mut spans);
        for event in &entry.events {
            self.event(at, event, &mut spans);
        }
        spans
    }

    fn event(&mut self, at: At<'_>, event: &Event, spans: &mut Vec<AuditSpan>) {
        match event {
            Event::RunAccepted => spans.extend(self.accepted(at)),
            Event::PlanRequested { .. } => {
                self.withdraw_plan(at, "superseded", None, spans);
                self.plan_requested(at);
            }
            Event::PlanRefused { reason } => self.plan_refused(at, reason, spans),
            Event::PlanProposed { version, plan, envelope, .. } => {
                self.withdraw_plan(at, "superseded", None, spans);
                self.plan_proposed(at, plans::Ids { version: *version, plan: *plan, envelope: *envelope });
            }
            Event::PlanAdopted { .. } => spans.extend(self.plan_closed(at, "adopted", None)),
            Event::ReviewRequested { review, of } => self.review_requested(at, *review, of),
            Event::Reviewed { review, accepts } => spans.extend(self.reviewed(at, *review, *accepts)),
            Event::ApprovalRequested { gate, digest } => {
                spans.push(self.asked(at, waits::Key::Gate(gate.clone()), Some(*digest), None));
            }
            Event::ApprovalGranted { gate, by } => {
                spans.extend(self.answered(at, &waits::Key::Gate(gate.clone()), "approved", by));
            }
            Event::QuestionAsked { step, question } => {
                spans.push(self.asked(at, waits::Key::Question(step.clone()), None, question.as_deref()));
            }
            Event::QuestionAnswered { step, by } => {
                spans.extend(self.answered(at, &waits::Key::Question(step.clone()), "answered", by));
            }
            Event::OutcomeUnknown { step } => {
                spans.push(self.asked(at, waits::Key::Outcome(step.clone()), None, None));
            }
            Event::OutcomeResolved { step, happened, by } => self.resolved(at, step, *happened, by, spans),
            Event::AttemptStarted { step, attempt, verify } => {
                self.attempt_started(at, step, *attempt, *verify);
            }
            Event::EffectPermitted { step, attempt, .. } => self.permitted(at, step, *attempt),
            Event::AttemptSucceeded { step, attempt } => {
                self.attempt_closed(at, step, *attempt, attempts::End::Succeeded, spans);
            }
            Event::AttemptFailed { step, attempt, failure } => {
                self.attempt_closed(at, step, *attempt, attempts::End::Failed(failure.as_ref()), spans);
            }
            Event::LateResultRecorded { step, attempt } => self.late(at, step, *attempt, spans),
            Event::ReplanRequested { step } => self.replan_requested(at, step.as_ref()),
            Event::ReplanDecided { decision } => spans.extend(self.replan_closed(at, decision, None)),
            Event::ReplanRefused { reason } => spans.extend(self.replan_closed(at, "refused", Some(reason))),
            Event::RunSucceeded
            | Event::RunFailed { .. }
            | Event::RunCancelled { .. }
            | Event::RunRejected { .. } => self.ended(at, event, spans),
            Event::RunReopened { .. } => self.reopened(at, event),
            Event::RunForked { run, seq, by } => {
                spans.push(self.forked(at, *run, *seq, by));
            }
            Event::StepSkipped { .. }
            | Event::StepExpanded { .. }
            | Event::StepReady { .. }
            | Event::StepReused { .. }
            | Event::ChildWaits { .. }
            | Event::ChildGoesOn { .. }
            | Event::RetryScheduled { .. }
            | Event::StepSucceeded { .. }
            | Event::StepFailed { .. }
            | Event::StepRetried { .. }
            | Event::GoalRevised { .. }
            | Event::RunPaused { .. }
            | Event::RunResumed { .. }
            | Event::OwnerChanged { .. } => self.note(at, event),
        }
    }

    fn build(&self, kind: &str, key: &str, service: Service, name: impl Into<String>) -> Build {
        Build::new(self.run, self.id(kind, key), service, name)
    }

    fn id(&self, kind: &str, key: &str) -> SpanId {
        SpanId::of(self.run, kind, key)
    }

    fn anchor(&self) -> SpanId {
        SpanId::root(self.run)
    }

    /// Returns content, if it is wanted.
    fn content<T>(&self, text: T) -> Option<T> {
        self.options.content.then_some(text)
    }
}
