//! Where batches go.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::Batch;

/// Takes batches and keeps them.
///
/// A batch may come twice, whole or in other parts; a span has the same bytes each time.
pub trait Sink: Send + Sync + 'static {
    /// Returns the name under which the store keeps how far this sink has come: another place has
    /// another name.
    fn name(&self) -> &str;

    /// Returns whether this machine does what is asked of it: all the time that it takes is work then.
    fn is_local(&self) -> bool {
        false
    }

    /// Takes a batch. Every span of it is kept once [`Sink::settle`] has returned.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the batch may be kept or not: it is sent again.
    ///
    /// # Errors
    ///
    /// If any span of it may not be kept.
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SendError>>;

    /// Returns once what it took is kept: a sink that keeps each batch at once has nothing to do.
    ///
    /// # Errors
    ///
    /// If any span of what was taken before may not be kept: all of it is sent again.
    fn settle(&self) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Why a batch may not be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The sink takes nothing now. Later it may.
    #[error("{message}")]
    Unavailable {
        /// Why.
        message: String,
        /// When the sink wants to be asked again.
        after: Option<Duration>,
    },
    /// The sink takes no batch as large as this.
    #[error("the batch is too large")]
    TooLarge,
    /// The sink does not take these spans, or some of them.
    #[error("{0}")]
    Refused(String),
}
