//! The bus inside one process: messages are handed over as they are.

use std::sync::Arc;

use foreplan_core::map::IdMap;
use foreplan_protocol::{Message, Subject};
use futures::future::{BoxFuture, ready};
use parking_lot::RwLock;

use crate::{Bus, Consumer, Error, Receipt};

/// Hands messages over inside one process. A run without a tracker in memory is served by whoever
/// serves [`Subject::Trackers`].
#[derive(Default)]
pub struct MemoryBus {
    consumers: RwLock<IdMap<Subject, Arc<dyn Consumer>>>,
}

impl MemoryBus {
    /// Makes a bus that nobody serves yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn consumer(&self, to: &Subject) -> Option<Arc<dyn Consumer>> {
        let consumers = self.consumers.read();
        let own = consumers.get(to);
        let other = || matches!(to, Subject::Tracker(_)).then(|| consumers.get(&Subject::Trackers)).flatten();
        own.or_else(other).cloned()
    }

    /// Hands a message over with its receipt: for a bus that delivers what comes from elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Bus::publish`].
    pub fn hand(&self, to: &Subject, message: Message, receipt: Receipt) -> Result<(), Error> {
        match self.consumer(to) {
            Some(consumer) => consumer.accept(message, receipt),
            None => Err(Error::Unserved(to.to_string())),
        }
    }

    fn deliver(&self, to: &Subject, message: Message) -> Result<(), Error> {
        match self.consumer(to) {
            Some(consumer) => consumer.deliver(message),
            None => Err(Error::Unserved(to.to_string())),
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
