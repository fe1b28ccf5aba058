//! The meaning of every event: how it changes the state. Never calls policy, evaluates nothing, and
//! is the same for live runs and for folding.

use std::sync::Arc;

use super::{
    cause::Origin,
    state::{End, PlanQuestion, PlanReview, PlanVersion, Proposed, Replan, Run, StepState, Timer},
};
use crate::{
    action::Trigger,
    budget::StepMax,
    call::Occurrence,
    digest::Digest,
    event::{Event, Gate},
    id::{PLAN_STEP, StepId},
    input::{Asker, Command, CommandKind, Input, PlanAnswer, Proposal},
    time::Timestamp,
    view::Status,
};

impl Run {
    /// Applies one event of an entry whose cause is `cause`.
    pub(super) fn apply(&mut self, at: Timestamp, cause: &Input, event: &Event) {
        if !std::mem::replace(&mut self.usage_counted, true) {
            self.usage.add(&cause.used().0);
        }
        match event {
            Event::RunAccepted => {
                if let Input::Submit { kept, .. } = cause {
                    self.take_over(kept);
                }
                if let Some(deadline) = self.spec.limits.deadline {
                    self.timers.insert((at.plus(deadline), Timer::Deadline));
                }
            }
            Event::PlanRequested { request } => self.plan_requested(*request, cause),
            Event::PlanRefused { .. } => self.plan_refused(),
            Event::PlanProposed { version, parent, envelope, .. } => {
                self.plan_proposed(*version, *parent, *envelope, cause);
            }
            Event::ReviewRequested { review, of } => self.review_requested(at, *review, of, cause),
            Event::Reviewed { review, .. } => self.judged(at, *review, cause),
            Event::ApprovalRequested { gate, .. } => self.approval_requested(at, gate),
            Event::ApprovalGranted { gate, by } => self.approval_granted(gate, by),
            Event::PlanAdopted { .. } => self.adopt(at),
            Event::StepSkipped { step, reason } => {
                self.change(step, StepState::Skipped { reason: reason.clone() });
            }
            Event::StepExpanded { step, items } => self.expand(step, *items),
            Event::StepReady { step } => self.change(step, StepState::Queued),
            Event::StepReused { step } => self.reuse(step),
            Event::QuestionAsked { step, question } => self.question_asked(at, step, question.as_ref()),
            Event::QuestionAnswered { step, by } => self.question_answered(step, by, cause),
            Event::AttemptStarted { step, attempt, verify } => {
                self.attempt_started(at, step, *attempt, *verify)
            }
            Event::EffectPermitted { step, attempt, call } => {
                self.permitted(step, *attempt, call.as_ref(), cause);
            }
            Event::ChildWaits { step, .. } => self.child_moved(step, Some(at)),
            Event::ChildGoesOn { step, .. } => self.child_moved(step, None),
            Event::AttemptSucceeded { step, .. } => self.attempt_succeeded(step, cause),
            Event::AttemptFailed { step, failure, .. } => {
                self.attempt_failed(at, step, failure.as_ref(), cause)
            }
            Event::LateResultRecorded { step, attempt } => {
                self.answered.insert((step.clone(), *attempt));
            }
            Event::RetryScheduled { step, at } => self.change(step, StepState::Backoff { until: *at }),
            Event::OutcomeUnknown { step } => self.change(step, StepState::Unknown { since: at }),
            Event::OutcomeResolved { step, happened: Some(false), .. } => {
                self.update(step, |s| s.permit = None);
            }
            Event::StepSucceeded { step } => self.step_succeeded(at, step, cause),
            Event::StepFailed { step, failure } => self.step_failed(step, failure),
            Event::StepRetried { step } => self.step_retried(step),
            Event::ReplanRequested { step } => self.replan_requested(step.as_ref()),
            Event::ReplanDecided { decision } => self.replan_decided(decision, cause),
            Event::ReplanRefused { reason } => {
                self.replans_used += 1;
                self.replan_reason = Some(format!("a patch was refused: {reason}"));
            }
            Event::GoalRevised { .. } => self.revise(cause),
            Event::RunPaused { by } => self.paused = Some(by.clone()),
            Event::RunResumed { .. } => self.paused = None,
            Event::RunReopened { .. } => self.reopen(cause),
            Event::OutcomeResolved { .. } | Event::OwnerChanged { .. } | Event::RunForked { .. } => {}
            Event::RunSucceeded
            | Event::RunFailed { .. }
            | Event::RunCancelled { .. }
            | Event::RunRejected { .. } => self.end_with(at, event),
        }
    }

    fn permitted(&mut self, step: &StepId, attempt: u32, call: Option<&Occurrence>, cause: &Input) {
        self.permits.insert((step.clone(), attempt));
        let asker = if let Input::Permit { asker, .. } = cause { asker.clone() } else { Asker::default() };
        self.update(step, |s| {
            s.permit = Some(attempt);
            s.holder = asker;
            s.permitted_calls = call.map_or(0, |call| call.call);
        });
    }

