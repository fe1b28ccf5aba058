//! Plans: asked for, proposed, looked at, approved, adopted.

use std::sync::Arc;

use super::{
    Turn,
    state::{PlanReview, PlanVersion, StepState},
};
use crate::{
    action::{Action, ChildOrder, Trigger},
    event::{Event, Gate, ReviewOf, RunFailure},
    failure::{Failure, FailureKind},
    finding::Finding,
    goal::ApprovalMode,
    id::{PLAN_STEP, StepId},
    input::{AttemptOutcome, AttemptReply, PlanReply, Proposal},
    plan::CompiledPlan,
    tool::Effect,
};

/// Questions that planners may ask in one run: who needs a fourth has not understood the goal.
pub const QUESTIONS_MAX: usize = 3;

/// The pseudo step whose items are the assumptions of a proposed plan.
const ASSUMPTION: &str = "assumption";

impl Turn<'_> {
    /// Asks the planner.
    pub(super) fn request_plan(&mut self, trigger: Option<Arc<Trigger>>) {
        let request = self.run.plan_requests + 1;
        self.cancel_checks();
        self.emit(Event::PlanRequested { request });
        self.act(Action::RequestPlan { request, trigger });
    }

    /// Takes the planner's answer.
    pub(super) fn planned(&mut self, reply: &PlanReply) {
        let awaited = self.run.plan_request.as_ref().is_some_and(|(request, _)| *request == reply.request);
        if !awaited {
            return;
        }
        match &reply.proposal {
            Proposal::Valid { plan, .. } => match self.protects(plan) {
                Ok(()) => self.propose(&reply.proposal),
                Err(reason) => self.no_plan("effects_done", &reason),
            },
            Proposal::Invalid { findings, .. } => self.no_plan("invalid_plan", &summary(findings)),
            Proposal::None { code, message } => self.no_plan(code, message),
            Proposal::Question { question } => self.ask_about_plan(question),
        }
    }

    /// Asks a person what the planner must know.
    fn ask_about_plan(&mut self, question: &str) {
        let Ok(step) = PLAN_STEP.parse::<StepId>() else { return };
        if self.run.plan_answers.len() >= QUESTIONS_MAX {
            let message = format!("the planner asked more than {QUESTIONS_MAX} questions; now: {question}");
            return self.no_plan("questions", &message);
        }
        self.emit(Event::QuestionAsked { step, question: Some(question.to_owned()) });
    }

    fn no_plan(&mut self, code: &str, message: &str) {
        let about_step = self.run.plan_request.as_ref().and_then(|(_, t)| t.as_ref()?.step().cloned());
        let decision = self.run.proposed().map(|version| (version.step.is_some(), version.decision.clone()));
        self.emit(Event::PlanRefused { reason: message.to_owned() });
        let message = message.to_owned();
        match (about_step, decision) {
            _ if self.run.versions.is_empty() => {
                self.fail(RunFailure::NoPlan { code: code.to_owned(), message })
            }
            (Some(step), _) => self.fail(RunFailure::Step { step, message }),
            // The replanner is asked again about the step that still fails.
            (None, Some((true, _))) => {}
            (None, Some((false, decision))) if decision == "edit" => {
                self.emit(Event::RunPaused { by: format!("the edited plan was refused: {message}") })
            }
            (None, _) => {
                self.emit(Event::RunPaused { by: format!("no plan for the revised goal: {message}") })
            }
        }
    }

    /// Puts a checked plan up for its assumptions and its approval.
    pub(super) fn propose(&mut self, proposal: &Proposal) {
        let Proposal::Valid { plan, envelope, .. } = proposal else { return };
        let version = self.run.proposals + 1;
        let parent = self.run.versions.last().map(|v| v.version);
        self.cancel_checks();
        self.emit(Event::PlanProposed { version, parent, plan: plan.digest(), envelope: envelope.digest() });
        for index in 0..plan.plan().assumptions.len() as u32 {
            self.start_check(index);
        }
        if self.run.proposed.is_some() {
            self.gate();
        }
    }

    fn cancel_checks(&mut self) {
        for (step, check) in self.run.proposed.iter().flat_map(|p| &p.checks) {
            self.actions.push(Action::CancelAttempt { step: step.clone(), attempt: check.attempt });
        }
    }

    /// Looks at an assumption of the proposed plan.
    pub(super) fn start_check(&mut self, index: u32) {
        let Some(proposed) = &self.run.proposed else { return };
        let Some(assumption) = proposed.version.plan.plan().assumptions.get(index as usize) else { return };
        let Ok(pseudo) = ASSUMPTION.parse::<StepId>() else { return };
        let step = pseudo.item(index);
        let Some(dispatch) = self.run.check_dispatch(&step) else {
            let why = format!("nobody serves `{}`", assumption.tool);
            return self.assumption_failed(&step, &why);
        };
        let attempt = dispatch.attempt;
        self.emit(Event::AttemptStarted { step, attempt, verify: false });
        self.act(Action::RunStep(dispatch));
    }

    /// Takes what was found out about an assumption.
    pub(super) fn assumption_result(&mut self, reply: &AttemptReply) {
        let (step, attempt) = (reply.step.clone(), reply.attempt);
        let failure = match (&reply.outcome, &reply.verdicts.gate) {
            (AttemptOutcome::Failure(failure), _) | (AttemptOutcome::Output(_), Some(failure)) => failure,
            (AttemptOutcome::Output(_), None) => {
                self.emit(Event::AttemptSucceeded { step, attempt });
                return self.gate();
            }
        };
        self.emit(Event::AttemptFailed { step: step.clone(), attempt, failure: None });
        self.assumption_failed(&step, &failure.message);
    }

    /// Ends a proposal one of whose assumptions does not hold.
    pub(super) fn assumption_failed(&mut self, step: &StepId, why: &str) {
        let index = step.as_item().map_or(0, |(_, index)| index);
        let text = self
            .run
            .proposed
            .as_ref()
            .and_then(|p| p.version.plan.plan().assumptions.get(index as usize).map(|a| a.text.clone()));
        let text = text.unwrap_or_default();
        self.cancel_checks();
        self.no_plan(
            "assumption_failed",
            &format!("the plan assumes that {text}; that does not hold: {why}"),
        );
    }

    /// Asks for a review, then for approval, or adopts, once every assumption holds. A plan that the
    /// reviewer does not accept needs a person whatever the mode.
    pub(super) fn gate(&mut self) {
        let Some(proposed) = &self.run.proposed else { return };
        if !proposed.checks.is_empty() {
            return;
        }
        let version = &proposed.version;
        let is_doubted = match proposed.review {
            PlanReview::None if self.run.wants_review(version) => {
                return self.request_review(ReviewOf::Plan { version: version.version });
            }
            PlanReview::Open { .. } => return,
            PlanReview::None => false,
            PlanReview::Done { accepts } => !accepts,
        };
        if !is_doubted && !self.wants_approval(version) {
            return self.adopt();
        }
        let gate = if self.run.versions.is_empty() { Gate::Plan } else { Gate::Replan };
        let digest = version.envelope_digest;
        self.emit(Event::ApprovalRequested { gate, digest });
    }

    /// Puts the proposed plan in force, and stops what it no longer contains.
    pub(super) fn adopt(&mut self) {
        let Some(version) = self.run.proposed.as_ref().map(|p| p.version.version) else { return };
        let in_hand = self.in_hand();
        let is_goal = |run: &super::Run, step: &StepId| {
            run.step(step.as_str()).is_some_and(|step| matches!(step.state, StepState::Child { .. }))
        };
        let goals: Vec<bool> = in_hand.iter().map(|(step, _)| is_goal(self.run, step)).collect();
        self.emit(Event::PlanAdopted { version });
        for ((step, attempt), is_goal) in in_hand.into_iter().zip(goals) {
            if self.run.awaits(step.as_str(), attempt) {
                continue;
            }
            if is_goal {
                self.tell_child(step, attempt, ChildOrder::Cancel);
            } else {
                self.act(Action::CancelAttempt { step, attempt });
            }
        }
    }

    /// Returns the attempts that are with workers or child runs.
    pub(super) fn in_hand(&self) -> Vec<(StepId, u32)> {
        let attempts = self.run.steps.iter().filter_map(|step| match step.state {
            StepState::Running { attempt, .. } | StepState::Child { attempt, .. } => {
                Some((step.id.clone(), attempt))
            }
            _ => None,
        });
        attempts.collect()
    }

    /// Returns the attempts that are with workers.
    pub(super) fn running(&self) -> Vec<(StepId, u32)> {
        let attempts = self.run.steps.iter().filter_map(|step| match step.state {
            StepState::Running { attempt, .. } => Some((step.id.clone(), attempt)),
            _ => None,
        });
        attempts.collect()
    }

    /// Returns whether a person must approve the version. A replan inside the approved envelope
    /// keeps the approval.
    fn wants_approval(&self, version: &PlanVersion) -> bool {
        let approval = &self.run.spec.approval;
        if approval.envelope == Some(version.envelope_digest) {
            return false;
        }
        let wants = match approval.mode {
            ApprovalMode::Auto => false,
            ApprovalMode::Always => true,
            ApprovalMode::Risky => irreversible_steps(version).next().is_some(),
        };
        wants && self.run.versions.last().is_none_or(|approved| is_outside(version, approved))
    }

    /// Returns an error if a plan drops or replaces a step whose irreversible effect happened, or
    /// may be happening.
    pub(super) fn protects(&self, plan: &CompiledPlan) -> Result<(), String> {
        let Some(current) = self.run.versions.last() else { return Ok(()) };
        for (at, step) in current.plan.steps().iter().enumerate() {
            if !self.run.is_spent(at as u32) {
                continue;
            }
            let same = plan.position(step.id.as_str()).map(|at| plan.step(at));
            if same.is_none_or(|new| new.definition_digest() != step.definition_digest()) {
                return Err(format!(
                    "the plan drops or changes `{}`, whose effect cannot be undone",
                    step.id
                ));
            }
        }
        Ok(())
    }
}

