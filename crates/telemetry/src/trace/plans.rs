//! Plans, from the request to their adoption or refusal; and the decisions that led to them.

use std::sync::Arc;

use foreplan_core::{
    digest::Digest,
    envelope::SealedEnvelope,
    id::StepId,
    input::{Command, CommandKind, Input, Proposal},
    plan::{CompiledPlan, Step},
    time::Timestamp,
    trace::SpanId,
};

use super::{At, Trace};
use crate::{
    Service, semconv,
    span::{AuditSpan, Build},
};

/// What the event of a proposal names.
pub(super) struct Ids {
    pub(super) version: u32,
    pub(super) plan: Digest,
    pub(super) envelope: Digest,
}

/// The plans of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Plans {
    /// Proposals so far, refused answers of the planner included.
    count: u32,
    requested: Option<Requested>,
    open: Option<Open>,
    current: Option<Current>,
    replan: Option<Replan>,
    /// The last decision: in which entry it was made, and what it answered.
    decided: Option<Decided>,
}

/// What a decision answered.
#[derive(Clone, Debug)]
struct Decided {
    seq: u64,
    request: Replan,
}

/// A request to the planner.
#[derive(Clone, Debug)]
struct Requested {
    at: Timestamp,
    seq: u64,
    trigger: &'static str,
    step: Option<StepId>,
}

/// A plan that was proposed.
#[derive(Clone, Debug)]
struct Open {
    span: Build,
    first: u64,
    started: Timestamp,
    plan: Current,
}

/// A plan that attempts belong to.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) version: u32,
    pub(super) span: SpanId,
    pub(super) plan: Arc<CompiledPlan>,
    pub(super) envelope: Arc<SealedEnvelope>,
}

/// A request to the replanner.
#[derive(Clone, Debug)]
struct Replan {
    at: Timestamp,
    seq: u64,
    step: Option<StepId>,
}

/// Who proposes a plan, and with what.
struct Author<'a> {
    service: Service,
    by: &'a str,
    proposal: &'a Proposal,
    reason: &'a str,
    usage: foreplan_core::budget::Usage,
}

impl Plans {
    /// Returns the version in force.
    pub(super) fn version(&self) -> u32 {
        self.current.as_ref().map_or(0, |plan| plan.version)
    }

    /// Returns the number of the next proposal.
    pub(super) fn coming(&self) -> u32 {
        self.count + 1
    }

    /// Returns the entry in which the replanner was asked what it has not answered yet.
    pub(super) fn asked_in(&self) -> Option<u64> {
        self.replan.as_ref().map(|replan| replan.seq)
    }

    /// Returns the version in force, or the one that waits.
    pub(super) fn newest(&self) -> Option<&Current> {
        self.open.as_ref().map(|open| &open.plan).or(self.current.as_ref())
    }

    /// Returns the request that the decision of this entry answers.
    fn decided_in(&self, seq: u64) -> Option<&Replan> {
        self.decided.as_ref().filter(|decided| decided.seq == seq).map(|decided| &decided.request)
    }

    /// Returns the plan that holds a step: an assumption belongs to the one that waits.
    pub(super) fn of(&self, step: &StepId) -> Option<&Current> {
        let is_assumption = step.as_item().is_some_and(|(parent, _)| parent == "assumption");
        if is_assumption { self.newest() } else { self.current.as_ref().or(self.newest()) }
    }
}

impl Current {
    /// Returns a step, or the one that an item belongs to.
    pub(super) fn step(&self, id: &StepId) -> Option<&Step> {
        let name = id.as_item().map_or(id.as_str(), |(parent, _)| parent);
        self.plan.position(name).map(|at| self.plan.step(at))
    }
}

