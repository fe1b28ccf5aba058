//! Goal steps: an attempt is a run of its own, which plans, asks for approval and reports for itself.
//!
//! The child run tells where it stands; the parent tells it to pause, to go on, or to end. Either may
//! be lost with its process: a child run that is carried on says again where it stands, and one that
//! nobody waits for is told to end.

use serde_json::{Map, Value};

use super::{
    Turn,
    state::{Run, StepState},
};
use crate::{
    action::{Action, ChildOrder},
    budget::{GOAL_DEPTH_MAX, Limits, StepMax},
    event::{Event, RunFailure},
    failure::{EffectState, Failure, FailureKind},
    goal::{Approval, Parent, RunSpec},
    id::{RunId, StepId},
    time::Timestamp,
    tool::Effect,
    view::Status,
};

impl Turn<'_> {
    /// Begins the child run of a goal step.
    pub(super) fn start_child(&mut self, at: u32) {
        let step = self.run.steps[at as usize].id.clone();
        let attempt = self.run.steps[at as usize].attempts + 1;
        self.emit(Event::AttemptStarted { step: step.clone(), attempt, verify: false });
        let max = self.run.reservations.get(&step).copied().unwrap_or_default();
        self.act(Action::RunGoal { step, attempt, max });
    }

    /// Takes what a child run says of itself. One that nobody waits for was not told so yet.
    pub(super) fn child_stands(&mut self, step: &StepId, attempt: u32, waits: bool) {
        if !self.run.awaits(step.as_str(), attempt) {
            return self.tell_child(step.clone(), attempt, ChildOrder::Cancel);
        }
        let known = self.run.step(step.as_str()).map(|step| &step.state);
        let Some(StepState::Child { waits: known, .. }) = known else { return };
        let (step, has_moved) = (step.clone(), known.is_some() != waits);
        if has_moved && waits {
            self.emit(Event::ChildWaits { step, attempt });
        } else if has_moved {
            self.emit(Event::ChildGoesOn { step, attempt });
        } else if !waits && self.run.paused.is_some() {
            self.tell_child(step, attempt, ChildOrder::Pause);
        }
    }

    pub(super) fn tell_child(&mut self, step: StepId, attempt: u32, order: ChildOrder) {
        self.act(Action::TellChild { step, attempt, order });
    }

    /// Passes on to the child runs that the run was paused, or resumed.
    pub(super) fn tell_children(&mut self) {
        let orders: Vec<ChildOrder> = self
            .events
            .iter()
            .filter_map(|event| match event {
                Event::RunPaused { .. } => Some(ChildOrder::Pause),
                Event::RunResumed { .. } => Some(ChildOrder::Resume),
                _ => None,
            })
            .collect();
        for order in orders {
            for (step, attempt) in self.run.child_attempts() {
                self.tell_child(step, attempt, order);
            }
        }
    }

    /// Ends an attempt whose result is no longer wanted.
    pub(super) fn stop(&mut self, step: StepId, attempt: u32) {
        if self.run.definition(step.as_str()).is_some_and(|step| step.goal.is_some()) {
            self.tell_child(step, attempt, ChildOrder::Cancel);
        } else {
            self.act(Action::CancelAttempt { step, attempt });
        }
    }
}

impl Run {
    pub(super) fn child_moved(&mut self, step: &StepId, now: Option<Timestamp>) {
        let Some(at) = self.position(step.as_str()) else { return };
        let StepState::Child { waits, .. } = &mut self.steps[at as usize].state else { return };
        *waits = now;
        if now.is_some() {
            self.in_flight -= 1;
            self.waits.insert(at);
        } else {
            self.in_flight += 1;
            self.waits.remove(&at);
        }
    }

    fn child_attempts(&self) -> Vec<(StepId, u32)> {
        let attempts = self.steps.iter().filter_map(|step| match step.state {
            StepState::Child { attempt, .. } => Some((step.id.clone(), attempt)),
            _ => None,
        });
        attempts.collect()
    }

    /// Returns what makes sure that the child runs are carried on: of those that wait for a person, or
    /// of the others.
    #[must_use]
    pub fn children(&self, waiting: bool) -> Vec<Action> {
        let asked = self.steps.iter().filter_map(|step| match step.state {
            StepState::Child { attempt, waits } if waits.is_some() == waiting => {
                let max = self.reservations.get(&step.id).copied().unwrap_or_default();
                Some(Action::RunGoal { step: step.id.clone(), attempt, max })
            }
            _ => None,
        });
        asked.collect()
    }

    /// Returns the run that carries out the last attempt of a goal step, if it had one.
    pub(super) fn child_of(&self, at: u32) -> Option<RunId> {
        let step = &self.steps[at as usize];
        let is_goal = self.step_definition(at).is_some_and(|step| step.goal.is_some());
        (is_goal && step.attempts > 0).then(|| self.id.child(&step.id, step.attempts))
    }

    /// Returns what the child run of a goal step is asked for. Its params are the run's own with the
    /// step's input over them, its limits what is left to it, its approvals its own.
    #[must_use]
    pub fn child_spec(&self, step: &StepId, attempt: u32, max: StepMax, input: &Value) -> Option<RunSpec> {
        let definition = self.definition(step.as_str())?;
        let goal = definition.goal.as_ref()?;
        let own = &self.spec;
        let mut params: Map<String, Value> = own.params.clone();
        params.extend(input.as_object().cloned().unwrap_or_default());
        Some(RunSpec {
            goal: goal.text.clone(),
            params,
            planner: own.planner.of_goal(goal)?,
            approval: Approval { envelope: None, ..own.approval.clone() },
            limits: Limits {
                model_calls: max.model_calls,
                tokens: max.tokens,
                cost_microusd: max.cost_microusd,
                deadline: definition.timeout,
                depth: own.limits.depth.min(GOAL_DEPTH_MAX).saturating_sub(1),
                ..own.limits.clone()
            },
            group: None,
            key: Some(format!("{}/{step}#{attempt}", self.id)),
            origin: None,
            parent: Some(Parent { run: self.id, step: step.clone(), attempt }),
            ..own.as_ref().clone()
        })
    }

    /// Returns the failure of the step that this run carries out, if the run ended without success.
    /// What it did that cannot be undone is not done again by trying once more.
    #[must_use]
    pub fn failure_of_goal(&self) -> Option<Failure> {
        let end = self.end.as_ref()?;
        let message = format!("run {}: {}", self.id, self.reason().unwrap_or_default());
        let (kind, code) = match (end.status, &end.failure) {
            (Status::Succeeded, _) => return None,
            (Status::Rejected, _) => (FailureKind::Cancelled, "child_rejected"),
            (Status::Cancelled, _) => (FailureKind::Cancelled, "child_cancelled"),
            (_, Some(RunFailure::NoPlan { code, .. })) => (FailureKind::Plan, code.as_str()),
            (_, Some(RunFailure::Budget { .. })) => (FailureKind::Budget, "child_budget"),
            (_, Some(RunFailure::ApprovalTimeout)) => (FailureKind::Timeout, "child_unanswered"),
            (_, Some(RunFailure::Step { .. } | RunFailure::Decided { .. }) | None) => {
                (FailureKind::Tool, "child_failed")
            }
        };
        let failure = Failure::new(kind, code, message);
        let planned = self.versions.last().map_or(0, |version| version.plan.steps().len() as u32);
        if (0..planned).any(|at| self.effect_of(at) == Effect::Irreversible && self.is_spent(at)) {
            return Some(failure.retryable(false).effect(EffectState::Done));
        }
        Some(failure)
    }
}
