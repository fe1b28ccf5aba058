//! Where the bus puts what comes for a run that is in memory. The supervisor opens and closes it; it must not
//! look at what comes.
//!
//! What comes while the run's actor is busy, or has not had its turn, waits together: the actor takes all of
//! it at once, and records it with one write.

use std::{collections::VecDeque, sync::Arc};

use foreplan_bus::{Consumer, Receipt};
use foreplan_protocol::{Message, Subject};
use parking_lot::Mutex;
use ractor::ActorRef;

use crate::run_actor::RunMessage;

/// Where the bus puts messages for the run.
pub(crate) struct Inbox {
    actor: ActorRef<RunMessage>,
    subject: Subject,
    arrived: Arc<Arrived>,
}

/// Most messages that an actor takes at once, so that a person who speaks to the run does not wait for
/// thousands of results.
const TOGETHER_MAX: usize = 256;

/// What came and was not taken yet. The actor has been told of it if there is anything.
#[derive(Default)]
pub(crate) struct Arrived(Mutex<VecDeque<(Message, Receipt)>>);

impl Arrived {
    /// Returns what came first, and whether more is left, of which the actor must be told again.
    pub(crate) fn take(&self) -> (Vec<(Message, Receipt)>, bool) {
        let mut arrived = self.0.lock();
        let count = arrived.len().min(TOGETHER_MAX);
        let taken = arrived.drain(..count).collect();
        (taken, !arrived.is_empty())
    }

    /// Returns whether it is the first.
    fn push(&self, message: Message, receipt: Receipt) -> bool {
        let mut arrived = self.0.lock();
        arrived.push_back((message, receipt));
        arrived.len() == 1
    }
}

impl Inbox {
    pub(crate) fn new(actor: ActorRef<RunMessage>, subject: Subject) -> Self {
        Self { actor, subject, arrived: Arc::default() }
    }
}

impl Consumer for Inbox {
    fn deliver(&self, message: Message) -> Result<(), foreplan_bus::Error> {
        self.accept(message, Receipt::none())
    }

    fn accept(&self, message: Message, receipt: Receipt) -> Result<(), foreplan_bus::Error> {
        if !self.arrived.push(message, receipt) {
            return Ok(());
        }
        self.actor.cast(RunMessage::Arrived(Arc::clone(&self.arrived))).map_err(|_| {
            self.arrived.0.lock().clear();
            foreplan_bus::Error::Gone(self.subject.to_string())
        })
    }
}
