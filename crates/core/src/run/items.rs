//! `for_each`: a step that becomes its items, and is done when they are.

use std::sync::Arc;

use super::{
    Turn,
    state::{EarlierItem, Run, StepRun, StepState},
};
use crate::{
    event::Event,
    failure::{Failure, FailureKind},
    id::StepId,
    plan::{ForEach, OnItemFailure},
    tool::Effect,
};

impl Run {
    /// Adds the items of a step behind the steps of the plan. Those of an earlier expansion keep
    /// their results, and what is known of their irreversible calls.
    pub(super) fn expand(&mut self, id: &StepId, items: u32) {
        let Some(parent) = self.position(id.as_str()) else { return };
        self.put_items_aside(parent, true);
        let first = self.steps.len() as u32;
        let version = self.plan_version();
        let allowance = self.step_definition(parent).map_or(1, |s| s.on_failure.attempts.max(1));
        let mut left = items;
        for index in 0..items {
            let item = id.item(index);
            let attempts = self.retired.get(&item).copied().unwrap_or(0);
            let mut run = StepRun::new(item.clone(), Some((parent, index)), attempts, allowance, version);
            if let Some(done) = self.inherited_item(parent, &item) {
                run = StepRun { parent: Some((parent, index)), ..done };
                left -= 1;
            } else if let Some(EarlierItem { item: earlier, .. }) = self.earlier_items.remove(&item) {
                run.permit = earlier.permit;
                run.holder.clone_from(&earlier.holder);
                run.failure.clone_from(&earlier.failure);
                if matches!(earlier.state, StepState::Succeeded(_)) {
                    run = StepRun { parent: Some((parent, index)), ..earlier };
                    left -= 1;
                }
            }
            self.items.insert(item, first + index);
            self.steps.push(run);
        }
        self.set(parent, StepState::Expanded { left, first, items, queued: 0, active: 0 });
    }

    /// Takes the items of a step that is no longer expanded out of the run, and remembers what a new
    /// expansion keeps: what cannot be undone, and results if what they were made from still holds.
    pub(super) fn put_items_aside(&mut self, parent: u32, keeps_results: bool) {
        let is_item = |step: &StepRun| step.parent.is_some_and(|(of, _)| of == parent);
        let Some(first) = self.steps.iter().position(is_item) else { return };
        let count = self.steps[first..].iter().take_while(|step| is_item(step)).count();
        let is_irreversible = self.effect_of(parent) == Effect::Irreversible;
        let items: Vec<StepRun> = self.steps.drain(first..first + count).collect();
        for item in items {
            self.items.remove(&item.id);
            self.retired.insert(item.id.clone(), item.attempts);
            let is_spent = is_irreversible && item.is_spent();
            let is_result = keeps_results && matches!(item.state, StepState::Succeeded(_));
            if is_spent || is_result {
                self.earlier_items.insert(item.id.clone(), EarlierItem { item, is_spent });
            }
        }
        self.close_gap(first as u32, count as u32);
    }

    /// Moves every position behind items that were taken out. These have none of their own: they
    /// are settled or superseded.
    fn close_gap(&mut self, first: u32, count: u32) {
        let moved = |at: u32| if at > first { at - count } else { at };
        for at in self.items.values_mut() {
            *at = moved(*at);
        }
        for at in self.queue.iter_mut().chain(&mut self.fresh) {
            *at = moved(*at);
        }
        self.evaluating = self.evaluating.iter().map(|at| moved(*at)).collect();
        self.waits = self.waits.iter().map(|at| moved(*at)).collect();
        for step in &mut self.steps {
            if let StepState::Expanded { first: of, .. } = &mut step.state {
                *of = moved(*of);
            }
        }
    }

    /// Counts an item that is begun: queued, started, asked, or settled without any of that.
    pub(super) fn item_begun(&mut self, at: u32) {
        let Some((parent, index)) = self.steps[at as usize].parent else { return };
        if let StepState::Expanded { queued, active, .. } = &mut self.steps[parent as usize].state {
            *queued = (*queued).max(index + 1);
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
            let is_next = |at: &u32| matches!(self.run.steps[*at as usize].state, StepState::Blocked { .. });
            let Some(next) = (first + queued..first + items).find(is_next) else { return };
            if active >= most {
                return;
            }
            self.ready(next);
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
            if let StepState::Running { attempt, .. } | StepState::Child { attempt, .. } = item.state {
                let step = item.id.clone();
                self.stop(step, attempt);
            }
        }
    }

    fn for_each(&self, at: u32) -> Option<Box<ForEach>> {
        let plan = Arc::clone(&self.run.versions.last()?.plan);
        plan.step(at).for_each.clone()
    }
}