fn irreversible_steps(version: &PlanVersion) -> impl Iterator<Item = &crate::plan::Step> {
    version.plan.steps().iter().filter(|step| version.envelope.effect_of(step) == Some(Effect::Irreversible))
}

fn is_outside(version: &PlanVersion, approved: &PlanVersion) -> bool {
    let tools = &approved.envelope.tools;
    let new_agent =
        version.envelope.agents.values().any(|now| !approved.envelope.agents.values().any(|was| was == now));
    let new_tool = version.envelope.tools.iter().any(|(name, sealed)| tools.get(name) != Some(sealed));
    let shown = version.by == "rules";
    let new_effect = irreversible_steps(version).any(|step| {
        let before = approved.plan.position(step.id.as_str()).map(|at| approved.plan.step(at));
        before.is_none_or(|before| before.definition_digest() != step.definition_digest())
    });
    let revised = version.trigger == "goal_revised";
    let new_bounds = version.envelope.limits != approved.envelope.limits
        || version.envelope.params != approved.envelope.params;
    new_tool || new_agent || new_bounds || (new_effect && !shown) || revised
}

fn summary(findings: &[Finding]) -> String {
    let errors: Vec<String> = findings.iter().filter(|f| f.is_error()).map(ToString::to_string).collect();
    errors.join("; ")
}

/// Makes the failure of an attempt whose worker did not answer.
pub(super) fn worker_lost(message: &str) -> Failure {
    Failure::new(FailureKind::WorkerLost, "worker_lost", message)
}
