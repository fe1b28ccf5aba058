//! The bus: where typed messages go from one agent to another.
//!
//! Agents see [`Bus`] alone. [`MemoryBus`] hands values over inside one process; nothing but
//! configuration changes when the same messages travel over a server. [`service`] is what the agents
//! that answer requests have in common.

mod memory;
mod patient;
mod receipt;
pub mod service;

use foreplan_protocol::{Message, Subject};
use futures::future::BoxFuture;

pub use memory::MemoryBus;
pub use patient::publish_patiently;
pub use receipt::{Receipt, Settled};

/// Carries messages between agents.
pub trait Bus: Send + Sync + 'static {
    /// Hands a message to whoever serves the subject. When this returns, the message is queued
    /// there; it is not yet worked on.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    fn publish(&self, to: Subject, message: Message) -> BoxFuture<'_, Result<(), Error>>;

    /// Makes `consumer` serve a subject, in the place of any earlier one.
    fn serve(&self, subject: Subject, consumer: Box<dyn Consumer>);

    /// Ends serving a subject.
    fn leave(&self, subject: &Subject);

    /// Keeps a message that cannot be processed, for people to look at. A bus inside one process keeps
    /// nothing: its journal says what happened.
    fn bury<'a>(&'a self, why: &'static str, message: &'a Message) -> BoxFuture<'a, ()> {
        tracing::warn!(why, ?message, "a message cannot be processed");
        Box::pin(std::future::ready(()))
    }
}

/// Takes messages from the bus. It must only queue them: it is called on the sender's task.
pub trait Consumer: Send + Sync + 'static {
    /// Queues a message.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if the queue is full, [`Error::Gone`] if nobody reads it any more.
    fn deliver(&self, message: Message) -> Result<(), Error>;

    /// Queues a message that its bus keeps until the receipt is settled. A consumer whose work ends
    /// with the process settles it when what it did is durable; others at once.
    ///
    /// # Errors
    ///
    /// As [`Consumer::deliver`]; the receipt is dropped then.
    fn accept(&self, message: Message, receipt: Receipt) -> Result<(), Error> {
        self.deliver(message)?;
        receipt.settle();
        Ok(())
    }

    /// Returns how many messages it works on at once: a bus that fetches work fetches no more.
    fn slots(&self) -> usize {
        SLOTS_DEFAULT
    }
}

/// Messages that a consumer works on at once unless it says otherwise.
pub const SLOTS_DEFAULT: usize = 64;

impl<F: Fn(Message) -> Result<(), Error> + Send + Sync + 'static> Consumer for F {
    fn deliver(&self, message: Message) -> Result<(), Error> {
        self(message)
    }
}

/// Why a message was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody serves the subject.
    #[error("nobody serves `{0}`")]
    Unserved(String),
    /// The queue behind the subject is full.
    #[error("`{0}` is busy")]
    Busy(String),
    /// Whoever served the subject is gone.
    #[error("`{0}` is gone")]
    Gone(String),
    /// The message is too large to travel.
    #[error("the message to `{to}` cannot travel: {reason}")]
    Unsendable {
        /// Where it was to go.
        to: String,
        /// Why it cannot.
        reason: String,
    },
    /// The server did not take the message.
    #[error("the message to `{to}` was not taken: {reason}")]
    Server {
        /// Where it was to go.
        to: String,
        /// What the server, or the connection, said.
        reason: String,
    },
}

impl Error {
    /// Returns whether publishing again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Gone(_) | Self::Unserved(_) | Self::Server { .. } => true,
            Self::Unsendable { .. } => false,
        }
    }
}
