//! Which tracker has which runs: those of the shards of its queues, owned for as long as their owner shows
//! signs of life.
//!
//! Ownership is for liveness only. Two trackers that believe to own a queue do no harm: the journal
//! takes the entries of one. A new owner first attends to what waits in the queue, and only
//! then asks again for what is outstanding.

mod keeper;
mod lookout;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::jetstream::{
    Message as Delivery,
    consumer::{DeliverPolicy, PullConsumer},
    stream::Stream,
};
use foreplan_core::{
    goal::RunSpec,
    id::RunId,
    input::{Command, Input},
};
use foreplan_protocol::{
    Frame, Message, Subject,
    wire::{Queues, task_of},
};
use futures::{
    StreamExt as _,
    future::{BoxFuture, try_join_all},
};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use self::keeper::{Owners, TICK};
pub(crate) use self::lookout::tracker_of;
use crate::{
    Answer, NatsBus, Refusal, Registry,
    acks::Acks,
    bus::Inner as Bus,
    client::REPLY_TO,
    error::chain,
    lease::Leases,
    queues,
    read::{self, Wanted},
    work::acknowledge_unconfirmed,
};

/// Messages that are fetched of a queue at once.
const BATCH: usize = 256;

/// How long one request for messages stands.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How often a new owner looks whether the queue is worked off.
const DRAIN_LOOK: Duration = Duration::from_millis(100);

/// How long a new owner waits for the queue to be worked off: one more delivery of what the last
/// owner had in hand lies within.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// Why a message is refused that can be read.
const MISDIRECTED: (&str, &str) = ("misdirected", "its kind does not belong on its subject");

/// What a tracker does with the runs of its queues.
pub trait Desk: Send + Sync + 'static {
    /// Creates a run.
    fn submit(&self, run: RunId, spec: Arc<RunSpec>, by: String) -> BoxFuture<'_, Answer>;

    /// Carries out a command.
    fn command(&self, run: RunId, command: Command) -> BoxFuture<'_, Answer>;

    /// Takes what comes for a run without asking for anything outstanding.
    fn attend(&self, run: RunId);

    /// Carries a run on.
    fn carry_on(&self, run: RunId);

    /// Drops the runs of a queue from memory.
    fn forget(&self, queues: Queues, queue: u8);
}

/// The shards of a tracker, by queues. Dropping it lets them go on.
pub struct Shards {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
    /// Looks after pools without a worker.
    unserved: AbortOnDropHandle<()>,
    stop: CancellationToken,
}

struct Shared {
    bus: Arc<Bus>,
    desk: Arc<dyn Desk>,
    owners: Owners,
    commands: Stream,
    queues: Queues,
    open: Stream,
    owned: Mutex<HashMap<u8, Owned>>,
    tasks: TaskTracker,
    acks: Acks,
}

struct Owned {
    revision: u64,
    seen: tokio::time::Instant,
    leave: CancellationToken,
}

