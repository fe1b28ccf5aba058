//! Language models, as the other agents see them.
//!
//! A [`Model`] answers one conversation at a time and keeps nothing. Who asks turns the answer into
//! a plan, a tool call or a verdict, and puts a record of the call into its reply; a model never
//! decides what happens.

mod ask;
mod chat;
#[cfg(feature = "genai")]
mod client;
mod config;
mod converse;
mod error;
#[cfg(feature = "genai")]
mod exchange;
#[cfg(feature = "genai")]
mod fault;
mod function;
#[cfg(feature = "genai")]
mod limits;
#[cfg(feature = "genai")]
mod pieces;
mod price;
pub mod prompt;
mod recording;
#[cfg(feature = "genai")]
mod retry;
#[cfg(feature = "genai")]
mod stream;
mod structured;
pub mod wire;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use ask::{Asked, Clock, ask};
pub use chat::{Answer, Message, OutputSchema, Request, ToolSpec, ToolUse};
#[cfg(feature = "genai")]
pub use client::{Client, Variables};
pub use config::{Api, CONCURRENCY, Config, Configs, Key, STREAM_TIME_MAX, TIMEOUT};
pub use converse::{Conversed, Unanswered, converse};
pub use error::{Error, ErrorKind};
pub use function::Function;
pub use price::{Price, PriceTable};
pub use recording::{Recorder, RecordingError, Replayer};
#[cfg(feature = "genai")]
pub use retry::Retries;
pub use structured::{ANSWER_BYTES_MAX, NoJson, structured};

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
