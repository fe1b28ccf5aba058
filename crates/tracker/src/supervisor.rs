//! The supervisor: it wakes runs, drops those that wait, and restarts actors that died.
//!
//! It owns the table of actors. The handle, the timers and the bus (for runs that are not in memory)
//! send to it. It must not touch a run's state.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use foreplan_bus::{Consumer, Receipt};
use foreplan_core::{
    action::Action,
    id::RunId,
    input::Command,
    run::{Rejection, Run},
};
use foreplan_protocol::{Message, Subject};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent, rpc::CallResult};

use crate::{
    handle::{CommandError, Standing, TrackerHandle},
    inbox::Inbox,
    run_actor::{RunActor, RunMessage, Start},
    shared::{Deps, Shared},
    timers::keep_time,
    unrecorded::JOURNAL_PAUSE,
};

/// An actor that died this often is not started again: folding the same journal would end the same.
const RESTARTS_MAX: u32 = 3;

/// What the supervisor is asked to do.
#[expect(clippy::large_enum_variant, reason = "orders are few")]
pub(crate) enum Order {
    /// Start the actor of a run that was just created.
    Begin(Box<(Run, Vec<Action>)>),
    /// Fold a run and go on with it.
    CarryOn { run: RunId, takeover: Option<String> },
    /// Fold runs whose process is gone, and go on with those that do not only wait.
    LookAfter { runs: Vec<RunId>, takeover: String, reply: RpcReplyPort<()> },
    /// Fold a run for commands only: nothing is dispatched until it is carried on.
    Attend(RunId),
    /// Try again to carry a run on whose journal could not be used.
    Again(RunId),
    /// A run was folded.
    Folded(RunId, Result<Box<Run>, NotFolded>),
    /// Hand a command to a run.
    Command { run: RunId, command: Box<Command>, reply: RpcReplyPort<Result<(), CommandError>> },
    /// A message for a run that is not in memory.
    Deliver(RunId, Message, Receipt),
    /// A run's time has come.
    Wake(RunId),
    /// A run waits: drop its actor.
    Retire(RunId),
    /// Something came up before the actor stopped.
    Unretire(RunId),
    /// Drop runs that others carry on.
    Forget(Box<dyn Fn(RunId) -> bool + Send>),
    /// Start nothing more.
    Hold(RpcReplyPort<()>),
    /// Count the attempts in flight, once every actor has read what was sent to it before.
    InFlight(RpcReplyPort<u32>),
}

/// Why a run could not be folded.
pub(crate) struct NotFolded {
    why: String,
    /// There is no such run: what came for it concerns nobody.
    is_unknown: bool,
    /// The journal may be read later.
    is_passing: bool,
}

/// Starts a tracker.
///
/// # Errors
///
/// If its actor does not start.
pub async fn spawn(deps: Deps) -> Result<TrackerHandle, ractor::SpawnErr> {
    let shared = Arc::new(Shared::new(deps));
    let (supervisor, _) = Actor::spawn(None, Supervisor, Arc::clone(&shared)).await?;
    Ok(TrackerHandle { supervisor, shared })
}

struct Supervisor;

struct State {
    shared: Arc<Shared>,
    runs: HashMap<RunId, Slot>,
    by_actor: HashMap<ActorId, RunId>,
    restarts: HashMap<RunId, u32>,
    /// Runs that are folded for commands only.
    attended: HashSet<RunId>,
    /// Runs whose journals could not be used.
    stuck: HashSet<RunId>,
    /// Runs that are folded to see whether they only wait.
    looked_at: HashSet<RunId>,
    timekeeper: tokio::task::JoinHandle<()>,
    is_held: bool,
}

enum Slot {
    /// The journal is being read; what came meanwhile waits.
    Folding(Vec<RunMessage>),
    Active(ActorRef<RunMessage>),
    /// The actor was told to stop when it is done; what came meanwhile waits for the next one.
    Retiring(ActorRef<RunMessage>, Vec<RunMessage>),
}

impl Slot {
    fn actor(&self) -> Option<ActorRef<RunMessage>> {
        match self {
            Self::Active(actor) | Self::Retiring(actor, _) => Some(actor.clone()),
            Self::Folding(_) => None,
        }
    }
}

impl Actor for Supervisor {
    type Msg = Order;
    type State = State;
    type Arguments = Arc<Shared>;

