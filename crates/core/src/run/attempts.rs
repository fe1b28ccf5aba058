//! What the events of attempts and steps change. A part of `apply`, with its rules.

use serde_json::Value;

use super::{
    WORKER_GRACE,
    cause::output_of,
    state::{CheckRun, Run, StepState, Timer},
};
use crate::{
    id::StepId,
    input::{AttemptOutcome, AttemptReply, Input},
    payload::Output,
    plan::Then,
    policy::Strategy,
    time::Timestamp,
};

impl Run {
    pub(super) fn attempt_started(&mut self, at: Timestamp, step: &StepId, attempt: u32, verify: bool) {
        let Some(position) = self.position(step.as_str()) else {
            let deadline = at.plus(self.spec.limits.step_timeout + WORKER_GRACE);
            self.retired.insert(step.clone(), attempt);
            if let Some(proposed) = &mut self.proposed {
                proposed.checks.insert(step.clone(), CheckRun { attempt, deadline });
                self.timers.insert((deadline, Timer::Attempt(step.clone(), attempt)));
                self.in_flight += 1;
            }
            return;
        };
        let deadline = at.plus(self.timeout_of(position, verify) + WORKER_GRACE);
        self.reserve(position, step);
        let version = self.plan_version();
        let state = &mut self.steps[position as usize];
        state.attempts = attempt;
        state.permitted_calls = 0;
        if !verify {
            state.allowance = state.allowance.saturating_sub(1);
        }
        state.plan_version = version;
        state.started_at = Some(at);
        state.ended_at = None;
        let is_goal = self.step_definition(position).is_some_and(|step| step.goal.is_some());
        self.set(
            position,
            if is_goal {
                StepState::Child { attempt, waits: None }
            } else {
                StepState::Running { attempt, deadline, verify }
            },
        );
    }

    pub(super) fn attempt_succeeded(&mut self, step: &StepId, cause: &Input) {
        if let Some(output) = self.reviewed_output(step) {
            self.update(step, |s| s.failure = None);
            return self.change(step, StepState::Succeeded(output));
        }
        let Input::Result(reply) = cause else { return };
        let AttemptOutcome::Output(output) = &reply.outcome else { return };
        self.record_reply(step, reply);
        if self.proposed.as_ref().is_some_and(|p| p.checks.contains_key(step)) {
            self.check_done(step);
            return;
        }
        self.update(step, |s| s.failure = None);
        self.change(step, StepState::Succeeded(output.clone()));
    }

    pub(super) fn record_reply(&mut self, step: &StepId, reply: &AttemptReply) {
        let key = (step.clone(), reply.attempt);
        if self.permits.contains(&key) {
            self.answered.insert(key);
        }
        self.update(step, |s| {
            s.worker = Some(reply.worker.clone());
            s.started_at = Some(reply.started_at);
            s.ended_at = Some(reply.ended_at);
        });
    }

    fn check_done(&mut self, step: &StepId) {
        let Some(proposed) = &mut self.proposed else { return };
        if let Some(check) = proposed.checks.remove(step) {
            self.timers.remove(&(check.deadline, Timer::Attempt(step.clone(), check.attempt)));
            self.in_flight -= 1;
        }
    }

