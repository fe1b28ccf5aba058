//! The bus over a server: requests become work, replies and commands go to a run's shard.
//!
//! What a process serves itself is in a table like that of the bus in memory. Work is pulled, one
//! message for each free slot; what reaches runs comes by [`Shards`](crate::Shards).

use std::{
    collections::{BTreeMap, HashMap},
    error::Error as _,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_nats::{
    HeaderMap,
    jetstream::{self, context::PublishError, message::PublishMessage},
};
use foreplan_bus::{Bus, Consumer, Error, MemoryBus, Receipt};
use foreplan_core::{
    id::ClaimId,
    id::{Capability, RunId},
    input::Input,
    payload::ENTRY_BYTES_MAX,
};
use foreplan_protocol::{
    Cancel, Frame, Message, Reply, Subject,
    wire::{Worker, task_of},
};
use futures::{StreamExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    Connection,
    error::chain,
    hands::{Hands, Piece},
    lease::Leases,
};

/// The header that names the worker who asks for a permit.
const WORKER: &str = "Foreplan-Worker";

/// Permit requests whose worker is remembered: more than can be in hand at once. The oldest are
/// forgotten; their workers ask again.
const ASKED_MAX: usize = 64 * 1024;

/// How long a message is sent again to a server that does not answer: longer than one takes to start,
/// or a cluster to choose a leader. Its id makes a repetition harmless.
pub(crate) const OUTAGE_MAX: Duration = Duration::from_secs(30);

/// Between two tries.
pub(crate) const OUTAGE_PAUSE: Duration = Duration::from_millis(250);

/// Who uses the bus.
#[derive(Clone, Debug)]
pub struct BusOptions {
    /// The name of this process, unique in the deployment.
    pub worker: String,
    /// The project whose capabilities this process serves.
    pub project: String,
}

impl BusOptions {
    /// Makes the options of a process that serves a project.
    #[must_use]
    pub fn new(worker: impl Into<String>, project: impl Into<String>) -> Self {
        Self { worker: worker.into(), project: project.into() }
    }
}

/// The bus of a deployment. Copies are the same bus.
#[derive(Clone)]
pub struct NatsBus {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) connection: Connection,
    pub(crate) options: BusOptions,
    /// Who serves what in this process.
    pub(crate) local: MemoryBus,
    serving: Mutex<HashMap<Subject, CancellationToken>>,
    asked: Mutex<HashMap<(Piece, Option<ClaimId>), String>>,
    /// What this process works on.
    pub(crate) hands: Hands,
    /// What leases are made with, where a tracker runs.
    pub(crate) leases: OnceLock<Leases>,
    /// How many messages were refused, by why.
    refused: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) tasks: TaskTracker,
}

