//! The journal: the truth about every run, as entries under an expected sequence.
//!
//! One decision is one entry. Appending under the sequence that one believes to be next makes a
//! second writer of the same run lose cleanly. State, lists and traces are rebuilt from it.
//!
//! [`Journal`] and [`Payloads`] are what an agent needs; [`RunStore`] adds what processes need that
//! share a store: owners, an inbox, groups, upkeep. There is one of each in memory, and one on disk:
//!
//! ```text
//!  .foreplan/journal.db        SqliteJournal: entries, run index, inbox
//!  .foreplan/payloads/RUN/…    FilePayloads: values that are too large for an entry
//!  .foreplan/proc/ID.lock      Processes: who lives
//! ```
//!
//! Nothing here decides what a run does, or looks into an entry further than its command's id.

pub mod chain;
mod error;
mod memory;
mod payloads;
mod process;
mod record;
mod run_store;
mod sqlite;
mod store;

use std::sync::Arc;

use foreplan_core::{event::Entry, id::RunId, payload::PayloadRef};
use futures::future::BoxFuture;
use serde_json::Value;

pub use chain::{Report, Stored};
pub use error::Error;
pub use memory::MemoryJournal;
pub use payloads::{FilePayloads, MemoryPayloads};
pub use process::{ProcessLock, Processes};
pub use record::{Head, NewRun, Progress, RunFilter, RunRecord};
pub use run_store::{Behind, Claim, Forward, Hashed, Outcome, Pruned, RunStore, Stats};
pub use sqlite::{Options, SqliteJournal, SyncMode};
pub use store::Store;

/// Keeps the entries of runs, and an index of the runs.
pub trait Journal: Send + Sync + 'static {
    /// Creates a run with its first entry.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if the run, or another with its project and key, is there already.
    fn create(&self, run: NewRun, entry: Arc<Entry>, progress: Progress) -> BoxFuture<'_, Result<(), Error>>;

    /// Appends an entry: see [`Journal::append_all`].
    ///
    /// # Errors
    ///
    /// As [`Journal::append_all`].
    fn append(&self, run: RunId, entry: Arc<Entry>, progress: Progress) -> BoxFuture<'_, Result<(), Error>> {
        self.append_all(run, vec![(entry, progress)])
    }

    /// Appends entries that were decided on together, each with what the index is to keep of the run after it.
    /// When this returns, they are as durable as the journal promises.
    ///
    /// # Cancel safety
    ///
    /// Once polled, entries may be written although the future is dropped: read the run again.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if they are not the run's next; nothing is written then. After another error some may
    /// have been written, but none behind one that was not.
    fn append_all(
        &self,
        run: RunId,
        entries: Vec<(Arc<Entry>, Progress)>,
    ) -> BoxFuture<'_, Result<(), Error>>;

    /// Returns a run's entries from `from` on, verified against the hash chain.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] names the first entry that does not fit.
    fn read(&self, run: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, Error>>;

    /// Returns what the index knows of a run.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn find(&self, run: RunId) -> BoxFuture<'_, Result<Option<RunRecord>, Error>>;

    /// Returns the runs that match, newest first.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunRecord>, Error>>;

    /// Says that a run has ended, and that all who must know of it do: nobody needs to look after it any
    /// more. A journal that does not keep apart which runs are to be looked after has nothing to do.
    fn close(&self, run: RunId) -> BoxFuture<'_, ()> {
        let _ = run;
        Box::pin(futures::future::ready(()))
    }
}

/// Finds that entries are those of a run from `next` on, as every journal does before it appends any.
///
/// # Errors
///
/// [`Error::Conflict`] names the first that is not.
pub fn check_order(run: RunId, entries: &[(Arc<Entry>, Progress)], next: u64) -> Result<(), Error> {
    match entries.iter().zip(next..).find(|((entry, _), seq)| entry.seq != *seq) {
        Some(((entry, _), _)) => Err(Error::Conflict { run, seq: entry.seq }),
        None => Ok(()),
    }
}

/// Keeps values that are too large for an entry.
pub trait Payloads: Send + Sync + 'static {
    /// Stores a value and returns how to refer to it. Storing the same value twice is one payload.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    fn put(&self, run: RunId, value: Arc<Value>) -> BoxFuture<'_, Result<PayloadRef, Error>>;

    /// Returns a stored value, verified against its digest.
    ///
    /// # Errors
    ///
    /// [`Error::Payload`] if it is missing or is not what the digest says.
    fn get(&self, run: RunId, payload: PayloadRef) -> BoxFuture<'_, Result<Arc<Value>, Error>>;
}
