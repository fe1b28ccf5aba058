//! Keeps a tracker's share of the queues: shows signs of life, takes what is free, gives back what is
//! too much, and leaves what another has by now.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{consumer::DeliverPolicy, kv, stream::Stream};
use foreplan_protocol::wire::Queues;
use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    Owned, Shared,
    lookout::{self, Holder, Lookout},
};
use crate::{
    Connection, Error,
    error::chain,
    read::{self, Wanted},
};

/// How often an owner shows signs of life, and looks for those of others. An owner that dies counts as
/// gone after three looks without one: after six to eight seconds.
pub(super) const TICK: Duration = Duration::from_secs(2);

/// How long a look may take: a server that is slower is asked again at the next tick.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// The bucket of who has which queue.
pub(super) struct Owners {
    bucket: kv::Store,
    stream: Stream,
    /// Where the subjects of the bucket begin.
    subjects: String,
    /// What a key begins with: trackers that know of another number of queues do not meet here.
    prefix: String,
}

impl Owners {
    pub(super) async fn open(connection: &Connection, queues: Queues) -> Result<Self, Error> {
        let name = connection.names.stream("OWNERS");
        let stream = connection.js.get_stream(format!("KV_{name}")).await;
        let stream = stream.map_err(|e| Error::server("a bucket is looked up", chain(&e)))?;
        let prefix = match queues {
            Queues::EVERY_SHARD => String::new(),
            _ => format!("{}.", queues.count()),
        };
        let bucket = connection.bucket("OWNERS").await?;
        Ok(Self { bucket, stream, subjects: format!("$KV.{name}.{prefix}"), prefix })
    }

    fn key(&self, queue: u8) -> String {
        format!("{}{queue}", self.prefix)
    }

    fn sign_of(&self, tracker: &str) -> String {
        format!("{}{}", self.prefix, lookout::sign_of(tracker))
    }

    /// Returns what stands in the bucket now.
    async fn notes(&self) -> Result<Vec<lookout::Note>, Error> {
        let wanted = Wanted {
            subject: format!("{}>", self.subjects),
            from: DeliverPolicy::LastPerSubject,
            headers_only: false,
            until: None,
        };
        let reading = tokio::time::timeout(LOOK_MAX, read::read(&self.stream, wanted));
        let read = reading.await.map_err(|late| Error::server("owners are looked up", late))??;
        let there = read.iter().filter(|note| note.headers.get("KV-Operation").is_none());
        let notes = there.filter_map(|note| {
            lookout::read(note.subject.strip_prefix(&self.subjects)?, &note.payload, note.sequence)
        });
        Ok(notes.collect())
    }
}

