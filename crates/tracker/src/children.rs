//! Goal steps: their child runs are begun and told what to do, and tell where they stand.
//!
//! The tracker of a child run speaks to that of its parent over the bus; either may be in another
//! process. Whatever gets lost is said again: by a parent that is carried on to its child runs, and by
//! a child run that is carried on to its parent.

use std::{sync::Arc, time::Duration};

use foreplan_bus::Receipt;
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

use crate::{handle::TrackerHandle, run_actor::State, shared::Shared, supervisor::Order, working::Unbound};

/// How long a child run waits whose parent could not be told where it stands: a server that starts
/// again takes about as long.
const TELL_PAUSE: Duration = Duration::from_secs(3);

/// Where child runs are: in this process, or in a deployment.
pub trait Children: Send + Sync + 'static {
    /// Has the run created unless it is there, carried on, and say where it stands.
    ///
    /// # Errors
    ///
    /// Why it cannot be now. It is not created later either.
    fn begin(&self, run: RunId, spec: Arc<RunSpec>, by: String) -> BoxFuture<'_, Result<(), String>>;

    /// Sends a command. One that the run refuses, or that has no run, is dropped.
    fn command(&self, run: RunId, command: Command) -> BoxFuture<'_, ()>;
}

impl TrackerHandle {
    /// Has a child run say again where it stands.
    pub fn ask(&self, run: RunId) {
        let wake = Message::Input { run, input: Input::Wake };
        if self.supervisor.cast(Order::Deliver(run, wake, Receipt::none())).is_err() {
            tracing::debug!(%run, "the tracker has stopped");
        }
    }

    /// Says to a parent that the child run was not accepted: nobody carries out its step now.
    pub async fn decline(&self, parent: Parent, why: &str) {
        let Parent { run, step, attempt } = parent;
        self.shared.answer(run, step, attempt, failed(FailureKind::Unserved, UNSERVED, why)).await;
    }
}

/// What was last said of where a run stands.
#[derive(Default)]
pub(crate) struct Told {
    /// To its parent, if it has one.
    pub(crate) parent: Option<Stands>,
    /// To the journal: that it needs nobody any more.
    is_closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
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
        let command = Command { id: Uuid::now_v7(), by: own.speaks_as(), kind };
        tokio::spawn(async move { children.command(child, command).await });
    }

    /// Has the child runs that wait say again where they stand: what they last said may be lost, and the
    /// word that lets them go on. (One that goes on though it should not says so, and is told.)
    pub(crate) fn ask_children(&mut self) {
        for action in self.run.children(true) {
            if let Action::RunGoal { step, attempt, max } = action {
                if self.run.paused_by().is_none() {
                    self.tell_child(&step, attempt, ChildOrder::Resume);
                }
                self.run_goal(step, attempt, max);
            }
        }
    }

    /// Says again where the run stands, and has its child runs do so: what was said may be lost.
    pub(crate) fn say_again(&mut self) {
        self.told.parent = None;
        self.ask_children();
    }

    /// Says where the run stands if that is new: to its parent, and once the parent knows of the end, to
    /// the journal.
    pub(crate) async fn tell(&mut self) {
        // Who only records a command carries no run on, the parent neither: whoever does asks.
        if self.run.is_held() {
            return;
        }
        if let Some(parent) = self.run.spec().parent.clone() {
            self.tell_parent(parent).await;
        }
        let is_known = self.run.spec().parent.is_none() || self.told.parent == Some(Stands::Ended);
        let is_over = self.run.status().is_ended() && is_known;
        if is_over && !self.told.is_closed {
            self.shared.journal.close(self.run.id()).await;
        }
        self.told.is_closed = is_over;
    }

    async fn tell_parent(&mut self, parent: Parent) {
        let now = match self.run.status() {
            status if status.is_ended() => Stands::Ended,
            Status::Waiting | Status::Paused if self.run.is_idle() => Stands::Waits,
            _ => Stands::GoesOn,
        };
        if self.told.parent == Some(now) {
            return;
        }
        let Parent { run, step, attempt } = parent;
        let message = match now {
            Stands::Ended => {
                let reply = answer(&self.run, &self.shared, (run, step, attempt)).await;
                Message::Reply { run, reply: Reply::Step(reply) }
            }
            Stands::GoesOn | Stands::Waits => {
                let waits = now == Stands::Waits;
                Message::Input { run, input: Input::Child { step, attempt, waits } }
            }
        };
        if self.shared.publish(Subject::Tracker(run), message).await {
            self.told.parent = Some(now);
        } else {
            let later = self.shared.now().plus(TELL_PAUSE);
            let next = self.run.next_wake().map_or(later, |next| next.min(later));
            self.shared.timers.set(self.run.id(), Some(next));
        }
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
        let outcome = match (spec, shared.children.clone()) {
            (Ok(Some(spec)), Some(children)) => {
                match children.begin(child, Arc::new(spec), parent.speaks_as()).await {
                    Ok(()) => return,
                    Err(why) => failed(FailureKind::Unserved, UNSERVED, &why),
                }
            }
            (Ok(Some(_)), None) => failed(FailureKind::Unserved, UNSERVED, "nobody runs goals here"),
            (Ok(None), _) => failed(FailureKind::Plan, "no_planner", "nobody can plan this goal"),
            (Err(why), _) => failed(FailureKind::InputSchema, "unbound", &why),
        };
        shared.answer(parent, step, attempt, outcome).await;
    });
}

fn failed(kind: FailureKind, code: &str, why: &str) -> AttemptOutcome {
    AttemptOutcome::Failure(Failure::new(kind, code, why).effect(EffectState::None))
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
        worker: run.id().speaks_as(),
        claim: None,
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
