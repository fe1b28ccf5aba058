//! An agent that serves a subject: each request is worked on by a task of its own, and one reply
//! goes to the tracker of the run.
//!
//! It owns what is in hand. The bus sends to it; it must not keep anything once a request is
//! answered. An actor that dies is started again and takes up what was in hand: nothing is lost
//! while the process lives. What is dropped with the process is asked for again by the tracker.
//!
//! ```text
//!  bus ──deliver──▶ in hand ──key──▶ worker ──spawn──▶ Agent::answer
//!                      ▲               │ restarted by        │
//!                      └───────────────┤ the keeper     Reply to the tracker
//! ```

use std::{any::Any, collections::BTreeMap, marker::PhantomData, panic::AssertUnwindSafe, sync::Arc};

use foreplan_core::id::RunId;
use foreplan_protocol::{Message, Reply, Subject};
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::JoinSet;

use crate::{Bus, Consumer, Error, Receipt, publish_patiently};

/// Requests that an agent has in hand at once: more than the runs that one process carries.
pub const REQUESTS_MAX: usize = 8 * 1024;

/// Answers requests, one at a time and without a memory.
pub trait Agent: Send + Sync + 'static {
    /// What it is asked.
    type Request: Send + Sync + 'static;

    /// Returns the subject that it serves.
    fn subject(&self) -> Subject;

    /// Takes the request, and the run that it is for, out of a message. `None`: the message comes
    /// from somebody who does not know the subject.
    fn request(&self, message: Message) -> Option<(RunId, Arc<Self::Request>)>;

    /// Answers a request.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the process stops, or its actor dies; the request is then made
    /// again.
    fn answer(&self, request: Arc<Self::Request>) -> BoxFuture<'_, Reply>;

    /// Makes the reply for a request on which [`Agent::answer`] panicked with `why`.
    fn panicked(&self, request: &Self::Request, why: &str) -> Reply;
}

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
#[error("starting the actor that serves `{subject}`")]
pub struct StartError {
    /// What it was to serve.
    pub subject: Subject,
    /// Why.
    #[source]
    pub source: ractor::SpawnErr,
}

/// An agent that serves. Dropping it lets the agent go on.
#[derive(Clone, Debug)]
pub struct Handle {
    keeper: ActorCell,
}

impl Handle {
    /// Leaves the bus, drops what is in hand, and returns once the actors have ended. Trackers ask
    /// again for what was dropped.
    pub async fn stop(&self) {
        if let Err(error) = self.keeper.stop_and_wait(None, None).await {
            tracing::debug!(%error, "the agent had stopped already");
        }
    }
}

/// Starts an agent.
///
/// # Errors
///
/// If an actor does not start.
pub async fn spawn<A: Agent>(bus: Arc<dyn Bus>, agent: A) -> Result<Handle, StartError> {
    let subject = agent.subject();
    let serving = Arc::new(Serving { bus, agent, in_hand: Mutex::default() });
    match Actor::spawn(None, Keeper(PhantomData), serving).await {
        Ok((keeper, _)) => Ok(Handle { keeper: keeper.get_cell() }),
        Err(source) => Err(StartError { subject, source }),
    }
}

/// What the actors and the tasks of an agent share.
struct Serving<A: Agent> {
    bus: Arc<dyn Bus>,
    agent: A,
    in_hand: Mutex<InHand<A::Request>>,
}

/// Requests that are not answered yet, by the order in which they came.
struct InHand<R> {
    next: u64,
    requests: BTreeMap<u64, (RunId, Arc<R>)>,
    /// Receipts of those that their bus keeps until they are answered.
    receipts: BTreeMap<u64, Receipt>,
}

impl<R> Default for InHand<R> {
    fn default() -> Self {
        Self { next: 0, requests: BTreeMap::new(), receipts: BTreeMap::new() }
    }
}

