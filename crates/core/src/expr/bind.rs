//! Binding: a step's input with its markers becomes the value that a worker gets.

use serde_json::{Map, Value};

use super::{Path, reference::InvalidPath};
use crate::payload::PayloadRef;

/// Where binding finds values.
pub trait Scope {
    /// Returns what is known of a step's output.
    fn step(&self, id: &str) -> StepValue<'_>;
    /// Returns the run's params.
    fn params(&self) -> &Map<String, Value>;
    /// Returns the item and index, inside a `for_each`.
    fn item(&self) -> Option<(&Value, u32)>;
}

/// What is known of a step's output.
#[derive(Clone, Copy, Debug)]
pub enum StepValue<'a> {
    /// The value.
    Value(&'a Value),
    /// It is kept in the payload store and not loaded.
    Payload(PayloadRef),
    /// The step was skipped.
    Skipped,
    /// The step is not done, or does not exist.
    Absent,
}

/// Why an input cannot be bound.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BindError {
    /// A step without whose value this one makes no sense was skipped.
    #[error("`{0}` was skipped, and the reference to it has no default")]
    Skipped(String),
    /// A payload must be loaded first; load it and bind again.
    #[error("the payload {} is not loaded", .0.sha256)]
    NeedsPayload(PayloadRef),
    /// A reference leads nowhere.
    #[error("`{0}` leads to no value")]
    Missing(String),
    /// A marker is malformed.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// A template cannot be rendered.
    #[error("{0}")]
    Template(String),
}

/// Returns `template` with every marker replaced by its value.
///
/// # Errors
///
/// See [`BindError`].
pub fn bind(template: &Value, scope: &dyn Scope) -> Result<Value, BindError> {
    match template {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get("$ref") {
                return reference(&text.parse()?, fields.get("default"), scope);
            }
            if let Some(literal) = fields.get("$literal").filter(|_| fields.len() == 1) {
                return Ok(literal.clone());
            }
            fields
                .iter()
                .map(|(k, v)| Ok((k.clone(), bind(v, scope)?)))
                .collect::<Result<_, _>>()
                .map(Value::Object)
        }
        Value::Array(items) => {
            items.iter().map(|v| bind(v, scope)).collect::<Result<_, _>>().map(Value::Array)
        }
        other => Ok(other.clone()),
    }
}

fn reference(path: &Path, default: Option<&Value>, scope: &dyn Scope) -> Result<Value, BindError> {
    let missing = || BindError::Missing(path.to_string());
    let found = match scope.step(&path.root) {
        StepValue::Value(value) => path.of(value),
        StepValue::Payload(payload) if path.segments.is_empty() => return Ok(payload.to_value()),
        StepValue::Payload(payload) => return Err(BindError::NeedsPayload(payload)),
        StepValue::Skipped if default.is_none() => return Err(BindError::Skipped(path.root.clone())),
        StepValue::Skipped | StepValue::Absent => None,
    };
    found.or(default).cloned().ok_or_else(missing)
}
