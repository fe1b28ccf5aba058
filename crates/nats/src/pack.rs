//! Entries that were decided on together, as one message of the stream: each a line, the hash of each in the
//! header. JSON as it is written here has no line breaks.
//!
//! Whether a deployment keeps them so stands with the stream `RUNS`. Where trackers of an earlier version may
//! serve, which have a queue for each shard, it says that each entry is a message, or nothing: they read no other.

use std::collections::HashMap;

use async_nats::{HeaderMap, jetstream::stream::Stream};
use foreplan_core::{digest::Digest, payload::ENTRY_BYTES_MAX};
use foreplan_journal::{Progress, Stored};
use foreplan_protocol::wire::Queues;

use crate::index;

/// The entry of the stream's metadata that says how entries are kept.
const FORM: &str = "foreplan-entries";

/// What it says where a message may hold several, and where each is one.
const LINES: &str = "lines";
const SINGLE: &str = "single";

/// Returns how a deployment with these queues keeps its entries.
fn form(queues: Queues) -> &'static str {
    if queues == Queues::EVERY_SHARD { SINGLE } else { LINES }
}

/// Returns what the stream of a deployment with these queues says of its entries.
pub(crate) fn stated(queues: Queues) -> HashMap<String, String> {
    HashMap::from([(FORM.to_owned(), form(queues).to_owned())])
}

/// Returns whether a message of the stream may hold several entries.
pub(crate) fn has_lines(runs: &Stream) -> bool {
    found(runs) == LINES
}

/// Returns what the stream says otherwise than one of a deployment with these queues would.
pub(crate) fn difference(runs: &Stream, queues: Queues) -> Option<String> {
    let (found, wanted) = (found(runs), form(queues));
    (found != wanted).then(|| format!("{FORM} is {found}, and must be {wanted}"))
}

fn found(runs: &Stream) -> &str {
    runs.cached_info().config.metadata.get(FORM).map_or(SINGLE, String::as_str)
}

/// An entry in its place of the chain.
pub(crate) struct Line {
    pub(crate) seq: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) hash: Digest,
    /// What the index keeps of the run after it.
    pub(crate) progress: Progress,
}

/// Entries that are one message.
pub(crate) struct Pack {
    /// The last entry.
    pub(crate) seq: u64,
    pub(crate) bytes: Vec<u8>,
    /// Of all entries, in order.
    pub(crate) hashes: Vec<Digest>,
    /// After the last entry.
    pub(crate) progress: Progress,
}

impl From<Line> for Pack {
    fn from(line: Line) -> Self {
        let Line { seq, bytes, hash, progress } = line;
        Self { seq, bytes, hashes: vec![hash], progress }
    }
}

impl Pack {
    /// Adds the next entry; returns it if a message of both would be larger than one of an entry may be.
    fn add(&mut self, line: Line) -> Option<Line> {
        if self.bytes.len() + 1 + line.bytes.len() > ENTRY_BYTES_MAX {
            return Some(line);
        }
        let Line { seq, bytes, hash, progress } = line;
        self.bytes.push(b'\n');
        self.bytes.extend_from_slice(&bytes);
        self.hashes.push(hash);
        (self.seq, self.progress) = (seq, progress);
        None
    }
}

/// Returns entries as few messages; as one each, unless they may be together.
pub(crate) fn packs(lines: Vec<Line>, together: bool) -> Vec<Pack> {
    let mut packs: Vec<Pack> = Vec::with_capacity(1);
    for line in lines {
        let left = match packs.last_mut() {
            Some(pack) if together => pack.add(line),
            _ => Some(line),
        };
        packs.extend(left.map(Pack::from));
    }
    packs
}

/// Returns the hash of a message's last entry.
pub(crate) fn last_hash(payload: &[u8]) -> Digest {
    Digest::of_bytes(payload.rsplit(|byte| *byte == b'\n').next().unwrap_or_default())
}

/// Returns the entries of a message; `None` if its headers name none. Entries and hashes that do not belong to
/// each other are for the chain's verification to find.
pub(crate) fn stored(headers: &HeaderMap, payload: Vec<u8>) -> Option<Vec<Stored>> {
    let hashes = index::hashes(headers)?;
    if let [(seq, hash)] = hashes[..] {
        return Some(vec![Stored { seq, bytes: payload, hash }]);
    }
    let mut lines = payload.split(|byte| *byte == b'\n');
    let mut stored: Vec<Stored> = hashes
        .into_iter()
        .map(|(seq, hash)| Stored { seq, bytes: lines.next().unwrap_or_default().to_vec(), hash })
        .collect();
    if let Some(last) = stored.last_mut() {
        lines.for_each(|line| last.bytes.extend_from_slice(line));
    }
    Some(stored)
}