impl NatsBus {
    /// Makes the bus of this process.
    #[must_use]
    pub fn new(connection: Connection, options: BusOptions) -> Self {
        let inner = Inner {
            connection,
            options,
            local: MemoryBus::new(),
            serving: Mutex::default(),
            asked: Mutex::default(),
            hands: Hands::default(),
            leases: OnceLock::new(),
            refused: Mutex::default(),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns how many messages this process refused, and kept as dead, by why: `unreadable`,
    /// `misdirected`, `forged`, `invalid_tool`.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.inner.refused.lock().clone()
    }

    /// Takes no more work, and waits until what is in hand is answered.
    pub async fn drain(&self) {
        for (_, leave) in self.inner.serving.lock().drain() {
            leave.cancel();
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Bus for NatsBus {
    fn publish(&self, to: Subject, message: Message) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.inner.publish(to, message).await })
    }

    fn serve(&self, subject: Subject, consumer: Box<dyn Consumer>) {
        let consumer: Arc<dyn Consumer> = consumer.into();
        let worker = match &subject {
            Subject::Tracker(_) | Subject::Trackers => None,
            Subject::Planner => Some(Worker::Planner),
            Subject::Replanner => Some(Worker::Replanner),
            Subject::Reviewer => Some(Worker::Reviewer),
            Subject::Executor(capability) => Some(self.inner.executor(capability)),
            Subject::Executors => {
                let leave = self.inner.begin(&subject);
                let inner = Arc::clone(&self.inner);
                self.inner.tasks.spawn(inner.listen(consumer, leave));
                return;
            }
        };
        match worker {
            None => self.inner.local.serve(subject, Box::new(Shared(consumer))),
            Some(worker) => {
                let leave = self.inner.begin(&subject);
                let inner = Arc::clone(&self.inner);
                self.inner.tasks.spawn(crate::pull::serve(inner, worker, consumer, leave));
            }
        }
    }

    fn bury<'a>(&'a self, why: &'static str, message: &'a Message) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Some((run, task, number)) = task_of(message) else { return };
            let frame = Frame::new(Uuid::now_v7(), message.clone());
            match frame.encode() {
                Ok(bytes) => self.inner.bury(why, &format!("{run}.{task}.{number}"), &bytes).await,
                Err(error) => tracing::warn!(%run, %error, "what cannot be processed could not be kept"),
            }
        })
    }

    fn leave(&self, subject: &Subject) {
        self.inner.local.leave(subject);
        if let Some(leave) = self.inner.serving.lock().remove(subject) {
            leave.cancel();
        }
    }
}

impl Inner {
    /// Returns the token that ends serving a subject, in the place of any earlier one.
    fn begin(&self, subject: &Subject) -> CancellationToken {
        let leave = CancellationToken::new();
        if let Some(earlier) = self.serving.lock().insert(subject.clone(), leave.clone()) {
            earlier.cancel();
        }
        leave
    }

    fn executor(&self, capability: &Capability) -> Worker {
        Worker::Executor { project: self.options.project.clone(), capability: capability.clone() }
    }

    async fn publish(&self, to: Subject, message: Message) -> Result<(), Error> {
        match &to {
            Subject::Planner => self.work(&to, &Worker::Planner, message).await,
            Subject::Replanner => self.work(&to, &Worker::Replanner, message).await,
            Subject::Reviewer => self.work(&to, &Worker::Reviewer, message).await,
            Subject::Executor(capability) => {
                let project = match &message {
                    Message::Step(request) => request.project.to_string(),
                    _ => self.options.project.clone(),
                };
                let worker = Worker::Executor { project, capability: capability.clone() };
                self.work(&to, &worker, message).await
            }
            Subject::Executors => self.hint(&to, message).await,
            Subject::Tracker(_) | Subject::Trackers => self.reply(&to, message).await,
        }
    }

    /// Queues work. What is queued already is not queued again.
    async fn work(&self, to: &Subject, worker: &Worker, message: Message) -> Result<(), Error> {
        let Some((run, task, number)) = task_of(&message) else { return Err(misdirected(to)) };
        let subject = self.connection.names.work(worker, run, &task, number);
        let id = format!("{run}/{task}/{number}");
        let lease = self.leases.get().map(|leases| leases.of(run, &task, number));
        let letter = Letter { id, lease, headers: HeaderMap::new() };
        match self.send(to, subject, message, letter).await {
            Err(Error::Busy(_)) if self.is_queued(worker, run, &task, number).await => Ok(()),
            sent => sent,
        }
    }

    /// Returns whether work is queued or in hand: its subject takes one message only.
    async fn is_queued(&self, worker: &Worker, run: RunId, task: &str, number: u64) -> bool {
        let Ok(stream) = self.connection.stream("WORK").await else { return false };
        let subject = self.connection.names.work(worker, run, task, number);
        matches!(crate::read::last(&stream, &subject).await, Ok(Some(_)))
    }