    fn end_with(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::RunSucceeded => self.ended(at, Status::Succeeded, None, None),
            Event::RunFailed { reason } => self.ended(at, Status::Failed, Some(reason.clone()), None),
            Event::RunCancelled { reason, .. } => self.ended(at, Status::Cancelled, None, reason.clone()),
            Event::RunRejected { reason, .. } => self.ended(at, Status::Rejected, None, Some(reason.clone())),
            _ => {}
        }
    }

    /// Ends an entry: counts it, and keeps the books that depend on the status.
    pub(super) fn seal(&mut self, at: Timestamp, cause: &Input) {
        self.seq += 1;
        self.at = at;
        self.fresh.clear();
        self.usage_counted = false;
        if let Input::Command(command) = cause {
            self.commands.insert(command.id);
        }
        let status = self.status();
        if status != self.last_status {
            self.last_status = status;
            self.since = at;
        }
        let is_active = matches!(status, Status::Planning | Status::Running | Status::Replanning);
        match (self.active_since, is_active) {
            (None, true) => {
                self.active_since = Some(at);
                self.timers.insert((self.wall_time_end(at), Timer::WallTime));
            }
            (Some(since), false) => {
                self.timers.remove(&(self.wall_time_end(since), Timer::WallTime));
                self.active += at.since(since);
                self.active_since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    fn wall_time_end(&self, since: Timestamp) -> Timestamp {
        since.plus(self.spec.limits.wall_time.saturating_sub(self.active))
    }

    fn plan_requested(&mut self, request: u32, cause: &Input) {
        let trigger = match cause {
            Input::Command(command) if matches!(command.kind, CommandKind::Revise { .. }) => {
                self.replan_reason = None;
                Some(Arc::new(Trigger::GoalRevised))
            }
            _ => {
                let asked = self.plan_question.take().and_then(|asked| asked.trigger);
                self.replan.take().map(|r| r.trigger).or(asked)
            }
        };
        self.close_question();
        self.plan_requests = request;
        self.plan_request = Some((request, trigger));
        self.replan = None;
        self.withdraw_proposal();
    }

    fn question_asked(&mut self, at: Timestamp, step: &StepId, question: Option<&String>) {
        if let (PLAN_STEP, Some(question)) = (step.as_str(), question) {
            let trigger = self.plan_request.take().and_then(|(_, trigger)| trigger);
            self.withdraw_proposal();
            self.plan_question = Some(PlanQuestion { question: question.clone(), since: at, trigger });
            self.timers.insert((at.plus(self.spec.approval.timeout), Timer::StepWait(step.clone())));
            return;
        }
        self.close_replan(step);
        self.change(step, StepState::Asking { since: at, question: question.cloned() });
    }

    fn question_answered(&mut self, step: &StepId, by: &str, cause: &Input) {
        let Input::Command(Command { kind: CommandKind::Answer { value, .. }, .. }) = cause else { return };
        let Some(asked) = self.plan_question.as_ref().filter(|_| step.as_str() == PLAN_STEP) else { return };
        let question = asked.question.clone();
        self.plan_answers.push(PlanAnswer { question, answer: Arc::clone(value), by: by.to_owned() });
    }

    fn close_question(&mut self) {
        self.plan_question = None;
        self.timers
            .retain(|(_, timer)| !matches!(timer, Timer::StepWait(step) if step.as_str() == PLAN_STEP));
    }

    fn withdraw_proposal(&mut self) {
        let Some(proposed) = self.proposed.take() else { return };
        self.timers.retain(|(_, timer)| match timer {
            Timer::Approval => false,
            Timer::Attempt(step, _) => !proposed.checks.contains_key(step),
            Timer::Review(review) => !proposed.review.is_open(*review),
            Timer::Retry(_) | Timer::StepWait(_) | Timer::WallTime | Timer::Deadline => true,
        });
        self.in_flight -= proposed.checks.len() as u32;
        self.reviews_open.retain(|review, _| !proposed.review.is_open(*review));
    }

    fn plan_refused(&mut self) {
        self.plan_request = None;
        self.withdraw_proposal();
        self.recall_failures();
    }

    /// Brings back the failed steps whose replan came to nothing.
    fn recall_failures(&mut self) {
        for at in 0..self.versions.last().map_or(0, |v| v.plan.steps().len() as u32) {
            let step = &self.steps[at as usize];
            let is_open = step.state == StepState::Failed && !self.failures.contains(&step.id);
            if is_open && self.asks_replanner(at) {
                self.failures.push_back(self.steps[at as usize].id.clone());
            }
        }
    }

    fn plan_proposed(&mut self, version: u32, parent: Option<u32>, envelope_digest: Digest, cause: &Input) {
        self.withdraw_proposal();
        self.close_question();
        self.proposals = version;
        let request = self.plan_request.take();
        let why = self.replan_reason.take();
        let Some(mut origin) = Origin::of(cause, request.and_then(|(_, trigger)| trigger), why) else {
            return;
        };
        let replan = self.replan.take();
        if let (Some(replan), Input::Replanned(_)) = (replan, cause) {
            origin.trigger = replan.trigger.name().to_owned();
            origin.step = replan.trigger.step().cloned();
        }
        let Proposal::Valid { plan, envelope, findings } = origin.proposal else { return };
        self.proposed = Some(Proposed {
            version: PlanVersion {
                version,
                parent,
                plan: Arc::clone(plan),
                envelope: Arc::clone(envelope),
                envelope_digest,
                trigger: origin.trigger,
                step: origin.step,
                decision: origin.decision,
                by: origin.by,
                reason: origin.reason,
                approved_by: None,
                adopted_at: None,
            },
            checks: std::collections::BTreeMap::new(),
            findings: findings.clone(),
            review: PlanReview::None,
            asked_at: None,
        });
    }

    fn approval_requested(&mut self, at: Timestamp, gate: &Gate) {
        match gate {
            Gate::Plan | Gate::Replan => {
                if let Some(proposed) = &mut self.proposed {
                    proposed.asked_at = Some(at);
                    self.timers.insert((at.plus(self.spec.approval.timeout), Timer::Approval));
                }
            }
            Gate::Step(step) => self.change(step, StepState::AwaitingApproval { since: at }),
        }
    }

    fn approval_granted(&mut self, gate: &Gate, by: &str) {
        match gate {
            Gate::Plan | Gate::Replan => {
                if let Some(proposed) = &mut self.proposed {
                    proposed.version.approved_by = Some(by.to_owned());
                    self.timers.retain(|(_, timer)| *timer != Timer::Approval);
                }
            }
            Gate::Step(step) => {
                self.update(step, |s| s.approved = true);
                self.change(step, StepState::Evaluating);
            }
        }
    }

    pub(super) fn close_replan(&mut self, step: &StepId) {
        if self.replan.as_ref().is_some_and(|r| r.trigger.step() == Some(step)) {
            self.replan = None;
        }
    }

    fn replan_requested(&mut self, step: Option<&StepId>) {
        let Some(step) = step else { return };
        self.failures.retain(|failed| failed != step);
        *self.replans_of.entry(step.clone()).or_default() += 1;
        let failure = self.position(step.as_str()).and_then(|at| self.steps[at as usize].failure.clone());
        let Some(failure) = failure else { return };
        let trigger = Arc::new(Trigger::StepFailed { step: step.clone(), failure });
        self.replan = Some(Replan { basis: self.seq, trigger });
    }

    fn replan_decided(&mut self, decision: &str, cause: &Input) {
        let Input::Replanned(reply) = cause else { return };
        if let Some(rule) = reply.rule {
            *self.rule_uses.entry(rule).or_default() += 1;
        }
        self.replan_reason = (decision == "full_replan").then(|| reply.reason.clone());
        match decision {
            "patch" | "new_plan" | "full_replan" => self.replans_used += 1,
            _ => self.replan = None,
        }
    }

    fn revise(&mut self, cause: &Input) {
        let Input::Command(command) = cause else { return };
        let CommandKind::Revise { goal, produce, params } = &command.kind else { return };
        let spec = Arc::make_mut(&mut self.spec);
        if let Some(goal) = goal {
            spec.goal.clone_from(goal);
        }
        if let (Some(wanted), crate::goal::PlannerSpec::Derive { produce }) = (produce, &mut spec.planner) {
            produce.clone_from(wanted);
        }
        self.params_changed |= params.iter().any(|(name, value)| spec.params.get(name) != Some(value));
        spec.params.extend(params.clone());
    }

    fn ended(
        &mut self,
        at: Timestamp,
        status: Status,
        failure: Option<crate::event::RunFailure>,
        reason: Option<String>,
    ) {
        self.end = Some(End { status, at, failure, reason });
        self.paused = None;
        self.plan_request = None;
        self.plan_question = None;
        self.replan = None;
        self.proposed = None;
        self.failures.clear();
        self.timers.clear();
        self.reviews_open.clear();
        self.queue.clear();
        self.evaluating.clear();
        self.fresh.clear();
        self.waits.clear();
        self.in_flight = 0;
        self.reservations.clear();
        self.reserved = StepMax::default();
        self.backing_off = 0;
        if let Some(since) = self.active_since.take() {
            self.active += at.since(since);
        }
        for step in &mut self.steps {
            match step.state {
                StepState::Succeeded(_) | StepState::Skipped { .. } | StepState::Failed => {}
                _ => step.state = StepState::Superseded,
            }
        }
    }
}
