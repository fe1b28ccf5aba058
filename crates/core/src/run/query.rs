//! Questions about a run, and the bookkeeping of its steps.

use std::time::Duration;

use super::state::{PlanVersion, Run, StepRun, StepState};
use crate::{
    action::{Dispatch, Work},
    budget::{StepMax, Usage},
    call::Occurrence,
    id::{RunId, StepId},
    input::PlanAnswer,
    payload::Output,
    plan::{Step, StepKind},
    time::Timestamp,
    tool::Effect,
    view::{Status, WaitKind},
};

/// What a reference to a step finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'a> {
    /// The step's output.
    Output(&'a Output),
    /// The step was skipped.
    Skipped,
    /// The step is not done, or does not exist.
    Absent,
}

/// What an answer is to.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// An attempt of a step.
    Attempt(&'a StepId, u32),
    /// A request to the planner.
    Plan(u32),
    /// A request to the replanner, by its basis.
    Replan(u64),
    /// A request to the reviewer.
    Review(u32),
}

impl Run {
    /// Returns the run's id.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Returns the number of the next entry.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns when the last entry was made.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Returns who paused the run, or why, while it is.
    #[must_use]
    pub fn paused_by(&self) -> Option<&str> {
        self.paused.as_deref()
    }

    /// Returns where the run stands.
    #[must_use]
    pub fn status(&self) -> Status {
        if let Some(end) = &self.end {
            return end.status;
        }
        if self.paused.is_some() {
            return Status::Paused;
        }
        let asks =
            self.plan_question.is_some() || self.proposed.as_ref().is_some_and(|p| p.asked_at.is_some());
        if asks && self.in_flight == 0 {
            return Status::Waiting;
        }
        if self.versions.is_empty() {
            return Status::Planning;
        }
        if self.replan.is_some() || self.is_planning() {
            return Status::Replanning;
        }
        let idle = self.in_flight == 0
            && self.backing_off == 0
            && self.queue.is_empty()
            && self.evaluating.is_empty();
        if idle && !self.waits.is_empty() { Status::Waiting } else { Status::Running }
    }

