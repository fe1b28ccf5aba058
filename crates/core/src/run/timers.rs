//! What happens because time passes, or because the process that carried the run on is gone.

use super::{
    Turn, WORKER_GRACE,
    state::{StepState, Timer},
};
use crate::{
    action::Action,
    event::{Event, RunFailure},
};

impl Turn<'_> {
    /// Fires every timer that is due, and starts the steps that became ready while the run was on hold.
    /// Firing early or twice does nothing.
    pub(super) fn wake(&mut self) {
        self.fire_due();
        self.pump();
    }

    fn fire_due(&mut self) {
        while let Some((at, timer)) = self.due() {
            self.fire(&timer);
            if self.run.end.is_some() || self.due().is_some_and(|next| next == (at, timer)) {
                return;
            }
        }
    }

    fn fire(&mut self, timer: &Timer) {
        match timer {
            Timer::Attempt(step, attempt) => {
                let message =
                    format!("no answer {} s after the attempt should have ended", WORKER_GRACE.as_secs());
                if self.run.position(step.as_str()).is_some() {
                    // Nobody is to begin it later, where it still waits in a queue.
                    if self.run.awaits(step.as_str(), *attempt) {
                        self.act(Action::CancelAttempt { step: step.clone(), attempt: *attempt });
                    }
                    self.attempt_lost(step, *attempt, &message);
                } else {
                    self.attempt_lost(step, *attempt, &message);
                    self.assumption_failed(step, &message);
                }
            }
            Timer::Retry(step) => {
                let Some(at) = self.run.position(step.as_str()) else { return };
                if matches!(self.run.steps[at as usize].state, StepState::Backoff { .. }) {
                    self.ready(at);
                }
            }
            Timer::Review(review) => self.review_lost(*review),
            Timer::Approval | Timer::StepWait(_) => self.fail(RunFailure::ApprovalTimeout),
            Timer::WallTime => self.fail(RunFailure::Budget { limit: "wall_time".to_owned() }),
            Timer::Deadline => self.fail(RunFailure::Budget { limit: "deadline".to_owned() }),
        }
    }

    /// Takes the run over from a process that is gone: its workers are lost, and what was asked is
    /// asked again.
    pub(super) fn takeover(&mut self, by: &str) {
        if self.run.is_idle() {
            return;
        }
        let outstanding = self.run.outstanding();
        self.emit(Event::OwnerChanged { by: by.to_owned() });
        let checks: Vec<_> = self
            .run
            .proposed
            .iter()
            .flat_map(|p| &p.checks)
            .map(|(step, check)| (step.clone(), check.attempt))
            .collect();
        for (step, attempt) in checks {
            self.attempt_lost(&step, attempt, "the process that ran it is gone");
            let index = step.as_item().map_or(0, |(_, index)| index);
            self.start_check(index);
        }
        for (step, attempt) in self.running() {
            self.attempt_lost(&step, attempt, "the process that ran it is gone");
        }
        if self.run.end.is_none() {
            self.actions.extend(outstanding);
        }
    }
}
