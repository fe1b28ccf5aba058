//! What must hold of every decision, whatever happened before.

use std::collections::{HashMap, HashSet};

use foreplan_core::{
    action::Action,
    event::Event,
    failure::EffectState,
    id::{ClaimId, StepId},
    input::{AttemptOutcome, AttemptReply, CommandKind, Input},
    run::{Decision, Run, StepState},
    view::Status,
};

/// What a journal said so far, as far as invariants speak of it.
#[derive(Default)]
pub(crate) struct Checks {
    newest_attempt: HashMap<StepId, u32>,
    accepted: HashSet<(StepId, u32)>,
    permitted: HashMap<StepId, HashMap<u32, Option<ClaimId>>>,
    /// How often a person or `verify` said that a call did not happen, or the call itself did.
    denied: HashMap<StepId, usize>,
    performed: HashMap<StepId, Vec<u32>>,
    automatic_replans: u32,
    plans_by_people: u32,
}

impl Checks {
    /// Looks at a decision between the states before and after it.
    pub(crate) fn decided(&mut self, before: &Run, cause: &Input, decision: &Decision, after: &Run) {
        if let Input::Command(command) = cause
            && matches!(command.kind, CommandKind::Revise { .. } | CommandKind::Retry { .. })
        {
            self.plans_by_people += 1;
        }
        for event in &decision.events {
            self.event(before, cause, event);
        }
        self.actions(after, &decision.actions);
        let running = after.steps().iter().filter(|s| matches!(s.state, StepState::Running { .. }));
        assert!(running.count() as u32 <= after.spec().limits.in_flight, "more in flight than allowed");
        let limits = &after.spec().limits;
        assert!(self.automatic_replans <= limits.replans, "more replans than allowed");
        assert_one_each(after);
    }

    fn event(&mut self, before: &Run, cause: &Input, event: &Event) {
        match event {
            Event::AttemptStarted { step, attempt, .. } => {
                let newest = self.newest_attempt.insert(step.clone(), *attempt).unwrap_or(0);
                assert!(*attempt > newest, "{step}: attempt {attempt} after {newest}");
            }
            Event::AttemptSucceeded { step, attempt } | Event::AttemptFailed { step, attempt, .. } => {
                let key = (step.clone(), *attempt);
                assert!(self.accepted.insert(key), "two results of {step}#{attempt} were accepted");
                if let Input::Result(reply) = cause {
                    self.answered(step, reply);
                }
            }
            Event::EffectPermitted { step, attempt, .. } => {
                let halted = matches!(before.status(), Status::Paused | Status::Replanning);
                assert!(
                    !halted && !before.status().is_ended(),
                    "{step}#{attempt} permitted, {:?}",
                    before.status()
                );
                let permits = self.permitted.entry(step.clone()).or_default();
                let claim = if let Input::Permit { asker, .. } = cause { asker.claim } else { None };
                assert!(permits.insert(*attempt, claim).is_none(), "{step}#{attempt} permitted twice");
                let denied = self.denied.get(step).copied().unwrap_or(0);
                assert!(permits.len() <= 1 + denied, "{step}: {permits:?} permitted, {denied} denied");
            }
            Event::OutcomeResolved { step, happened: Some(false), .. } => {
                *self.denied.entry(step.clone()).or_default() += 1;
            }
            Event::PlanRequested { request } => {
                let most = 1 + before.spec().limits.replans + self.plans_by_people;
                assert!(*request <= most, "plan request {request} of {most}");
            }
            Event::ReplanRefused { .. } => self.automatic_replans += 1,
            Event::ReplanDecided { decision }
                if matches!(decision.as_str(), "patch" | "new_plan" | "full_replan") =>
            {
                self.automatic_replans += 1;
            }
            _ => {}
        }
    }

    /// Counts when the one with the permit says, truthfully, that its call did not happen.
    fn answered(&mut self, step: &StepId, reply: &AttemptReply) {
        let is_own = self.permitted.get(step).and_then(|permits| permits.get(&reply.attempt));
        let is_none = matches!(&reply.outcome, AttemptOutcome::Failure(failure)
            if failure.effect == Some(EffectState::None));
        if is_none && is_own == Some(&reply.claim) {
            *self.denied.entry(step.clone()).or_default() += 1;
        }
    }

    fn actions(&self, after: &Run, actions: &[Action]) {
        for action in actions {
            match action {
                Action::RunStep(dispatch) => {
                    let is_running = after.awaits(dispatch.step.as_str(), dispatch.attempt);
                    if is_running && !dispatch.verify {
                        assert_dependencies(after, &dispatch.step);
                    }
                }
                Action::AnswerPermit { step, attempt, claim, granted: true, .. } => {
                    let permitted = self.permitted.get(step).and_then(|permits| permits.get(attempt));
                    assert_eq!(permitted, Some(claim), "{step}#{attempt} granted, not on record");
                    assert!(!after.status().is_ended(), "{step}#{attempt} granted after the end");
                }
                Action::AnswerPermit { .. }
                | Action::RequestPlan { .. }
                | Action::RequestReplan { .. }
                | Action::RequestReview { .. }
                | Action::RunGoal { .. }
                | Action::TellChild { .. }
                | Action::Evaluate { .. }
                | Action::CancelAttempt { .. } => {}
            }
        }
    }

    /// Records that a worker changed the world.
    pub(crate) fn perform(&mut self, step: &StepId, attempt: u32, claim: ClaimId) {
        let permitted = self.permitted.get(step).and_then(|permits| permits.get(&attempt));
        assert_eq!(permitted, Some(&Some(claim)), "{step}#{attempt} acted without a permit");
        let calls = self.performed.entry(step.clone()).or_default();
        calls.push(attempt);
        let denied = self.denied.get(step).copied().unwrap_or(0);
        assert!(calls.len() <= 1 + denied, "{step} was done {calls:?}, denied {denied} times");
    }

    pub(crate) fn was_performed(&self, step: &StepId, attempt: u32) -> bool {
        self.performed.get(step).is_some_and(|calls| calls.contains(&attempt))
    }
}

fn assert_dependencies(run: &Run, id: &StepId) {
    let Some(version) = run.current() else { return };
    let name = id.as_item().map_or(id.as_str(), |(parent, _)| parent);
    let Some(at) = version.plan.position(name) else { return };
    for dep in &version.plan.node(at).deps {
        let dep = &version.plan.step(*dep).id;
        let state = &run.step(dep.as_str()).unwrap().state;
        assert!(state.satisfies(), "{id} was started before {dep}, which is {state:?}");
    }
}

fn assert_one_each(run: &Run) {
    let mut seen = HashSet::new();
    for step in run.steps() {
        assert!(seen.insert(&step.id), "{} stands twice", step.id);
        assert!(step.state != StepState::Faltered, "{} was left between two states", step.id);
    }
}
