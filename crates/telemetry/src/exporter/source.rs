//! Where journals come from, and where it is kept how far each sink has come.

use foreplan_core::id::RunId;
use futures::future::BoxFuture;

use crate::Record;

/// Journals, and how far each sink has come. Implemented where stores are wired.
pub trait Source: Send + Sync + 'static {
    /// Returns whether this machine does what is asked of it: all the time that it takes is work then.
    fn is_local(&self) -> bool;

    /// Returns a run's entries from `from` on.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or is damaged.
    fn records(&self, run: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Record>, SourceError>>;

    /// Returns how many of a run's entries a sink has.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn cursor<'a>(&'a self, sink: &'a str, run: RunId) -> BoxFuture<'a, Result<u64, SourceError>>;

    /// Records that a sink has the first `to` entries of a run, if it had `from` before. Nothing
    /// changes otherwise: somebody else moved it on.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    fn advance<'a>(
        &'a self,
        sink: &'a str,
        run: RunId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<(), SourceError>>;

    /// Returns the entries of some runs, of each from a sequence on, in the order in which they are
    /// asked for.
    fn records_of(&self, wanted: Vec<(RunId, u64)>) -> BoxFuture<'_, Vec<Result<Vec<Record>, SourceError>>> {
        Box::pin(async move {
            let mut records = Vec::with_capacity(wanted.len());
            for (run, from) in wanted {
                records.push(self.records(run, from).await);
            }
            records
        })
    }

    /// Returns how many entries of each of some runs a sink has.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn cursors<'a>(
        &'a self,
        sink: &'a str,
        runs: &'a [RunId],
    ) -> BoxFuture<'a, Result<Vec<u64>, SourceError>> {
        Box::pin(async move {
            let mut cursors = Vec::with_capacity(runs.len());
            for run in runs {
                cursors.push(self.cursor(sink, *run).await?);
            }
            Ok(cursors)
        })
    }

    /// Moves the cursors of some runs, each as [`Source::advance`] does.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    fn advance_all<'a>(&'a self, sink: &'a str, moves: Vec<Move>) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            for Move { run, from, to } in moves {
                self.advance(sink, run, from, to).await?;
            }
            Ok(())
        })
    }

    /// Returns some runs with entries that a sink has not got.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn behind<'a>(&'a self, sink: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Lag>, SourceError>>;
}

/// How far a sink has come with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The run.
    pub run: RunId,
    /// How many entries the sink had.
    pub from: u64,
    /// How many it has.
    pub to: u64,
}

/// A run with entries that a sink has not got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The run.
    pub run: RunId,
    /// How many entries the sink has.
    pub sent: u64,
    /// How many there are.
    pub entries: u64,
}

/// Why a source cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It may be usable later.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
    /// The run's journal cannot be read at all.
    #[error("the journal cannot be read: {0}")]
    Unreadable(String),
}
