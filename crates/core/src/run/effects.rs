//! Irreversible calls: at most once, or ask.

use super::{Turn, WORKERS_LOST_MAX, state::StepState};
use crate::{
    action::Action,
    call::Occurrence,
    event::Event,
    failure::{EffectState, Failure, FailureKind},
    id::StepId,
    input::{Asker, AttemptOutcome, AttemptReply, Resolution, Verdicts},
    payload::Output,
    tool::Effect,
};

/// The code of the failure that a worker reports when it was refused a permit: the attempt did
/// nothing, and does not count.
pub const PERMIT_DENIED: &str = "permit_denied";

/// Returns the failure of an irreversible call that was not made since it has no permit, or none that
/// still counts.
#[must_use]
pub fn permit_denied(why: &str) -> Failure {
    let message = format!("there is no permit for this irreversible call: {why}; it was not made");
    Failure::new(FailureKind::Cancelled, PERMIT_DENIED, message).retryable(true).effect(EffectState::None)
}

/// Returns whether a worker was refused a permit. A tool may fail with a code of that name: that
/// counts like any failure.
pub(super) fn is_denied(failure: &Failure) -> bool {
    failure.kind == FailureKind::Cancelled && failure.code == PERMIT_DENIED
}

impl Turn<'_> {
    /// Answers a worker that asks whether it may make its irreversible call. One permit per call
    /// over all attempts and plan versions. The calls of an agent step are permitted one after
    /// another, within one attempt, to who has the first permit.
    pub(super) fn permit(&mut self, step: &StepId, attempt: u32, call: Option<&Occurrence>, asker: &Asker) {
        let state = self.run.step(step.as_str());
        let awaited = self.run.awaits(step.as_str(), attempt) && self.run.may_call(step, call);
        let held = state.and_then(|s| s.permit);
        let is_own = state.is_some_and(|s| s.holder == *asker);
        let number = call.map_or(0, |call| call.call);
        let is_repeated = state.is_some_and(|s| number <= s.permitted_calls);
        let is_next = state.is_some_and(|s| number == s.permitted_calls + 1);
        let granted = match held {
            Some(of) if is_repeated => awaited && of == attempt && is_own,
            Some(of) => awaited && of == attempt && is_own && is_next && self.run.may_dispatch(),
            None => awaited && (call.is_none() || is_next) && self.run.may_dispatch(),
        };
        if granted && (held.is_none() || !is_repeated) {
            self.emit(Event::EffectPermitted { step: step.clone(), attempt, call: call.cloned() });
        }
        let claim = asker.claim;
        self.act(Action::AnswerPermit { step: step.clone(), attempt, call: number, claim, granted });
    }

    /// Returns whether a reply tells nothing of the attempt, since another has its permit: whoever
    /// says so did nothing itself. That the one with the permit is gone, others may say.
    pub(super) fn is_beside(&self, at: u32, reply: &AttemptReply) -> bool {
        let step = &self.run.steps[at as usize];
        let is_anothers = step.permit == Some(reply.attempt) && step.holder.is_beside(reply);
        let tells_of_loss = matches!(&reply.outcome, AttemptOutcome::Failure(failure)
            if failure.kind == FailureKind::WorkerLost && failure.effect != Some(EffectState::None));
        is_anothers && !tells_of_loss
    }

    /// Decides about a permitted call of which nobody knows whether it happened: the `verify` tool
    /// is asked as soon as that may start, or a person.
    pub(super) fn outcome_unknown(&mut self, at: u32) {
        let step = self.run.steps[at as usize].id.clone();
        let is_answering = self.run.steps[at as usize].workers_lost < WORKERS_LOST_MAX;
        if !is_answering || self.run.dispatch_of(at, true).is_none() {
            self.emit(Event::OutcomeUnknown { step });
        } else if self.run.may_dispatch() {
            self.start(at, true);
        } else {
            self.emit(Event::StepReady { step });
        }
    }

    /// Takes the answer of a `verify` tool: `{"happened": bool, "output": …}`.
    pub(super) fn verified(&mut self, at: u32, reply: &AttemptReply) {
        let (step, attempt) = (reply.step.clone(), reply.attempt);
        let happened = match &reply.outcome {
            AttemptOutcome::Output(Output::Inline(value)) => {
                value.get("happened").and_then(serde_json::Value::as_bool)
            }
            AttemptOutcome::Output(Output::Payload(_)) | AttemptOutcome::Failure(_) => None,
        };
        let by = "verify".to_owned();
        let Some(happened) = happened else {
            let failure = Failure::new(
                FailureKind::OutputSchema,
                "verify_unclear",
                "the verify tool did not answer `happened` with true or false",
            );
            self.emit(Event::AttemptFailed { step: step.clone(), attempt, failure: Some(failure) });
            return self.emit(Event::OutcomeUnknown { step });
        };
        self.emit(Event::OutcomeResolved { step: step.clone(), happened: Some(happened), by });
        if happened {
            self.emit(Event::StepSucceeded { step });
            return self.after_success(at, &[], false);
        }
        let failure = self.run.steps[at as usize].failure.clone().unwrap_or_else(lost_effect);
        self.retry_or_fail(at, &failure, false);
    }

    /// Takes a person's word on what became of a call.
    pub(super) fn resolve(&mut self, at: u32, by: &str, resolution: &Resolution, verdicts: &Verdicts) {
        let step = self.run.steps[at as usize].id.clone();
        let by = by.to_owned();
        match resolution {
            Resolution::Happened(_) => {
                self.emit(Event::OutcomeResolved { step: step.clone(), happened: Some(true), by });
                self.emit(Event::StepSucceeded { step });
                self.after_success(at, &verdicts.ready, verdicts.done);
            }
            Resolution::NotHappened => {
                self.emit(Event::OutcomeResolved { step: step.clone(), happened: Some(false), by });
                self.emit(Event::StepRetried { step });
            }
            Resolution::Fail => {
                self.emit(Event::OutcomeResolved { step, happened: None, by });
                let failure = self.run.steps[at as usize].failure.clone().unwrap_or_else(lost_effect);
                self.step_failed(at, failure);
            }
        }
    }

    /// Reports an attempt whose worker is gone.
    pub(super) fn attempt_lost(&mut self, step: &StepId, attempt: u32, message: &str) {
        if !self.run.awaits(step.as_str(), attempt) {
            return;
        }
        let failure = super::planning::worker_lost(message);
        self.emit(Event::AttemptFailed { step: step.clone(), attempt, failure: Some(failure.clone()) });
        let Some(at) = self.run.position(step.as_str()) else { return };
        if self.run.steps[at as usize].state == StepState::Faltered {
            let no_effect = self.run.effect_of(at) != Effect::Irreversible;
            let failure = if no_effect { failure.effect(EffectState::None) } else { failure };
            self.attempt_failed(at, &failure);
        }
    }
}

/// Returns the failure of a step that no permit reaches in time.
pub(super) fn permits_late(times: u32) -> Failure {
    let message = format!(
        "{times} permits in a row came too late to be used, so the irreversible call was not made: see what \
         holds up the tracker, the journal or the workers, then retry"
    );
    Failure::new(FailureKind::Budget, "permits_late", message).retryable(false).effect(EffectState::None)
}

fn lost_effect() -> Failure {
    Failure::new(FailureKind::Tool, "effect_unknown", "the call failed, and its effect is not known")
}
