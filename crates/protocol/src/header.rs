//! What travels with every message and is no part of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::VERSION;

/// What travels with every message and is no part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// The form of the message: [`VERSION`].
    pub v: u32,
    /// Names this message; a repetition carries the same.
    pub id: Uuid,
    /// The message that led to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Uuid>,
    /// W3C trace context, so that a worker's own spans join the run's trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Proves that an answer is from whom the work was given to: returned as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

impl Header {
    /// Makes the header of a message of today's version.
    #[must_use]
    pub fn new(id: Uuid) -> Self {
        Self { v: VERSION, id, cause: None, traceparent: None, lease: None }
    }
}
