//! Where the bus puts what comes for a run that is in memory. The supervisor opens and closes it; it must not
//! look at what comes.

use foreplan_bus::{Consumer, Receipt};
use foreplan_protocol::{Message, Subject};
use ractor::ActorRef;

use crate::run_actor::RunMessage;

/// Where the bus puts messages for the run.
pub(crate) struct Inbox {
    pub(crate) actor: ActorRef<RunMessage>,
    pub(crate) subject: Subject,
}

impl Consumer for Inbox {
    fn deliver(&self, message: Message) -> Result<(), foreplan_bus::Error> {
        self.accept(message, Receipt::none())
    }

    fn accept(&self, message: Message, receipt: Receipt) -> Result<(), foreplan_bus::Error> {
        self.actor
            .cast(RunMessage::Bus(message, receipt))
            .map_err(|_| foreplan_bus::Error::Gone(self.subject.to_string()))
    }
}
