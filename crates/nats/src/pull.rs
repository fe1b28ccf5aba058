//! Work is pulled: as many messages are asked for as there are free slots. So no message waits here
//! unseen while its time runs out.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{Message, consumer::PullConsumer};
use foreplan_bus::Consumer;
use foreplan_protocol::wire::Worker;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{bus::Inner, work::Work};

/// How long one request for a message stands. A process that drains waits for it to end: a message
/// that came to a request which nobody reads any more would count as lost.
const REQUEST_TIME: Duration = Duration::from_secs(3);

/// How long to wait before a server that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Messages that one pool has in hand, or asks for, at once.
const SLOTS_MAX: usize = 256;

/// Serves a pool until told to leave.
pub(crate) async fn serve(
    bus: Arc<Inner>,
    worker: Worker,
    consumer: Arc<dyn Consumer>,
    leave: CancellationToken,
) {
    let queue = loop {
        let ack_wait = bus.connection.work_ack_wait().await;
        let queue = match ack_wait {
            Ok(ack_wait) => bus.connection.work_consumer(&worker, ack_wait).await,
            Err(error) => Err(error),
        };
        match queue {
            Ok(queue) => break queue,
            Err(error) => tracing::warn!(%error, ?worker, "a pool cannot be served yet"),
        }
        tokio::select! {
            () = leave.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    };
    let heartbeat = queue.cached_info().config.ack_wait / 3;
    let work = Work { bus: Arc::clone(&bus), consumer: Arc::clone(&consumer), heartbeat };
    let slots = Slots::new(consumer.slots().clamp(1, SLOTS_MAX));
    let pool = Arc::new(Pool { work, queue, slots, leave });
    bus.tasks.spawn(pool.run());
}

/// A pool, as the server sees it.
struct Pool {
    work: Work,
    queue: PullConsumer,
    slots: Slots,
    leave: CancellationToken,
}

impl Pool {
    /// Asks for as many messages as there are free slots, until told to leave.
    async fn run(self: Arc<Self>) {
        loop {
            let wanted = tokio::select! {
                biased;
                () = self.leave.cancelled() => return,
                wanted = self.slots.ask() => wanted,
            };
            self.work.bus.tasks.spawn(Arc::clone(&self).fetch(wanted));
        }
    }

    /// Asks for some messages, and has each dealt with as it comes.
    async fn fetch(self: Arc<Self>, wanted: usize) {
        let mut left = wanted;
        match self.queue.batch().max_messages(wanted).expires(REQUEST_TIME).messages().await {
            Ok(mut batch) => {
                while let Some(message) = batch.next().await {
                    match message {
                        Ok(message) => {
                            left = left.saturating_sub(1);
                            self.slots.given();
                            self.work.bus.tasks.spawn(Arc::clone(&self).deal(message));
                        }
                        Err(error) => {
                            tracing::debug!(%error, "work could not be fetched");
                            self.pause().await;
                        }
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "work could not be asked for");
                self.pause().await;
            }
        }
        self.slots.not_given(left);
    }

    async fn deal(self: Arc<Self>, message: Message) {
        let _slot = Taken(&self.slots);
        self.work.take(message, self.leave.is_cancelled()).await;
    }

    async fn pause(&self) {
        tokio::select! {
            () = self.leave.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// The slots of a pool: free, asked for, or with a message.
struct Slots {
    all: usize,
    count: Mutex<Count>,
    changed: Notify,
}

struct Count {
    free: usize,
    asked: usize,
}

impl Slots {
    fn new(all: usize) -> Self {
        Self { all, count: Mutex::new(Count { free: all, asked: 0 }), changed: Notify::new() }
    }

    /// Waits until it is time to ask for messages, and returns for how many: at once if nothing is asked
    /// for, else when a good part of the slots is free. So a pool that is never idle asks for many at
    /// once, and one message is never waited for while a slot is free.
    async fn ask(&self) -> usize {
        loop {
            if let Some(wanted) = self.try_ask() {
                return wanted;
            }
            self.changed.notified().await;
        }
    }

    fn try_ask(&self) -> Option<usize> {
        let mut count = self.count.lock();
        if !self.is_time(&count) {
            return None;
        }
        let wanted = std::mem::take(&mut count.free);
        count.asked += wanted;
        Some(wanted)
    }

    fn is_time(&self, count: &Count) -> bool {
        count.free > 0 && (count.asked == 0 || count.free >= self.all.div_ceil(4))
    }

    /// One message came.
    fn given(&self) {
        self.change(|count| count.asked = count.asked.saturating_sub(1));
    }

    /// So many that were asked for do not come.
    fn not_given(&self, messages: usize) {
        self.change(|count| {
            count.asked = count.asked.saturating_sub(messages);
            count.free += messages;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Count)) {
        let mut count = self.count.lock();
        change(&mut count);
        if self.is_time(&count) {
            self.changed.notify_one();
        }
    }
}

/// A slot with a message. It is free when this is dropped.
struct Taken<'a>(&'a Slots);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.change(|count| count.free += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_free_slot_asks_at_once_where_nothing_is_asked_for_and_many_ask_together() {
        let slots = Slots::new(8);
        assert_eq!((slots.try_ask(), slots.try_ask()), (Some(8), None));
        slots.given();
        drop(Taken(&slots));
        assert_eq!(slots.try_ask(), None, "seven are asked for");
        slots.given();
        drop(Taken(&slots));
        assert_eq!(slots.try_ask(), Some(2));
        (0..8).for_each(|_| slots.given());
        assert_eq!(slots.try_ask(), None, "no slot is free");
        drop(Taken(&slots));
        assert_eq!(slots.try_ask(), Some(1), "nothing is asked for");
        slots.not_given(1);
        assert_eq!(slots.try_ask(), Some(1));
    }
}
