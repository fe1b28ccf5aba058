//! What a new plan version keeps of the old one, and how an ended run is opened again.

use std::{collections::HashMap, mem, sync::Arc};

use super::state::{PlanVersion, Previous, Run, StepRun, StepState, Timer};
use crate::{
    digest::Digest,
    id::StepId,
    input::{CommandKind, Input},
    payload::Output,
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
        for step in &old.steps {
            self.retired.insert(step.id.clone(), step.attempts);
        }
        let plan = Arc::clone(&version.plan);
        let number = version.version;
        self.versions.push(version);
        self.steps = plan.steps().iter().map(|step| self.fresh_step(step, number)).collect();
        self.open = plan.steps().len() as u32;
        for position in 0..plan.steps().len() as u32 {
            let missing = plan.node(position).deps.len() as u32;
            self.steps[position as usize].state = StepState::Blocked { missing };
        }
        for (id, was) in kept {
            self.previous.remove(&id);
            self.carry(&old, was);
        }
        self.release_roots();
        self.timers.retain(|(_, timer)| match timer {
            Timer::Attempt(id, attempt) => old.timer_is_live(&self.steps, id, Some(*attempt)),
            Timer::Retry(id) | Timer::StepWait(id) => old.timer_is_live(&self.steps, id, None),
            Timer::Approval | Timer::WallTime | Timer::Deadline => true,
        });
    }

    fn fresh_step(&self, step: &Step, version: u32) -> StepRun {
        let attempts = self.retired.get(&step.id).copied().unwrap_or(0);
        StepRun::new(step.id.clone(), None, attempts, step.on_failure.attempts.max(1), version)
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
            self.steps[at as usize].state = StepState::Expanded { left, first: here, items, queued, active };
        } else {
            self.set(at, state);
        }
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
        let step = version.plan.step(at);
        previous.definition == step.definition_digest()
            && previous.tool == tool_digest(version, step)
            && previous.refs == references(version, at, &self.steps)
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
        let Some(version) = self.versions.last() else { return };
        let plan = Arc::clone(&version.plan);
        let mut again = vec![false; plan.steps().len()];
        for at in plan.topological() {
            let state = &self.steps[at as usize].state;
            let is_done = matches!(state, StepState::Succeeded(_));
            let behind = plan.node(at).deps.iter().any(|dep| again[*dep as usize]);
            let named = from.as_ref() == Some(&plan.step(at).id);
            let undone = matches!(state, StepState::Failed | StepState::Superseded)
                || (behind && matches!(state, StepState::Skipped { .. }));
            let repeatable = !is_done || self.effect_of(at) != Effect::Irreversible;
            again[at as usize] = undone || ((named || (behind && from.is_some())) && repeatable);
        }
        self.steps.truncate(plan.steps().len());
        for (at, again) in again.iter().enumerate() {
            if *again {
                self.steps[at].state = StepState::Blocked { missing: 0 };
                self.open += 1;
            }
        }
        self.items.clear();
        for at in 0..plan.steps().len() as u32 {
            if again[at as usize] {
                let unmet = |dep: &&u32| !self.steps[**dep as usize].state.satisfies();
                let missing = plan.node(at).deps.iter().filter(unmet).count() as u32;
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
        run.failures.clear();
        run.in_flight = 0;
        run.backing_off = 0;
        run.replan = None;
        Self { version: run.versions.last().cloned(), steps: mem::take(&mut run.steps), changed_params }
    }

    /// Returns the old positions of the steps that keep their state, dependencies first.
    fn kept(&self, new: &PlanVersion) -> Vec<(StepId, u32)> {
        let Some(old) = &self.version else { return Vec::new() };
        let mut kept: HashMap<StepId, u32> = HashMap::new();
        let mut order = Vec::new();
        for at in new.plan.topological() {
            let step = new.plan.step(at);
            let Some(was) = old.plan.position(step.id.as_str()) else { continue };
            let before = old.plan.step(was);
            let is_same = carries(&self.steps[was as usize].state)
                && (before == step || before.definition_digest() == step.definition_digest())
                && tool_digest(old, before) == tool_digest(new, step)
                && !(self.changed_params && mentions_params(step))
                && new.plan.node(at).refs.iter().all(|dep| kept.contains_key(&new.plan.step(*dep).id));
            if is_same {
                kept.insert(step.id.clone(), was);
                order.push((step.id.clone(), was));
            }
        }
        order
    }

    /// Keeps the results that do not stand now but may stand again.
    fn remember(&self, kept: &[(StepId, u32)], previous: &mut HashMap<StepId, Previous>) {
        let Some(old) = &self.version else { return };
        let is_kept: std::collections::HashSet<u32> = kept.iter().map(|(_, was)| *was).collect();
        for (was, step) in old.plan.steps().iter().enumerate() {
            let run = &self.steps[was];
            let is_done = matches!(run.state, StepState::Succeeded(_));
            if is_done && !is_kept.contains(&(was as u32)) && !(self.changed_params && mentions_params(step))
            {
                let result = Previous {
                    definition: step.definition_digest(),
                    tool: tool_digest(old, step),
                    refs: references(old, was as u32, &self.steps),
                    step: run.clone(),
                };
                previous.insert(step.id.clone(), result);
            }
        }
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

/// Returns whether a state survives a change of the plan around its step.
fn carries(state: &StepState) -> bool {
    match state {
        StepState::Succeeded(_)
        | StepState::Running { .. }
        | StepState::Backoff { .. }
        | StepState::AwaitingApproval { .. }
        | StepState::Unknown { .. }
        | StepState::Expanded { .. } => true,
        StepState::Asking { question, .. } => question.is_none(),
        StepState::Blocked { .. }
        | StepState::Evaluating
        | StepState::Queued
        | StepState::Faltered
        | StepState::Failed
        | StepState::Skipped { .. }
        | StepState::Superseded => false,
    }
}

fn tool_digest(version: &PlanVersion, step: &Step) -> Option<Digest> {
    step.tool.as_ref().and_then(|tool| version.envelope.tools.get(tool)).map(|sealed| sealed.digest)
}

fn mentions_params(step: &Step) -> bool {
    serde_json::to_string(step).is_ok_and(|text| text.contains("params"))
}

fn references(version: &PlanVersion, at: u32, steps: &[StepRun]) -> Vec<(StepId, Output)> {
    let outputs = version.plan.node(at).refs.iter().filter_map(|dep| match &steps[*dep as usize].state {
        StepState::Succeeded(output) => Some((steps[*dep as usize].id.clone(), output.clone())),
        _ => None,
    });
    outputs.collect()
}
