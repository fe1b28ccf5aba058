//! What can go wrong with a journal.

use std::path::PathBuf;

use foreplan_core::{id::RunId, payload::PayloadRef};

/// What can go wrong with a journal or a payload store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This run is there already: the one to create, or one with its project and key.
    #[error("the run {0} exists already")]
    Exists(RunId),
    /// There is no such run.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// Another writer was first.
    #[error("entry {seq} of run {run} was written by another process")]
    Conflict {
        /// The run.
        run: RunId,
        /// The sequence that was expected to be free.
        seq: u64,
    },
    /// An entry is not what its hash says, or is missing.
    #[error("the journal of run {run} is damaged at entry {seq}: {reason}")]
    Corrupt {
        /// The run.
        run: RunId,
        /// The first entry that does not fit.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// An entry is of a version that this program does not know.
    #[error("entry {seq} of run {run} has version {version}; this program reads up to {known}: upgrade it")]
    TooNew {
        /// The run.
        run: RunId,
        /// The entry.
        seq: u64,
        /// Its version.
        version: u32,
        /// What this program reads.
        known: u32,
    },
    /// A payload is missing or is not what its digest says.
    #[error("the payload {} cannot be read: {reason}", .payload.sha256)]
    Payload {
        /// Which.
        payload: PayloadRef,
        /// Why.
        reason: String,
    },
    /// An entry is larger than an entry may be.
    #[error("an entry of {bytes} bytes is larger than {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// An entry nests deeper than a reader's stack bears.
    #[error("an entry is nested deeper than {max} levels")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// The store has no room left, or is read-only.
    #[error("the store cannot be written: {0}; what is there can be read")]
    Full(String),
    /// Another process keeps the store locked.
    #[error("the store is busy: another process writes for too long; try again")]
    Busy,
    /// The file is damaged, or no store at all.
    #[error("the store {path} cannot be read: {reason}; restore it from a copy")]
    Damaged {
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A newer program made the store.
    #[error("the store has version {found}; this program knows up to {known}: upgrade it")]
    NewerStore {
        /// The store's version.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// The store cannot be opened, read or written.
    #[error("the store failed while {doing}")]
    Store {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Returns whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::Busy)
    }

    /// Returns the error for one more of those whom the failure of one transaction concerns.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Full(why) => Self::Full(why.clone()),
            Self::Busy => Self::Busy,
            Self::Damaged { path, reason } => Self::Damaged { path: path.clone(), reason: reason.clone() },
            Self::Store { doing, source } => Self::store(doing, source.to_string()),
            other => Self::store("the journal is written", other.to_string()),
        }
    }

    /// Wraps what a store's own parts report.
    pub(crate) fn store(
        doing: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Store { doing, source: source.into() }
    }
}
