//! Whether stored entries are those that were written.

use foreplan_core::{digest::Digest, id::RunId};

use super::{Frame, from_json};
use crate::Head;

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Under which sequence it is kept.
    pub seq: u64,
    /// Its bytes, never serialized again.
    pub bytes: Vec<u8>,
    /// Their SHA-256, as it was when they were written.
    pub hash: Digest,
}

/// What became of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The run.
    pub run: RunId,
    /// How many entries there are.
    pub entries: u64,
    /// The end of the chain, as the index has it.
    pub head: Head,
    /// The first entry that does not fit; absent: all fit.
    pub fault: Option<Fault>,
}

/// An entry that does not fit its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The entry.
    pub seq: u64,
    /// Why it does not fit.
    pub reason: String,
}

/// The end of a chain, from one entry on.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The first entry that was asked for.
    pub from: u64,
    /// The hash that is kept for the entry before it.
    pub before: Option<Digest>,
    /// The entries, in the order in which they are kept.
    pub stored: &'a [Stored],
    /// The end that the index knows.
    pub head: Head,
}

/// Returns the first entry that does not fit.
///
/// Every hash but the last stands in the entry behind it, and the last in the index. So the chain is
/// followed from its end: an entry that fits says what the one before it must be. Behind an entry
/// that does not fit, the hash that is kept beside each entry takes its place.
pub(crate) fn first_fault(part: Part<'_>) -> Option<Fault> {
    let Part { from, before, stored, head } = part;
    let mut first = None;
    let mut fault = |seq, reason: String| first = Some(Fault { seq, reason });
    if let Some(pair) = stored.windows(2).find(|pair| pair[1].seq <= pair[0].seq) {
        fault(pair[0].seq + 1, format!("entry {} stands in its place", pair[1].seq));
        return first;
    }
    let inside = stored.partition_point(|s| s.seq <= head.seq);
    if let Some(extra) = stored.get(inside) {
        fault(extra.seq, format!("it stands behind entry {}, the last that the index knows", head.seq));
    }
    let (mut next, mut expected) = (head.seq + 1, head.hash);
    for one in stored[..inside].iter().rev() {
        if one.seq + 1 != next {
            fault(one.seq + 1, format!("it is missing; the index knows {} entries", head.seq + 1));
            expected = None;
        }
        match check(one, expected) {
            Ok(prev) if one.seq == from && prev != before => {
                fault(one.seq, "it does not follow the entry before it".to_owned());
            }
            Ok(prev) => expected = prev,
            Err(reason) => {
                fault(one.seq, reason);
                expected = None;
            }
        }
        next = one.seq;
    }
    if next > from {
        fault(from, format!("it is missing; the index knows {} entries", head.seq + 1));
    }
    first
}

/// Returns the hash that the entry before this one must have.
fn check(stored: &Stored, expected: Option<Digest>) -> Result<Option<Digest>, String> {
    let hash = Digest::of_bytes(&stored.bytes);
    if hash != stored.hash {
        return Err("its bytes are not those that were written".to_owned());
    }
    if expected.is_some_and(|expected| expected != hash) {
        return Err("its hash is not the one that the chain behind it names".to_owned());
    }
    let frame: Frame = from_json(&stored.bytes).map_err(|e| format!("its bytes are no entry: {e}"))?;
    if frame.seq != stored.seq {
        return Err(format!("it is entry {} in the place of {}", frame.seq, stored.seq));
    }
    if frame.prev.is_none() != (stored.seq == 0) {
        return Err("it does not say which entry it follows".to_owned());
    }
    Ok(frame.prev)
}

impl Report {
    /// Verifies all entries of a run.
    #[must_use]
    pub fn of(run: RunId, stored: &[Stored], head: Head) -> Self {
        let fault = first_fault(Part { from: 0, before: None, stored, head });
        Self { run, entries: stored.len() as u64, head, fault }
    }
}
