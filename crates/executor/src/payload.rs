//! Values by reference: what a tool gets is loaded, what it returns is stored when it is large.

use std::{collections::HashMap, sync::Arc};

use foreplan_core::{
    failure::{EffectState, Failure, FailureKind},
    id::RunId,
    payload::{INLINE_BYTES_MAX, Output, PayloadRef, fits_within},
    tool::Effect,
};
use foreplan_journal::Payloads;
use serde_json::Value;

/// Largest output of a tool: 64 MiB. A value that large belongs into a file that a tool names.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Returns the input with every `{"$payload": …}` in it replaced by the value that it refers to.
/// What is loaded is data: references inside it stay as they are.
///
/// # Errors
///
/// A failure of kind `input_schema` if a payload cannot be read: the input could not be bound.
pub(crate) async fn load(
    payloads: &dyn Payloads,
    run: RunId,
    input: &Arc<Value>,
) -> Result<Arc<Value>, Failure> {
    let mut references = Vec::new();
    collect(input, &mut references);
    if references.is_empty() {
        return Ok(Arc::clone(input));
    }
    let mut loaded = HashMap::with_capacity(references.len());
    for reference in references {
        if loaded.contains_key(&reference) {
            continue;
        }
        let value = payloads.get(run, reference).await.map_err(|error| {
            let message = format!("a part of the input could not be loaded: {error}");
            Failure::new(FailureKind::InputSchema, "payload_unreadable", message)
                .retryable(error.is_retryable())
                .effect(EffectState::None)
        })?;
        loaded.insert(reference, value);
    }
    Ok(Arc::new(substitute(input, &loaded)))
}

/// Lists the references in `value`. Objects of one key are looked at closely, everything else is
/// only walked through.
fn collect(value: &Value, references: &mut Vec<PayloadRef>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        Value::Object(fields) => match PayloadRef::from_value(value) {
            Some(reference) => references.push(reference),
            None => fields.values().for_each(|field| collect(field, references)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn substitute(value: &Value, loaded: &HashMap<PayloadRef, Arc<Value>>) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| substitute(item, loaded)).collect(),
        Value::Object(fields) => {
            if let Some(payload) = PayloadRef::from_value(value).and_then(|r| loaded.get(&r)) {
                return payload.as_ref().clone();
            }
            fields.iter().map(|(name, field)| (name.clone(), substitute(field, loaded))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Returns a tool's output as it travels: by itself if it is small, else by reference.
///
/// # Errors
///
/// A failure if the output is larger than [`OUTPUT_BYTES_MAX`] or cannot be stored. The call was
/// made: unless the tool only reads, its effect is done.
pub(crate) async fn keep(
    payloads: &dyn Payloads,
    run: RunId,
    effect: Effect,
    value: Value,
) -> Result<Output, Failure> {
    if fits_within(&value, INLINE_BYTES_MAX) {
        return Ok(Output::inline(value));
    }
    let done = match effect {
        Effect::Read => EffectState::None,
        Effect::Idempotent | Effect::Irreversible => EffectState::Done,
    };
    if !fits_within(&value, OUTPUT_BYTES_MAX) {
        let message = format!(
            "the output is larger than {} MiB; let the tool write a file and return its name",
            OUTPUT_BYTES_MAX / 1024 / 1024
        );
        return Err(Failure::new(FailureKind::Budget, "output_too_large", message).effect(done));
    }
    payloads.put(run, Arc::new(value)).await.map(Output::Payload).map_err(|error| {
        let message = format!("the output could not be stored: {error}");
        Failure::new(FailureKind::Tool, "payload_not_stored", message)
            .retryable(error.is_retryable())
            .effect(done)
    })
}