impl Shared {
    pub(super) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        // After a pause, looks in a row would find everybody silent.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lookout = Lookout::new(&self.bus.options.worker);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.show().await;
            match self.owners.notes().await {
                Ok(notes) => {
                    lookout.note(notes);
                    self.reconcile(&lookout);
                    self.renew().await;
                    let share = usize::from(self.queues.count()).div_ceil(lookout.living());
                    self.give_back_beyond(share).await;
                    self.take_up_to(share, &lookout).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "who has which queue is not known now");
                    self.renew().await;
                }
            }
        }
    }

    /// Shows that this tracker lives, whether or not it has a queue.
    async fn show(&self) {
        let key = self.owners.sign_of(&self.bus.options.worker);
        if let Err(error) = self.owners.bucket.put(key, self.name()).await {
            tracing::debug!(%error, "a sign of life could not be sent");
        }
    }

    /// Leaves the queues that another has by now. What was seen may be older than what this tracker did
    /// last.
    fn reconcile(&self, lookout: &Lookout) {
        let mut lost = Vec::new();
        for (queue, owned) in &mut *self.owned.lock() {
            match lookout.holder(*queue) {
                Holder::Own { revision } => owned.revision = owned.revision.max(revision),
                Holder::Other { revision } | Holder::Silent { revision } if revision > owned.revision => {
                    lost.push(*queue);
                }
                Holder::Other { .. } | Holder::Silent { .. } | Holder::Nobody => {}
            }
        }
        for queue in lost {
            tracing::warn!(queue, "the queue went to another tracker");
            self.lose(queue);
        }
    }

    /// Shows a sign of life for every queue. Whether one was lost is seen by the next look; without
    /// one, by the time that went by.
    async fn renew(&self) {
        let owned: Vec<(u8, u64)> = self.owned.lock().iter().map(|(queue, o)| (*queue, o.revision)).collect();
        let renewals = owned.into_iter().map(|(queue, revision)| async move {
            (queue, self.owners.bucket.update(self.owners.key(queue), self.name(), revision).await)
        });
        for (queue, renewed) in join_all(renewals).await {
            match renewed {
                Ok(revision) => {
                    if let Some(owned) = self.owned.lock().get_mut(&queue) {
                        owned.revision = revision;
                        owned.seen = Instant::now();
                    }
                }
                Err(error) => {
                    tracing::debug!(queue, %error, "a queue was not renewed");
                    let seen = self.owned.lock().get(&queue).map(|owned| owned.seen);
                    if seen.is_some_and(|seen| seen.elapsed() > crate::setup::OWNER_AGE) {
                        tracing::warn!(queue, "the queue is free for others");
                        self.lose(queue);
                    }
                }
            }
        }
    }

    pub(super) fn lose(&self, queue: u8) {
        if let Some(owned) = self.owned.lock().remove(&queue) {
            owned.leave.cancel();
            self.desk.forget(self.queues, queue);
        }
    }

    async fn give_back_beyond(&self, share: usize) {
        let extra: Vec<u8> = {
            let owned = self.owned.lock();
            let mut queues: Vec<u8> = owned.keys().copied().collect();
            queues.sort_unstable();
            queues.split_off(share.min(queues.len()))
        };
        join_all(extra.into_iter().map(|queue| self.give_back(queue))).await;
    }

    /// Gives every queue back, and this tracker's sign of life.
    pub(super) async fn give_all_back(&self) {
        self.give_back_beyond(0).await;
        let key = self.owners.sign_of(&self.bus.options.worker);
        if let Err(error) = self.owners.bucket.purge(key).await {
            tracing::debug!(%error, "the tracker counts until its time is up");
        }
    }

    async fn give_back(&self, queue: u8) {
        let Some(owned) = self.owned.lock().remove(&queue) else { return };
        owned.leave.cancel();
        self.desk.forget(self.queues, queue);
        let purged =
            self.owners.bucket.purge_expect_revision(self.owners.key(queue), Some(owned.revision)).await;
        if let Err(error) = purged {
            tracing::debug!(queue, %error, "the queue is free once its time is up");
        }
    }

    async fn take_up_to(self: &Arc<Self>, share: usize, lookout: &Lookout) {
        // Each tracker begins elsewhere, so that two that start together do not meet at every queue.
        let first =
            self.bus.options.worker.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let wanted: Vec<u8> = {
            let owned = self.owned.lock();
            let count = self.queues.count();
            let queues = (0..count).map(|offset| (first % count + offset) % count);
            let free = queues.filter(|queue| {
                !owned.contains_key(queue) && !matches!(lookout.holder(*queue), Holder::Other { .. })
            });
            free.take(share.saturating_sub(owned.len())).collect()
        };
        let claims = wanted.into_iter().map(|queue| async move {
            match lookout.holder(queue) {
                Holder::Own { revision } | Holder::Silent { revision } => {
                    let taken =
                        self.owners.bucket.update(self.owners.key(queue), self.name(), revision).await;
                    (queue, taken.map_err(|e| chain(&e)))
                }
                Holder::Nobody | Holder::Other { .. } => {
                    let taken = self.owners.bucket.create(self.owners.key(queue), self.name()).await;
                    (queue, taken.map_err(|e| chain(&e)))
                }
            }
        });
        for (queue, claimed) in join_all(claims).await {
            match claimed {
                Ok(revision) => self.begin(queue, revision),
                Err(why) => tracing::debug!(queue, why, "the queue was not taken"),
            }
        }
    }

    fn begin(self: &Arc<Self>, queue: u8, revision: u64) {
        let leave = CancellationToken::new();
        let owned = Owned { revision, seen: Instant::now(), leave: leave.clone() };
        self.owned.lock().insert(queue, owned);
        self.tasks.spawn(Arc::clone(self).serve(queue, leave));
    }

    fn name(&self) -> bytes::Bytes {
        self.bus.options.worker.clone().into()
    }
}
