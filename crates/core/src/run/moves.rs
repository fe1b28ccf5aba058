//! How a step goes from one state to another, with every count and index that goes with it.

use std::sync::Arc;

use super::state::{Run, StepRun, StepState, Timer};
use crate::{event::ReviewOf, id::StepId};

impl Run {
    pub(super) fn update(&mut self, id: &StepId, change: impl FnOnce(&mut StepRun)) {
        if let Some(at) = self.position(id.as_str()) {
            change(&mut self.steps[at as usize]);
        }
    }

    pub(super) fn change(&mut self, id: &StepId, state: StepState) {
        if let Some(at) = self.position(id.as_str()) {
            self.set(at, state);
        }
    }

    /// Puts a step into a state and keeps every count and index in step with it. A step that would go
    /// on, but whose dependencies a later version changed, waits for them.
    pub(super) fn set(&mut self, at: u32, mut state: StepState) {
        self.leave(at);
        self.moved = at;
        if matches!(state, StepState::Evaluating | StepState::Queued | StepState::Backoff { .. }) {
            let missing = self.missing(at);
            if missing > 0 {
                state = StepState::Blocked { missing };
            }
        }
        let id = &self.steps[at as usize].id;
        match &state {
            StepState::Evaluating => {
                self.evaluating.insert(at);
                self.fresh.push(at);
            }
            StepState::Queued => self.queue.push_back(at),
            StepState::Running { attempt, deadline, .. } => {
                self.in_flight += 1;
                self.timers.insert((*deadline, Timer::Attempt(id.clone(), *attempt)));
            }
            StepState::Child { waits: None, .. } => self.in_flight += 1,
            StepState::Child { waits: Some(_), .. } => {
                self.waits.insert(at);
            }
            StepState::Reviewing { attempt, review, deadline, .. } => {
                self.in_flight += 1;
                self.timers.insert((*deadline, Timer::Review(*review)));
                let of = ReviewOf::Output { step: id.clone(), attempt: *attempt };
                self.reviews_open.insert(*review, of);
            }
            StepState::Backoff { until } => {
                self.backing_off += 1;
                self.timers.insert((*until, Timer::Retry(id.clone())));
            }
            StepState::AwaitingApproval { since } | StepState::Asking { since, .. } => {
                self.waits.insert(at);
                self.timers.insert((since.plus(self.spec.approval.timeout), Timer::StepWait(id.clone())));
            }
            StepState::Unknown { .. } => {
                self.waits.insert(at);
            }
            StepState::Blocked { .. }
            | StepState::Expanded { .. }
            | StepState::Succeeded(_)
            | StepState::Faltered
            | StepState::Failed
            | StepState::Skipped { .. }
            | StepState::Superseded => {}
        }
        let is_begun = !matches!(state, StepState::Blocked { .. } | StepState::Superseded);
        let was_blocked = matches!(self.steps[at as usize].state, StepState::Blocked { .. });
        let satisfies = state.satisfies();
        let was_satisfied = self.steps[at as usize].state.satisfies();
        let is_settled_item = satisfies || state == StepState::Failed;
        self.steps[at as usize].state = state;
        if self.steps[at as usize].parent.is_some() {
            if is_begun && was_blocked {
                self.item_begun(at);
            }
            if is_settled_item {
                self.item_left(at);
            }
        } else if satisfies && !was_satisfied {
            self.settled(at);
        }
    }

    /// Returns how many dependencies of a step are not settled.
    pub(super) fn missing(&self, at: u32) -> u32 {
        let Some(version) = self.versions.last().filter(|_| self.steps[at as usize].parent.is_none()) else {
            return 0;
        };
        let unmet = |dep: &&u32| !self.steps[**dep as usize].state.satisfies();
        version.plan.node(at).deps.iter().filter(unmet).count() as u32
    }

    fn leave(&mut self, at: u32) {
        let step = &self.steps[at as usize];
        let id = step.id.clone();
        match step.state {
            StepState::Evaluating => {
                self.evaluating.remove(&at);
            }
            StepState::Running { attempt, deadline, .. } => {
                self.in_flight -= 1;
                if let Some(max) = self.reservations.remove(&id) {
                    self.reserved.subtract(max);
                }
                self.timers.remove(&(deadline, Timer::Attempt(id, attempt)));
            }
            StepState::Child { waits, .. } => {
                match waits {
                    Some(_) => drop(self.waits.remove(&at)),
                    None => self.in_flight -= 1,
                }
                if let Some(max) = self.reservations.remove(&id) {
                    self.reserved.subtract(max);
                }
            }
            StepState::Reviewing { review, deadline, .. } => {
                self.in_flight -= 1;
                self.timers.remove(&(deadline, Timer::Review(review)));
                self.reviews_open.remove(&review);
            }
            StepState::Backoff { until } => {
                self.backing_off -= 1;
                self.timers.remove(&(until, Timer::Retry(id)));
            }
            StepState::AwaitingApproval { since } | StepState::Asking { since, .. } => {
                self.waits.remove(&at);
                self.timers.remove(&(since.plus(self.spec.approval.timeout), Timer::StepWait(id)));
            }
            StepState::Unknown { .. } => {
                self.waits.remove(&at);
            }
            StepState::Queued if self.queue.front() == Some(&at) => {
                self.queue.pop_front();
            }
            StepState::Queued => self.queue.retain(|queued| *queued != at),
            StepState::Blocked { .. }
            | StepState::Expanded { .. }
            | StepState::Succeeded(_)
            | StepState::Faltered
            | StepState::Failed
            | StepState::Skipped { .. }
            | StepState::Superseded => {}
        }
    }

    fn settled(&mut self, at: u32) {
        self.open = self.open.saturating_sub(1);
        let Some(version) = self.versions.last() else { return };
        let plan = Arc::clone(&version.plan);
        for &next in &plan.node(at).dependents {
            if let StepState::Blocked { missing } = &mut self.steps[next as usize].state {
                *missing -= 1;
                if *missing == 0 {
                    self.set(next, StepState::Evaluating);
                }
            }
        }
    }
}
