//! Language models, as the other agents see them.
//!
//! A [`Model`] answers one conversation at a time and keeps nothing. Who asks turns the answer into
//! a plan, a tool call or a verdict, and puts a record of the call into its reply; a model never
//! decides what happens.

mod ask;
mod chat;
mod converse;
mod error;
pub mod prompt;
pub mod wire;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use ask::{Asked, Clock, ask};
pub use chat::{Answer, Message, OutputSchema, Request, ToolSpec, ToolUse};
pub use converse::{ANSWER_BYTES_MAX, Conversed, Unanswered, converse};
pub use error::{Error, ErrorKind};

/// A language model.
pub trait Model: Send + Sync + 'static {
    /// Returns `provider/name`, for the record.
    fn name(&self) -> &str;

    /// Answers a conversation.
    ///
    /// # Errors
    ///
    /// See [`ErrorKind`]. What is transient has been tried again already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the answer up; the provider may have charged for it.
    fn chat(&self, request: Arc<Request>) -> BoxFuture<'_, Result<Answer, Error>>;
}

/// Finds models by name.
pub trait Models: Send + Sync + 'static {
    /// Returns the model called `provider/name`.
    ///
    /// # Errors
    ///
    /// If the name cannot be resolved here: an unknown provider, or no key.
    fn model(&self, name: &str) -> Result<Arc<dyn Model>, Error>;
}
