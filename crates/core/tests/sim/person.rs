//! The person of a simulated run: sensible or not.

use std::sync::Arc;

use foreplan_core::{
    digest::Digest,
    input::{CommandKind, Resolution, Verdicts},
    payload::Output,
    run::StepState,
    view::{Status, WaitKind},
};
use serde_json::{Value, json};

use crate::{plans, support::id, world::World};

impl World {
    /// A person does something, sensible or not.
    pub(crate) fn meddle(&mut self) {
        let kind = match self.rng.below(24) {
            0 => CommandKind::Pause,
            1..4 => CommandKind::Resume,
            4 => CommandKind::Cancel { reason: None },
            5 => CommandKind::Reject { reason: "no".to_owned() },
            6 => {
                let params = [("x".to_owned(), json!(self.rng.below(3)))].into_iter().collect();
                CommandKind::Revise { goal: None, produce: None, params }
            }
            7 => self.edit(),
            8..10 => CommandKind::Retry { from: None },
            10 => {
                let step = self.rng.below(5);
                CommandKind::Retry { from: Some(id(&format!("s{step}"))) }
            }
            _ => return self.help(),
        };
        self.command(kind);
    }

    fn edit(&mut self) -> CommandKind {
        let run = &self.h.run;
        let newest = run.proposed().or_else(|| run.current());
        let parent = newest.map_or(0, |version| version.version);
        let plan = newest.map(|version| Arc::clone(version.plan.plan()));
        let limits = run.spec().limits.clone();
        let document = match plan {
            Some(plan) => plans::changed(&mut self.rng, &plan),
            None => plans::random(&mut self.rng),
        };
        CommandKind::Edit { parent, proposal: plans::proposal(document, &limits) }
    }

    /// A person answers what the run waits for.
    pub(crate) fn help(&mut self) {
        if self.h.run.status() == Status::Paused {
            return self.command(CommandKind::Resume);
        }
        let kind = match self.h.run.waiting() {
            Some(WaitKind::PlanApproval | WaitKind::ReplanApproval) => {
                let digest = self.h.run.proposed().unwrap().envelope_digest;
                CommandKind::Approve { step: None, digest }
            }
            Some(WaitKind::StepApproval | WaitKind::Question | WaitKind::UnknownOutcome) => self.answer(),
            Some(WaitKind::ChildRun) | None => return,
        };
        self.command(kind);
    }

    fn answer(&mut self) -> CommandKind {
        let waits = |state: &StepState| {
            matches!(
                state,
                StepState::AwaitingApproval { .. } | StepState::Asking { .. } | StepState::Unknown { .. }
            )
        };
        let step = self.h.run.steps().iter().find(|step| waits(&step.state)).unwrap().clone();
        let verdicts = self.unlocked(&step.id);
        match &step.state {
            StepState::AwaitingApproval { .. } => {
                let digest = Digest::of(self.h.run.definition(step.id.as_str()).unwrap());
                CommandKind::Approve { step: Some(step.id), digest }
            }
            StepState::Asking { question: None, .. } => {
                CommandKind::Answer { step: step.id, value: Arc::new(json!("so")), verdicts }
            }
            StepState::Asking { .. } => {
                let words = ["skip", "retry", "fail"];
                let word = if self.has_faults { *self.rng.pick(&words) } else { "skip" };
                CommandKind::Answer { step: step.id, value: Arc::new(Value::from(word)), verdicts }
            }
            _ => {
                let done = step.permit.is_some_and(|permit| self.checks.was_performed(&step.id, permit));
                let resolution = match (done, self.rng.chance(20)) {
                    (_, true) => Resolution::Fail,
                    (true, false) => Resolution::Happened(Output::inline(json!({"sent": true}))),
                    (false, false) => Resolution::NotHappened,
                };
                let verdicts = match resolution {
                    Resolution::Happened(_) => verdicts,
                    Resolution::NotHappened | Resolution::Fail => Verdicts::default(),
                };
                CommandKind::Resolve { step: step.id, resolution, verdicts }
            }
        }
    }
}