    async fn pre_start(&self, me: ActorRef<Order>, shared: Arc<Shared>) -> Result<State, ActorProcessingErr> {
        let orders = me.clone();
        let timekeeper = tokio::spawn(keep_time(Arc::clone(&shared), move |run| {
            let _ = orders.cast(Order::Wake(run));
        }));
        shared.bus.serve(Subject::Trackers, Box::new(Wakeup(me)));
        Ok(State {
            shared,
            runs: HashMap::new(),
            by_actor: HashMap::new(),
            restarts: HashMap::new(),
            attended: HashSet::new(),
            stuck: HashSet::new(),
            looked_at: HashSet::new(),
            timekeeper,
            is_held: false,
        })
    }

    async fn post_stop(&self, _: ActorRef<Order>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.timekeeper.abort();
        state.shared.bus.leave(&Subject::Trackers);
        for (run, slot) in state.runs.drain() {
            state.shared.bus.leave(&Subject::Tracker(run));
            if let Slot::Active(actor) | Slot::Retiring(actor, _) = slot {
                actor.stop(None);
            }
        }
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Order>,
        order: Order,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Begin(begin) => {
                let (run, actions) = *begin;
                let id = run.id();
                state.start(&me, run, vec![RunMessage::Begin(actions)]).await;
                tracing::debug!(run = %id, "begun");
            }
            Order::CarryOn { run, takeover } => {
                state.attended.remove(&run);
                state.send(&me, run, takeover.map_or(RunMessage::GoOn, RunMessage::Takeover));
            }
            Order::LookAfter { runs, takeover, reply } => {
                for run in runs {
                    state.attended.remove(&run);
                    if !state.runs.contains_key(&run) {
                        state.looked_at.insert(run);
                    }
                    state.send(&me, run, RunMessage::Takeover(takeover.clone()));
                }
                state.shared.standings.count(state.runs.len());
                let _ = reply.send(());
            }
            Order::Attend(run) => {
                if !state.runs.contains_key(&run) {
                    state.attended.insert(run);
                }
            }
            Order::Again(run) => {
                if state.stuck.remove(&run) {
                    state.send(&me, run, RunMessage::Begin(Vec::new()));
                }
            }
            Order::Folded(run, folded) => state.folded(&me, run, folded).await,
            Order::Command { run, command, reply } => {
                state.send(&me, run, RunMessage::Command(command, reply))
            }
            Order::Deliver(run, message, receipt) => state.send(&me, run, RunMessage::Bus(message, receipt)),
            Order::Wake(run) => state.send(&me, run, RunMessage::Wake),
            Order::Retire(run) => state.retire(run),
            Order::Unretire(run) => state.unretire(run),
            Order::Forget(whose) => state.forget(whose.as_ref()),
            Order::Hold(reply) => {
                state.is_held = true;
                for slot in state.runs.values() {
                    if let Slot::Active(actor) = slot {
                        let _ = actor.cast(RunMessage::Hold);
                    }
                }
                let _ = reply.send(());
            }
            Order::InFlight(reply) => state.count_in_flight(reply),
        }
        state.shared.standings.count(state.runs.len());
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Order>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(actor, ..) => state.stopped(&me, actor.get_id()),
            SupervisionEvent::ActorFailed(actor, error) => {
                let Some(run) = state.by_actor.remove(&actor.get_id()) else { return Ok(()) };
                tracing::error!(%run, %error, "the run's actor died");
                state.died(&me, run, &error);
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        state.shared.standings.count(state.runs.len());
        Ok(())
    }
}

impl State {
    /// Hands a message to a run, folding it first if it is not in memory.
    fn send(&mut self, me: &ActorRef<Order>, run: RunId, message: RunMessage) {
        match self.runs.entry(run) {
            Entry::Occupied(mut slot) => match slot.get_mut() {
                Slot::Folding(waiting) | Slot::Retiring(_, waiting) => waiting.push(message),
                Slot::Active(actor) => {
                    let _ = actor.cast(message);
                }
            },
            Entry::Vacant(slot) => {
                slot.insert(Slot::Folding(vec![message]));
                self.fold(me, run);
            }
        }
    }