impl Shards {
    /// Begins to take queues, and to serve those taken.
    ///
    /// # Errors
    ///
    /// If the deployment's streams cannot be used.
    pub async fn start(
        bus: &NatsBus,
        registry: &Registry,
        desk: Arc<dyn Desk>,
    ) -> Result<Self, crate::Error> {
        let connection = &bus.inner.connection;
        let open = connection.js.get_stream(format!("KV_{}", connection.names.stream("OPEN"))).await;
        let commands = connection.stream("CMD").await?;
        let queues = queues::of(&commands)?;
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shared {
            bus: Arc::clone(&bus.inner),
            desk,
            owners: Owners::open(connection, queues).await?,
            commands,
            queues,
            open: open.map_err(|e| crate::Error::server("a bucket is looked up", chain(&e)))?,
            owned: Mutex::default(),
            acks: Acks::start(connection.clone(), tasks.clone()),
            tasks,
        });
        let leases = Leases::open(connection).await?;
        // A second tracker on the same bus has the same secret.
        let _ = bus.inner.leases.set(leases);
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(Arc::clone(&shared).keep(stop.clone()));
        let unserved = tokio::spawn(crate::unserved::keep(bus.clone(), registry.clone()));
        let unserved = AbortOnDropHandle::new(unserved);
        Ok(Self { shared, keeper, unserved, stop })
    }

    /// Gives all queues back.
    pub async fn stop(self) {
        self.stop.cancel();
        self.unserved.abort();
        if let Err(error) = self.keeper.await {
            tracing::warn!(%error, "the keeper of the queues had died");
        }
        self.shared.give_all_back().await;
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    /// Serves a queue: first what waits, then the runs that are under way.
    async fn serve(self: Arc<Self>, number: u8, leave: CancellationToken) {
        let mut connected = self.bus.connection.made();
        let (queue, runs) = loop {
            connected.mark_unchanged();
            match self.opened(number).await {
                Ok(opened) => break opened,
                Err(error) => tracing::warn!(number, %error, "the queue cannot be served yet"),
            }
            tokio::select! {
                () = leave.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
        };
        for run in &runs {
            self.desk.attend(*run);
        }
        let reader =
            self.tasks.spawn(Arc::clone(&self).read(number, queue.clone(), connected, leave.clone()));
        tokio::select! {
            () = leave.cancelled() => {}
            () = worked_off(queue) => {
                for run in runs {
                    self.desk.carry_on(run);
                }
            }
        }
        if let Err(error) = reader.await {
            tracing::error!(number, %error, "the reader of the queue died");
            self.lose(number);
        }
    }

    async fn opened(&self, number: u8) -> Result<(PullConsumer, Vec<RunId>), crate::Error> {
        let queue = self.queue(number).await?;
        let runs = try_join_all(self.queues.shards(number).map(|shard| self.open_runs(shard))).await?;
        Ok((queue, runs.concat()))
    }

    async fn queue(&self, number: u8) -> Result<PullConsumer, crate::Error> {
        self.bus.connection.queue(&self.commands, self.queues, number).await
    }

    async fn open_runs(&self, shard: u8) -> Result<Vec<RunId>, crate::Error> {
        let names = &self.bus.connection.names;
        let wanted = Wanted {
            subject: format!("$KV.{}.{shard}.*", names.stream("OPEN")),
            from: DeliverPolicy::LastPerSubject,
            headers_only: true,
            until: None,
        };
        let notes = read::read(&self.open, wanted).await?;
        let is_there = |note: &&read::Read| note.headers.get("KV-Operation").is_none();
        Ok(notes.iter().filter(is_there).filter_map(|note| names.run_of(&note.subject)).collect())
    }

    /// Reads a queue. A server that comes back may have forgotten the queue; then it is made again,
    /// and delivers whatever nobody acknowledged.
    async fn read(
        self: Arc<Self>,
        number: u8,
        mut queue: PullConsumer,
        mut connected: watch::Receiver<u64>,
        leave: CancellationToken,
    ) {
        while !leave.is_cancelled() {
            if self.read_batch(&queue, &mut connected, &leave).await {
                continue;
            }
            queue = tokio::select! {
                () = leave.cancelled() => return,
                found = self.found_again(number) => found,
            };
        }
    }

    /// Returns a queue, made again if need be, as soon as the server can say that it is there.
    async fn found_again(&self, number: u8) -> PullConsumer {
        loop {
            match self.queue(number).await {
                Ok(found) => return found,
                Err(error) => tracing::debug!(number, %error, "a queue was not found again"),
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    /// Takes what comes to one request for messages. Returns whether the queue was surely there meanwhile.
    async fn read_batch(
        self: &Arc<Self>,
        queue: &PullConsumer,
        connected: &mut watch::Receiver<u64>,
        leave: &CancellationToken,
    ) -> bool {
        let mut batch = match queue.batch().max_messages(BATCH).expires(REQUEST_TIME).messages().await {
            Ok(batch) => batch,
            Err(error) => {
                tracing::debug!(%error, "a queue could not be read");
                tokio::time::sleep(DRAIN_LOOK).await;
                return false;
            }
        };
        loop {
            let delivery = tokio::select! {
                biased;
                () = leave.cancelled() => return true,
                delivery = batch.next() => delivery,
                _ = connected.changed() => return false,
            };
            match delivery {
                Some(Ok(delivery)) => self.take(delivery).await,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a queue could not be read");
                    tokio::time::sleep(DRAIN_LOOK).await;
                    return false;
                }
                None => return true,
            }
        }
    }

    /// Takes a message for a run. Messages of one run are handed on in their order.
    async fn take(self: &Arc<Self>, delivery: Delivery) {
        let names = &self.bus.connection.names;
        let is_reply = names.is_reply(&delivery.subject);
        let frame = match Frame::decode(&delivery.payload) {
            Ok(frame) => frame,
            Err(error) => return self.refuse(&delivery, "unreadable", &error.to_string()).await,
        };
        match frame.body {
            message if is_reply && task_of(&message).is_some() => {
                if !self.is_leased(frame.header.lease.as_deref(), &delivery.subject, &message) {
                    let why = "it returns no lease of the work that it answers";
                    return self.refuse(&delivery, "forged", why).await;
                }
                self.take_reply(delivery, message).await;
            }
            // A child run is begun by a tracker, which has a lease.
            Message::Input { run, input: Input::Submit { spec, .. } }
                if !is_reply && names.run_of(&delivery.subject) == Some(run) && spec.parent.is_none() =>
            {
                let by = names.user_of(&delivery.subject).unwrap_or_default();
                self.submit(delivery, run, spec, by);
            }
            Message::Input { run, input: Input::Command(mut command) }
                if !is_reply && names.run_of(&delivery.subject) == Some(run) =>
            {
                command.by = names.user_of(&delivery.subject).unwrap_or_default();
                self.command(delivery, run, command);
            }
            _ => self.refuse(&delivery, MISDIRECTED.0, MISDIRECTED.1).await,
        }
    }

    /// Takes what comes with a lease: from a worker, or from the tracker of a parent or a child run.
    async fn take_reply(self: &Arc<Self>, delivery: Delivery, message: Message) {
        match message {
            Message::Input { run, input: Input::Submit { spec, by, .. } } => {
                self.submit(delivery, run, spec, by);
            }
            Message::Input { run, input: Input::Command(command) } => self.command(delivery, run, command),
            Message::Reply { run, .. } | Message::Input { run, .. } => self.deliver(&delivery, run, message),
            Message::PermitRequest(ref ask) => {
                let run = ask.run;
                self.bus.remember(&message, delivery.headers.as_ref());
                self.deliver(&delivery, run, message);
            }
            Message::Plan(_)
            | Message::Replan(_)
            | Message::Review(_)
            | Message::Step(_)
            | Message::Cancel(_)
            | Message::PermitAnswer(_) => self.refuse(&delivery, MISDIRECTED.0, MISDIRECTED.1).await,
        }
    }

    fn submit(self: &Arc<Self>, delivery: Delivery, run: RunId, spec: Arc<RunSpec>, by: String) {
        let desk = Arc::clone(&self.desk);
        self.tasks.spawn(Arc::clone(self).answer(delivery, async move { desk.submit(run, spec, by).await }));
    }

    fn command(self: &Arc<Self>, delivery: Delivery, run: RunId, command: Command) {
        let desk = Arc::clone(&self.desk);
        self.tasks.spawn(Arc::clone(self).answer(delivery, async move { desk.command(run, command).await }));
    }

    /// Returns whether an answer is about the work that its subject names, and returns its lease.
    fn is_leased(&self, lease: Option<&str>, subject: &str, message: &Message) -> bool {
        let Some((run, task, number)) = task_of(message) else { return false };
        let is_named = self.bus.connection.names.reply(run, &task, number) == subject;
        let leases = self.bus.leases.get();
        is_named && leases.zip(lease).is_some_and(|(leases, lease)| leases.fits(lease, run, &task, number))
    }

    /// Hands a reply to its run, and acknowledges it once what follows is durable.
    fn deliver(&self, delivery: &Delivery, run: RunId, message: Message) {
        let receipt = self.acks.receipt(delivery);
        if let Err(error) = self.bus.local.hand(&Subject::Tracker(run), message, receipt) {
            tracing::debug!(%run, %error, "a reply waits for its tracker");
        }
    }

    async fn answer(self: Arc<Self>, delivery: Delivery, answer: impl Future<Output = Answer> + Send) {
        let answer = answer.await;
        let reply_to = delivery.headers.as_ref().and_then(|headers| headers.get(REPLY_TO));
        if let Some(reply_to) = reply_to {
            let bytes = serde_json::to_vec(&answer).unwrap_or_default();
            let sent = self.bus.connection.client.publish(reply_to.as_str().to_owned(), bytes.into()).await;
            if let Err(error) = sent {
                tracing::debug!(%error, "a client was not answered; it asks again");
            }
        } else if matches!(answer, Answer::Refused(Refusal::Stuck(_))) {
            // Nobody hears that it was not carried out: it comes again.
            return;
        }
        acknowledge_unconfirmed(&self.bus.connection, &delivery).await;
    }

    async fn refuse(&self, delivery: &Delivery, why: &'static str, detail: &str) {
        tracing::error!(subject = %delivery.subject, why, detail, "a message is kept as dead");
        self.bus.bury(why, &delivery.subject, &delivery.payload).await;
        acknowledge_unconfirmed(&self.bus.connection, delivery).await;
    }
}

/// Returns once nothing waits in a queue and nothing is in hand.
async fn worked_off(mut queue: PullConsumer) {
    let deadline = tokio::time::Instant::now() + DRAIN_MAX;
    loop {
        match queue.info().await {
            Ok(info) if info.num_pending == 0 && info.num_ack_pending == 0 => return,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a queue could not be looked at"),
        }
        if tokio::time::Instant::now() > deadline {
            tracing::warn!("a queue is not worked off; its runs are carried on meanwhile");
            return;
        }
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}
