//! What a new plan version keeps of the old one, and how an ended run is opened again.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use super::state::{EarlierItem, PlanVersion, Previous, Run, StepRun, StepState, Timer};
use crate::{
    budget::StepMax,
    digest::Digest,
    id::StepId,
    input::{CommandKind, Input},
    plan::Step,
    time::Timestamp,
    tool::Effect,
};

impl Run {
    /// Puts the proposed version in force. A step whose fingerprint (definition, tool digest, values
    /// that it refers to) is unchanged keeps its state and is never run again.
    pub(super) fn adopt(&mut self, at: Timestamp) {
        let Some(proposed) = self.proposed.take() else { return };
        self.timers.retain(|(_, timer)| *timer != Timer::Approval);
        let mut version = proposed.version;
        version.adopted_at = Some(at);
        let old = Old::take(self);
        let kept = old.kept(&version);
        old.remember(&kept, &mut self.previous);
        old.remember_items(&kept, &mut self.earlier_items);
        for step in &old.steps {
            self.retired.insert(step.id.clone(), step.attempts);
        }
        let plan = Arc::clone(&version.plan);
        let number = version.version;
        self.versions.push(version);
        self.steps = plan.steps().iter().map(|step| self.fresh_step(&old, step, number)).collect();
        self.open = plan.steps().len() as u32;
        for position in 0..plan.steps().len() as u32 {
            let missing = plan.node(position).deps.len() as u32;
            self.steps[position as usize].state = StepState::Blocked { missing };
        }
        for (id, was) in kept.carried {
            self.previous.remove(&id);
            self.carry(&old, was);
        }
        self.release_roots();
        self.timers.retain(|(_, timer)| match timer {
            Timer::Attempt(id, attempt) => old.timer_is_live(&self.steps, id, Some(*attempt)),
            Timer::Retry(id) | Timer::StepWait(id) => old.timer_is_live(&self.steps, id, None),
            Timer::Review(review) => self.reviews_open.contains_key(review),
            Timer::Approval | Timer::WallTime | Timer::Deadline => true,
        });
        self.release_reservations();
    }

    fn fresh_step(&self, old: &Old, step: &Step, version: u32) -> StepRun {
        let attempts = self.retired.get(&step.id).copied().unwrap_or(0);
        let mut run = StepRun::new(step.id.clone(), None, attempts, step.on_failure.attempts.max(1), version);
        if let Some((before, was)) = old.find(&step.id) {
            run.permit = was.permit;
            run.holder.clone_from(&was.holder);
            run.approved = was.approved && before == step;
            run.failure = was.failure.clone().filter(|_| was.permit.is_some());
        }
        run
    }

    /// Puts a kept step, and its items, back with the state that it had.
    fn carry(&mut self, old: &Old, was: u32) {
        let mut step = old.steps[was as usize].clone();
        let Some(at) = self.position(step.id.as_str()) else { return };
        let state = mem::replace(&mut step.state, self.steps[at as usize].state.clone());
        self.steps[at as usize] = step;
        if let StepState::Expanded { left, first, items, queued, active } = state {
            let here = self.steps.len() as u32;
            for item in &old.steps[first as usize..(first + items) as usize] {
                let (_, index) = item.parent.unwrap_or_default();
                let mut item = item.clone();
                let state = mem::replace(&mut item.state, StepState::Blocked { missing: 1 });
                item.parent = Some((at, index));
                let place = self.steps.len() as u32;
                self.items.insert(item.id.clone(), place);
                self.steps.push(item);
                match state {
                    StepState::Succeeded(_) | StepState::Failed | StepState::Skipped { .. } => {
                        self.steps[place as usize].state = state;
                    }
                    other => self.set(place, other),
                }
            }
            self.set(at, StepState::Expanded { left, first: here, items, queued, active });
        } else {
            self.set(at, state);
        }
    }

    /// Gives back what attempts that left the plan might have used.
    fn release_reservations(&mut self) {
        let mut reservations = mem::take(&mut self.reservations);
        reservations.retain(|id, _| {
            self.step(id.as_str())
                .is_some_and(|step| matches!(step.state, StepState::Running { .. } | StepState::Child { .. }))
        });
        self.reserved = StepMax::default();
        reservations.values().for_each(|max| self.reserved.add(*max));
        self.reservations = reservations;
    }

    fn release_roots(&mut self) {
        for at in 0..self.versions.last().map_or(0, |v| v.plan.steps().len() as u32) {
            if self.steps[at as usize].state == (StepState::Blocked { missing: 0 }) {
                self.set(at, StepState::Evaluating);
            }
        }
    }

    /// Returns whether the values that a step refers to are those that led to its earlier result.
    pub(super) fn is_reusable(&self, at: u32) -> bool {
        let id = &self.steps[at as usize].id;
        let (Some(previous), Some(version)) = (self.previous.get(id), self.versions.last()) else {
            return false;
        };
        self.fits(version, at, previous)
    }

