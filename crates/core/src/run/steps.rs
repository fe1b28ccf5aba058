//! Steps: from unlocked to started, and what a worker's reply means.

use super::{
    PERMITS_LATE_MAX, Turn, UNSERVED_WAIT, WORKERS_LOST_MAX,
    effects::{is_denied, permits_late},
    state::{StepState, Timer},
};
use crate::{
    action::{Action, Work},
    digest::Digest,
    event::{Event, Gate, ReviewOf, RunFailure},
    failure::{EffectState, Failure, FailureKind},
    id::StepId,
    input::{AttemptOutcome, AttemptReply, Readiness},
    plan::{StepKind, Then},
    time::Timestamp,
    tool::Effect,
};

/// Waits between attempts never grow beyond this: a person should not wonder whether it hangs.
const BACKOFF_MAX: std::time::Duration = std::time::Duration::from_secs(60);

impl Turn<'_> {
    /// Takes the shell's verdicts on steps whose dependencies are done.
    pub(super) fn evaluated(&mut self, ready: &[(StepId, Readiness)]) {
        for (id, readiness) in ready {
            let Some(at) = self.run.position(id.as_str()) else { continue };
            if self.run.steps[at as usize].state == StepState::Evaluating {
                self.verdict(at, readiness);
            }
        }
    }

    fn verdict(&mut self, at: u32, readiness: &Readiness) {
        let step = self.run.steps[at as usize].id.clone();
        match readiness {
            Readiness::Skip { reason } => self.emit(Event::StepSkipped { step, reason: reason.clone() }),
            Readiness::Fail(failure) => self.step_failed(at, failure.clone()),
            Readiness::Go | Readiness::Items(_) if self.needs_approval(at) => {
                let digest = self.run.step_definition(at).map_or(Digest([0; 32]), Digest::of);
                self.emit(Event::ApprovalRequested { gate: Gate::Step(step), digest });
            }
            Readiness::Items(items) => self.expand(at, *items),
            Readiness::Go => self.ready(at),
        }
    }

    fn needs_approval(&self, at: u32) -> bool {
        let wants = self.run.step_definition(at).is_some_and(|s| s.approval);
        wants && !self.run.steps[at as usize].approved
    }

    /// Starts a step if there is room, else lets it wait its turn. A person has room always.
    pub(super) fn ready(&mut self, at: u32) {
        let definition = self.run.step_definition(at);
        if definition.is_some_and(|s| matches!(s.kind(), Some(StepKind::Human(_)))) {
            let step = self.run.steps[at as usize].id.clone();
            self.emit(Event::QuestionAsked { step, question: None });
        } else if self.run.queue.is_empty() && self.has_room() && self.run.can_reserve(at) {
            self.start(at, false);
        } else {
            let step = self.run.steps[at as usize].id.clone();
            self.emit(Event::StepReady { step });
        }
    }

    fn has_room(&self) -> bool {
        self.run.may_dispatch() && self.run.in_flight < self.run.spec.limits.in_flight.max(1)
    }

    /// Starts steps that waited for room.
    pub(super) fn pump(&mut self) {
        while self.has_room() {
            let Some(at) = self.run.queue.front().copied().filter(|at| self.run.can_reserve(*at)) else {
                return;
            };
            self.start(at, false);
        }
    }

    /// Starts an attempt: of the step's own tool, or of the one that verifies it. A step whose
    /// irreversible call may have happened is not called again before that is known.
    pub(super) fn start(&mut self, at: u32, verify: bool) {
        if !verify && self.run.steps[at as usize].permit.is_some() {
            return self.outcome_unknown(at);
        }
        if self.run.step_definition(at).is_some_and(|step| step.goal.is_some()) {
            return self.start_child(at);
        }
        let Some(dispatch) = self.run.dispatch_of(at, verify) else {
            let message = "the envelope does not hold the step's tool".to_owned();
            return self.step_failed(at, Failure::new(FailureKind::Plan, "no_executor", message));
        };
        if let Work::Agent { max, .. } = &dispatch.work
            && (max.model_calls == 0 || max.tokens == 0 || max.cost_microusd == 0)
        {
            let message = "nothing is left of what the run may use; raise its limits";
            return self.step_failed(at, Failure::new(FailureKind::Budget, "no_budget", message));
        }
        let (step, attempt) = (dispatch.step.clone(), dispatch.attempt);
        self.emit(Event::AttemptStarted { step, attempt, verify });
        self.act(Action::RunStep(dispatch));
    }

    /// Takes a worker's reply. At most one per attempt is accepted.
    pub(super) fn result(&mut self, reply: &AttemptReply) {
        if !self.run.awaits(reply.step.as_str(), reply.attempt) {
            return self.late(reply);
        }
        let Some(at) = self.run.position(reply.step.as_str()) else {
            return self.assumption_result(reply);
        };
        let verify = matches!(self.run.steps[at as usize].state, StepState::Running { verify: true, .. });
        if !verify && self.is_beside(at, reply) {
            return;
        }
        let (step, attempt) = (reply.step.clone(), reply.attempt);
        match (&reply.outcome, &reply.verdicts.gate) {
            _ if verify => self.verified(at, reply),
            (AttemptOutcome::Output(_), None) if self.run.is_reviewed(at) => {
                self.request_review(ReviewOf::Output { step, attempt });
            }
            (AttemptOutcome::Output(_), None) => {
                self.emit(Event::AttemptSucceeded { step, attempt });
                self.after_success(at, &reply.verdicts.ready, reply.verdicts.done);
            }
            (AttemptOutcome::Output(_), Some(failure)) => {
                self.emit(Event::AttemptFailed { step, attempt, failure: None });
                self.attempt_failed(at, &failure.clone().effect(EffectState::Done));
            }
            (AttemptOutcome::Failure(failure), _) => {
                self.emit(Event::AttemptFailed { step, attempt, failure: None });
                self.attempt_failed(at, failure);
            }
        }
    }

    /// Goes on after a step that is done, with what the shell found out about those it unlocks.
    pub(super) fn after_success(&mut self, at: u32, ready: &[(StepId, Readiness)], done: bool) {
        if done {
            return self.succeed();
        }
        if let Some((parent, _)) = self.run.steps[at as usize].parent {
            self.queue_items(parent);
        }
        self.evaluated(ready);
    }

    fn late(&mut self, reply: &AttemptReply) {
        let key = (reply.step.clone(), reply.attempt);
        if self.run.permits.contains(&key) && !self.run.answered.contains(&key) {
            self.emit(Event::LateResultRecorded { step: key.0, attempt: key.1 });
        }
    }

    /// Decides what follows from a failed attempt whose failure is on record.
    pub(super) fn attempt_failed(&mut self, at: u32, failure: &Failure) {
        let step = self.run.steps[at as usize].clone();
        if is_denied(failure) && (step.permits_late < PERMITS_LATE_MAX || step.permit.is_some()) {
            return self.emit(Event::StepReady { step: step.id });
        }
        if is_denied(failure) {
            return self.step_failed(at, permits_late(step.permits_late));
        }
        if let Some(since) = step.unserved_since {
            return self.unserved(at, since, failure);
        }
        let is_irreversible = self.run.effect_of(at) == Effect::Irreversible;
        if is_irreversible && step.permit.is_some() && failure.effect != Some(EffectState::Done) {
            return self.outcome_unknown(at);
        }
        if step.workers_lost >= WORKERS_LOST_MAX {
            self.emit(Event::RunPaused {
                by: format!("{} workers were lost in `{}`", step.workers_lost, step.id),
            });
            return self.emit(Event::StepReady { step: step.id });
        }
        let is_done = is_irreversible && failure.effect == Some(EffectState::Done);
        self.retry_or_fail(at, failure, is_done);
    }

    /// Offers a step again that no worker took, until nobody has served it for too long.
    fn unserved(&mut self, at: u32, since: Timestamp, failure: &Failure) {
        let patience = since.plus(self.run.spec.limits.unserved);
        if self.now >= patience {
            return self.step_failed(at, failure.clone());
        }
        let (shortest, longest) = UNSERVED_WAIT;
        let wait = self.now.since(since).clamp(shortest, longest);
        let step = self.run.steps[at as usize].id.clone();
        self.emit(Event::RetryScheduled { step, at: self.now.plus(wait).min(patience) });
    }

    /// Tries a step again if its policy and the failure allow it.
    pub(super) fn retry_or_fail(&mut self, at: u32, failure: &Failure, is_done: bool) {
        let step = &self.run.steps[at as usize];
        let may_retry = failure.is_retryable() && step.allowance > 0 && !is_done;
        if !may_retry {
            return self.step_failed(at, failure.clone());
        }
        let (id, attempts) = (step.id.clone(), step.attempts);
        let until = self.now.plus(self.backoff(at, &id, attempts));
        self.emit(Event::RetryScheduled { step: id, at: until });
    }

    /// Exponential, with jitter between half and the whole, the same for the same run, step and
    /// attempt.
    fn backoff(&self, at: u32, id: &StepId, attempts: u32) -> std::time::Duration {
        let Some(step) = self.run.step_definition(at) else { return BACKOFF_MAX };
        let max_attempts = step.on_failure.attempts.max(1);
        let left = self.run.steps[at as usize].allowance.min(max_attempts - 1);
        let doublings = max_attempts.saturating_sub(left + 1).min(16);
        let whole = step.on_failure.backoff.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        let seed = Digest::of_bytes(format!("{}/{id}/{attempts}", self.run.id).as_bytes());
        let jitter = u32::from(u16::from_be_bytes([seed.0[0], seed.0[1]]));
        whole / 2 + (whole / 2).mul_f64(f64::from(jitter) / f64::from(u16::MAX))
    }

    /// Decides what follows from a step that failed for good.
    pub(super) fn step_failed(&mut self, at: u32, failure: Failure) {
        if self.item_failed(at, &failure) {
            return;
        }
        let step = self.run.steps[at as usize].id.clone();
        let then = self.run.step_definition(at).map_or(Then::Replan, |s| s.on_failure.then);
        let message = failure.to_string();
        self.emit(Event::StepFailed { step: step.clone(), failure });
        match then {
            Then::Skip => self.emit(Event::StepSkipped { step, reason: message }),
            Then::Fail => self.fail(RunFailure::Step { step, message }),
            Then::Ask => {
                let question = Some(format!("`{step}` failed: {message}. Retry, skip or fail?"));
                self.emit(Event::QuestionAsked { step, question });
            }
            Then::Replan if self.run.failures.is_empty() => self.fail(RunFailure::Step { step, message }),
            Then::Replan => {}
        }
    }

    /// Carries out what the events so far leave to be done, before the entry is sealed.
    pub(super) fn follow_up(&mut self) {
        while self.run.end.is_none() {
            self.settle_fresh();
            if self.run.end.is_some() || self.request_replan() {
                break;
            }
            let before = self.events.len();
            self.pump();
            if self.run.fresh.is_empty() && self.events.len() == before {
                break;
            }
        }
        self.finish_if_done();
    }

    /// Decides about newly unlocked steps without the shell where that is possible, and asks the
    /// shell about the others.
    fn settle_fresh(&mut self) {
        let mut asked = Vec::new();
        while let Some(at) = self.run.fresh.pop() {
            if self.run.steps[at as usize].state != StepState::Evaluating {
                continue;
            }
            let step = self.run.steps[at as usize].id.clone();
            if let Some(reason) = self.skipped_reference(at) {
                self.emit(Event::StepSkipped { step, reason });
            } else if self.run.is_reusable(at) {
                self.emit(Event::StepReused { step });
            } else if self.run.steps[at as usize].parent.is_some() {
                self.ready(at);
            } else {
                asked.push(step);
            }
        }
        if !asked.is_empty() {
            asked.reverse();
            self.act(Action::Evaluate { steps: asked });
        }
    }

    fn skipped_reference(&self, at: u32) -> Option<String> {
        let plan = &self.run.versions.last()?.plan;
        if self.run.steps[at as usize].parent.is_some() {
            return None;
        }
        let skipped = plan
            .node(at)
            .required
            .iter()
            .find(|dep| matches!(self.run.steps[**dep as usize].state, StepState::Skipped { .. }))?;
        Some(format!("`{}`, which it refers to, was skipped", plan.step(*skipped).id))
    }

    fn finish_if_done(&mut self) {
        let run = &self.run;
        let is_done = run.end.is_none()
            && !run.versions.is_empty()
            && run.open == 0
            && run.proposed.is_none()
            && run.plan_request.is_none()
            && run.replan.is_none()
            && run.paused.is_none();
        if is_done {
            self.succeed();
        }
    }

    /// Ends the run as succeeded. What is left is superseded.
    pub(super) fn succeed(&mut self) {
        self.cancel_attempts();
        self.emit(Event::RunSucceeded);
    }

    /// Ends the run as failed.
    pub(super) fn fail(&mut self, reason: RunFailure) {
        if self.run.end.is_none() {
            self.cancel_attempts();
            self.emit(Event::RunFailed { reason });
        }
    }

    /// Tells the workers that nobody waits for their results any more. What this decision began is not asked for.
    pub(super) fn cancel_attempts(&mut self) {
        self.actions.retain(|action| !matches!(action, Action::RunStep(_) | Action::RunGoal { .. }));
        for (step, attempt) in self.in_hand() {
            self.stop(step, attempt);
        }
        for (step, check) in self.run.proposed.iter().flat_map(|p| &p.checks) {
            self.actions.push(Action::CancelAttempt { step: step.clone(), attempt: check.attempt });
        }
    }

    /// Ends a run that used more than it may.
    pub(super) fn check_budget(&mut self) {
        if let Some(limit) = self.run.usage.exceeds(&self.run.spec.limits) {
            self.fail(RunFailure::Budget { limit: limit.to_owned() });
        }
    }

    /// Returns when a timer of the run fires next, if it is due.
    pub(super) fn due(&self) -> Option<(Timestamp, Timer)> {
        self.run.timers.first().filter(|(at, _)| *at <= self.now).cloned()
    }
}
