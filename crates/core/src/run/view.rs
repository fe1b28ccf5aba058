//! A run as people and programs see it.

use serde_json::Value;

use super::{
    query::wait_kind,
    state::{PlanVersion, Run, StepRun, StepState},
};
use crate::{
    digest::Digest,
    event::RunFailure,
    forecast::forecast,
    id::PLAN_STEP,
    plan::{Step, StepKind},
    view::{
        JournalView, PlanStepView, PlanView, ReplanView, RunView, Status, StepStatus, StepView, UsageView,
        WaitKind, WaitView,
    },
};

impl Run {
    /// Returns the run as `show` prints it. The result and the end of the journal come from the
    /// shell, which has the payloads and the hashes.
    #[must_use]
    pub fn view(&self, result: Option<Value>, journal: JournalView) -> RunView {
        let waiting = self.waits_view();
        RunView {
            run: self.id,
            project: self.spec.project.clone(),
            goal: self.spec.goal.clone(),
            params: self.spec.params.clone(),
            status: self.status(),
            created_at: self.created_at,
            ended_at: self.ended_at(),
            reason: self.reason(),
            waiting_for: waiting.first().cloned(),
            waiting,
            plan: self.proposed().or_else(|| self.current()).map(|version| self.plan_view(version)),
            steps: self.steps.iter().enumerate().map(|(at, step)| self.step_view(at as u32, step)).collect(),
            replans: self.versions.iter().skip(1).map(replan_view).collect(),
            reviews: self.reviews_view(),
            parent: self.spec.parent.clone(),
            result,
            origin: self.spec.origin,
            usage: UsageView {
                model_calls: self.usage.model_calls,
                react_calls_at_least: self.usage.tool_calls + 1,
                input_tokens: self.usage.input_tokens,
                output_tokens: self.usage.output_tokens,
                cost_microusd: self.usage.cost_microusd,
            },
            journal,
        }
    }