    pub(super) fn reuse(&mut self, id: &StepId) {
        let (Some(previous), Some(at)) = (self.previous.remove(id), self.position(id.as_str())) else {
            return;
        };
        let mut step = previous.step;
        let state = mem::replace(&mut step.state, StepState::Evaluating);
        step.attempts = self.steps[at as usize].attempts;
        self.steps[at as usize] = step;
        self.set(at, state);
    }

    /// Opens an ended run again: failed steps, and those named with all that depends on them, start
    /// over; an irreversible step that is done stays done.
    pub(super) fn reopen(&mut self, cause: &Input) {
        let Input::Command(command) = cause else { return };
        let CommandKind::Retry { from } = &command.kind else { return };
        self.end = None;
        self.open = 0;
        if let Some(deadline) = self.spec.limits.deadline {
            self.timers.insert((self.created_at.plus(deadline), Timer::Deadline));
        }
        let Some(version) = self.versions.last() else { return };
        let plan = Arc::clone(&version.plan);
        let mut again = vec![false; plan.steps().len()];
        // Steps whose results no longer stand, because they or something before them is to run again.
        let mut stale = vec![false; plan.steps().len()];
        for at in plan.topological() {
            let state = &self.steps[at as usize].state;
            let is_done = matches!(state, StepState::Succeeded(_));
            let behind = plan.node(at).deps.iter().any(|dep| again[*dep as usize]);
            let named = from.as_ref() == Some(&plan.step(at).id);
            let undone = matches!(state, StepState::Failed | StepState::Superseded)
                || (behind && matches!(state, StepState::Skipped { .. }));
            let repeatable = !is_done || self.effect_of(at) != Effect::Irreversible;
            again[at as usize] = undone || ((named || (behind && from.is_some())) && repeatable);
            stale[at as usize] = named || plan.node(at).deps.iter().any(|dep| stale[*dep as usize]);
        }
        for at in (0..plan.steps().len() as u32).filter(|at| again[*at as usize]) {
            let step = plan.step(at);
            self.put_items_aside(at, !stale[at as usize]);
            if stale[at as usize] {
                self.previous.remove(&step.id);
                self.earlier_items.retain(|id, item| {
                    item.is_spent || id.as_item().is_none_or(|(parent, _)| parent != step.id.as_str())
                });
            }
            self.steps[at as usize].state = StepState::Blocked { missing: 0 };
            self.open += 1;
        }
        for at in 0..plan.steps().len() as u32 {
            if again[at as usize] {
                let missing = self.missing(at);
                self.grant(at);
                self.steps[at as usize].state = StepState::Blocked { missing };
            }
        }
        self.release_roots();
    }
}

/// The steps of the version that is being replaced.
struct Old {
    version: Option<PlanVersion>,
    steps: Vec<StepRun>,
    changed_params: bool,
}

impl Old {
    fn take(run: &mut Run) -> Self {
        let changed_params = mem::take(&mut run.params_changed);
        run.items.clear();
        run.evaluating.clear();
        run.fresh.clear();
        run.queue.clear();
        run.waits.clear();
        run.reviews_open.clear();
        run.failures.clear();
        run.in_flight = 0;
        run.backing_off = 0;
        run.replan = None;
        Self { version: run.versions.last().cloned(), steps: mem::take(&mut run.steps), changed_params }
    }

    /// Returns the step of this id, with its definition.
    fn find(&self, id: &StepId) -> Option<(&Step, &StepRun)> {
        let plan = &self.version.as_ref()?.plan;
        let at = plan.position(id.as_str())?;
        Some((plan.step(at), &self.steps[at as usize]))
    }

