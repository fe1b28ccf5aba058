//! The form in which entries are kept: JSON in a chain of hashes.
//!
//! The stored bytes of an entry are `{v, seq, at, cause, events, prev}`, where `prev` is the SHA-256
//! of the bytes of the entry before it. They are made once and never again: what was hashed is what
//! is kept. This module owns the form and its verification; where the bytes lie is for a journal.
//!
//! An entry over [`INLINE_BYTES_MAX`] keeps its large values in the payload store. It then carries
//! `payloads`: the JSON pointers of the places where a reference stands for a value.

use std::sync::Arc;

use foreplan_core::{
    digest::Digest,
    event::{Entry, VERSION},
    id::RunId,
    payload::{ENTRY_BYTES_MAX, INLINE_BYTES_MAX},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use crate::{Error, Head, Payloads};

mod large;
mod verify;

pub(crate) use verify::first_fault;
pub use verify::{Fault, Part, Report, Stored};

/// What `prev` and the closing brace add to a body: room that [`ENTRY_BYTES_MAX`] must leave.
const PREV_BYTES_MAX: usize = 96;

/// Deepest nesting of an entry. Documents from outside nest at most 128 deep, since that is where
/// their parser stops; an entry adds a few levels of its own; a reader's stack bears 256.
const NESTING_MAX: usize = 256;

/// The bytes of an entry before it has its place in the chain.
#[derive(Debug)]
pub struct Body(Vec<u8>);

/// Returns the bytes of an entry, with its large values moved to the payload store.
///
/// # Errors
///
/// [`Error::TooLarge`] or [`Error::TooDeep`] if the entry cannot be kept; the payload store's
/// errors.
pub async fn encode(run: RunId, entry: &Entry, payloads: &dyn Payloads) -> Result<Body, Error> {
    let bytes = to_json(entry)?;
    if nesting(&bytes) > NESTING_MAX {
        return Err(Error::TooDeep { max: NESTING_MAX });
    }
    let bytes = if bytes.len() > INLINE_BYTES_MAX {
        let mut value = from_json(&bytes).map_err(|e| Error::store("an entry is written", e))?;
        large::move_out(run, &mut value, payloads).await?;
        to_json(&value)?
    } else {
        bytes
    };
    if bytes.len() + PREV_BYTES_MAX > ENTRY_BYTES_MAX {
        return Err(Error::TooLarge { bytes: bytes.len() + PREV_BYTES_MAX, max: ENTRY_BYTES_MAX });
    }
    Ok(Body(bytes))
}

impl Body {
    /// Gives the entry its place behind the entry with the hash `prev`, and returns the stored bytes
    /// with their own hash.
    #[must_use]
    pub fn chain(self, prev: Option<Digest>) -> (Vec<u8>, Digest) {
        let mut bytes = self.0;
        bytes.pop();
        match prev {
            Some(prev) => {
                let mut digits = [0; 64];
                hex::encode_to_slice(prev.0, &mut digits).unwrap_or_default();
                bytes.extend_from_slice(b",\"prev\":\"sha256:");
                bytes.extend_from_slice(&digits);
                bytes.extend_from_slice(b"\"}");
            }
            None => bytes.extend_from_slice(b",\"prev\":null}"),
        }
        let hash = Digest::of_bytes(&bytes);
        (bytes, hash)
    }
}

/// What can be read of stored bytes whatever their version.
#[derive(Debug, Deserialize)]
struct Frame {
    v: u32,
    seq: u64,
    prev: Option<Digest>,
    #[serde(default)]
    payloads: Option<IgnoredAny>,
}

/// An entry that is decoded, or that waits for its payloads.
#[derive(Debug)]
pub(crate) enum Decoded {
    /// The entry.
    Entry(Arc<Entry>),
    /// Its JSON, with references in the place of values.
    References(Value),
}

/// Returns the entry in stored bytes that [`first_fault`] found to be whole.
pub(crate) fn decode(run: RunId, stored: &Stored) -> Result<Decoded, Error> {
    let corrupt = |e: serde_json::Error| Error::Corrupt {
        run,
        seq: stored.seq,
        reason: format!("its bytes are no entry: {e}"),
    };
    let frame: Frame = from_json(&stored.bytes).map_err(corrupt)?;
    if frame.v > VERSION {
        return Err(Error::TooNew { run, seq: stored.seq, version: frame.v, known: VERSION });
    }
    match frame.payloads {
        None => from_json(&stored.bytes).map(|entry| Decoded::Entry(Arc::new(entry))).map_err(corrupt),
        Some(_) => from_json(&stored.bytes).map(Decoded::References).map_err(corrupt),
    }
}

/// Returns the entry, with its payloads loaded.
pub(crate) async fn complete(
    run: RunId,
    seq: u64,
    decoded: Decoded,
    payloads: &dyn Payloads,
) -> Result<Arc<Entry>, Error> {
    match decoded {
        Decoded::Entry(entry) => Ok(entry),
        Decoded::References(mut value) => {
            large::load(run, seq, &mut value, payloads).await?;
            serde_json::from_value(value).map(Arc::new).map_err(|e| Error::Corrupt {
                run,
                seq,
                reason: format!("its bytes are no entry: {e}"),
            })
        }
    }
}

/// Returns the entries of a run, verified from the index's head backwards.
///
/// # Errors
///
/// [`Error::Corrupt`] names the first entry that does not fit.
pub async fn read(
    run: RunId,
    stored: &[Stored],
    head: Head,
    payloads: &dyn Payloads,
) -> Result<Vec<Arc<Entry>>, Error> {
    read_part(run, Part { from: 0, before: None, stored, head }, payloads).await
}

/// Returns the entries of the end of a run's chain, verified as [`read`] does.
///
/// # Errors
///
/// As [`read`].
pub async fn read_part(
    run: RunId,
    part: Part<'_>,
    payloads: &dyn Payloads,
) -> Result<Vec<Arc<Entry>>, Error> {
    let stored = part.stored;
    if let Some(Fault { seq, reason }) = first_fault(part) {
        return Err(Error::Corrupt { run, seq, reason });
    }
    let mut entries = Vec::with_capacity(stored.len());
    for one in stored {
        entries.push(complete(run, one.seq, decode(run, one)?, payloads).await?);
    }
    Ok(entries)
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(1024);
    serde_json::to_writer(&mut bytes, value).map_err(|e| Error::store("an entry is written", e))?;
    Ok(bytes)
}

fn from_json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, serde_json::Error> {
    if nesting(bytes) > NESTING_MAX {
        return Err(serde::de::Error::custom(format_args!("nested deeper than {NESTING_MAX}")));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    reader.disable_recursion_limit();
    let value = T::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Returns how deep the objects and arrays of a JSON text nest.
fn nesting(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_counts_brackets_outside_texts() {
        assert_eq!(nesting(br#"{"a": [{"b": "[[[\"[["}], "c\\": {}}"#), 3);
        assert_eq!(nesting(b"1"), 0);
    }

    #[test]
    fn bytes_that_nest_without_end_are_refused() {
        let bytes = [b'['].repeat(ENTRY_BYTES_MAX);
        assert!(from_json::<Value>(&bytes).unwrap_err().to_string().contains("nested deeper"));
    }
}