impl Trace {
    pub(super) fn plan_requested(&mut self, at: At<'_>) {
        // A planner that asked a person is asked again with the answer: that is the same work.
        let is_answer =
            matches!(at.cause(), Input::Command(Command { kind: CommandKind::Answer { .. }, .. }));
        if is_answer && self.plans.requested.is_some() {
            return;
        }
        let replan = self.plans.replan.as_ref().or_else(|| self.plans.decided_in(at.seq()));
        let replanned = replan.and_then(|replan| replan.step.clone());
        let (trigger, step) = match at.cause() {
            Input::Submit { .. } => ("goal", None),
            Input::Command(Command { kind: CommandKind::Revise { .. }, .. }) => ("goal_revised", None),
            Input::Command(_) => ("retry", None),
            Input::Replanned(_) => ("step_failed", replanned),
            _ => ("plan_refused", replanned),
        };
        self.plans.requested = Some(Requested { at: at.time(), seq: at.seq(), trigger, step });
    }

    pub(super) fn plan_proposed(&mut self, at: At<'_>, ids: Ids) {
        let Some(author) = author(at.cause()) else { return };
        let Proposal::Valid { plan, envelope, .. } = author.proposal else { return };
        let (plan, envelope) = (Arc::clone(plan), Arc::clone(envelope));
        let (span, started, first) = self.plan_span(at, &author);
        let span = span
            .int(semconv::PLAN_VERSION, u64::from(ids.version))
            .digest(semconv::PLAN_DIGEST, Some(ids.plan))
            .digest(semconv::ENVELOPE_DIGEST, Some(ids.envelope))
            .int(semconv::PLAN_STEPS, plan.steps().len() as u64);
        let id = self.id("plan", &self.plans.count.to_string());
        let plan = Current { version: ids.version, span: id, plan, envelope };
        self.plans.open = Some(Open { span, first, started, plan });
    }

    /// Begins the span of the next proposal. Returns it with when and where its work began.
    fn plan_span(&mut self, at: At<'_>, author: &Author<'_>) -> (Build, Timestamp, u64) {
        self.plans.count += 1;
        let requested = self.plans.requested.take();
        let edited = matches!(at.cause(), Input::Command(_));
        let replan = self.plans.decided_in(at.seq());
        let (started, first, trigger, step) = match (&requested, replan) {
            _ if edited => (at.time(), at.seq(), "edited", None),
            (Some(asked), _) => (asked.at, asked.seq, asked.trigger, asked.step.clone()),
            (None, Some(replan)) => (replan.at, replan.seq, "step_failed", replan.step.clone()),
            (None, None) => (at.time(), at.seq(), "goal", None),
        };
        let caused = step.as_ref().and_then(|step| Some((step, *self.newest.get(step)?)));
        let mut span = self
            .build(
                "plan",
                &self.plans.count.to_string(),
                author.service.clone(),
                format!("plan {}", author.by),
            )
            .parent(self.anchor())
            .text(semconv::OPERATION, "plan")
            .text(semconv::BY, author.by)
            .text(semconv::TRIGGER, trigger)
            .text_if(semconv::STEP, step.as_ref().map(StepId::as_str))
            .text_if(semconv::REASON, self.content(author.reason).filter(|reason| !reason.is_empty()))
            .usage(&author.usage);
        if let Some(previous) = &self.plans.current {
            span = span.link(previous.span, "previous plan");
        }
        if let Some((step, attempt)) = caused {
            span = span.link(SpanId::attempt(self.run, step, attempt), "caused by");
        }
        (span, started, first)
    }

    /// Completes the plan that waits, if one does.
    pub(super) fn plan_closed(
        &mut self,
        at: At<'_>,
        outcome: &str,
        reason: Option<&str>,
    ) -> Option<AuditSpan> {
        let Open { mut span, first, started, plan } = self.plans.open.take()?;
        span = span.times(started, at.time()).text(semconv::OUTCOME, outcome);
        if outcome == "adopted" {
            self.plans.current = Some(plan);
        } else {
            span = span.error(outcome, self.content(reason).flatten());
        }
        Some(span.done(first, at.closing, &self.options.redact))
    }

