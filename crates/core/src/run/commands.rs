//! What people ask of a run.

use std::sync::Arc;

use serde_json::Value;

use super::{Rejection, Turn, state::StepState};
use crate::{
    action::Trigger,
    digest::Digest,
    event::{Event, Gate, RunFailure},
    id::{PLAN_STEP, StepId},
    input::{Command, CommandKind, Proposal, Resolution, Verdicts},
    tool::Effect,
    view::Status,
};

impl Turn<'_> {
    /// Carries out a command, or says why not.
    pub(super) fn command(&mut self, command: &Command) -> Result<(), Rejection> {
        if self.run.commands.contains(&command.id) {
            return Err(Rejection::Duplicate);
        }
        let by = command.by.as_str();
        if let CommandKind::Retry { from } = &command.kind {
            return self.retry(by, from.as_ref());
        }
        if let CommandKind::Fork { run, seq } = command.kind {
            self.emit(Event::RunForked { run, seq, by: by.to_owned() });
            return Ok(());
        }
        if let Some(end) = &self.run.end {
            return Err(Rejection::Ended(end.status));
        }
        match &command.kind {
            CommandKind::Approve { step: None, digest } => self.approve_plan(by, *digest),
            CommandKind::Approve { step: Some(step), digest } => self.approve_step(by, step, *digest),
            CommandKind::Reject { reason } => self.reject(by, reason),
            CommandKind::Edit { parent, proposal } => self.edit(*parent, proposal),
            CommandKind::Answer { step, value, verdicts } => self.answer(by, step, value, verdicts),
            CommandKind::Resolve { step, resolution, verdicts } => {
                self.resolved(by, step, resolution, verdicts)
            }
            CommandKind::Revise { .. } => {
                self.emit(Event::GoalRevised { by: by.to_owned() });
                self.request_plan(Some(Arc::new(Trigger::GoalRevised)));
                Ok(())
            }
            CommandKind::Pause if self.run.paused.is_some() => {
                Err(Rejection::NotNow("the run is paused already".to_owned()))
            }
            CommandKind::Pause => {
                self.emit(Event::RunPaused { by: by.to_owned() });
                Ok(())
            }
            CommandKind::Resume => self.resume(by),
            CommandKind::Cancel { reason } => {
                self.cancel_attempts();
                self.emit(Event::RunCancelled { by: by.to_owned(), reason: reason.clone() });
                Ok(())
            }
            CommandKind::Retry { .. } | CommandKind::Fork { .. } => Ok(()),
        }
    }

    /// Takes a pause back. A parent takes back its own only: what a person stopped, a person lets go on.
    fn resume(&mut self, by: &str) -> Result<(), Rejection> {
        let parent = self.run.spec.parent.as_ref().map(|parent| parent.run.speaks_as());
        match &self.run.paused {
            None => Err(Rejection::NotNow("the run is not paused".to_owned())),
            Some(who) if parent.as_deref() == Some(by) && who != by => {
                Err(Rejection::NotNow(format!("the run was paused by another than its parent: {who}")))
            }
            Some(_) => {
                self.emit(Event::RunResumed { by: by.to_owned() });
                Ok(())
            }
        }
    }

    fn approve_plan(&mut self, by: &str, digest: Digest) -> Result<(), Rejection> {
        let asked = self.run.proposed.as_ref().filter(|p| p.asked_at.is_some());
        let Some(proposed) = asked else {
            return Err(Rejection::NotWaiting("no plan waits for approval".to_owned()));
        };
        let expected = proposed.version.envelope_digest;
        if digest != expected {
            return Err(Rejection::StaleDigest { expected });
        }
        let gate = if self.run.versions.is_empty() { Gate::Plan } else { Gate::Replan };
        self.emit(Event::ApprovalGranted { gate, by: by.to_owned() });
        self.adopt();
        Ok(())
    }

    fn approve_step(&mut self, by: &str, step: &StepId, digest: Digest) -> Result<(), Rejection> {
        let at = self.run.position(step.as_str()).ok_or_else(|| Rejection::UnknownStep(step.clone()))?;
        if !matches!(self.run.steps[at as usize].state, StepState::AwaitingApproval { .. }) {
            return Err(Rejection::NotWaiting(format!("step `{step}` does not wait for approval")));
        }
        let expected = self.run.step_definition(at).map_or(digest, Digest::of);
        if digest != expected {
            return Err(Rejection::StaleDigest { expected });
        }
        self.emit(Event::ApprovalGranted { gate: Gate::Step(step.clone()), by: by.to_owned() });
        Ok(())
    }

    fn reject(&mut self, by: &str, reason: &str) -> Result<(), Rejection> {
        if self.run.waiting().is_none() {
            return Err(Rejection::NotWaiting(
                "nothing waits for a person; use `cancel` to end the run".to_owned(),
            ));
        }
        self.cancel_attempts();
        self.emit(Event::RunRejected { by: by.to_owned(), reason: reason.to_owned() });
        Ok(())
    }

    fn edit(&mut self, parent: u32, proposal: &Proposal) -> Result<(), Rejection> {
        let newest = self.run.proposed().or_else(|| self.run.current()).map_or(0, |v| v.version);
        if parent != newest {
            return Err(Rejection::StalePlan { current: newest });
        }
        match proposal {
            Proposal::Valid { plan, .. } => {
                self.protects(plan).map_err(Rejection::Plan)?;
                self.propose(proposal);
                Ok(())
            }
            Proposal::Invalid { findings, .. } => {
                let errors: Vec<String> =
                    findings.iter().filter(|f| f.is_error()).map(ToString::to_string).collect();
                Err(Rejection::Plan(errors.join("; ")))
            }
            Proposal::None { message, .. } | Proposal::Question { question: message } => {
                Err(Rejection::Plan(message.clone()))
            }
        }
    }

    fn answer(
        &mut self,
        by: &str,
        step: &StepId,
        value: &Value,
        verdicts: &Verdicts,
    ) -> Result<(), Rejection> {
        if step.as_str() == PLAN_STEP {
            return self.answer_planner(by, step);
        }
        let at = self.run.position(step.as_str()).ok_or_else(|| Rejection::UnknownStep(step.clone()))?;
        let StepState::Asking { question, .. } = &self.run.steps[at as usize].state else {
            return Err(Rejection::NotWaiting(format!("step `{step}` asks nothing")));
        };
        let answered = Event::QuestionAnswered { step: step.clone(), by: by.to_owned() };
        let Some(question) = question.clone() else {
            if let Some(failure) = &verdicts.gate {
                return Err(Rejection::Answer(failure.message.clone()));
            }
            self.emit(answered);
            self.emit(Event::StepSucceeded { step: step.clone() });
            self.after_success(at, &verdicts.ready, verdicts.done);
            return Ok(());
        };
        match value.as_str() {
            Some("retry") => {
                self.emit(answered);
                self.emit(Event::StepRetried { step: step.clone() });
            }
            Some("skip") => {
                self.emit(answered);
                self.emit(Event::StepSkipped { step: step.clone(), reason: format!("{by} answered: skip") });
            }
            Some("fail") => {
                self.emit(answered);
                let message = format!("{by} answered `fail` to: {question}");
                self.fail(RunFailure::Decided { step: Some(step.clone()), message });
            }
            _ => return Err(Rejection::Answer("say \"retry\", \"skip\" or \"fail\"".to_owned())),
        }
        Ok(())
    }

    /// Asks the planner again, now that its question is answered.
    fn answer_planner(&mut self, by: &str, step: &StepId) -> Result<(), Rejection> {
        let Some(question) = &self.run.plan_question else {
            return Err(Rejection::NotWaiting("the planner asks nothing".to_owned()));
        };
        let trigger = question.trigger.clone();
        self.emit(Event::QuestionAnswered { step: step.clone(), by: by.to_owned() });
        self.request_plan(trigger);
        Ok(())
    }

    fn resolved(
        &mut self,
        by: &str,
        step: &StepId,
        resolution: &Resolution,
        verdicts: &Verdicts,
    ) -> Result<(), Rejection> {
        let at = self.run.position(step.as_str()).ok_or_else(|| Rejection::UnknownStep(step.clone()))?;
        if !matches!(self.run.steps[at as usize].state, StepState::Unknown { .. }) {
            return Err(Rejection::NotWaiting(format!("the outcome of step `{step}` is known")));
        }
        if let Some(failure) = &verdicts.gate {
            return Err(Rejection::Answer(failure.message.clone()));
        }
        self.resolve(at, by, resolution, verdicts);
        Ok(())
    }

    fn retry(&mut self, by: &str, from: Option<&StepId>) -> Result<(), Rejection> {
        if let Some(step) = from {
            let plan = self.run.versions.last().map(|version| &version.plan);
            let at = plan.and_then(|plan| plan.position(step.as_str()));
            let at = at.ok_or_else(|| Rejection::UnknownStep(step.clone()))?;
            let is_done = matches!(self.run.steps[at as usize].state, StepState::Succeeded(_));
            if is_done && self.run.effect_of(at) == Effect::Irreversible {
                let why = format!("`{step}` was done and cannot be undone: retry from a step after it");
                return Err(Rejection::NotNow(why));
            }
        }
        match self.run.end.as_ref().map(|end| end.status) {
            Some(Status::Succeeded) if from.is_none() => {
                return Err(Rejection::NotNow("the run succeeded: name a step with --from".to_owned()));
            }
            Some(_) => {}
            None => return Err(Rejection::NotNow("the run has not ended".to_owned())),
        }
        self.emit(Event::RunReopened { by: by.to_owned() });
        if self.run.versions.is_empty() {
            self.request_plan(None);
        }
        Ok(())
    }
}
