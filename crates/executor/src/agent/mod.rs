//! The loop of an agent step: a model over the tools that the step lists, and no others.
//!
//! The loop decides what may be called, never what is worth calling. Everything that a tool or the
//! model returns is data: a call outside the step's list is answered with an error and never made,
//! an irreversible one waits for its permit, and each budget ends the step with a typed failure.
//! Every call of the loop is in the step's reply.

mod conversation;
mod ledger;

use std::sync::Arc;

use foreplan_core::{
    call::{Call, Occurrence, Target, ToolCall},
    digest::Digest,
    failure::{EffectState, Failure, FailureKind},
    payload::Output,
    tool::Effect,
};
use foreplan_model::{Answer, Asked, Model, ToolUse, ask, structured};
use foreplan_protocol::{AgentWork, ListedTool};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::timeout};

use self::{
    conversation::{Conversation, READ_MORE},
    ledger::Ledger,
};
use crate::{
    attempt::{Attempt, Stage},
    payload,
    worker::{StepWorker, Wanted, cancelled, overdue},
};

/// Returns the digest of the prompt of agent steps.
#[must_use]
pub fn prompt() -> Digest {
    *conversation::PROMPT
}

/// Answers that do not fit and may be corrected: a model that errs twice errs again.
const CORRECTIONS_MAX: u32 = 1;

/// Tool calls of one turn: more at once is no plan any more.
const TURN_CALLS_MAX: usize = 32;

/// What one call came to.
enum Came {
    /// The model is told.
    Told(Value),
    /// The step ends.
    Ends(Failure),
}