    /// Completes a plan that cannot be adopted: the one that waits, or one that was no plan.
    pub(super) fn plan_refused(&mut self, at: At<'_>, reason: &str, spans: &mut Vec<AuditSpan>) {
        let answered = match at.cause() {
            Input::Planned(reply) => {
                !matches!(reply.proposal, Proposal::Valid { .. }) || self.plans.open.is_none()
            }
            _ => false,
        };
        if !answered {
            return self.withdraw_plan(at, "refused", Some(reason), spans);
        }
        let Some(author) = author(at.cause()) else { return };
        let (span, started, first) = self.plan_span(at, &author);
        let span = span
            .times(started, at.time())
            .text(semconv::OUTCOME, "refused")
            .error("refused", self.content(reason));
        spans.push(span.done(first, at.closing, &self.options.redact));
    }

    /// Completes a request to the planner that the end of the run leaves without a plan.
    pub(super) fn plan_abandoned(&mut self, at: At<'_>, outcome: &str) -> Option<AuditSpan> {
        let asked = self.plans.requested.take()?;
        self.plans.count += 1;
        let by = self.spec.as_ref().map_or("", |spec| spec.planner.name());
        let span = self
            .build("plan", &self.plans.count.to_string(), Service::Planner, format!("plan {by}"))
            .parent(self.anchor())
            .times(asked.at, at.time())
            .text(semconv::OPERATION, "plan")
            .text(semconv::BY, by)
            .text(semconv::TRIGGER, asked.trigger)
            .text(semconv::OUTCOME, outcome)
            .error(outcome, None);
        Some(span.done(asked.seq, at.closing, &self.options.redact))
    }

    pub(super) fn replan_requested(&mut self, at: At<'_>, step: Option<&StepId>) {
        self.plans.replan = Some(Replan { at: at.time(), seq: at.seq(), step: step.cloned() });
    }

    /// Completes the decision that the replanner was asked for, if it was.
    pub(super) fn replan_closed(
        &mut self,
        at: At<'_>,
        decision: &str,
        reason: Option<&str>,
    ) -> Option<AuditSpan> {
        let replan = self.plans.replan.take()?;
        let mut span = self
            .build("replan", &replan.seq.to_string(), Service::Replanner, "replan decision")
            .parent(self.anchor())
            .times(replan.at, at.time())
            .text(semconv::OPERATION, "replan")
            .int(semconv::PLAN_VERSION, u64::from(self.plans.version()))
            .text(semconv::DECISION, decision)
            .text_if(semconv::STEP, replan.step.as_ref().map(StepId::as_str));
        if let Input::Replanned(reply) = at.cause() {
            span = span
                .text(semconv::BY, reply.by.clone())
                .text_if(semconv::RULE, reply.rule.map(|rule| rule.to_string()))
                .text_if(semconv::REASON, self.content(reply.reason.as_str()))
                .usage(&reply.usage);
        }
        if let Some((step, attempt)) = replan.step.as_ref().and_then(|s| Some((s, *self.newest.get(s)?))) {
            span = span.link(SpanId::attempt(self.run, step, attempt), "caused by");
        }
        if decision == "refused" {
            span = span.error("refused", self.content(reason).flatten());
        }
        let first = replan.seq;
        self.plans.decided = Some(Decided { seq: at.seq(), request: replan });
        Some(span.done(first, at.closing, &self.options.redact))
    }
}

fn author(cause: &Input) -> Option<Author<'_>> {
    match cause {
        Input::Planned(reply) => Some(Author {
            service: Service::Planner,
            by: &reply.by,
            proposal: &reply.proposal,
            reason: "",
            usage: reply.usage,
        }),
        Input::Replanned(reply) => Some(Author {
            service: Service::Replanner,
            by: &reply.by,
            proposal: reply.proposal.as_ref()?,
            reason: &reply.reason,
            usage: foreplan_core::budget::Usage::default(),
        }),
        Input::Command(Command { by, kind: CommandKind::Edit { proposal, .. }, .. }) => Some(Author {
            service: Service::Tracker,
            by,
            proposal,
            reason: "",
            usage: foreplan_core::budget::Usage::default(),
        }),
        _ => None,
    }
}
