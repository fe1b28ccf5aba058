//! What carrying runs on needs beside their journals: owners, an inbox, groups, and upkeep.

use std::sync::Arc;

use foreplan_core::{digest::Digest, event::Entry, id::RunId, input::Command, time::Timestamp};
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::{
    Error, Journal, RunRecord,
    chain::{Report, Stored},
};

/// A journal with its run index, shared by the processes that carry runs on.
///
/// A run has at most one owner: the process that decides; at first, the one that creates it. Any other process sends its commands to
/// the run's inbox, from where the owner takes them. A command leaves the inbox in the transaction
/// that appends the entry which it caused, so that it is carried out once.
pub trait RunStore: Journal {
    /// Makes `owner` the process that carries the run on, if none does or its process is gone.
    ///
    /// # Errors
    ///
    /// [`Error::NoRun`]; or the store cannot be written.
    fn claim<'a>(&'a self, run: RunId, owner: &'a str) -> BoxFuture<'a, Result<Claim, Error>>;

    /// Leaves the run to whoever claims it next. Nothing happens if `owner` does not own it.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    fn release<'a>(&'a self, run: RunId, owner: &'a str) -> BoxFuture<'a, Result<(), Error>>;

    /// Returns whether the process of this name lives.
    fn owner_is_alive(&self, owner: &str) -> bool;

    /// Puts a command in the run's inbox. Sending it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NoRun`]; or the store cannot be written.
    fn send(&self, run: RunId, command: Command) -> BoxFuture<'_, Result<(), Error>>;

    /// Returns the commands for runs of `owner` that no earlier call returned, oldest first.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn poll<'a>(&'a self, owner: &'a str) -> BoxFuture<'a, Result<Vec<(RunId, Command)>, Error>>;

    /// Returns every command that waits for the run, oldest first: what a new owner carries out
    /// before it dispatches anything.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn pending(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Command>, Error>>;

    /// Tells the sender why its command was not carried out. Nothing happens to a command that was.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    fn refuse(&self, run: RunId, command: Uuid, why: String) -> BoxFuture<'_, Result<(), Error>>;

    /// Returns what became of a command; `None` if the run never had it.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn outcome(&self, run: RunId, command: Uuid) -> BoxFuture<'_, Result<Option<Outcome>, Error>>;

    /// Returns the open runs of a concurrency group, oldest first.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn active_in_group<'a>(
        &'a self,
        project: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Vec<RunRecord>, Error>>;

    /// Returns the runs whose id ends so, newest first; hyphens and case do not matter.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn find_by_suffix<'a>(&'a self, suffix: &'a str) -> BoxFuture<'a, Result<Vec<RunRecord>, Error>>;

    /// Returns a run's entries as they are kept, whether or not they fit.
    ///
    /// # Errors
    ///
    /// [`Error::NoRun`]; or the store cannot be read.
    fn export(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Stored>, Error>>;

    /// Returns whether the run's entries are those that were written.
    ///
    /// # Errors
    ///
    /// [`Error::NoRun`]; or the store cannot be read. A damaged entry is a fault in the report.
    fn verify(&self, run: RunId) -> BoxFuture<'_, Result<Report, Error>>;

    /// Returns the hashes of a run's entries from `from` on, in order.
    ///
    /// # Errors
    ///
    /// [`Error::NoRun`]; or the store cannot be read.
    fn hashes(&self, run: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Digest>, Error>> {
        Box::pin(async move {
            let stored = self.export(run).await?;
            Ok(stored.into_iter().filter(|one| one.seq >= from).map(|one| one.hash).collect())
        })
    }

    /// Returns the entries of some runs, of each from a sequence on, with the hashes of their stored
    /// bytes: verified as [`Journal::read`] does, in the order in which they are asked for.
    fn hashed(&self, wanted: Vec<(RunId, u64)>) -> BoxFuture<'_, Vec<Result<Vec<Hashed>, Error>>> {
        Box::pin(async move {
            let mut read = Vec::with_capacity(wanted.len());
            for (run, from) in wanted {
                let one = async {
                    let entries = self.read(run, from).await?;
                    // Entries that come meanwhile have their turn later.
                    let hashes = self.hashes(run, from).await?;
                    Ok(entries.into_iter().zip(hashes).collect())
                };
                read.push(one.await);
            }
            read
        })
    }

    /// Returns how many of a run's entries a place that traces go to has. A store that does not keep
    /// this says 0: everything is sent again, with the same bytes.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn cursor<'a>(&'a self, _sink: &'a str, _run: RunId) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(async { Ok(0) })
    }

    /// Records that a place has the first `to` entries of a run, if it had `from` before. Returns
    /// whether it was recorded.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    fn advance<'a>(
        &'a self,
        _sink: &'a str,
        _run: RunId,
        _from: u64,
        _to: u64,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async { Ok(false) })
    }

    /// Returns how many entries of each of some runs a place has, as [`RunStore::cursor`] does.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn cursors<'a>(&'a self, sink: &'a str, runs: &'a [RunId]) -> BoxFuture<'a, Result<Vec<u64>, Error>> {
        Box::pin(async move {
            let mut cursors = Vec::with_capacity(runs.len());
            for run in runs {
                cursors.push(self.cursor(sink, *run).await?);
            }
            Ok(cursors)
        })
    }

    /// Moves the cursors of some runs, each as [`RunStore::advance`] does. A run that is gone is passed
    /// over.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    fn advance_all<'a>(&'a self, sink: &'a str, moves: Vec<Forward>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            for Forward { run, from, to } in moves {
                match self.advance(sink, run, from, to).await {
                    Ok(_) | Err(Error::NoRun(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    /// Returns runs of which a place lacks entries, oldest first.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn behind<'a>(&'a self, _sink: &'a str, _limit: usize) -> BoxFuture<'a, Result<Vec<Behind>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Deletes the runs that ended before a point in time, with their payloads.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    fn prune(&self, ended_before: Timestamp) -> BoxFuture<'_, Result<Pruned, Error>>;

    /// Returns how much there is.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn stats(&self) -> BoxFuture<'_, Result<Stats, Error>>;
}

/// An entry, with the hash of its stored bytes.
pub type Hashed = (Arc<Entry>, Digest);

/// How far a place that traces go to has come with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The run.
    pub run: RunId,
    /// How many entries the place had.
    pub from: u64,
    /// How many it has.
    pub to: u64,
}

/// A run of which a place that traces go to lacks entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The run.
    pub run: RunId,
    /// How many entries the place has.
    pub sent: u64,
    /// How many there are.
    pub entries: u64,
}

/// What came of claiming a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The run is the caller's.
    Claimed {
        /// The process that had it and is gone.
        previous: Option<String>,
    },
    /// Another process carries it on.
    Owned {
        /// Which.
        by: String,
    },
}

/// What became of a command that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody took it yet.
    Pending,
    /// It is in the run's journal.
    Accepted,
    /// It was not carried out, for this reason.
    Refused(String),
}

/// What pruning deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs.
    pub runs: u64,
    /// Their entries.
    pub entries: u64,
    /// The size of their payloads.
    pub payload_bytes: u64,
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Runs.
    pub runs: u64,
    /// Those that have not ended.
    pub open: u64,
    /// Entries of all runs.
    pub entries: u64,
    /// The size of the journal.
    pub journal_bytes: u64,
    /// How much of that is free: what was deleted left it for entries to come.
    pub free_bytes: u64,
    /// The size of all payloads.
    pub payload_bytes: u64,
}
