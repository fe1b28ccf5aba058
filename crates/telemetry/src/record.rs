//! What a trace is made of.

use std::sync::Arc;

use foreplan_core::{digest::Digest, event::Entry};

/// An entry of a run's journal, with the hash of its stored bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The entry.
    pub entry: Arc<Entry>,
    /// SHA-256 of the bytes that are stored for it.
    pub hash: Digest,
}