    /// Returns why the run failed, was ended, or is paused.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let Some(end) = &self.end else {
            return self.paused.as_ref().map(|by| format!("paused: {by}"));
        };
        match &end.failure {
            None => end.reason.clone(),
            Some(RunFailure::NoPlan { message, .. } | RunFailure::Decided { message, .. }) => {
                Some(message.clone())
            }
            Some(RunFailure::Step { step, message }) => Some(format!("step `{step}` failed: {message}")),
            Some(RunFailure::Budget { limit }) => Some(format!("the limit `{limit}` was reached")),
            Some(RunFailure::ApprovalTimeout) => Some("nobody answered in time".to_owned()),
        }
    }

    /// Returns why the run failed, if it did.
    #[must_use]
    pub fn run_failure(&self) -> Option<&RunFailure> {
        self.end.as_ref().and_then(|end| end.failure.as_ref())
    }

    fn waits_view(&self) -> Vec<WaitView> {
        let mut waits = Vec::new();
        if self.end.is_some() {
            return waits;
        }
        if let Some((proposed, since)) = self.proposed.as_ref().and_then(|p| Some((p, p.asked_at?))) {
            waits.push(WaitView {
                kind: self.plan_wait(),
                step: None,
                child: None,
                digest: Some(proposed.version.envelope_digest),
                question: None,
                schema: None,
                since,
                commands: Vec::new(),
            });
        }
        waits.extend(self.plan_question.as_ref().map(|asked| WaitView {
            kind: WaitKind::Question,
            step: PLAN_STEP.parse().ok(),
            child: None,
            digest: None,
            question: Some(asked.question.clone()),
            schema: None,
            since: asked.since,
            commands: Vec::new(),
        }));
        waits.extend(self.waits.iter().filter_map(|at| self.step_wait(*at)));
        waits
    }

    fn step_wait(&self, at: u32) -> Option<WaitView> {
        let step = &self.steps[at as usize];
        let definition = self.step_definition(at)?;
        let human = match definition.kind() {
            Some(StepKind::Human(human)) => Some(human),
            _ => None,
        };
        let (since, digest, question, schema) = match &step.state {
            StepState::AwaitingApproval { since } => (*since, Some(Digest::of(definition)), None, None),
            StepState::Asking { since, question: Some(question) } => {
                let schema = serde_json::json!({"enum": ["retry", "skip", "fail"]});
                (*since, None, Some(question.clone()), Some(schema))
            }
            StepState::Asking { since, question: None } => {
                (*since, None, human.map(|h| h.question.clone()), human.and_then(|h| h.answer.clone()))
            }
            StepState::Unknown { since } => {
                let question = format!("did `{}` happen? {}", step.id, failure_text(step));
                (*since, None, Some(question), None)
            }
            StepState::Child { attempt, waits: Some(since) } => {
                let question = format!("run {} waits", self.id.child(&step.id, *attempt));
                (*since, None, Some(question), None)
            }
            _ => return None,
        };
        let kind = wait_kind(&step.state)?;
        Some(WaitView {
            kind,
            step: Some(step.id.clone()),
            child: self.child_of(at).filter(|_| kind == WaitKind::ChildRun),
            digest,
            question,
            schema,
            since,
            commands: Vec::new(),
        })
    }

    fn step_view(&self, at: u32, step: &StepRun) -> StepView {
        let (output, reason) = match &step.state {
            StepState::Succeeded(output) => (Some(output.to_value()), None),
            StepState::Skipped { reason } => (None, Some(reason.clone())),
            _ => (None, None),
        };
        StepView {
            id: step.id.clone(),
            status: self.step_status(&step.state),
            attempts: step.attempts,
            plan_version: step.plan_version,
            worker: step.worker.clone(),
            started_at: step.started_at,
            ended_at: step.ended_at,
            verified: output.is_some() && self.is_gated(at),
            output,
            child: self.child_of(at),
            failure: step.failure.clone(),
            reason,
        }
    }

    fn plan_view(&self, version: &PlanVersion) -> PlanView {
        let step_view = |(at, step): (usize, &Step)| {
            let sealed = step.tool.as_ref().and_then(|tool| version.envelope.tools.get(tool));
            let deps = &version.plan.node(at as u32).deps;
            PlanStepView {
                id: step.id.clone(),
                title: step.label().to_owned(),
                tool: step.tool.clone(),
                capability: step.capability.clone().or_else(|| match version.envelope.agents.get(&step.id) {
                    Some(agent) => Some(agent.capability.clone()),
                    None => sealed?.capabilities.first().cloned(),
                }),
                effect: version.envelope.effect_of(step),
                needs: deps.iter().map(|dep| version.plan.step(*dep).id.clone()).collect(),
            }
        };
        PlanView {
            version: version.version,
            digest: version.plan.digest(),
            steps: version.plan.steps().iter().enumerate().map(step_view).collect(),
            forecast: forecast(&version.plan, &version.envelope, self.spec.review.as_ref()),
        }
    }

    fn is_gated(&self, at: u32) -> bool {
        let Some(step) = self.step_definition(at) else { return false };
        let tool = step.tool.as_ref().and_then(|tool| self.versions.last()?.envelope.tools.get(tool));
        step.expect.is_some()
            || step.output.is_some()
            || step.human.as_ref().is_some_and(|h| h.answer.is_some())
            || tool.is_some_and(|sealed| sealed.gated)
    }

    /// Returns where a step in this state stands, as `show` names it.
    #[must_use]
    pub fn step_status(&self, state: &StepState) -> StepStatus {
        match state {
            StepState::Blocked { .. } | StepState::Evaluating | StepState::Queued => StepStatus::Pending,
            StepState::Running { .. }
            | StepState::Child { waits: None, .. }
            | StepState::Reviewing { .. }
            | StepState::Backoff { .. }
            | StepState::Expanded { .. }
            | StepState::Faltered => StepStatus::Running,
            StepState::AwaitingApproval { .. }
            | StepState::Asking { .. }
            | StepState::Child { waits: Some(_), .. }
            | StepState::Unknown { .. } => StepStatus::Waiting,
            StepState::Succeeded(_) => StepStatus::Succeeded,
            StepState::Failed => StepStatus::Failed,
            StepState::Skipped { .. } => StepStatus::Skipped,
            StepState::Superseded => match self.end.as_ref().map(|end| end.status) {
                Some(Status::Cancelled | Status::Rejected) => StepStatus::Cancelled,
                _ => StepStatus::Superseded,
            },
        }
    }
}

fn failure_text(step: &StepRun) -> String {
    step.failure.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn replan_view(version: &PlanVersion) -> ReplanView {
    ReplanView {
        version: version.version,
        trigger: version.trigger.clone(),
        step: version.step.clone(),
        decision: version.decision.clone(),
        by: version.by.clone(),
        reason: version.reason.clone(),
    }
}
