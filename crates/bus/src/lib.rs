//! The bus: where typed messages go from one agent to another.
//!
//! Agents see [`Bus`] alone. [`MemoryBus`] hands values over inside one process; nothing but
//! configuration changes when the same messages travel over a server. [`service`] is what the agents
//! that answer requests have in common.

mod memory;
mod patient;
pub mod service;

use foreplan_protocol::{Message, Subject};
use futures::future::BoxFuture;

pub use memory::MemoryBus;
pub use patient::publish_patiently;

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
}

/// Takes messages from the bus. It must only queue them: it is called on the sender's task.
pub trait Consumer: Send + Sync + 'static {
    /// Queues a message.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if the queue is full, [`Error::Gone`] if nobody reads it any more.
    fn deliver(&self, message: Message) -> Result<(), Error>;
}

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
}

impl Error {
    /// Returns whether publishing again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Gone(_) | Self::Unserved(_) => true,
        }
    }
}
