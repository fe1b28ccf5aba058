//! Calls of models and tools that replies report.

use foreplan_core::{
    call::{Call, ModelCall, Target, ToolCall},
    id::Capability,
    input::Input,
    trace::SpanId,
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{At, Trace};
use crate::{
    Service, semconv,
    span::{AuditSpan, Build},
};

impl Trace {
    /// Adds the calls of the entry's cause, and counts what it used.
    pub(super) fn calls(&mut self, at: At<'_>, spans: &mut Vec<AuditSpan>) {
        let (usage, calls, service, parent) = match at.cause() {
            Input::Planned(reply) => (
                reply.usage,
                &reply.calls,
                Service::Planner,
                self.id("plan", &self.plans.coming().to_string()),
            ),
            Input::Replanned(reply) => {
                let parent = self.plans.asked_in().map(|seq| self.id("replan", &seq.to_string()));
                (reply.usage, &reply.calls, Service::Replanner, parent.unwrap_or_else(|| self.anchor()))
            }
            Input::Result(reply) => {
                let capability = self.capability_of(&reply.step, reply.attempt);
                let parent = SpanId::work(self.run, &reply.step, reply.attempt);
                (reply.usage, &reply.calls, Service::Executor(capability), parent)
            }
            Input::Reviewed(reply) => {
                (reply.usage, &reply.calls, Service::Reviewer, self.id("review", &reply.review.to_string()))
            }
            Input::Submit { .. }
            | Input::Evaluated { .. }
            | Input::Permit { .. }
            | Input::Child { .. }
            | Input::Command(_)
            | Input::Wake
            | Input::Takeover { .. } => return,
        };
        self.usage.add(&usage);
        for (number, call) in calls.iter().enumerate() {
            let key = format!("{}/{number}", at.seq());
            let span = match &call.target {
                Target::Model(model) => self.chat(&key, service.clone(), model),
                Target::Tool(tool) => self.tool(&key, service.clone(), tool),
            };
            let span = span.parent(parent).times(call.started_at, call.ended_at);
            spans.push(self.judged(span, call).done(at.seq(), at.closing, &self.options.redact));
        }
    }

    fn judged(&self, span: Build, call: &Call) -> Build {
        match &call.failure {
            Some(failure) => span.failed(failure, self.options.content),
            None => span,
        }
    }

    fn chat(&self, key: &str, service: Service, call: &ModelCall) -> Build {
        let (provider, name) = call.model.split_once('/').unwrap_or(("", &call.model));
        self.build("call", key, service, format!("{} {name}", semconv::CHAT))
            .kind(SpanKind::Client)
            .text(semconv::OPERATION, semconv::CHAT)
            .text_if(semconv::PROVIDER, Some(provider).filter(|p| !p.is_empty()))
            .text(semconv::REQUEST_MODEL, name)
            .text_if(semconv::RESPONSE_MODEL, call.answered_by.clone())
            .text(semconv::PURPOSE, format!("{:?}", call.purpose).to_lowercase())
            .digest(semconv::PROMPT_DIGEST, Some(call.prompt))
            .digest(semconv::REQUEST_DIGEST, Some(call.request))
            .list(semconv::FINISH_REASONS, call.finish.clone())
            .int(semconv::INPUT_TOKENS, call.tokens.input)
            .int(semconv::CACHED_TOKENS, call.tokens.cached)
            .int(semconv::OUTPUT_TOKENS, call.tokens.output)
            .int(semconv::REASONING_TOKENS, call.tokens.reasoning)
            .int(semconv::COST, call.cost_microusd)
            .int(semconv::RETRIES, u64::from(call.retries))
            .digest(semconv::OUTPUT_DIGEST, call.answer.as_ref().map(foreplan_core::payload::Output::digest))
            .text_if(
                semconv::OUTPUT_MESSAGES,
                self.content(&call.answer).and_then(|a| Some(a.as_ref()?.to_value().to_string())),
            )
    }

    fn tool(&self, key: &str, service: Service, call: &ToolCall) -> Build {
        let output = call.output.as_ref();
        self.build("call", key, service, format!("{} {}", semconv::EXECUTE_TOOL, call.tool))
            .text(semconv::OPERATION, semconv::EXECUTE_TOOL)
            .text(semconv::TOOL_NAME, call.tool.as_str())
            .digest(semconv::TOOL_DIGEST, Some(call.tool_digest))
            .text(semconv::EFFECT, call.effect.as_str())
            .digest(semconv::INPUT_DIGEST, Some(call.input.digest()))
            .digest(semconv::OUTPUT_DIGEST, output.map(foreplan_core::payload::Output::digest))
            .text_if(semconv::TOOL_ARGUMENTS, self.content(&call.input).map(|i| i.to_value().to_string()))
            .text_if(semconv::TOOL_RESULT, self.content(output).flatten().map(|o| o.to_value().to_string()))
    }

    fn capability_of(&self, step: &foreplan_core::id::StepId, attempt: u32) -> Capability {
        self.attempts
            .get(&(step.clone(), attempt))
            .map_or_else(|| "default".into(), |open| open.capability.clone())
    }
}