    pub(super) fn attempt_failed(
        &mut self,
        at: Timestamp,
        step: &StepId,
        failure: Option<&crate::failure::Failure>,
        cause: &Input,
    ) {
        let failure = match (failure, cause) {
            (None, Input::Result(AttemptReply { outcome: AttemptOutcome::Failure(failure), .. })) => {
                Some(failure)
            }
            (None, Input::Result(reply)) => reply.verdicts.gate.as_ref(),
            (failure, _) => failure,
        };
        match cause {
            Input::Result(reply) => self.record_reply(step, reply),
            _ if self.reviewed_output(step).is_some() => {}
            _ => self.update(step, |s| s.ended_at = Some(at)),
        }
        if self.proposed.as_ref().is_some_and(|p| p.checks.contains_key(step)) {
            self.check_done(step);
            return;
        }
        let effect_none = failure.is_some_and(|f| f.effect == Some(crate::failure::EffectState::None));
        let is_lost = failure.is_some_and(|f| f.kind == crate::failure::FailureKind::WorkerLost);
        let is_unserved = failure.is_some_and(crate::failure::Failure::is_unserved);
        let is_denied = failure.is_some_and(super::effects::is_denied);
        let not_counted = is_lost || is_unserved || is_denied;
        let may_dispatch = self.may_dispatch();
        let Some(position) = self.position(step.as_str()) else { return };
        let verify = matches!(self.steps[position as usize].state, StepState::Running { verify: true, .. });
        let state = &mut self.steps[position as usize];
        state.workers_lost += u32::from(is_lost);
        if !verify {
            // A permit that a pause or a replan refused says nothing of how long permits take.
            state.permits_late = if is_denied { state.permits_late + u32::from(may_dispatch) } else { 0 };
            state.unserved_since = is_unserved.then(|| state.unserved_since.unwrap_or(at));
            state.failure = failure.cloned();
            state.allowance += u32::from(not_counted);
            if effect_none {
                state.permit = None;
            }
        }
        self.set(position, StepState::Faltered);
    }

    pub(super) fn step_succeeded(&mut self, at: Timestamp, step: &StepId, cause: &Input) {
        let Some(position) = self.position(step.as_str()) else { return };
        let output = match &self.steps[position as usize].state {
            StepState::Expanded { first, items, .. } => self.gather(*first, *items),
            _ => output_of(cause),
        };
        let state = &mut self.steps[position as usize];
        state.ended_at = Some(at);
        state.started_at = state.started_at.or(Some(at));
        state.failure = None;
        if let Input::Command(command) = cause {
            state.worker = Some(command.by.clone());
        }
        self.set(position, StepState::Succeeded(output));
    }

    fn gather(&self, first: u32, items: u32) -> Output {
        let outputs =
            self.steps[first as usize..(first + items) as usize].iter().map(|item| match &item.state {
                StepState::Succeeded(output) => output.to_value(),
                _ => Value::Null,
            });
        Output::inline(outputs.collect())
    }

    pub(super) fn step_failed(&mut self, step: &StepId, failure: &crate::failure::Failure) {
        let Some(position) = self.position(step.as_str()) else { return };
        let tool = self.step_definition(position).and_then(|s| s.tool.clone());
        let is_item = self.steps[position as usize].parent.is_some();
        if let (false, Some(tool)) = (is_item, tool) {
            self.failed_tools.insert(tool);
        }
        self.update(step, |s| s.failure = Some(failure.clone()));
        self.supersede_items(position);
        self.set(position, StepState::Failed);
        if !is_item && self.asks_replanner(position) {
            self.failures.push_back(step.clone());
        }
    }

    /// Returns whether the replanner is asked when the step fails. Rules answer even a run that
    /// otherwise fails fast.
    pub(super) fn asks_replanner(&self, position: u32) -> bool {
        let then = self.step_definition(position).map_or(Then::Replan, |s| s.on_failure.then);
        let policy = &self.spec.replan;
        then == Then::Replan && (policy.strategy != Strategy::FailFast || !policy.rules.is_empty())
    }

    pub(super) fn step_retried(&mut self, step: &StepId) {
        let Some(position) = self.position(step.as_str()) else { return };
        self.close_replan(step);
        self.grant(position);
        self.failures.retain(|failed| failed != step);
        self.set(position, StepState::Evaluating);
    }

    /// Gives a step a new allowance of attempts.
    pub(super) fn grant(&mut self, position: u32) {
        let attempts = self.step_definition(position).map_or(1, |s| s.on_failure.attempts.max(1));
        let state = &mut self.steps[position as usize];
        state.allowance = attempts;
        state.workers_lost = 0;
        state.permits_late = 0;
        state.unserved_since = None;
    }
}
