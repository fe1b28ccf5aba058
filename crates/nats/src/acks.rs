//! Acknowledgements whose confirmation nobody waits for: one task sends all of a process, so that a message
//! needs none of its own.

use async_nats::{
    Subject,
    jetstream::{AckKind, Message as Delivery},
};
use foreplan_bus::Receipt;
use tokio::sync::mpsc;
use tokio_util::task::{AbortOnDropHandle, TaskTracker, task_tracker::TaskTrackerToken};

use crate::Connection;

/// Acknowledgements that are taken from the queue at once.
const TOGETHER_MAX: usize = 64;

/// Where settled messages are acknowledged. No more wait than the server lets be unacknowledged.
pub(crate) struct Acks {
    settled: mpsc::UnboundedSender<Ack>,
    tasks: TaskTracker,
    _sending: AbortOnDropHandle<()>,
}

/// An acknowledgement to send, which whoever waits for the tasks waits for too.
struct Ack {
    to: Subject,
    _token: TaskTrackerToken,
}

impl Acks {
    /// Begins to send. The end of all `tasks` is not before what is settled is acknowledged.
    pub(crate) fn start(connection: Connection, tasks: TaskTracker) -> Self {
        let (settled, acks) = mpsc::unbounded_channel();
        let sending = AbortOnDropHandle::new(tokio::spawn(send(connection, acks)));
        Self { settled, tasks, _sending: sending }
    }

    /// Returns the receipt of a message that would do no harm if it came again.
    pub(crate) fn receipt(&self, delivery: &Delivery) -> Receipt {
        let Some(to) = delivery.reply.clone() else { return Receipt::none() };
        let (settled, ack) = (self.settled.clone(), Ack { to, _token: self.tasks.token() });
        Receipt::new(move || {
            // With nobody left to send it, the message comes again.
            let _ = settled.send(ack);
        })
    }
}

async fn send(connection: Connection, mut acks: mpsc::UnboundedReceiver<Ack>) {
    let mut together = Vec::new();
    while acks.recv_many(&mut together, TOGETHER_MAX).await > 0 {
        for Ack { to, _token } in together.drain(..) {
            if let Err(error) = connection.client.publish(to, AckKind::Ack.into()).await {
                tracing::debug!(%error, "an acknowledgement was not sent");
            }
        }
        connection.gather.others();
    }
}