    /// Returns when the run was accepted.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Returns what the run used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Returns since when the run has its status.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Returns when the run ended.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.end.as_ref().map(|end| end.at)
    }

    /// Returns when the run wants an [`crate::input::Input::Wake`].
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Returns whether nothing can happen before a person, or a timer, speaks.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let waits = self.end.is_some() || matches!(self.status(), Status::Waiting | Status::Paused);
        waits && self.in_flight == 0 && self.outstanding().is_empty()
    }

    /// Returns the version in force.
    #[must_use]
    pub fn current(&self) -> Option<&PlanVersion> {
        self.versions.last()
    }

    /// Returns the version that waits for its assumptions or its approval.
    #[must_use]
    pub fn proposed(&self) -> Option<&PlanVersion> {
        self.proposed.as_ref().map(|p| &p.version)
    }

    /// Returns every adopted version, oldest first.
    #[must_use]
    pub fn versions(&self) -> &[PlanVersion] {
        &self.versions
    }

    /// Returns how many adopted versions there are.
    #[must_use]
    pub fn plan_version(&self) -> u32 {
        self.versions.last().map_or(0, |v| v.version)
    }

    /// Returns the steps of the plan in force, in its order; items of `for_each` steps follow.
    #[must_use]
    pub fn steps(&self) -> &[StepRun] {
        &self.steps
    }

    /// Returns a step or item.
    #[must_use]
    pub fn step(&self, id: &str) -> Option<&StepRun> {
        self.position(id).map(|at| &self.steps[at as usize])
    }

    /// Returns how many steps of the plan are settled, and how many there are.
    #[must_use]
    pub fn progress(&self) -> (u32, u32) {
        let all = self.current().map_or(0, |v| v.plan.steps().len() as u32);
        (all.saturating_sub(self.open), all)
    }

    /// Returns what a reference to a step of the plan finds.
    #[must_use]
    pub fn output(&self, id: &str) -> Found<'_> {
        match self.step(id).map(|s| &s.state) {
            Some(StepState::Succeeded(output)) => Found::Output(output),
            Some(StepState::Skipped { .. } | StepState::Superseded) => Found::Skipped,
            _ => Found::Absent,
        }
    }

    /// Returns the definition of a step, an item's step, or an assumption's pseudo step.
    #[must_use]
    pub fn definition(&self, id: &str) -> Option<&Step> {
        self.position(id).and_then(|at| self.step_definition(at))
    }

    /// Returns whether the attempt is the one whose result is awaited.
    #[must_use]
    pub fn awaits(&self, id: &str, attempt: u32) -> bool {
        if let Some(step) = self.step(id) {
            return matches!(
                step.state,
                StepState::Running { attempt: running, .. } | StepState::Child { attempt: running, .. }
                    if running == attempt
            );
        }
        self.proposed.as_ref().and_then(|p| p.checks.get(id)).is_some_and(|c| c.attempt == attempt)
    }

    /// Returns whether this was asked for. Who answers something else knows entries that are not in this state,
    /// or has made it up.
    #[must_use]
    pub fn has_asked(&self, asked: Asked<'_>) -> bool {
        match asked {
            Asked::Attempt(id, attempt) => {
                let last = self.step(id.as_str()).map(|step| step.attempts);
                last.or_else(|| self.retired.get(id).copied()).is_some_and(|last| attempt <= last)
            }
            Asked::Plan(request) => request <= self.plan_requests,
            Asked::Replan(basis) => basis < self.seq,
            Asked::Review(review) => review <= self.reviews,
        }
    }

    /// Returns whether the attempt that runs asks the `verify` tool.
    #[must_use]
    pub fn is_verifying(&self, id: &str) -> bool {
        self.step(id).is_some_and(|s| matches!(s.state, StepState::Running { verify: true, .. }))
    }

    /// Returns the steps that can be evaluated once `id` succeeds: the shell looks at them before
    /// it hands the result in.
    #[must_use]
    pub fn unlocked_by(&self, id: &str) -> Vec<StepId> {
        let (Some(at), Some(version)) = (self.position(id), self.versions.last()) else { return Vec::new() };
        if self.steps[at as usize].parent.is_some() {
            return Vec::new();
        }
        let unlocked = |next: &&u32| {
            let step = &self.steps[**next as usize];
            step.state == StepState::Blocked { missing: 1 } && !self.previous.contains_key(&step.id)
        };
        let dependents = &version.plan.node(at).dependents;
        dependents.iter().filter(unlocked).map(|next| self.steps[*next as usize].id.clone()).collect()
    }

    /// Returns the tools whose steps failed for good.
    pub fn failed_tools(&self) -> impl Iterator<Item = &crate::id::ToolName> {
        self.failed_tools.iter()
    }

    /// Returns how often each replan rule has answered.
    #[must_use]
    pub fn rule_uses(&self) -> &std::collections::BTreeMap<u32, u32> {
        &self.rule_uses
    }

    /// Returns how many replans were asked for because of a step.
    #[must_use]
    pub fn replans_of(&self, id: &str) -> u32 {
        self.replans_of.get(id).copied().unwrap_or(0)
    }

    /// Returns whether a plan is being made, asked about, or looked at.
    pub(super) fn is_planning(&self) -> bool {
        self.plan_request.is_some() || self.plan_question.is_some() || self.proposed.is_some()
    }

    /// Returns what people answered to the planner's questions, oldest first.
    #[must_use]
    pub fn plan_answers(&self) -> &[PlanAnswer] {
        &self.plan_answers
    }

    /// Returns what the run waits for first.
    #[must_use]
    pub fn waiting(&self) -> Option<WaitKind> {
        if self.end.is_some() {
            return None;
        }
        if self.proposed.as_ref().is_some_and(|p| p.asked_at.is_some()) {
            return Some(self.plan_wait());
        }
        if self.plan_question.is_some() {
            return Some(WaitKind::Question);
        }
        self.waits.first().and_then(|at| wait_kind(&self.steps[*at as usize].state))
    }

    pub(super) fn plan_wait(&self) -> WaitKind {
        if self.versions.is_empty() { WaitKind::PlanApproval } else { WaitKind::ReplanApproval }
    }

    pub(super) fn position(&self, id: &str) -> Option<u32> {
        // Most often it is about the step that moved last, or the one behind it.
        for near in [self.moved, self.moved + 1] {
            if self.steps.get(near as usize).is_some_and(|step| step.id.as_str() == id) {
                return Some(near);
            }
        }
        if let Some(at) = self.versions.last().and_then(|v| v.plan.position(id)) {
            return Some(at);
        }
        self.items.get(id).copied()
    }

    pub(super) fn step_definition(&self, at: u32) -> Option<&Step> {
        let own = self.steps.get(at as usize)?.parent.map_or(at, |(parent, _)| parent);
        self.versions.last().map(|v| v.plan.step(own))
    }

    /// Returns the call that a step, or its `verify` tool, makes next.
    pub(super) fn dispatch_of(&self, at: u32, verify: bool) -> Option<Dispatch> {
        let version = self.versions.last()?;
        let step = self.step_definition(at)?;
        if matches!(step.kind()?, StepKind::Agent(_)) && !verify {
            return self.agent_dispatch(at, version, step);
        }
        let (tool, called) = version.call_of(step, verify)?;
        let capability = match &step.capability {
            Some(capability) if !verify => capability,
            _ => called.capabilities.first()?,
        };
        Some(Dispatch {
            step: self.steps[at as usize].id.clone(),
            attempt: self.steps[at as usize].attempts + 1,
            work: Work::Tool { tool: tool.clone(), tool_digest: called.digest },
            effect: called.effect,
            capability: capability.clone(),
            timeout: self.timeout_of(at, verify),
            verify,
        })
    }

    /// Returns how long an attempt may take.
    pub(super) fn timeout_of(&self, at: u32, verify: bool) -> Duration {
        let step = self.step_definition(at);
        let own = step.filter(|step| !verify && step.human.is_none() && step.goal.is_none());
        let called = || self.versions.last()?.call_of(step?, verify)?.1.timeout;
        own.and_then(|step| step.timeout).or_else(called).unwrap_or(self.spec.limits.step_timeout)
    }

    fn agent_dispatch(&self, at: u32, version: &PlanVersion, step: &Step) -> Option<Dispatch> {
        let sealed = version.envelope.agents.get(&step.id)?;
        let left = self.usage.left(&self.spec.limits, self.reserved);
        Some(Dispatch {
            step: self.steps[at as usize].id.clone(),
            attempt: self.steps[at as usize].attempts + 1,
            work: Work::Agent { digest: sealed.digest, max: StepMax::of(step).min(left) },
            effect: version.envelope.effect_of(step).unwrap_or(Effect::Read),
            capability: sealed.capability.clone(),
            timeout: self.timeout_of(at, false),
            verify: false,
        })
    }

    /// Returns the next call that looks at an assumption of the proposed plan.
    pub(super) fn check_dispatch(&self, check: &StepId) -> Option<Dispatch> {
        let version = &self.proposed.as_ref()?.version;
        let assumption = version.plan.plan().assumptions.get(check.as_item()?.1 as usize)?;
        let tool = version.envelope.tools.get(&assumption.tool)?;
        Some(Dispatch {
            step: check.clone(),
            attempt: self.retired.get(check).copied().unwrap_or(0) + 1,
            work: Work::Tool { tool: assumption.tool.clone(), tool_digest: tool.digest },
            effect: tool.effect,
            capability: tool.capabilities.first()?.clone(),
            timeout: tool.timeout.unwrap_or(self.spec.limits.step_timeout),
            verify: false,
        })
    }

    pub(super) fn effect_of(&self, at: u32) -> Effect {
        let effect = self.step_definition(at).and_then(|s| self.versions.last()?.envelope.effect_of(s));
        effect.unwrap_or(Effect::Read)
    }

    /// Returns whether a step may make an irreversible call: an agent step those that it lists.
    pub(super) fn may_call(&self, id: &StepId, call: Option<&Occurrence>) -> bool {
        let Some(agent) = self.definition(id.as_str()).and_then(|step| step.agent.as_ref()) else {
            return self.step(id.as_str()).is_some();
        };
        call.is_some_and(|call| agent.tools.contains(&call.tool))
    }

    /// Returns whether what an attempt may use is still there, or nothing in flight could give it
    /// back: then it starts with what is left.
    pub(super) fn can_reserve(&self, at: u32) -> bool {
        let max = self.step_definition(at).map(StepMax::of).unwrap_or_default();
        max.is_zero()
            || self.reserved.is_zero()
            || max.min(self.usage.left(&self.spec.limits, self.reserved)) == max
    }

    /// Sets aside what an attempt may use, until it answers.
    pub(super) fn reserve(&mut self, at: u32, id: &StepId) {
        let max = self.step_definition(at).map(StepMax::of).unwrap_or_default();
        if max.is_zero() {
            return;
        }
        let max = max.min(self.usage.left(&self.spec.limits, self.reserved));
        self.reserved.add(max);
        self.reservations.insert(id.clone(), max);
    }

    /// Keeps the run from dispatching and permitting anything: its process is about to end. Not on
    /// record; whoever carries the run on does not know of it.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// Returns whether the run is on hold.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// Takes back a [`Run::hold`].
    pub fn unhold(&mut self) {
        self.is_held = false;
    }

    /// Returns how many attempts are with workers.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        let is_running = |step: &&StepRun| matches!(step.state, StepState::Running { .. });
        let checks = self.proposed.as_ref().map_or(0, |proposed| proposed.checks.len());
        (self.steps.iter().filter(is_running).count() + checks) as u32
    }

    /// Returns whether an irreversible call of the step, or of one of its items, happened or may have.
    pub(super) fn is_spent(&self, at: u32) -> bool {
        if self.effect_of(at) != Effect::Irreversible {
            return false;
        }
        let step = &self.steps[at as usize];
        let of_step = |item: &StepId| item.as_item().is_some_and(|(parent, _)| parent == step.id.as_str());
        let is_item = |item: &&StepRun| item.parent.is_some_and(|(parent, _)| parent == at);
        step.is_spent()
            || self.steps.iter().filter(is_item).any(StepRun::is_spent)
            || self.earlier_items.iter().any(|(id, earlier)| earlier.is_spent && of_step(id))
    }

    /// Returns whether steps may be dispatched and permits granted.
    pub(super) fn may_dispatch(&self) -> bool {
        self.end.is_none()
            && !self.is_held
            && self.paused.is_none()
            && self.replan.is_none()
            && !self.is_planning()
            && self.failures.is_empty()
    }
}

pub(super) fn wait_kind(state: &StepState) -> Option<WaitKind> {
    match state {
        StepState::AwaitingApproval { .. } => Some(WaitKind::StepApproval),
        StepState::Asking { .. } => Some(WaitKind::Question),
        StepState::Unknown { .. } => Some(WaitKind::UnknownOutcome),
        StepState::Child { waits: Some(_), .. } => Some(WaitKind::ChildRun),
        StepState::Child { waits: None, .. }
        | StepState::Blocked { .. }
        | StepState::Evaluating
        | StepState::Queued
        | StepState::Running { .. }
        | StepState::Reviewing { .. }
        | StepState::Backoff { .. }
        | StepState::Expanded { .. }
        | StepState::Succeeded(_)
        | StepState::Faltered
        | StepState::Failed
        | StepState::Skipped { .. }
        | StepState::Superseded => None,
    }
}
