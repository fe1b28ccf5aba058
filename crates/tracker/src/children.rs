//! Goal steps: their child runs are begun and told what to do, and tell where they stand.
//!
//! The tracker of a child run speaks to that of its parent over the bus; either may be in another
//! process. Whatever gets lost is said again: by a parent that is carried on to its child runs, and by
//! a child run that is carried on to its parent.

use std::sync::Arc;

use foreplan_core::{
    action::{Action, ChildOrder},
    budget::StepMax,
    failure::{EffectState, Failure, FailureKind, UNSERVED},
    goal::{Parent, RunSpec},
    id::{RunId, StepId},
    input::{AttemptOutcome, AttemptReply, Command, CommandKind, Input, Verdicts},
    payload::{INLINE_BYTES_MAX, Output},
    run::Run,
    view::Status,
};
use foreplan_protocol::{Message, Reply, Subject};
use futures::future::BoxFuture;
use serde_json::Value;
use uuid::Uuid;

use crate::{run_actor::State, shared::Shared, working::Unbound};

/// Where child runs are: in this process, or in a deployment.
pub trait Children: Send + Sync + 'static {
    /// Creates the run unless it is there, and has it carried on.
    ///
    /// # Errors
    ///
    /// Why it cannot be now.
    fn begin(&self, run: RunId, spec: Arc<RunSpec>, by: String) -> BoxFuture<'_, Result<(), String>>;

    /// Sends a command. One that the run refuses, or that has no run, is dropped.
    fn command(&self, run: RunId, command: Command) -> BoxFuture<'_, ()>;
}

/// What a child run last told its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    GoesOn,
    Waits,
    Ended,
}

impl State {
    /// Makes sure that the child run of a goal step is there and carried on.
    pub(crate) fn run_goal(&mut self, step: StepId, attempt: u32, max: StepMax) {
        if let Some(input) = self.inputs.get(&step) {
            let spec = self.run.child_spec(&step, attempt, max, input);
            return begin(Arc::clone(&self.shared), self.run.id(), step, attempt, Ok(spec));
        }
        let Some(Unbound { template, values, list }) = self.unbound(&step) else { return };
        let (run, shared) = (Arc::clone(&self.run), Arc::clone(&self.shared));
        tokio::spawn(async move {
            let bound = crate::working::bind_with_item(&template, values, list, run.id(), &shared).await;
            let spec = bound.map(|input| run.child_spec(&step, attempt, max, &input));
            begin(shared, run.id(), step, attempt, spec);
        });
    }

    pub(crate) fn tell_child(&self, step: &StepId, attempt: u32, order: ChildOrder) {
        let (Some(children), own) = (self.shared.children.clone(), self.run.id()) else { return };
        let child = own.child(step, attempt);
        let kind = match order {
            ChildOrder::Cancel => {
                CommandKind::Cancel { reason: Some(format!("run {own} no longer needs it")) }
            }
            ChildOrder::Pause => CommandKind::Pause,
            ChildOrder::Resume => CommandKind::Resume,
        };
        let command = Command { id: Uuid::now_v7(), by: format!("run {own}"), kind };
        tokio::spawn(async move { children.command(child, command).await });
    }

    /// Has the child runs that wait say again where they stand: what they last said may be lost.
    pub(crate) fn ask_children(&mut self) {
        for action in self.run.children(true) {
            if let Action::RunGoal { step, attempt, max } = action {
                self.run_goal(step, attempt, max);
            }
        }
    }

    /// Tells the parent where this run stands, if it has one and that is new to it.
    pub(crate) async fn tell_parent(&mut self) {
        let Some(parent) = self.run.spec().parent.clone() else { return };
        let now = match self.run.status() {
            status if status.is_ended() => Told::Ended,
            Status::Waiting | Status::Paused if self.run.is_idle() => Told::Waits,
            _ => Told::GoesOn,
        };
        if self.told == Some(now) {
            return;
        }
        self.told = Some(now);
        let Parent { run, step, attempt } = parent;
        let message = match now {
            Told::Ended => {
                let reply = answer(&self.run, &self.shared, (run, step, attempt)).await;
                Message::Reply { run, reply: Reply::Step(reply) }
            }
            Told::GoesOn | Told::Waits => {
                let waits = now == Told::Waits;
                Message::Input { run, input: Input::Child { step, attempt, waits } }
            }
        };
        self.shared.publish(Subject::Tracker(run), message).await;
    }
}

/// Begins a child run; one that cannot be begun is offered again, as a step is that nobody serves.
fn begin(
    shared: Arc<Shared>,
    parent: RunId,
    step: StepId,
    attempt: u32,
    spec: Result<Option<RunSpec>, String>,
) {
    tokio::spawn(async move {
        let child = parent.child(&step, attempt);
        let failed = |kind: FailureKind, code: &str, why: &str| {
            let failure = Failure::new(kind, code, why).effect(EffectState::None);
            shared.answer(parent, step.clone(), attempt, AttemptOutcome::Failure(failure))
        };
        let begun = match (spec, shared.children.clone()) {
            (Ok(Some(spec)), Some(children)) => {
                children.begin(child, Arc::new(spec), format!("run {parent}")).await
            }
            (Ok(Some(_)), None) => Err("nobody runs goals here".to_owned()),
            (Ok(None), _) => {
                return failed(FailureKind::Plan, "no_planner", "nobody can plan this goal").await;
            }
            (Err(why), _) => {
                return failed(FailureKind::InputSchema, "unbound", &why).await;
            }
        };
        match begun {
            // It may have said where it stands before anybody listened.
            Ok(()) => {
                let wake = Message::Input { run: child, input: Input::Wake };
                shared.publish(Subject::Tracker(child), wake).await;
            }
            Err(why) => {
                failed(FailureKind::Unserved, UNSERVED, &why).await;
            }
        }
    });
}

/// Makes the reply of an attempt that an ended run carried out.
async fn answer(run: &Run, shared: &Shared, (parent, step, attempt): (RunId, StepId, u32)) -> AttemptReply {
    let outcome = match run.failure_of_goal() {
        Some(failure) => AttemptOutcome::Failure(failure),
        None => match result(run, shared, parent).await {
            Ok(output) => AttemptOutcome::Output(output),
            Err(why) => AttemptOutcome::Failure(Failure::new(FailureKind::Plan, "no_result", why)),
        },
    };
    AttemptReply {
        step,
        attempt,
        outcome,
        worker: format!("run {}", run.id()),
        input: None,
        started_at: run.created_at(),
        ended_at: run.ended_at().unwrap_or_else(|| run.at()),
        usage: run.usage(),
        calls: Vec::new(),
        verdicts: Verdicts::default(),
    }
}

/// Returns a run's result as its parent keeps it.
async fn result(run: &Run, shared: &Shared, parent: RunId) -> Result<Output, String> {
    let payloads = shared.payloads.as_ref();
    let value = crate::result(run, payloads).await?.unwrap_or(Value::Null);
    if value.to_string().len() <= INLINE_BYTES_MAX {
        return Ok(Output::inline(value));
    }
    let kept = payloads.put(parent, Arc::new(value)).await.map_err(|error| error.to_string())?;
    Ok(Output::Payload(kept))
}
