//! Actions become messages.

use std::sync::Arc;

use foreplan_core::{
    action::{Action, Dispatch},
    digest::Digest,
    event::Entry,
    failure::{EffectState, Failure, FailureKind, UNSERVED},
    fork::{DoneCall, Kept},
    id::{RunId, StepId},
    input::{AttemptOutcome, AttemptReply, Verdicts},
    review::ReviewOutcome,
    run::Run,
    tool::Effect,
    view::Status,
};
use foreplan_journal::Progress as Row;
use foreplan_protocol::{
    Cancel, Message, PermitAnswer, PlanRequest, ReplanRequest, Reply, ReviewRequest, StepRequest, StepWork,
    Subject,
};
use serde_json::Value;

use crate::{
    context::replan_context,
    fork,
    shared::{Progress, Shared},
};

/// Returns what the index keeps of a run.
pub(crate) fn progress(run: &Run) -> Row {
    let (steps_done, steps) = run.progress();
    Row {
        status: run.status(),
        waiting: run.waiting(),
        since: run.since(),
        next_wake: run.next_wake(),
        ended_at: run.ended_at(),
        steps_done,
        steps,
        replans: run.versions().len().saturating_sub(1) as u32,
    }
}

/// A step that is sent to an executor, with what it works with.
pub(crate) struct Sending {
    pub(crate) dispatch: Dispatch,
    pub(crate) work: StepWork,
    /// Irreversible calls that the run's origin has made.
    pub(crate) done: Vec<Kept>,
}

/// What asks for a step.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) run: RunId,
    /// The plan version.
    pub(crate) version: u32,
    pub(crate) project: Arc<str>,
}

impl Shared {
    /// Tells those who watch.
    pub(crate) fn tell(&self, run: RunId, entry: Arc<Entry>, status: Status) {
        if let Some(news) = self.news.get() {
            news.tell(run);
        }
        if self.progress.receiver_count() > 0 {
            let _ = self.progress.send(Progress { run, entry, status });
        }
    }

    pub(crate) async fn publish(&self, to: Subject, message: Message) -> bool {
        match self.bus.publish(to, message).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "a message was not taken");
                false
            }
        }
    }

    /// Performs an action that needs no value of the run.
    pub(crate) async fn perform(self: &Arc<Self>, run: &Run, action: Action) {
        let id = run.id();
        match action {
            Action::RequestPlan { request: 1, trigger: None } if keeps_plan(run) => {
                let (shared, spec) = (Arc::clone(self), Arc::clone(run.spec()));
                tokio::spawn(fork::propose(shared, id, 1, spec));
            }
            Action::RequestPlan { request, trigger } => {
                let context = trigger.map(|trigger| replan_context(run, trigger));
                let answers = run.plan_answers().to_vec();
                let spec = Arc::clone(run.spec());
                let message =
                    Message::Plan(Arc::new(PlanRequest { run: id, request, spec, context, answers }));
                self.publish(Subject::Planner, message).await;
            }
            Action::RequestReplan { basis, trigger } => {
                let context = replan_context(run, trigger);
                let spec = Arc::clone(run.spec());
                let message = Message::Replan(Arc::new(ReplanRequest { run: id, basis, spec, context }));
                self.publish(Subject::Replanner, message).await;
            }
            Action::CancelAttempt { step, attempt } => {
                let cancel = Message::Cancel(Cancel { run: id, step, attempt });
                self.publish(Subject::Executors, cancel).await;
            }
            Action::AnswerPermit { step, attempt, call, claim, granted } => {
                let answer = PermitAnswer { run: id, step, attempt, call, claim, granted };
                self.publish(Subject::Executors, Message::PermitAnswer(answer)).await;
            }
            Action::Evaluate { .. }
            | Action::RunStep(_)
            | Action::RequestReview { .. }
            | Action::RunGoal { .. }
            | Action::TellChild { .. } => {}
        }
    }

    /// Sends a step with its input to an executor, and returns what was sent. A step that no executor
    /// takes comes back as a failure, and the run offers it again.
    pub(crate) async fn dispatch(
        &self,
        from: Origin,
        sending: Sending,
        input: Arc<Value>,
    ) -> Option<Arc<StepRequest>> {
        let Origin { run, version, project } = from;
        let Sending { dispatch, work, done } = sending;
        if let (StepWork::Tool { tool, .. }, false) = (&work, done.is_empty()) {
            let call = DoneCall { tool: tool.clone(), input: Digest::of(input.as_ref()) };
            if let Some(kept) = done.into_iter().find(|kept| kept.call.as_ref() == Some(&call)) {
                let outcome = AttemptOutcome::Output(kept.output);
                self.answer(run, dispatch.step, dispatch.attempt, outcome).await;
                return None;
            }
        }
        let key = match (dispatch.effect, &work) {
            (Effect::Idempotent | Effect::Irreversible, StepWork::Tool { tool, .. }) => {
                Some(Digest::of_call(run, &dispatch.step, tool, &input, 0))
            }
            (Effect::Read, _) | (_, StepWork::Agent { .. }) => None,
        };
        let to = Subject::Executor(dispatch.capability.clone());
        let request = Arc::new(StepRequest {
            run,
            project,
            step: dispatch.step,
            attempt: dispatch.attempt,
            plan_version: version,
            work,
            effect: dispatch.effect,
            capability: dispatch.capability,
            input,
            idempotency_key: key,
            timeout: dispatch.timeout,
        });
        if let Err(error) = self.bus.publish(to, Message::Step(Arc::clone(&request))).await {
            let failure = Failure::new(FailureKind::Unserved, UNSERVED, error.to_string());
            let outcome = AttemptOutcome::Failure(failure.effect(EffectState::None));
            self.answer(run, request.step.clone(), request.attempt, outcome).await;
        }
        Some(request)
    }

    /// Sends a review request. One that no reviewer takes comes back without a judgement.
    pub(crate) async fn ask_reviewer(&self, request: ReviewRequest) {
        let (run, review) = (request.run, request.review);
        let asked = self.bus.publish(Subject::Reviewer, Message::Review(Arc::new(request))).await;
        let Err(error) = asked else { return };
        let reply = Reply::Review {
            review,
            by: "tracker".to_owned(),
            outcome: ReviewOutcome::Failed(Failure::new(FailureKind::Unserved, UNSERVED, error.to_string())),
            usage: foreplan_core::budget::Usage::default(),
            calls: Vec::new(),
        };
        self.publish(Subject::Tracker(run), Message::Reply { run, reply }).await;
    }

    /// Answers a step request in the place of an executor that never got it: nobody took it, or its
    /// call was made by the run that this one was forked from.
    pub(crate) async fn answer(&self, run: RunId, step: StepId, attempt: u32, outcome: AttemptOutcome) {
        let now = self.now();
        let reply = AttemptReply {
            step,
            attempt,
            outcome,
            worker: "tracker".to_owned(),
            claim: None,
            input: None,
            started_at: now,
            ended_at: now,
            usage: foreplan_core::budget::Usage::default(),
            calls: Vec::new(),
            verdicts: Verdicts::default(),
        };
        self.publish(Subject::Tracker(run), Message::Reply { run, reply: Reply::Step(reply) }).await;
    }
}

fn keeps_plan(run: &Run) -> bool {
    run.spec().origin.is_some_and(|origin| origin.keeps_plan)
}