    fn fold(&self, me: &ActorRef<Order>, run: RunId) {
        let (me, journal) = (me.clone(), Arc::clone(&self.shared.journal));
        tokio::spawn(async move {
            let folded =
                match journal.read(run, 0).await {
                    Ok(entries) => Run::replay(run, entries.iter().map(AsRef::as_ref))
                        .map(Box::new)
                        .ok_or_else(|| NotFolded {
                            why: "the journal does not begin with a submission".to_owned(),
                            is_unknown: false,
                            is_passing: false,
                        }),
                    Err(error) => Err(NotFolded {
                        is_passing: error.is_retryable(),
                        is_unknown: matches!(error, foreplan_journal::Error::NoRun(_)),
                        why: error.to_string(),
                    }),
                };
            let _ = me.cast(Order::Folded(run, folded));
        });
    }

    async fn folded(&mut self, me: &ActorRef<Order>, run: RunId, folded: Result<Box<Run>, NotFolded>) {
        let Some(Slot::Folding(waiting)) = self.runs.remove(&run) else { return };
        let is_alone = self.looked_at.remove(&run) && waiting.len() == 1;
        match folded {
            Ok(folded) if is_alone && only_waits(&folded) => {
                self.shared.timers.set(run, folded.next_wake());
                self.shared.standings.set(run, Standing::Idle(Arc::from(folded)));
            }
            Ok(folded) => {
                let is_attended = self.attended.contains(&run);
                let asked = if is_attended { Vec::new() } else { folded.outstanding() };
                let mut messages = vec![RunMessage::Begin(asked)];
                let is_taken_over = waiting.iter().any(|message| matches!(message, RunMessage::Takeover(_)));
                messages.extend(waiting);
                if !is_attended {
                    // What waits may tell of attempts; a takeover says that all of them are lost.
                    messages.extend((!is_taken_over).then_some(RunMessage::SendAgain));
                    // Steps may have become ready while the run was on hold elsewhere. A takeover, which
                    // tells what was lost, comes before.
                    messages.push(RunMessage::Wake);
                }
                self.start(me, *folded, messages).await;
            }
            Err(NotFolded { why, is_unknown, is_passing }) => {
                if is_passing {
                    self.try_again(me, run);
                }
                for message in waiting {
                    match message {
                        RunMessage::Command(_, reply) => {
                            let _ = reply.send(Err(CommandError::Stuck(why.clone())));
                        }
                        RunMessage::Bus(_, receipt) if is_unknown => receipt.settle(),
                        _ => {}
                    }
                }
                self.shared.standings.set(run, Standing::Stuck { why, lost: false });
            }
        }
    }

    async fn start(&mut self, me: &ActorRef<Order>, mut run: Run, messages: Vec<RunMessage>) {
        let id = run.id();
        if self.is_held || self.attended.contains(&id) {
            run.hold();
        }
        let start = Start { run, shared: Arc::clone(&self.shared), supervisor: me.clone() };
        match Actor::spawn_linked(None, RunActor, start, me.get_cell()).await {
            Ok((actor, _)) => {
                self.shared.standings.set(id, Standing::Active);
                let subject = Subject::Tracker(id);
                let inbox = Inbox::new(actor.clone(), subject.clone());
                self.shared.bus.serve(subject, Box::new(inbox));
                for message in messages {
                    let _ = actor.cast(message);
                }
                self.by_actor.insert(actor.get_id(), id);
                self.runs.insert(id, Slot::Active(actor));
            }
            Err(error) => {
                self.shared.standings.set(id, Standing::Stuck { why: error.to_string(), lost: false });
            }
        }
    }

    fn count_in_flight(&self, reply: RpcReplyPort<u32>) {
        let actors: Vec<_> = self.runs.values().filter_map(Slot::actor).collect();
        tokio::spawn(async move {
            let mut in_flight = 0;
            for actor in actors {
                if let Ok(CallResult::Success(own)) = actor.call(RunMessage::InFlight, None).await {
                    in_flight += own;
                }
            }
            let _ = reply.send(in_flight);
        });
    }

    fn retire(&mut self, run: RunId) {
        let Some(slot) = self.runs.remove(&run) else { return };
        let slot = match slot {
            Slot::Active(actor) => {
                self.shared.bus.leave(&Subject::Tracker(run));
                let _ = actor.cast(RunMessage::Retire);
                Slot::Retiring(actor, Vec::new())
            }
            other => other,
        };
        self.runs.insert(run, slot);
    }

    fn unretire(&mut self, run: RunId) {
        let Some(slot) = self.runs.remove(&run) else { return };
        let slot = match slot {
            Slot::Retiring(actor, waiting) => {
                let subject = Subject::Tracker(run);
                let inbox = Inbox::new(actor.clone(), subject.clone());
                self.shared.bus.serve(subject, Box::new(inbox));
                for message in waiting {
                    let _ = actor.cast(message);
                }
                Slot::Active(actor)
            }
            other => other,
        };
        self.runs.insert(run, slot);
    }

