//! How each kind of tool is called.

mod command;
mod file;
#[cfg(feature = "http")]
pub(crate) mod http;
mod jq;
#[cfg(feature = "mcp")]
mod mcp;
mod template;
mod text;

use foreplan_core::failure::{EffectState, Failure, FailureKind};
use serde_json::{Value, json};

/// A tool's output has at most this many bytes: a hundred times what travels in a message, and
/// little enough that a few of them at a time fit in memory. Larger data belongs in files.
pub(crate) const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Returns the failure of a tool whose output is larger than [`OUTPUT_BYTES_MAX`].
pub(crate) fn output_too_large(what: &str) -> Failure {
    let message = format!(
        "{what} is larger than {} MiB; write it to a file and return the path, or return less",
        OUTPUT_BYTES_MAX / (1024 * 1024)
    );
    Failure::new(FailureKind::Tool, "output_too_large", message).retryable(false)
}

/// Returns the failure of a call that ended before it did anything.
pub(crate) fn refused(code: &str, message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Tool, code, message).retryable(false).effect(EffectState::None)
}

/// Returns the schema of an object with one field, which is always there.
pub(crate) fn sole_field_schema(field: &str, schema: Value) -> Value {
    json!({"type": "object", "properties": {field: schema}, "required": [field]})
}

/// Runs blocking work off the async threads. A panic of the work is one of the caller.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