    /// Finds out what of the old version the new one keeps, dependencies first.
    fn kept(&self, new: &PlanVersion) -> Kept {
        let mut kept = Kept::default();
        let Some(old) = &self.version else { return kept };
        for at in new.plan.topological() {
            let step = new.plan.step(at);
            let Some(was) = old.plan.position(step.id.as_str()) else { continue };
            let before = old.plan.step(was);
            let node = new.plan.node(at);
            let name = |dep: &u32| &new.plan.step(*dep).id;
            let is_same = (before == step || before.definition_digest() == step.definition_digest())
                && tool_digest(old, before) == tool_digest(new, step)
                && !(self.changed_params && mentions_params(step))
                && node.refs.iter().all(|dep| kept.is_carried(name(dep)));
            let run = &self.steps[was as usize];
            let may_go_on = || node.deps.iter().all(|dep| kept.satisfied.contains(name(dep)));
            let is_carried = match &run.state {
                StepState::Succeeded(_) => is_same || is_irreversible(old, before),
                StepState::Unknown { .. } => true,
                StepState::Skipped { .. } => is_same,
                StepState::Running { .. } | StepState::Reviewing { .. } => {
                    run.permit.is_some() || (is_same && may_go_on())
                }
                StepState::Child { .. }
                | StepState::Backoff { .. }
                | StepState::AwaitingApproval { .. }
                | StepState::Asking { question: None, .. }
                | StepState::Expanded { .. } => is_same && may_go_on(),
                StepState::Asking { question: Some(_), .. }
                | StepState::Blocked { .. }
                | StepState::Evaluating
                | StepState::Queued
                | StepState::Faltered
                | StepState::Failed
                | StepState::Superseded => false,
            };
            if is_same {
                kept.same.insert(step.id.clone());
            }
            if is_carried {
                kept.carried.push((step.id.clone(), was));
                kept.carried_ids.insert(step.id.clone());
            }
            if is_carried && run.state.satisfies() {
                kept.satisfied.insert(step.id.clone());
            }
        }
        kept
    }

    /// Keeps the results that do not stand now but may stand again.
    fn remember(&self, kept: &Kept, previous: &mut HashMap<StepId, Previous>) {
        let Some(old) = &self.version else { return };
        previous.retain(|_, result| !(self.changed_params && result.mentions_params));
        for (was, step) in old.plan.steps().iter().enumerate() {
            let run = &self.steps[was];
            let is_done = matches!(run.state, StepState::Succeeded(_));
            if is_done && !kept.is_carried(&step.id) && !(self.changed_params && mentions_params(step)) {
                let result = Previous {
                    definition: step.definition_digest(),
                    tool: tool_digest(old, step),
                    refs: references(old, was as u32, &self.steps),
                    mentions_params: mentions_params(step),
                    step: run.clone(),
                };
                previous.insert(step.id.clone(), result);
            }
        }
    }

    /// Keeps the items that the next expansion of their step does not make again.
    fn remember_items(&self, kept: &Kept, earlier: &mut HashMap<StepId, EarlierItem>) {
        let Some(old) = &self.version else { return };
        for item in &self.steps {
            let Some((parent, _)) = item.parent else { continue };
            let (of, step) = (&self.steps[parent as usize], old.plan.step(parent));
            let is_made_again = match of.state {
                StepState::Succeeded(_) => false,
                StepState::Expanded { .. } => !kept.is_carried(&of.id),
                _ => true,
            };
            let is_spent = is_irreversible(old, step) && item.is_spent();
            if is_made_again && (is_spent || matches!(item.state, StepState::Succeeded(_))) {
                earlier.insert(item.id.clone(), EarlierItem { item: item.clone(), is_spent });
            }
        }
        earlier.retain(|id, item| {
            item.is_spent || id.as_item().is_some_and(|(parent, _)| kept.same.contains(parent))
        });
    }

    fn timer_is_live(&self, now: &[StepRun], id: &StepId, attempt: Option<u32>) -> bool {
        now.iter().any(|step| {
            step.id == *id
                && match (&step.state, attempt) {
                    (StepState::Running { attempt: running, .. }, Some(attempt)) => *running == attempt,
                    (
                        StepState::Backoff { .. }
                        | StepState::AwaitingApproval { .. }
                        | StepState::Asking { .. },
                        None,
                    ) => true,
                    _ => false,
                }
        })
    }
}

/// What a new version keeps of the old one.
#[derive(Default)]
struct Kept {
    /// The steps that keep their state, with their old positions, dependencies first.
    carried: Vec<(StepId, u32)>,
    carried_ids: HashSet<StepId>,
    /// Those of `carried` that are done or skipped.
    satisfied: HashSet<StepId>,
    /// Steps whose fingerprint is unchanged, whatever their state.
    same: HashSet<StepId>,
}

impl Kept {
    fn is_carried(&self, id: &StepId) -> bool {
        self.carried_ids.contains(id)
    }
}

fn is_irreversible(version: &PlanVersion, step: &Step) -> bool {
    version.envelope.effect_of(step) == Some(Effect::Irreversible)
}

pub(super) fn tool_digest(version: &PlanVersion, step: &Step) -> Option<Digest> {
    version.envelope.means_of(step)
}

pub(super) fn mentions_params(step: &Step) -> bool {
    serde_json::to_string(step).is_ok_and(|text| text.contains("params"))
}

pub(super) fn references(version: &PlanVersion, at: u32, steps: &[StepRun]) -> Vec<(StepId, Digest)> {
    let outputs = version.plan.node(at).refs.iter().filter_map(|dep| match &steps[*dep as usize].state {
        StepState::Succeeded(output) => Some((steps[*dep as usize].id.clone(), output.digest())),
        _ => None,
    });
    outputs.collect()
}