impl<R> InHand<R> {
    fn take(&mut self, key: u64) -> Receipt {
        self.requests.remove(&key);
        self.receipts.remove(&key).unwrap_or_default()
    }
}

/// Where the bus leaves requests.
struct Inbox<A: Agent> {
    serving: Arc<Serving<A>>,
    worker: ActorRef<u64>,
}

impl<A: Agent> Consumer for Inbox<A> {
    fn deliver(&self, message: Message) -> Result<(), Error> {
        self.accept(message, Receipt::none())
    }

    fn accept(&self, message: Message, receipt: Receipt) -> Result<(), Error> {
        self.serving.deliver(&self.worker, message, receipt)
    }
}

impl<A: Agent> Serving<A> {
    /// Takes a request in hand and tells the worker. Anything else on the subject is dropped.
    fn deliver(&self, worker: &ActorRef<u64>, message: Message, receipt: Receipt) -> Result<(), Error> {
        let subject = || self.agent.subject().to_string();
        let Some(request) = self.agent.request(message) else {
            tracing::warn!(subject = subject(), "a message came that is no request of this subject");
            receipt.settle();
            return Ok(());
        };
        let key = {
            let mut in_hand = self.in_hand.lock();
            if in_hand.requests.len() >= REQUESTS_MAX {
                return Err(Error::Busy(subject()));
            }
            let key = in_hand.next;
            in_hand.next += 1;
            in_hand.requests.insert(key, request);
            in_hand.receipts.insert(key, receipt);
            key
        };
        worker.cast(key).map_err(|_| {
            drop(self.in_hand.lock().take(key));
            Error::Gone(subject())
        })
    }

    async fn answer(self: Arc<Self>, key: u64) {
        let Some((run, request)) = self.in_hand.lock().requests.get(&key).cloned() else { return };
        let answering = async { self.agent.answer(Arc::clone(&request)).await };
        let reply = match AssertUnwindSafe(answering).catch_unwind().await {
            Ok(reply) => reply,
            Err(panic) => self.agent.panicked(&request, panic_text(panic.as_ref())),
        };
        let message = Message::Reply { run, reply };
        let published = publish_patiently(self.bus.as_ref(), Subject::Tracker(run), message).await;
        let receipt = self.in_hand.lock().take(key);
        match published {
            Ok(()) => receipt.settle(),
            Err(error) => {
                tracing::warn!(%run, %error, "nobody took the answer; the run asks again when resumed");
            }
        }
    }
}

/// Starts the worker again when it dies.
struct Keeper<A>(PhantomData<fn() -> A>);

struct Kept<A: Agent> {
    serving: Arc<Serving<A>>,
    worker: ActorRef<u64>,
}

impl<A: Agent> Actor for Keeper<A> {
    type Msg = ();
    type State = Kept<A>;
    type Arguments = Arc<Serving<A>>;

