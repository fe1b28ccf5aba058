//! Attempts, as the tracker sees them and as the executor did them.

use foreplan_core::{
    digest::{Digest, LazyDigest},
    failure::Failure,
    id::{Capability, RunId, StepId, ToolName},
    input::{AttemptOutcome, AttemptReply, Input},
    time::Timestamp,
    tool::Effect,
    trace::{ATTEMPT, SpanId, WORK},
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{At, Trace};
use crate::{
    Service, semconv,
    span::{AuditSpan, Build, Note},
};

/// The pool of a step that names none.
const CAPABILITY_DEFAULT: &str = "default";

/// An attempt without an answer.
#[derive(Clone, Debug)]
pub(super) struct Open {
    at: Timestamp,
    first: u64,
    verify: bool,
    version: u32,
    pub(super) capability: Capability,
    tool: Option<(ToolName, Digest, Effect)>,
    /// The run that carries out a goal step.
    child: Option<RunId>,
    links: Vec<(SpanId, &'static str)>,
    permit: Option<Note>,
    /// The reply, while a reviewer judges it.
    replied: Option<AttemptReply>,
}

/// What became of an attempt.
pub(super) enum End<'a> {
    Succeeded,
    /// The failure, where it is not the reply's.
    Failed(Option<&'a Failure>),
}

impl Trace {
    pub(super) fn attempt_started(&mut self, at: At<'_>, step: &StepId, attempt: u32, verify: bool) {
        let mut open = self.open_attempt(at, step, verify);
        let definition = self.plans.of(step).and_then(|plan| plan.step(step));
        open.child = definition.filter(|step| step.goal.is_some()).map(|_| self.run.child(step, attempt));
        self.newest.insert(step.clone(), attempt);
        self.attempts.insert((step.clone(), attempt), open);
    }

    fn open_attempt(&self, at: At<'_>, step: &StepId, verify: bool) -> Open {
        let mut open = Open {
            at: at.time(),
            first: at.seq(),
            verify,
            version: 0,
            capability: CAPABILITY_DEFAULT.into(),
            tool: None,
            child: None,
            links: Vec::new(),
            permit: None,
            replied: None,
        };
        if let Some(plan) = self.plans.of(step) {
            open.version = plan.version;
            open.links.push((plan.span, "plan"));
            let definition = plan.step(step);
            let assumption = step.as_item().filter(|(parent, _)| *parent == "assumption");
            let assumed = assumption.and_then(|(_, at)| plan.plan.plan().assumptions.get(at as usize));
            let tool = definition.and_then(|s| s.tool.as_ref()).or(assumed.map(|a| &a.tool));
            let sealed = tool.and_then(|tool| plan.envelope.tools.get(tool));
            let called = if verify { sealed.and_then(|s| s.verify.as_ref()) } else { tool };
            open.tool = called.and_then(|tool| {
                let sealed = plan.envelope.tools.get(tool)?;
                Some((tool.clone(), sealed.digest, sealed.effect))
            });
            let own = definition.filter(|_| !verify).and_then(|s| s.capability.clone());
            let served = called.and_then(|tool| plan.envelope.tools.get(tool)?.capabilities.first().cloned());
            let agent =
                definition.and_then(|s| plan.envelope.agents.get(&s.id)).map(|s| s.capability.clone());
            open.capability = agent.or(own).or(served).unwrap_or(open.capability);
            if let Some(definition) = definition {
                self.dependencies(plan, &definition.id, &mut open.links);
            }
        }
        if let Some(previous) = self.newest.get(step) {
            open.links.push((SpanId::attempt(self.run, step, *previous), "previous attempt"));
        }
        open
    }

    /// Adds where the results came from that a step builds on.
    fn dependencies(
        &self,
        plan: &super::plans::Current,
        step: &StepId,
        links: &mut Vec<(SpanId, &'static str)>,
    ) {
        let Some(position) = plan.plan.position(step.as_str()) else { return };
        for dep in &plan.plan.node(position).deps {
            let dep = &plan.plan.step(*dep).id;
            match self.done.get(dep) {
                Some(span) => links.push((*span, "depends on")),
                None => links.extend(
                    (0..).map_while(|item| self.done.get(&dep.item(item))).map(|span| (*span, "depends on")),
                ),
            }
        }
    }

    pub(super) fn permitted(&mut self, at: At<'_>, step: &StepId, attempt: u32) {
        if let Some(open) = self.attempts.get_mut(&(step.clone(), attempt)) {
            open.permit = Some(Note::new(at.time(), "effect permitted", at.seq()));
        }
    }

    /// Keeps the reply of an attempt that ends only when it is reviewed.
    pub(super) fn attempt_replied(&mut self, at: At<'_>, step: &StepId, attempt: u32) {
        if let (Some(open), Some(reply)) =
            (self.attempts.get_mut(&(step.clone(), attempt)), reply(at.cause(), step, attempt))
        {
            open.replied = Some(reply.clone());
        }
    }

    pub(super) fn attempt_closed(
        &mut self,
        at: At<'_>,
        step: &StepId,
        attempt: u32,
        end: End<'_>,
        spans: &mut Vec<AuditSpan>,
    ) {
        let Some(open) = self.attempts.remove(&(step.clone(), attempt)) else { return };
        let reply = reply(at.cause(), step, attempt).or(open.replied.as_ref());
        let failure = match end {
            End::Succeeded => None,
            End::Failed(Some(failure)) => Some(failure),
            End::Failed(None) => reply.and_then(failure_of),
        };
        if failure.is_none() {
            self.done.insert(step.clone(), SpanId::attempt(self.run, step, attempt));
        }
        let outcome = failure.map_or("succeeded", |failure| failure.kind.as_str());
        spans.push(self.client(at, (step, attempt), &open, reply, (outcome, failure)));
        if let Some(reply) = reply {
            self.work(at, &open, reply, outcome, spans);
        }
    }

    /// Takes a result that came when nobody waited for it any more.
    pub(super) fn late(&mut self, at: At<'_>, step: &StepId, attempt: u32, spans: &mut Vec<AuditSpan>) {
        let Some(reply) = reply(at.cause(), step, attempt) else { return };
        let open = match self.attempts.remove(&(step.clone(), attempt)) {
            Some(open) => {
                spans.push(self.client(at, (step, attempt), &open, Some(reply), ("superseded", None)));
                open
            }
            None => self.open_attempt(at, step, false),
        };
        self.work(at, &Open { permit: None, links: Vec::new(), ..open }, reply, "late", spans);
    }

    /// Completes the attempts whose results are not wanted any more.
    pub(super) fn abandon_attempts(&mut self, at: At<'_>, spans: &mut Vec<AuditSpan>) {
        let mut open: Vec<_> = std::mem::take(&mut self.attempts).into_iter().collect();
        open.sort_by(|(a, _), (b, _)| a.cmp(b));
        for ((step, attempt), open) in open {
            let reply = open.replied.as_ref();
            spans.push(self.client(at, (&step, attempt), &open, reply, ("abandoned", None)));
            if let Some(reply) = reply {
                self.work(at, &open, reply, "abandoned", spans);
            }
        }
    }

    fn client(
        &self,
        at: At<'_>,
        (step, attempt): (&StepId, u32),
        open: &Open,
        reply: Option<&AttemptReply>,
        (outcome, failure): (&str, Option<&Failure>),
    ) -> AuditSpan {
        let mut span = self
            .build(ATTEMPT, &format!("{step}/{attempt}"), Service::Tracker, name(open))
            .kind(SpanKind::Client)
            .parent(self.anchor())
            .times(open.at, at.time());
        span = common(span, step, attempt, open, reply).text(semconv::OUTCOME, outcome);
        span = open.links.iter().fold(span, |span, (to, what)| span.link(*to, what));
        if let Some(child) = open.child {
            span = span.text(semconv::CHILD_RUN, child.to_string()).link_to(
                child,
                SpanId::root(child),
                "child run",
            );
        }
        span = open.permit.iter().cloned().fold(span, Build::event);
        match failure {
            Some(failure) => span = span.failed(failure, self.options.content),
            None if outcome != "succeeded" => span = span.error(outcome, None),
            None => {}
        }
        span.done(open.first, at.closing, &self.options.redact)
    }

    /// Adds what the worker did: its span, and that of the tool that it called.
    fn work(&self, at: At<'_>, open: &Open, reply: &AttemptReply, outcome: &str, spans: &mut Vec<AuditSpan>) {
        // The tracker answers in the place of an executor that never got the request, and a child run
        // has a trace of its own.
        if reply.worker == "tracker" || open.child.is_some() {
            return;
        }
        let key = format!("{}/{}", reply.step, reply.attempt);
        let service = Service::Executor(open.capability.clone());
        let mut span = self
            .build(WORK, &key, service.clone(), name(open))
            .kind(SpanKind::Server)
            .parent(SpanId::attempt(self.run, &reply.step, reply.attempt))
            .times(reply.started_at, reply.ended_at);
        span = common(span, &reply.step, reply.attempt, open, Some(reply)).text(semconv::OUTCOME, outcome);
        if let AttemptOutcome::Failure(failure) = &reply.outcome {
            span = span.failed(failure, self.options.content);
        }
        spans.push(span.done(open.first, at.closing, &self.options.redact));
        if let (Some((tool, digest, effect)), true) = (&open.tool, reply.usage.tool_calls > 0) {
            let mut span = self
                .build("tool", &key, service, format!("{} {tool}", semconv::EXECUTE_TOOL))
                .parent(SpanId::work(self.run, &reply.step, reply.attempt))
                .times(reply.started_at, reply.ended_at)
                .text(semconv::OPERATION, semconv::EXECUTE_TOOL)
                .text(semconv::TOOL_NAME, tool.as_str())
                .digest(semconv::TOOL_DIGEST, Some(*digest))
                .text(semconv::EFFECT, effect.as_str())
                .text(semconv::STEP, reply.step.as_str())
                .digest(semconv::INPUT_DIGEST, reply.input.as_ref().map(LazyDigest::digest));
            span = match &reply.outcome {
                AttemptOutcome::Output(output) => span
                    .digest(semconv::OUTPUT_DIGEST, Some(output.digest()))
                    .text_if(semconv::TOOL_RESULT, self.content(()).map(|()| output.to_value().to_string())),
                AttemptOutcome::Failure(failure) => span.failed(failure, self.options.content),
            };
            spans.push(span.done(open.first, at.closing, &self.options.redact));
        }
    }
}

fn name(open: &Open) -> String {
    format!("{} {}", semconv::INVOKE_AGENT, open.capability)
}

fn common(span: Build, step: &StepId, attempt: u32, open: &Open, reply: Option<&AttemptReply>) -> Build {
    let mut span = span
        .text(semconv::OPERATION, semconv::INVOKE_AGENT)
        .text(semconv::AGENT_NAME, open.capability.as_str())
        .int(semconv::PLAN_VERSION, u64::from(open.version))
        .text(semconv::STEP, step.as_str())
        .int(semconv::ATTEMPT, u64::from(attempt));
    if open.verify {
        span = span.flag(semconv::VERIFY);
    }
    if let Some((tool, _, effect)) = &open.tool {
        span = span.text(semconv::TOOL_NAME, tool.as_str()).text(semconv::EFFECT, effect.as_str());
    }
    let Some(reply) = reply else { return span };
    let output = match &reply.outcome {
        AttemptOutcome::Output(output) => Some(output.digest()),
        AttemptOutcome::Failure(_) => None,
    };
    span.text(semconv::WORKER, reply.worker.clone())
        .digest(semconv::INPUT_DIGEST, reply.input.as_ref().map(LazyDigest::digest))
        .digest(semconv::OUTPUT_DIGEST, output)
        .usage(&reply.usage)
}

fn reply<'a>(cause: &'a Input, step: &StepId, attempt: u32) -> Option<&'a AttemptReply> {
    match cause {
        Input::Result(reply) if reply.step == *step && reply.attempt == attempt => Some(reply),
        _ => None,
    }
}

fn failure_of(reply: &AttemptReply) -> Option<&Failure> {
    match &reply.outcome {
        AttemptOutcome::Failure(failure) => Some(failure),
        AttemptOutcome::Output(_) => reply.verdicts.gate.as_ref(),
    }
}