impl StepWorker {
    /// Carries out an agent step.
    pub(crate) async fn act(
        &self,
        attempt: &mut Attempt,
        work: &AgentWork,
        input: &Value,
    ) -> Result<Value, Failure> {
        let (model, role) = self.model_for(work)?;
        let context = Arc::new(json!(work.context));
        let context = payload::load(&*self.pool.shared.payloads, attempt.request.run, &context).await?;
        let begun = Conversation::new(role.as_deref(), work, input, &context, &self.pool.shared.toolbox);
        let mut conversation = begun.ok_or_else(|| {
            let message = "the prompt could not be made; this is a bug";
            Failure::new(FailureKind::Model, "prompt", message).effect(EffectState::None)
        })?;
        let mut ledger = Ledger::new(work.max);
        let limit = attempt.request.timeout;
        let cancel = attempt.cancel.clone();
        let turns = self.turns(attempt, work, &*model, &mut conversation, &mut ledger);
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(cancelled()),
            ended = timeout(limit, turns) => ended.unwrap_or_else(|_| Err(overdue(limit))),
        };
        ended.map_err(|failure| match attempt.permits.effect() {
            None => failure.effect(EffectState::None),
            Some(known) => failure.effect(known),
        })
    }

    /// Returns the specialist's model, if the specialist is the one that was approved, with its role.
    fn model_for(&self, work: &AgentWork) -> Result<(Arc<dyn Model>, Option<String>), Failure> {
        let none = |kind, code: &str, message: String| {
            Failure::new(kind, code, message).retryable(false).effect(EffectState::None)
        };
        let capability = &self.pool.capability;
        let Some((agent, digest)) = &self.pool.agent else {
            let message = format!("the specialist `{capability}` has no model; give it one");
            return Err(none(FailureKind::ToolChanged, "no_model", message));
        };
        if *digest != work.digest {
            let message = format!(
                "the specialist `{capability}` is not the one that was approved; approve the plan again"
            );
            return Err(none(FailureKind::ToolChanged, "agent_changed", message));
        }
        let Some(models) = &self.pool.shared.models else {
            let message = "this process asks no models; configure them, or build with the feature `models`";
            return Err(none(FailureKind::Model, "no_models", message.to_owned()));
        };
        let model = models.model(&agent.model).map_err(|error| Failure::from(&error))?;
        Ok((model, agent.instructions.clone()))
    }

    async fn turns(
        &self,
        attempt: &mut Attempt,
        work: &AgentWork,
        model: &dyn Model,
        conversation: &mut Conversation,
        ledger: &mut Ledger,
    ) -> Result<Value, Failure> {
        let check = work.output.as_ref().and_then(|schema| jsonschema::validator_for(schema).ok());
        let mut corrections = 0;
        loop {
            ledger.next_turn(&attempt.usage)?;
            let answer = self.ask(attempt, model, conversation, ledger).await?;
            if !answer.calls.is_empty() {
                self.turn(attempt, work, conversation, ledger, answer).await?;
                continue;
            }
            match settled(&answer, check.as_ref()) {
                Ok(value) => return Ok(value),
                Err(why) if corrections < CORRECTIONS_MAX => {
                    corrections += 1;
                    conversation.corrected(answer.text, &format!("{why}. Answer again."));
                }
                Err(why) => {
                    let message = format!("the model's answer cannot be taken: {why}");
                    return Err(Failure::new(FailureKind::OutputSchema, "answer", message));
                }
            }
        }
    }

    async fn ask(
        &self,
        attempt: &mut Attempt,
        model: &dyn Model,
        conversation: &Conversation,
        ledger: &Ledger,
    ) -> Result<Answer, Failure> {
        let request = conversation.request(ledger.tokens_left(&attempt.usage));
        let Asked { result, call, usage } = ask(model, request, &self.pool.shared.clock).await;
        attempt.usage.add(&usage);
        attempt.record(call);
        result.map_err(|error| Failure::from(&error))
    }

    /// Makes the calls of one turn, at the same time.
    async fn turn(
        &self,
        attempt: &mut Attempt,
        work: &AgentWork,
        conversation: &mut Conversation,
        ledger: &mut Ledger,
        answer: Answer,
    ) -> Result<(), Failure> {
        let Answer { text, mut calls, .. } = answer;
        calls.truncate(TURN_CALLS_MAX);
        if calls.iter().any(|call| listed(work, call).is_some_and(|t| t.effect == Effect::Irreversible)) {
            attempt.stage = Stage::Calling;
        }
        let numbered: Vec<(ToolUse, u32)> =
            calls.iter().map(|call| (call.clone(), ledger.occurrence(&call.name, &call.input))).collect();
        let reader = &*conversation;
        let one_permit = Mutex::new(());
        let making = {
            let attempt = &*attempt;
            numbered
                .iter()
                .map(|(call, occurrence)| self.make(attempt, work, reader, &one_permit, call, *occurrence))
        };
        let made = join_all(making).await;
        conversation.said(text, calls);
        for ((call, _), (record, came)) in numbered.into_iter().zip(made) {
            if let Some(record) = record {
                attempt.usage.tool_calls += 1;
                attempt.record(record);
            }
            match came {
                Came::Ends(failure) => return Err(failure),
                Came::Told(value) => {
                    ledger.seen(&call.name, &call.input, &value)?;
                    conversation.returned(call.id, &value);
                }
            }
        }
        Ok(())
    }

    async fn make(
        &self,
        attempt: &Attempt,
        work: &AgentWork,
        conversation: &Conversation,
        one_permit: &Mutex<()>,
        call: &ToolUse,
        occurrence: u32,
    ) -> (Option<Call>, Came) {
        if call.name == READ_MORE {
            return (None, Came::Told(conversation.read_more(&call.input)));
        }
        let Some(tool) = listed(work, call) else {
            let names: Vec<&str> = work.tools.iter().map(|listed| listed.tool.as_str()).collect();
            let message =
                format!("there is no tool `{}` in this step; there are: {}", call.name, names.join(", "));
            return (None, Came::Told(json!({"error": {"code": "unknown_tool", "message": message}})));
        };
        let started_at = (self.pool.shared.clock)();
        let outcome = self.call_listed(attempt, tool, one_permit, &call.input, occurrence).await;
        let ended_at = (self.pool.shared.clock)();
        let (run, payloads) = (attempt.request.run, &*self.pool.shared.payloads);
        let input = payload::keep(payloads, run, Effect::Read, call.input.clone()).await;
        let (output, came, failure) = match outcome {
            Ok(value) => {
                let kept = payload::keep(payloads, run, tool.effect, value.clone()).await;
                (kept.ok(), Came::Told(value), None)
            }
            Err(failure) => (None, came_of(&failure, tool.effect), Some(failure)),
        };
        let target = Target::Tool(Box::new(ToolCall {
            tool: tool.tool.clone(),
            tool_digest: tool.tool_digest,
            effect: tool.effect,
            input: input.unwrap_or_else(|_| Output::inline(Value::Null)),
            output,
        }));
        (Some(Call { started_at, ended_at, target, failure }), came)
    }

    async fn call_listed(
        &self,
        attempt: &Attempt,
        tool: &ListedTool,
        one_permit: &Mutex<()>,
        input: &Value,
        occurrence: u32,
    ) -> Result<Value, Failure> {
        let wanted = Wanted { tool: &tool.tool, digest: tool.tool_digest, effect: tool.effect };
        let effect = self.admit(&wanted)?;
        self.pool.shared.toolbox.fits(&tool.tool, input)?;
        let request = &attempt.request;
        let key = (effect != Effect::Read)
            .then(|| Digest::of_call(request.run, &request.step, &tool.tool, input, occurrence));
        let mut permit_until = None;
        if effect == Effect::Irreversible {
            let _alone = one_permit.lock().await;
            let call = attempt.permits.next();
            let occurrence = Occurrence { call, tool: tool.tool.clone() };
            permit_until = Some(self.ask_permit(attempt, Some(occurrence)).await?);
            attempt.permits.granted();
        }
        let outcome = self.call(attempt, &tool.tool, Arc::new(input.clone()), key, permit_until).await;
        if effect == Effect::Irreversible {
            let state = match &outcome {
                Ok(_) => EffectState::Done,
                Err(failure) => failure.effect.unwrap_or(EffectState::Unknown),
            };
            attempt.permits.settled(state);
        }
        outcome
    }
}

fn listed<'w>(work: &'w AgentWork, call: &ToolUse) -> Option<&'w ListedTool> {
    work.tools.iter().find(|listed| listed.tool.as_str() == call.name)
}

/// Says whether a failed call is the model's to deal with. One whose effect is not known, that was
/// not permitted, or whose tool is another, is not.
fn came_of(failure: &Failure, effect: Effect) -> Came {
    let known = effect != Effect::Irreversible || matches!(failure.effect, Some(EffectState::None));
    match failure.kind {
        FailureKind::ToolChanged | FailureKind::Cancelled => Came::Ends(failure.clone()),
        _ if !known => Came::Ends(failure.clone()),
        _ => Came::Told(json!({"error": {"code": failure.code, "message": failure.message}})),
    }
}

/// Returns the value of a final answer, or why it is none.
fn settled(answer: &Answer, check: Option<&jsonschema::Validator>) -> Result<Value, String> {
    let Some(check) = check else {
        return match answer.text.trim() {
            "" => Err("the answer is empty".to_owned()),
            text => Ok(json!({"text": text})),
        };
    };
    let value = structured(answer).map_err(|why| why.to_string())?;
    let misfit = check.iter_errors(&value).next().map(|error| error.to_string());
    match misfit {
        None => Ok(value),
        Some(error) => Err(format!("the answer does not fit the schema: {error}")),
    }
}
