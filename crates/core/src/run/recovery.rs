//! What whoever carries a run on must ask once more, since the one who asked may be gone.

use std::sync::Arc;

use super::{
    WORKER_GRACE,
    state::{Run, StepState, Timer},
};
use crate::{
    action::{Action, Dispatch, Work},
    id::StepId,
    time::Timestamp,
};

impl Run {
    /// Returns what an owner that has just folded the journal must ask again.
    #[must_use]
    pub fn outstanding(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.end.is_some() {
            return actions;
        }
        if let Some((request, trigger)) = &self.plan_request {
            actions.push(Action::RequestPlan { request: *request, trigger: trigger.clone() });
        }
        if let Some(replan) = &self.replan {
            actions.push(Action::RequestReplan { basis: replan.basis, trigger: Arc::clone(&replan.trigger) });
        }
        actions.extend(self.children(false));
        let reviews = self.reviews_open.iter();
        actions.extend(reviews.map(|(review, of)| Action::RequestReview { review: *review, of: of.clone() }));
        if !self.evaluating.is_empty() {
            let steps = self.evaluating.iter().map(|at| self.steps[*at as usize].id.clone()).collect();
            actions.push(Action::Evaluate { steps });
        }
        actions
    }

    /// Returns the requests of attempts that began at `since` or later and of which nothing was heard:
    /// whoever decided about them may be gone, and have sent nothing. An attempt with a permit was heard of.
    #[must_use]
    pub fn unheard(&self, since: Timestamp) -> Vec<Action> {
        let begun = self.timers.iter().filter_map(|(deadline, timer)| match timer {
            Timer::Attempt(step, attempt) => self.request_of(step, *attempt, since, *deadline),
            _ => None,
        });
        begun.map(Action::RunStep).collect()
    }

    /// Returns the request of an attempt, unless it began earlier, or was heard of.
    fn request_of(
        &self,
        step: &StepId,
        attempt: u32,
        since: Timestamp,
        deadline: Timestamp,
    ) -> Option<Dispatch> {
        let (dispatch, timeout) = match self.position(step.as_str()) {
            Some(at) => {
                let state = &self.steps[at as usize];
                let StepState::Running { verify, .. } = state.state else { return None };
                if state.permit.is_some() && !verify {
                    return None;
                }
                let mut dispatch = self.dispatch_of(at, verify)?;
                if let (Work::Agent { max, .. }, Some(reserved)) =
                    (&mut dispatch.work, self.reservations.get(step))
                {
                    *max = *reserved;
                }
                (dispatch, self.timeout_of(at, verify))
            }
            None => (self.check_dispatch(step)?, self.spec.limits.step_timeout),
        };
        let is_recent = since.plus(timeout + WORKER_GRACE) <= deadline;
        is_recent.then_some(Dispatch { attempt, ..dispatch })
    }
}
