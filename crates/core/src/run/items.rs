//! `for_each`: a step that becomes its items, and is done when they are.

use std::sync::Arc;

use super::{
    Turn,
    state::{Run, StepRun, StepState},
};
use crate::{
    action::Action,
    event::Event,
    failure::{Failure, FailureKind},
    id::StepId,
    plan::{ForEach, OnItemFailure},
};

impl Run {
    /// Adds the items of a step behind the steps of the plan.
    pub(super) fn expand(&mut self, id: &StepId, items: u32) {
        let Some(parent) = self.position(id.as_str()) else { return };
        let first = self.steps.len() as u32;
        let version = self.plan_version();
        let allowance = self.step_definition(parent).map_or(1, |s| s.on_failure.attempts.max(1));
        for index in 0..items {
            let item = id.item(index);
            let attempts = self.retired.get(&item).copied().unwrap_or(0);
            self.items.insert(item.clone(), first + index);
            self.steps.push(StepRun::new(item, Some((parent, index)), attempts, allowance, version));
        }
        self.set(parent, StepState::Expanded { left: items, first, items, queued: 0, active: 0 });
    }

    /// Counts an item that was queued or started.
    pub(super) fn item_queued(&mut self, at: u32) {
        let Some((parent, _)) = self.steps[at as usize].parent else { return };
        if let StepState::Expanded { queued, active, .. } = &mut self.steps[parent as usize].state {
            *queued += 1;
            *active += 1;
        }
    }

    /// Gives up the items that are not settled, because their step failed.
    pub(super) fn supersede_items(&mut self, parent: u32) {
        let StepState::Expanded { first, items, .. } = self.steps[parent as usize].state else { return };
        for at in first..first + items {
            let state = &self.steps[at as usize].state;
            if !state.satisfies() && *state != StepState::Failed {
                self.set(at, StepState::Superseded);
            }
        }
    }

    /// Counts an item that is settled.
    pub(super) fn item_left(&mut self, at: u32) {
        let Some((parent, _)) = self.steps[at as usize].parent else { return };
        if let StepState::Expanded { left, active, .. } = &mut self.steps[parent as usize].state {
            *left -= 1;
            *active -= 1;
        }
    }
}

impl Turn<'_> {
    /// Expands a step whose list has this many items.
    pub(super) fn expand(&mut self, at: u32, items: u32) {
        let id = self.run.steps[at as usize].id.clone();
        let Some(max) = self.for_each(at).map(|f| f.max) else { return };
        if items > max {
            let message =
                format!("the list has {items} items, and the step allows {max}: raise `for_each.max`");
            return self.step_failed(at, Failure::new(FailureKind::Plan, "too_many_items", message));
        }
        self.emit(Event::StepExpanded { step: id, items });
        self.queue_items(at);
    }

    /// Queues as many items as may run at once; ends the step when none is left.
    pub(super) fn queue_items(&mut self, parent: u32) {
        let most = self.for_each(parent).and_then(|f| f.max_parallel).unwrap_or(u32::MAX).max(1);
        loop {
            let StepState::Expanded { left, first, items, queued, active } =
                self.run.steps[parent as usize].state
            else {
                return;
            };
            if left == 0 {
                let step = self.run.steps[parent as usize].id.clone();
                return self.emit(Event::StepSucceeded { step });
            }
            if queued == items || active >= most {
                return;
            }
            self.ready(first + queued);
        }
    }

    /// Decides what a failed item means for its step. Returns whether the step goes on without it.
    pub(super) fn item_failed(&mut self, at: u32, failure: &Failure) -> bool {
        let Some((parent, index)) = self.run.steps[at as usize].parent else { return false };
        let step = self.run.steps[at as usize].id.clone();
        self.emit(Event::StepFailed { step, failure: failure.clone() });
        if self.for_each(parent).is_some_and(|f| f.on_item_failure == OnItemFailure::Skip) {
            self.queue_items(parent);
            return true;
        }
        self.cancel_items(parent);
        let message = format!("item {index} failed: {}", failure.message);
        self.step_failed(parent, Failure { message, ..failure.clone() });
        true
    }

    fn cancel_items(&mut self, parent: u32) {
        let StepState::Expanded { first, items, .. } = self.run.steps[parent as usize].state else { return };
        for at in first..first + items {
            let item = &self.run.steps[at as usize];
            if let StepState::Running { attempt, .. } = item.state {
                self.actions.push(Action::CancelAttempt { step: item.id.clone(), attempt });
            }
        }
    }

    fn for_each(&self, at: u32) -> Option<ForEach> {
        let plan = Arc::clone(&self.run.versions.last()?.plan);
        plan.step(at).for_each.clone()
    }
}