    /// Sends what a worker answers or asks, or what a tracker tells another's run, to the shard of the run.
    async fn reply(&self, to: &Subject, message: Message) -> Result<(), Error> {
        let Some((run, task, number)) = task_of(&message) else { return Err(misdirected(to)) };
        let held = self.hands.lease(&(run, task.clone(), number));
        let kind = match &message {
            // An agent step asks once for each of its calls.
            Message::PermitRequest(ask) => format!("permit-{:?}-{:?}", ask.call, ask.asker.claim),
            Message::Input { input: Input::Command(command), .. } => command.id.to_string(),
            // What a tracker tells of a child run, to one, or in a worker's place, it tells again only if it may be
            // lost: a parent's tracker may not have known of the attempt yet.
            _ if held.is_none() => Uuid::now_v7().to_string(),
            // Whoever was refused the permit must not keep the one who has it from answering.
            Message::Reply { reply: Reply::Step(reply), .. } => format!("reply-{:?}", reply.claim),
            _ => "reply".to_owned(),
        };
        let id = format!("{kind}/{run}/{task}/{number}/{}", self.options.worker);
        let mut headers = HeaderMap::new();
        if let Message::PermitRequest(_) = &message {
            headers.insert(WORKER, self.options.worker.as_str());
        }
        let subject = self.connection.names.reply(run, &task, number);
        // A tracker answers in the place of a worker that never got its request, and for child runs.
        let own = || self.leases.get().map(|leases| leases.of(run, &task, number));
        let lease = held.or_else(own);
        self.send(to, subject, message, Letter { id, lease, headers }).await
    }

    async fn send(
        &self,
        to: &Subject,
        subject: String,
        message: Message,
        letter: Letter,
    ) -> Result<(), Error> {
        let Letter { id, lease, headers } = letter;
        let bytes = bytes::Bytes::from(frame(to, message, lease)?);
        let end = tokio::time::Instant::now() + OUTAGE_MAX;
        loop {
            let publish = PublishMessage::build()
                .payload(bytes.clone())
                .headers(headers.clone())
                .message_id(id.clone());
            let sent = match self.connection.js.send_publish(subject.clone(), publish).await {
                Ok(sent) => {
                    self.connection.gather.others();
                    sent.await.map(|_| ())
                }
                Err(error) => Err(error),
            };
            let Err(error) = sent else { return Ok(()) };
            match refused(to, &error) {
                Error::Server { reason, .. } if tokio::time::Instant::now() < end => {
                    tracing::debug!(reason, %to, "a message was not taken; it is sent again");
                    tokio::time::sleep(OUTAGE_PAUSE).await;
                }
                error => return Err(error),
            }
        }
    }

    /// Takes a step back that is no longer wanted. One that a worker has goes on until it is told.
    async fn withdraw(&self, cancelled: &Cancel) {
        let Ok(stream) = self.connection.stream("WORK").await else { return };
        let filter = self.connection.names.step_work(cancelled.run, &cancelled.step, cancelled.attempt);
        if let Err(error) = stream.purge().filter(filter).await {
            tracing::debug!(%error, "a step that nobody wants any more stays queued");
        }
    }

    /// Tells executors what they may not hear: the journal is the truth.
    async fn hint(&self, to: &Subject, message: Message) -> Result<(), Error> {
        if let Message::Cancel(cancelled) = &message {
            self.withdraw(cancelled).await;
        }
        let subject = match &message {
            Message::PermitAnswer(answer) => {
                let Some(piece) = task_of(&message) else { return Ok(()) };
                let run = piece.0;
                let Some(worker) = self.asked.lock().remove(&(piece, answer.claim)) else {
                    tracing::debug!(%run, "nobody here knows which worker asked; it asks again");
                    return Ok(());
                };
                self.connection.names.worker(&worker)
            }
            _ => self.connection.names.hint(),
        };
        let bytes = frame(to, message, None)?;
        let sent = self.connection.client.publish(subject, bytes.into()).await;
        sent.map_err(|e| Error::Server { to: to.to_string(), reason: chain(&e) })
    }

