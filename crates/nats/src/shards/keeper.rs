//! Keeps a tracker's share of the shards: shows signs of life, takes what is free, gives back what is
//! too much, and leaves what another has by now.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{consumer::DeliverPolicy, kv, stream::Stream};
use foreplan_protocol::wire::SHARDS;
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

/// The bucket of who has which shard.
pub(super) struct Owners {
    bucket: kv::Store,
    stream: Stream,
    subjects: String,
}

impl Owners {
    pub(super) async fn open(connection: &Connection) -> Result<Self, Error> {
        let name = connection.names.stream("OWNERS");
        let stream = connection.js.get_stream(format!("KV_{name}")).await;
        let stream = stream.map_err(|e| Error::server("a bucket is looked up", chain(&e)))?;
        Ok(Self { bucket: connection.bucket("OWNERS").await?, stream, subjects: format!("$KV.{name}.") })
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
                    let share = usize::from(SHARDS).div_ceil(lookout.living());
                    self.give_back_beyond(share).await;
                    self.take_up_to(share, &lookout).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "who has which shard is not known now");
                    self.renew().await;
                }
            }
        }
    }

    /// Shows that this tracker lives, whether or not it has a shard.
    async fn show(&self) {
        let key = lookout::sign_of(&self.bus.options.worker);
        if let Err(error) = self.owners.bucket.put(key, self.name()).await {
            tracing::debug!(%error, "a sign of life could not be sent");
        }
    }

    /// Leaves the shards that another has by now. What was seen may be older than what this tracker did
    /// last.
    fn reconcile(&self, lookout: &Lookout) {
        let mut lost = Vec::new();
        for (shard, owned) in &mut *self.owned.lock() {
            match lookout.holder(*shard) {
                Holder::Own { revision } => owned.revision = owned.revision.max(revision),
                Holder::Other { revision } | Holder::Silent { revision } if revision > owned.revision => {
                    lost.push(*shard);
                }
                Holder::Other { .. } | Holder::Silent { .. } | Holder::Nobody => {}
            }
        }
        for shard in lost {
            tracing::warn!(shard, "the shard went to another tracker");
            self.lose(shard);
        }
    }

    /// Shows a sign of life for every shard. Whether one was lost is seen by the next look; without
    /// one, by the time that went by.
    async fn renew(&self) {
        let owned: Vec<(u8, u64)> = self.owned.lock().iter().map(|(shard, o)| (*shard, o.revision)).collect();
        let renewals = owned.into_iter().map(|(shard, revision)| async move {
            (shard, self.owners.bucket.update(shard.to_string(), self.name(), revision).await)
        });
        for (shard, renewed) in join_all(renewals).await {
            match renewed {
                Ok(revision) => {
                    if let Some(owned) = self.owned.lock().get_mut(&shard) {
                        owned.revision = revision;
                        owned.seen = Instant::now();
                    }
                }
                Err(error) => {
                    tracing::debug!(shard, %error, "a shard was not renewed");
                    let seen = self.owned.lock().get(&shard).map(|owned| owned.seen);
                    if seen.is_some_and(|seen| seen.elapsed() > crate::setup::OWNER_AGE) {
                        tracing::warn!(shard, "the shard is free for others");
                        self.lose(shard);
                    }
                }
            }
        }
    }

    pub(super) fn lose(&self, shard: u8) {
        if let Some(owned) = self.owned.lock().remove(&shard) {
            owned.leave.cancel();
            self.desk.forget(shard);
        }
    }

    async fn give_back_beyond(&self, share: usize) {
        let extra: Vec<u8> = {
            let owned = self.owned.lock();
            let mut shards: Vec<u8> = owned.keys().copied().collect();
            shards.sort_unstable();
            shards.split_off(share.min(shards.len()))
        };
        join_all(extra.into_iter().map(|shard| self.give_back(shard))).await;
    }

    /// Gives every shard back, and this tracker's sign of life.
    pub(super) async fn give_all_back(&self) {
        self.give_back_beyond(0).await;
        let key = lookout::sign_of(&self.bus.options.worker);
        if let Err(error) = self.owners.bucket.purge(key).await {
            tracing::debug!(%error, "the tracker counts until its time is up");
        }
    }

    async fn give_back(&self, shard: u8) {
        let Some(owned) = self.owned.lock().remove(&shard) else { return };
        owned.leave.cancel();
        self.desk.forget(shard);
        let purged = self.owners.bucket.purge_expect_revision(shard.to_string(), Some(owned.revision)).await;
        if let Err(error) = purged {
            tracing::debug!(shard, %error, "the shard is free once its time is up");
        }
    }

    async fn take_up_to(self: &Arc<Self>, share: usize, lookout: &Lookout) {
        // Each tracker begins elsewhere, so that two that start together do not meet at every shard.
        let first =
            self.bus.options.worker.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let wanted: Vec<u8> = {
            let owned = self.owned.lock();
            let shards = (0..SHARDS).map(|offset| (first % SHARDS + offset) % SHARDS);
            let free = shards.filter(|shard| {
                !owned.contains_key(shard) && !matches!(lookout.holder(*shard), Holder::Other { .. })
            });
            free.take(share.saturating_sub(owned.len())).collect()
        };
        let claims = wanted.into_iter().map(|shard| async move {
            match lookout.holder(shard) {
                Holder::Own { revision } | Holder::Silent { revision } => {
                    let taken = self.owners.bucket.update(shard.to_string(), self.name(), revision).await;
                    (shard, taken.map_err(|e| chain(&e)))
                }
                Holder::Nobody | Holder::Other { .. } => {
                    let taken = self.owners.bucket.create(shard.to_string(), self.name()).await;
                    (shard, taken.map_err(|e| chain(&e)))
                }
            }
        });
        for (shard, claimed) in join_all(claims).await {
            match claimed {
                Ok(revision) => self.begin(shard, revision),
                Err(why) => tracing::debug!(shard, why, "the shard was not taken"),
            }
        }
    }

    fn begin(self: &Arc<Self>, shard: u8, revision: u64) {
        let leave = CancellationToken::new();
        let owned = Owned { revision, seen: Instant::now(), leave: leave.clone() };
        self.owned.lock().insert(shard, owned);
        self.tasks.spawn(Arc::clone(self).serve(shard, leave));
    }

    fn name(&self) -> bytes::Bytes {
        self.bus.options.worker.clone().into()
    }
}