    fn forget(&mut self, whose: &dyn Fn(RunId) -> bool) {
        self.attended.retain(|run| !whose(*run));
        self.stuck.retain(|run| !whose(*run));
        for (run, slot) in self.runs.extract_if(|run, _| whose(*run)) {
            self.shared.bus.leave(&Subject::Tracker(run));
            self.shared.timers.set(run, None);
            if let Some(actor) = slot.actor() {
                self.by_actor.remove(&actor.get_id());
                actor.stop(None);
            }
            let why = "another tracker carries it on".to_owned();
            self.shared.standings.set(run, Standing::Stuck { why, lost: true });
        }
    }

    /// Forgets an actor that stopped; a run that was sent something meanwhile is folded again.
    fn stopped(&mut self, me: &ActorRef<Order>, actor: ActorId) {
        let Some(run) = self.by_actor.remove(&actor) else { return };
        self.restarts.remove(&run);
        self.shared.bus.leave(&Subject::Tracker(run));
        if let Some(Slot::Retiring(_, waiting)) = self.runs.remove(&run)
            && !waiting.is_empty()
        {
            self.runs.insert(run, Slot::Folding(waiting));
            self.fold(me, run);
        }
    }

    /// Folds a run again after a while whose journal could not be used.
    fn try_again(&mut self, me: &ActorRef<Order>, run: RunId) {
        if self.stuck.insert(run) {
            drop(me.send_after(JOURNAL_PAUSE, move || Order::Again(run)));
        }
    }

    /// Folds a run again whose actor died: of a bug at once, of its journal after a while.
    fn died(&mut self, me: &ActorRef<Order>, run: RunId, error: &ActorProcessingErr) {
        self.shared.bus.leave(&Subject::Tracker(run));
        let waiting = match self.runs.remove(&run) {
            Some(Slot::Retiring(_, waiting) | Slot::Folding(waiting)) => waiting,
            Some(Slot::Active(_)) | None => Vec::new(),
        };
        let stuck = error.downcast_ref::<foreplan_journal::Error>();
        let is_lost = matches!(stuck, Some(foreplan_journal::Error::Conflict { .. }));
        let is_shared = self.shared.is_shared.load(std::sync::atomic::Ordering::Relaxed);
        if stuck.is_some() && (!is_lost || is_shared) {
            self.try_again(me, run);
        }
        let restarts = self.restarts.entry(run).or_default();
        *restarts += u32::from(stuck.is_none());
        if stuck.is_some() || *restarts > RESTARTS_MAX {
            let why = error.to_string();
            for message in waiting {
                if let RunMessage::Command(_, reply) = message {
                    let _ = reply.send(Err(CommandError::Rejected(Rejection::NotNow(why.clone()))));
                }
            }
            if stuck.is_none() {
                self.shared.standings.set(run, Standing::Stuck { why, lost: false });
            }
            return;
        }
        self.runs.insert(run, Slot::Folding(waiting));
        self.fold(me, run);
    }
}

/// Returns whether nothing is lost with the process that carried a run on, and nobody else's run is
/// concerned.
fn only_waits(run: &Run) -> bool {
    run.is_idle() && run.spec().parent.is_none() && run.children(true).is_empty()
}

/// Takes messages for runs that are not in memory.
struct Wakeup(ActorRef<Order>);

impl Consumer for Wakeup {
    fn deliver(&self, message: Message) -> Result<(), foreplan_bus::Error> {
        self.accept(message, Receipt::none())
    }

    fn accept(&self, message: Message, receipt: Receipt) -> Result<(), foreplan_bus::Error> {
        let Some(run) = run_of(&message) else {
            receipt.settle();
            return Ok(());
        };
        self.0
            .cast(Order::Deliver(run, message, receipt))
            .map_err(|_| foreplan_bus::Error::Gone(Subject::Trackers.to_string()))
    }
}

fn run_of(message: &Message) -> Option<RunId> {
    match message {
        Message::Reply { run, .. } | Message::Input { run, .. } => Some(*run),
        Message::PermitRequest(ask) => Some(ask.run),
        Message::Plan(_)
        | Message::Replan(_)
        | Message::Review(_)
        | Message::Step(_)
        | Message::Cancel(_)
        | Message::PermitAnswer(_) => None,
    }
}
