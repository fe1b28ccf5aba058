//! Work is pulled: each free slot asks for one message, and asks again when that is dealt with. So
//! no message waits here unseen while its time runs out.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::consumer::PullConsumer;
use foreplan_bus::Consumer;
use foreplan_protocol::wire::Worker;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::{bus::Inner, work::Work};

/// How long one request for a message stands. A process that drains waits for it to end: a message
/// that came to a request which nobody reads any more would count as lost.
const REQUEST_TIME: Duration = Duration::from_secs(3);

/// How long to wait before a server that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Requests that one pool keeps standing at once.
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
    for _ in 0..consumer.slots().clamp(1, SLOTS_MAX) {
        let slot = Slot {
            work: Work { bus: Arc::clone(&bus), consumer: Arc::clone(&consumer), heartbeat },
            queue: queue.clone(),
            leave: leave.clone(),
        };
        bus.tasks.spawn(slot.run());
    }
}

/// One place in which one message at a time is worked on.
struct Slot {
    work: Work,
    queue: PullConsumer,
    leave: CancellationToken,
}

impl Slot {
    async fn run(self) {
        while !self.leave.is_cancelled() {
            let batch = self.queue.batch().max_messages(1).expires(REQUEST_TIME).messages().await;
            let mut batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::debug!(%error, "work could not be asked for");
                    self.pause().await;
                    continue;
                }
            };
            while let Some(message) = batch.next().await {
                match message {
                    Ok(message) => self.work.take(message, self.leave.is_cancelled()).await,
                    Err(error) => {
                        tracing::debug!(%error, "work could not be fetched");
                        self.pause().await;
                    }
                }
            }
        }
    }

    async fn pause(&self) {
        tokio::select! {
            () = self.leave.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