    /// Remembers which worker asked for a permit: two may, for one request.
    pub(crate) fn remember(&self, message: &Message, headers: Option<&HeaderMap>) {
        let Message::PermitRequest(ask) = message else { return };
        let Some(worker) = headers.and_then(|headers| headers.get(WORKER)) else { return };
        let Some(piece) = task_of(message) else { return };
        let mut asked = self.asked.lock();
        if asked.len() >= ASKED_MAX {
            asked.clear();
        }
        asked.insert((piece, ask.asker.claim), worker.as_str().to_owned());
    }

    /// Hands hints, and answers to this worker, to the consumer.
    async fn listen(self: Arc<Self>, consumer: Arc<dyn Consumer>, leave: CancellationToken) {
        let (client, names) = (&self.connection.client, &self.connection.names);
        let subscribed = async {
            let hints = client.subscribe(names.hint()).await?;
            let own = client.subscribe(names.worker(&self.options.worker)).await?;
            Ok::<_, async_nats::SubscribeError>(futures::stream::select(hints, own))
        };
        let mut messages = match subscribed.await {
            Ok(messages) => messages,
            Err(error) => return tracing::error!(%error, "permits and cancellations cannot be heard"),
        };
        loop {
            let message = tokio::select! {
                () = leave.cancelled() => return,
                message = messages.next() => message,
            };
            let Some(message) = message else { return };
            match Frame::decode(&message.payload) {
                Ok(frame) => drop(consumer.deliver(frame.body)),
                Err(error) => tracing::warn!(%error, "a hint that cannot be read was dropped"),
            }
        }
    }

    /// Counts and keeps what cannot be processed, for `foreplan dead`. Of what is too large to be kept,
    /// the beginning.
    pub(crate) async fn bury(&self, why: &'static str, about: &str, bytes: &[u8]) {
        *self.refused.lock().entry(why).or_default() += 1;
        let subject = self.connection.names.dead(why, about);
        let bytes = &bytes[..bytes.len().min(ENTRY_BYTES_MAX)];
        let message = PublishMessage::build().payload(bytes.to_vec().into());
        let buried = match self.connection.js.send_publish(subject, message).await {
            Ok(ack) => ack.await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = buried {
            tracing::warn!(%error, why, "what cannot be processed could not be kept either");
        }
    }
}

/// What a message is sent with.
struct Letter {
    /// A repetition has the same.
    id: String,
    lease: Option<String>,
    headers: HeaderMap,
}

/// A consumer that the table and others share.
struct Shared(Arc<dyn Consumer>);

impl Consumer for Shared {
    fn deliver(&self, message: Message) -> Result<(), Error> {
        self.0.deliver(message)
    }

    fn accept(&self, message: Message, receipt: Receipt) -> Result<(), Error> {
        self.0.accept(message, receipt)
    }

    fn slots(&self) -> usize {
        self.0.slots()
    }
}

fn frame(to: &Subject, message: Message, lease: Option<String>) -> Result<Vec<u8>, Error> {
    let mut frame = Frame::new(Uuid::now_v7(), message);
    frame.header.lease = lease;
    frame.encode().map_err(|e| Error::Unsendable { to: to.to_string(), reason: e.to_string() })
}

fn misdirected(to: &Subject) -> Error {
    Error::Unsendable { to: to.to_string(), reason: "it is not about a piece of work".to_owned() }
}

fn refused(to: &Subject, error: &PublishError) -> Error {
    match server_code(error) {
        Some(10047 | 10077 | 10122) => Error::Busy(to.to_string()),
        _ => Error::Server { to: to.to_string(), reason: chain(error) },
    }
}

/// Returns the server's own code of a refused publish.
pub(crate) fn server_code(error: &PublishError) -> Option<u64> {
    let cause = error.source()?.downcast_ref::<jetstream::Error>()?;
    Some(cause.error_code().0)
}
