//! The bus inside one process: messages are handed over as they are.

use std::{collections::HashMap, sync::Arc};

use foreplan_protocol::{Message, Subject};
use futures::future::{BoxFuture, ready};
use parking_lot::RwLock;

use crate::{Bus, Consumer, Error};

/// Hands messages over inside one process. A subject without a consumer of its own goes to the one
/// that serves all of its kind, if there is one: trackers of waiting runs are not in memory.
#[derive(Default)]
pub struct MemoryBus {
    consumers: RwLock<HashMap<Subject, Arc<dyn Consumer>>>,
    trackers: RwLock<Option<Arc<dyn Consumer>>>,
}

impl MemoryBus {
    /// Makes a bus that nobody serves yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `consumer` serve every run that has no tracker in memory.
    pub fn serve_trackers(&self, consumer: Box<dyn Consumer>) {
        *self.trackers.write() = Some(consumer.into());
    }

    fn deliver(&self, to: &Subject, message: Message) -> Result<(), Error> {
        let consumer = self.consumers.read().get(to).cloned();
        match (consumer, to) {
            (Some(consumer), _) => consumer.deliver(message),
            (None, Subject::Tracker(_)) => match self.trackers.read().clone() {
                Some(consumer) => consumer.deliver(message),
                None => Err(Error::Unserved(to.to_string())),
            },
            (None, _) => Err(Error::Unserved(to.to_string())),
        }
    }
}

impl Bus for MemoryBus {
    fn publish(&self, to: Subject, message: Message) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(ready(self.deliver(&to, message)))
    }

    fn serve(&self, subject: Subject, consumer: Box<dyn Consumer>) {
        self.consumers.write().insert(subject, consumer.into());
    }

    fn leave(&self, subject: &Subject) {
        self.consumers.write().remove(subject);
    }
}
