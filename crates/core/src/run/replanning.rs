//! Replans: asked for when a step failed for good, and carried out as decided.

use std::sync::Arc;

use super::{Run, Turn, state::PlanVersion};
use crate::{
    action::Action,
    event::{Event, RunFailure},
    id::StepId,
    input::{Proposal, ReplanReply},
    policy::{ReplanDecision, Strategy},
};

impl Run {
    /// Returns the step whose patch gave a step of the plan in force its definition, if a patch did.
    #[must_use]
    pub fn patched_for(&self, step: &StepId) -> Option<&StepId> {
        let id = step.as_item().map_or(step.as_str(), |(each, _)| each);
        let definition = |version: &PlanVersion| {
            version.plan.position(id).map(|at| version.plan.step(at).definition_digest())
        };
        let version = self.versions().windows(2).rev().find_map(|pair| {
            let (before, after) = (&pair[0], &pair[1]);
            (definition(before) != definition(after)).then_some(after)
        })?;
        version.step.as_ref().filter(|_| version.decision == "patch")
    }
}

impl Turn<'_> {
    /// Asks the replanner about the first failed step, if nothing else is being decided. Returns
    /// whether it did.
    pub(super) fn request_replan(&mut self) -> bool {
        let run = &self.run;
        let deciding = run.replan.is_some() || run.is_planning();
        if deciding || run.paused.is_some() {
            return false;
        }
        let Some(step) = run.failures.front().cloned() else { return false };
        self.ask_replanner(step);
        true
    }

    fn ask_replanner(&mut self, step: StepId) {
        self.emit(Event::ReplanRequested { step: Some(step) });
        if let Some(replan) = &self.run.replan {
            let action = Action::RequestReplan { basis: replan.basis, trigger: Arc::clone(&replan.trigger) };
            self.act(action);
        }
    }

    /// Takes the replanner's answer to the request that is open.
    pub(super) fn replanned(&mut self, reply: &ReplanReply) {
        let Some(replan) = self.run.replan.clone().filter(|r| r.basis == reply.basis) else { return };
        let Some(step) = replan.trigger.step().cloned() else { return };
        let decision = reply.decision.name().to_owned();
        match &reply.decision {
            ReplanDecision::Patch(_) | ReplanDecision::NewPlan { .. } | ReplanDecision::FullReplan
                if self.run.replans_used >= self.replans_max() =>
            {
                let message =
                    format!("{} replans did not help: {}", self.run.replans_used, self.failure_of(&step));
                self.fail(RunFailure::Step { step, message });
            }
            ReplanDecision::Patch(_) | ReplanDecision::NewPlan { .. } => {
                self.new_version(&step, reply, decision)
            }
            ReplanDecision::FullReplan => {
                self.emit(Event::ReplanDecided { decision });
                self.request_plan(Some(replan.trigger));
            }
            ReplanDecision::Retry => self.decided_retry(step, decision),
            ReplanDecision::Skip => {
                self.emit(Event::ReplanDecided { decision });
                self.emit(Event::StepSkipped { step, reason: reply.reason.clone() });
            }
            ReplanDecision::Finish => {
                self.emit(Event::ReplanDecided { decision });
                self.succeed();
            }
            ReplanDecision::Fail { reason } => {
                self.emit(Event::ReplanDecided { decision });
                self.fail(RunFailure::Decided { step: Some(step), message: reason.clone() });
            }
            ReplanDecision::Ask { question } => {
                self.emit(Event::ReplanDecided { decision });
                self.emit(Event::QuestionAsked { step, question: Some(question.clone()) });
            }
            ReplanDecision::Pass => {
                let message = self.failure_of(&step);
                self.fail(RunFailure::Step { step, message });
            }
        }
    }

    fn decided_retry(&mut self, step: StepId, decision: String) {
        let asked = self.run.replans_of.get(&step).copied().unwrap_or(0);
        if asked > self.run.spec.limits.attempts {
            let message = format!("tried again {asked} times: {}", self.failure_of(&step));
            return self.fail(RunFailure::Step { step, message });
        }
        self.emit(Event::ReplanDecided { decision });
        self.emit(Event::StepRetried { step });
    }

    fn new_version(&mut self, step: &StepId, reply: &ReplanReply, decision: String) {
        let refusal = match &reply.proposal {
            Some(Proposal::Valid { plan, .. }) => self.protects(plan).err(),
            Some(Proposal::Invalid { findings, .. }) => {
                let errors: Vec<String> =
                    findings.iter().filter(|f| f.is_error()).map(ToString::to_string).collect();
                Some(errors.join("; "))
            }
            Some(Proposal::None { message, .. } | Proposal::Question { question: message }) => {
                Some(message.clone())
            }
            None => Some("the decision brought no plan".to_owned()),
        };
        match (refusal, &reply.proposal) {
            (None, Some(proposal)) => {
                self.emit(Event::ReplanDecided { decision });
                self.propose(proposal);
            }
            (refusal, _) => self.refused(step, refusal.unwrap_or_default()),
        }
    }

    fn refused(&mut self, step: &StepId, reason: String) {
        self.emit(Event::ReplanRefused { reason: reason.clone() });
        let trigger = self.run.replan.as_ref().map(|r| Arc::clone(&r.trigger));
        let escalate = self.run.spec.replan.escalate;
        if self.run.replans_used >= self.replans_max() || escalate == Some(Strategy::FailFast) {
            self.fail(RunFailure::Step { step: step.clone(), message: reason });
        } else if escalate == Some(Strategy::FullReplan) {
            self.request_plan(trigger);
        } else {
            self.ask_replanner(step.clone());
        }
    }

    fn replans_max(&self) -> u32 {
        self.run.spec.replan.max.unwrap_or(self.run.spec.limits.replans)
    }

    fn failure_of(&self, step: &StepId) -> String {
        let failure = self.run.step(step.as_str()).and_then(|s| s.failure.as_ref());
        failure.map_or_else(|| format!("`{step}` failed"), ToString::to_string)
    }
}
