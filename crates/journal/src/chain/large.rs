//! Large values of an entry: kept in the payload store, with a reference in their place.

use std::sync::Arc;

use foreplan_core::{
    id::RunId,
    payload::{INLINE_BYTES_MAX, PayloadRef},
};
use serde_json::Value;

use crate::{Error, Payloads};

/// Where an entry keeps the places of its references.
const PAYLOADS_FIELD: &str = "payloads";

/// Fields that are kept as one payload when they are large. Of other values the innermost large
/// part is taken.
const WHOLE: [&str; 2] = ["plan", "inline"];

/// Moves every value over [`INLINE_BYTES_MAX`] to the payload store.
pub(super) async fn move_out(run: RunId, entry: &mut Value, payloads: &dyn Payloads) -> Result<(), Error> {
    let mut places = Vec::new();
    find_large(entry, &mut String::new(), &mut places);
    for place in &places {
        let Some(slot) = entry.pointer_mut(place) else { continue };
        let payload = payloads.put(run, Arc::new(slot.take())).await?;
        *slot = payload.to_value();
    }
    if let Value::Object(fields) = entry {
        fields.insert(PAYLOADS_FIELD.to_owned(), places.into());
    }
    Ok(())
}

/// Puts the values back in the place of their references.
pub(super) async fn load(
    run: RunId,
    seq: u64,
    entry: &mut Value,
    payloads: &dyn Payloads,
) -> Result<(), Error> {
    let corrupt =
        |place: &Value| Error::Corrupt { run, seq, reason: format!("there is no payload at {place}") };
    let places = entry.as_object_mut().and_then(|fields| fields.shift_remove(PAYLOADS_FIELD));
    for place in places.iter().filter_map(Value::as_array).flatten() {
        let slot = place.as_str().and_then(|p| entry.pointer_mut(p)).ok_or_else(|| corrupt(place))?;
        let payload = PayloadRef::from_value(slot).ok_or_else(|| corrupt(place))?;
        *slot = Arc::unwrap_or_clone(payloads.get(run, payload).await?);
    }
    Ok(())
}

/// What a reference takes up: `{"$payload":{"sha256":"sha256:…","bytes":…}}`.
const REFERENCE_BYTES: usize = 128;

/// Collects the JSON pointers of the values to move, and returns how many bytes stay in `value`.
fn find_large(value: &Value, path: &mut String, places: &mut Vec<String>) -> usize {
    let depth = path.len();
    let mut visit = |name: &str, child: &Value| {
        path.push('/');
        path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let known = places.len();
        let mut bytes = find_large(child, path, places);
        if bytes > INLINE_BYTES_MAX || (WHOLE.contains(&name) && places.len() > known) {
            places.truncate(known);
            places.push(path.clone());
            bytes = REFERENCE_BYTES;
        }
        path.truncate(depth);
        bytes
    };
    match value {
        Value::Array(items) => {
            2 + items.iter().enumerate().map(|(at, item)| 1 + visit(&at.to_string(), item)).sum::<usize>()
        }
        Value::Object(fields) => {
            2 + fields.iter().map(|(name, field)| 4 + name.len() + visit(name, field)).sum::<usize>()
        }
        leaf => leaf.to_string().len(),
    }
}