    async fn pre_start(
        &self,
        me: ActorRef<()>,
        serving: Arc<Serving<A>>,
    ) -> Result<Kept<A>, ActorProcessingErr> {
        let worker = start(&me, &serving).await?;
        Ok(Kept { serving, worker })
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<()>,
        event: SupervisionEvent,
        kept: &mut Kept<A>,
    ) -> Result<(), ActorProcessingErr> {
        let died = match event {
            SupervisionEvent::ActorFailed(actor, error) => Some((actor.get_id(), error.to_string())),
            SupervisionEvent::ActorTerminated(actor, ..) => {
                Some((actor.get_id(), "it was stopped".to_owned()))
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => None,
        };
        if let Some((id, why)) = died
            && id == kept.worker.get_id()
        {
            tracing::error!(subject = %kept.serving.agent.subject(), why, "an agent's actor died; starting it again");
            kept.worker = start(&me, &kept.serving).await?;
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<()>, kept: &mut Kept<A>) -> Result<(), ActorProcessingErr> {
        kept.serving.bus.leave(&kept.serving.agent.subject());
        if let Err(error) = kept.worker.stop_and_wait(None, None).await {
            tracing::debug!(%error, "the worker had stopped already");
        }
        Ok(())
    }
}

async fn start<A: Agent>(
    keeper: &ActorRef<()>,
    serving: &Arc<Serving<A>>,
) -> Result<ActorRef<u64>, ractor::SpawnErr> {
    let worker = Worker(PhantomData);
    let (worker, _) = Actor::spawn_linked(None, worker, Arc::clone(serving), keeper.get_cell()).await?;
    Ok(worker)
}

/// Lets tasks work on what is in hand. Its messages are keys of requests.
struct Worker<A>(PhantomData<fn() -> A>);

struct Working<A: Agent> {
    serving: Arc<Serving<A>>,
    /// The requests before this one were in hand when the worker started: it took them up then.
    first: u64,
    /// Dropped, and the tasks with it, when the worker ends.
    tasks: JoinSet<()>,
}

impl<A: Agent> Actor for Worker<A> {
    type Msg = u64;
    type State = Working<A>;
    type Arguments = Arc<Serving<A>>;

    async fn pre_start(
        &self,
        me: ActorRef<u64>,
        serving: Arc<Serving<A>>,
    ) -> Result<Working<A>, ActorProcessingErr> {
        let inbox = Inbox { serving: Arc::clone(&serving), worker: me };
        serving.bus.serve(serving.agent.subject(), Box::new(inbox));
        let (first, left): (u64, Vec<u64>) = {
            let in_hand = serving.in_hand.lock();
            (in_hand.next, in_hand.requests.keys().copied().collect())
        };
        let mut tasks = JoinSet::new();
        for key in left {
            tasks.spawn(Arc::clone(&serving).answer(key));
        }
        Ok(Working { serving, first, tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<u64>,
        key: u64,
        working: &mut Working<A>,
    ) -> Result<(), ActorProcessingErr> {
        while working.tasks.try_join_next().is_some() {}
        if key >= working.first {
            working.tasks.spawn(Arc::clone(&working.serving).answer(key));
        }
        Ok(())
    }
}

/// Returns what a panic said.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use foreplan_core::goal::RunSpec;
    use foreplan_protocol::{PlanOutcome, PlanRequest};
    use tokio::sync::{Semaphore, mpsc};

    use super::*;
    use crate::MemoryBus;

    const RUN: RunId = RunId(uuid::Uuid::from_u128(7));

    /// Answers once it gets leave, and counts how often it was asked.
    struct Patient {
        leave: Arc<Semaphore>,
        asked: Arc<AtomicU32>,
    }

    impl Agent for Patient {
        type Request = PlanRequest;

        fn subject(&self) -> Subject {
            Subject::Planner
        }

        fn request(&self, message: Message) -> Option<(RunId, Arc<PlanRequest>)> {
            let Message::Plan(request) = message else { return None };
            Some((request.run, request))
        }

        fn answer(&self, request: Arc<PlanRequest>) -> BoxFuture<'_, Reply> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            async move {
                self.leave.acquire().await.unwrap().forget();
                assert_ne!(request.request, 13, "an unlucky number");
                self.panicked(&request, "not at all")
            }
            .boxed()
        }

        fn panicked(&self, request: &PlanRequest, why: &str) -> Reply {
            let outcome =
                PlanOutcome::None { code: "none".to_owned(), message: why.to_owned(), findings: Vec::new() };
            let by = "patient".to_owned();
            Reply::Plan {
                request: request.request,
                by,
                outcome,
                usage: Default::default(),
                calls: Vec::new(),
            }
        }
    }

    struct Fixture {
        bus: Arc<MemoryBus>,
        leave: Arc<Semaphore>,
        asked: Arc<AtomicU32>,
        replies: mpsc::UnboundedReceiver<Message>,
        handle: Handle,
    }

    impl Fixture {
        async fn new() -> Self {
            let bus = Arc::new(MemoryBus::new());
            let (sender, replies) = mpsc::unbounded_channel();
            let tracker = move |message| sender.send(message).map_err(|_| Error::Gone("test".to_owned()));
            bus.serve(Subject::Tracker(RUN), Box::new(tracker));
            let (leave, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
            let agent = Patient { leave: Arc::clone(&leave), asked: Arc::clone(&asked) };
            let handle = spawn(bus.clone(), agent).await.unwrap();
            Self { bus, leave, asked, replies, handle }
        }

        async fn ask(&self, number: u32) -> Result<(), Error> {
            let spec = serde_json::json!({"project": "p", "goal": "g", "planner": {"kind": "derive", "produce": []}});
            let spec: RunSpec = serde_json::from_value(spec).unwrap();
            let request = PlanRequest {
                run: RUN,
                request: number,
                spec: Arc::new(spec),
                context: None,
                answers: Vec::new(),
            };
            self.bus.publish(Subject::Planner, Message::Plan(Arc::new(request))).await
        }

        /// Returns the number and the text of the next reply.
        async fn reply(&mut self) -> (u32, String) {
            let message = tokio::time::timeout(Duration::from_secs(20), self.replies.recv()).await;
            let Some(Message::Reply { reply: Reply::Plan { request, outcome, .. }, .. }) = message.unwrap()
            else {
                panic!("no reply")
            };
            let PlanOutcome::None { message, .. } = outcome else { panic!("{outcome:?}") };
            (request, message)
        }

        async fn wait_until_asked(&self, times: u32) {
            while self.asked.load(Ordering::SeqCst) < times {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn what_was_in_hand_when_the_actor_died_is_answered_by_the_next_one() {
        let mut fixture = Fixture::new().await;
        fixture.ask(1).await.unwrap();
        fixture.wait_until_asked(1).await;
        for worker in fixture.handle.keeper.get_children() {
            worker.kill();
        }
        fixture.wait_until_asked(2).await;
        fixture.leave.add_permits(2);
        assert_eq!(fixture.reply().await.0, 1);
        fixture.ask(2).await.unwrap();
        assert_eq!(fixture.reply().await.0, 2);
        assert!(fixture.replies.try_recv().is_err(), "one answer for each request");
    }

    #[tokio::test]
    async fn a_request_on_which_the_agent_panics_is_answered_and_the_next_one_too() {
        let mut fixture = Fixture::new().await;
        fixture.leave.add_permits(2);
        fixture.ask(13).await.unwrap();
        let (number, why) = fixture.reply().await;
        assert_eq!(number, 13);
        assert!(why.contains("an unlucky number"), "{why}");
        fixture.ask(14).await.unwrap();
        assert_eq!(fixture.reply().await, (14, "not at all".to_owned()));
    }

    #[tokio::test]
    async fn more_than_can_be_in_hand_is_refused_until_something_is_answered() {
        let mut fixture = Fixture::new().await;
        for number in 0..REQUESTS_MAX as u32 {
            fixture.ask(100 + number).await.unwrap();
        }
        assert_eq!(fixture.ask(1).await, Err(Error::Busy("planner".to_owned())));
        fixture.leave.add_permits(REQUESTS_MAX);
        for _ in 0..REQUESTS_MAX {
            fixture.reply().await;
        }
        fixture.leave.add_permits(1);
        let message = tokio::time::timeout(Duration::from_secs(20), async {
            while fixture.ask(2).await.is_err() {
                tokio::task::yield_now().await;
            }
        });
        message.await.unwrap();
        assert_eq!(fixture.reply().await.0, 2);
    }

    #[tokio::test]
    async fn an_agent_that_stopped_no_longer_serves() {
        let fixture = Fixture::new().await;
        fixture.ask(1).await.unwrap();
        fixture.handle.stop().await;
        fixture.handle.stop().await;
        assert_eq!(fixture.ask(2).await, Err(Error::Unserved("planner".to_owned())));
    }
}
