//! The journal in SQLite: one file, one connection that writes, a few that read.
//!
//! ```text
//!  append, alone ── begin, the entry, commit
//!  append ──▶ queue ──▶ thread ── begin, every queued entry, commit ──▶ answers
//!  read, list, find ──▶ readers, each on a blocking thread
//! ```
//!
//! Other processes may use the same file: the tables hold what they share, and a stale end of a
//! chain makes a writer lose, never overwrite.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use foreplan_core::{
    digest::Digest,
    event::Entry,
    id::RunId,
    input::{Command, Input},
    time::Timestamp,
};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    Behind, Claim, Error, FilePayloads, Forward, Hashed, Journal, NewRun, Outcome, Progress, Pruned, Report,
    RunFilter, RunRecord, RunStore, Stats, Stored, chain, check_order, process::Processes,
    record::plain_suffix,
};

mod cursors;
mod entries;
mod heads;
mod inbox;
mod reader;
mod rows;
mod schema;
mod upkeep;
mod writer;

use entries::Found;
use heads::{Append, Create, Write};
use reader::Readers;
use writer::Writer;

/// The store's file in its folder.
const FILE: &str = "journal.db";

/// How a store is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How durable an append is.
    pub sync: SyncMode,
    /// Most pages of 4 KiB that the file may have; absent: as many as fit.
    pub page_limit: Option<u32>,
    /// Nothing is written, and nothing needs to be writable.
    pub read_only: bool,
}

/// How durable an append is when it returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// It outlasts a loss of power.
    #[default]
    Full,
    /// It outlasts the process; a loss of power may take the last ones, and damages nothing.
    Normal,
}

/// The journal in SQLite.
#[derive(Debug)]
pub struct SqliteJournal {
    path: PathBuf,
    readers: Arc<Readers>,
    writer: Option<Writer>,
    /// The process that owns the runs that it creates.
    owner: Option<String>,
    payloads: FilePayloads,
    processes: Processes,
    polled: Mutex<HashSet<(RunId, Uuid)>>,
}

impl SqliteJournal {
    /// Opens the store in `dir`, and makes it if there is none: `journal.db`, `payloads/` and
    /// `proc/`.
    ///
    /// # Errors
    ///
    /// [`Error::NewerStore`], [`Error::Damaged`], [`Error::Full`] if it cannot be written.
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let writer = if options.read_only {
            None
        } else {
            std::fs::create_dir_all(dir).map_err(|e| Error::store("the store's folder is made", e))?;
            Some(Writer::start(schema::open_writer(&path, &options)?, path.clone())?)
        };
        Ok(Self {
            readers: Readers::open(&path)?,
            path,
            writer,
            owner: None,
            payloads: FilePayloads::new(dir.join("payloads")),
            processes: Processes::new(dir.join("proc")),
            polled: Mutex::default(),
        })
    }

    /// Opens a store that nobody writes, a read-only folder included.
    ///
    /// # Errors
    ///
    /// [`Error::NewerStore`], [`Error::Damaged`]; or there is none.
    pub fn open_read_only(dir: &Path) -> Result<Self, Error> {
        Self::open(dir, Options { read_only: true, ..Options::default() })
    }

    /// Makes runs that are created from now on belong to a process.
    #[must_use]
    pub fn owned_by(mut self, owner: &str) -> Self {
        self.owner = Some(owner.to_owned());
        self
    }

    /// Returns where large values are kept.
    #[must_use]
    pub fn payloads(&self) -> &FilePayloads {
        &self.payloads
    }

    /// Returns where the processes that use the store are entered.
    #[must_use]
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    fn writer(&self) -> Result<&Writer, Error> {
        let read_only = || Error::Full(format!("{} was opened for reading only", self.path.display()));
        self.writer.as_ref().ok_or_else(read_only)
    }

    async fn prepare(&self, run: RunId, entries: &[(Arc<Entry>, Progress)]) -> Result<Prepared, Error> {
        let nothing = || Error::store("entries are appended", "there are none");
        let ((first, _), (_, progress)) = entries.first().zip(entries.last()).ok_or_else(nothing)?;
        let (seq, progress) = (first.seq, *progress);
        let (mut bodies, mut commands) = (Vec::with_capacity(entries.len()), Vec::new());
        check_order(run, entries, seq)?;
        for (entry, _) in entries {
            if let Input::Command(command) = &entry.cause {
                commands.push(command.id);
            }
            bodies.push(chain::encode(run, entry, &self.payloads).await?);
        }
        Ok(Prepared { run, seq, bodies, progress, commands })
    }

    async fn found(&self, run: RunId) -> Result<Found, Error> {
        let found = self.readers.run("a run is read", move |conn| entries::find(conn, run, 0)).await?;
        found.ok_or(Error::NoRun(run))
    }

    /// Returns entries with the hashes of their bytes: what SQLite says, and what becomes of it, on one
    /// thread that may block.
    async fn decoded(&self, wanted: Vec<(RunId, u64)>) -> Result<Vec<Result<Vec<Hashed>, Error>>, Error> {
        let decoded = self.readers.run("runs are read", move |conn| {
            let one = |(run, from)| {
                let found = entries::find(conn, run, from)?.ok_or(Error::NoRun(run));
                Ok((run, found.and_then(|found| entries::decode(run, &found))))
            };
            wanted.into_iter().map(one).collect::<rusqlite::Result<Vec<_>>>()
        });
        let mut read = Vec::new();
        for (run, entries) in decoded.await? {
            read.push(match entries {
                Ok(entries) => self.complete(run, entries).await,
                Err(error) => Err(error),
            });
        }
        Ok(read)
    }

    async fn complete(
        &self,
        run: RunId,
        decoded: Vec<(u64, chain::Decoded, Digest)>,
    ) -> Result<Vec<Hashed>, Error> {
        let mut entries = Vec::with_capacity(decoded.len());
        for (seq, one, hash) in decoded {
            entries.push((chain::complete(run, seq, one, &self.payloads).await?, hash));
        }
        Ok(entries)
    }

    async fn records(
        &self,
        doing: &'static str,
        tail: &'static str,
        values: Vec<rusqlite::types::Value>,
    ) -> Result<Vec<RunRecord>, Error> {
        let sql = format!("select {} {tail}", rows::RECORD);
        self.readers
            .run(doing, move |conn| {
                conn.prepare_cached(&sql)?
                    .query_map(rusqlite::params_from_iter(values), rows::record)?
                    .collect()
            })
            .await
    }
}

/// Entries that are ready to be queued.
struct Prepared {
    run: RunId,
    seq: u64,
    bodies: Vec<chain::Body>,
    progress: Progress,
    commands: Vec<Uuid>,
}

impl Prepared {
    fn write(self, reply: oneshot::Sender<Result<(), Error>>) -> Write {
        let Self { run, seq, bodies, progress, commands } = self;
        Write { run, seq, bodies, progress, commands, result: Ok(()), reply }
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.readers.close();
    }
}

impl Journal for SqliteJournal {
    fn create(&self, new: NewRun, entry: Arc<Entry>, progress: Progress) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let writer = self.writer()?;
            if entry.seq != 0 {
                return Err(Error::Conflict { run: new.run, seq: entry.seq });
            }
            let first = self.prepare(new.run, &[(entry, progress)]).await?;
            let owner = self.owner.clone();
            writer.submit(|reply| Box::new(Create { new, owner, first: first.write(reply) })).await
        })
    }

    fn append_all(
        &self,
        run: RunId,
        entries: Vec<(Arc<Entry>, Progress)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let writer = self.writer()?;
            let prepared = self.prepare(run, &entries).await?;
            writer.submit(|reply| Box::new(Append(prepared.write(reply)))).await
        })
    }

    fn read(&self, run: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, Error>> {
        Box::pin(async move {
            let read = self.decoded(vec![(run, from)]).await?.pop();
            Ok(read.unwrap_or(Err(Error::NoRun(run)))?.into_iter().map(|(entry, _)| entry).collect())
        })
    }

    fn find(&self, run: RunId) -> BoxFuture<'_, Result<Option<RunRecord>, Error>> {
        Box::pin(async move {
            let key = run.0.as_bytes().to_vec().into();
            Ok(self.records("a run is looked up", "where r.run = ?1", vec![key]).await?.pop())
        })
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunRecord>, Error>> {
        Box::pin(async move {
            let limit = filter.limit.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1);
            let tail = if filter.open {
                "where h.ended_at is null order by r.created_at desc, r.run desc limit ?1"
            } else {
                "order by r.created_at desc, r.run desc limit ?1"
            };
            self.records("runs are listed", tail, vec![limit.into()]).await
        })
    }
}

impl RunStore for SqliteJournal {
    fn claim<'a>(&'a self, run: RunId, owner: &'a str) -> BoxFuture<'a, Result<Claim, Error>> {
        let (processes, owner) = (self.processes.clone(), owner.to_owned());
        Box::pin(async move {
            let work = move |conn: &rusqlite::Connection| inbox::claim(conn, &processes, run, &owner);
            self.writer()?.run("a run is claimed", work).await
        })
    }

    fn release<'a>(&'a self, run: RunId, owner: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        let owner = owner.to_owned();
        Box::pin(async move {
            self.writer()?.run("a run is released", move |conn| inbox::release(conn, run, &owner)).await
        })
    }

    fn owner_is_alive(&self, owner: &str) -> bool {
        self.processes.is_alive(owner)
    }

    fn send(&self, run: RunId, command: Command) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.writer()?.run("a command is sent", move |conn| inbox::send(conn, run, &command)).await
        })
    }

    fn poll<'a>(&'a self, owner: &'a str) -> BoxFuture<'a, Result<Vec<(RunId, Command)>, Error>> {
        let owner = owner.to_owned();
        Box::pin(async move {
            let found =
                self.readers.run("the inbox is read", move |conn| inbox::of_owner(conn, &owner)).await?;
            let mut polled = self.polled.lock();
            let waiting: HashSet<_> = found.iter().map(|(run, command)| (*run, command.id)).collect();
            let new =
                found.into_iter().filter(|(run, command)| !polled.contains(&(*run, command.id))).collect();
            *polled = waiting;
            Ok(new)
        })
    }

    fn pending(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Command>, Error>> {
        Box::pin(async move {
            let found = self.readers.run("the inbox is read", move |conn| inbox::of_run(conn, run)).await?;
            self.polled.lock().extend(found.iter().map(|command| (run, command.id)));
            Ok(found)
        })
    }

    fn refuse(&self, run: RunId, command: Uuid, why: String) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.writer()?
                .run("a command is refused", move |conn| inbox::refuse(conn, run, command, &why))
                .await
        })
    }

    fn outcome(&self, run: RunId, command: Uuid) -> BoxFuture<'_, Result<Option<Outcome>, Error>> {
        Box::pin(self.readers.run("the inbox is read", move |conn| inbox::outcome(conn, run, command)))
    }

    fn active_in_group<'a>(
        &'a self,
        project: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Vec<RunRecord>, Error>> {
        Box::pin(async move {
            let tail = "where r.project = ?1 and r.group_name = ?2 and h.ended_at is null \
                        order by r.created_at, r.run";
            let values = vec![project.to_owned().into(), group.to_owned().into()];
            self.records("a group is listed", tail, values).await
        })
    }

    fn find_by_suffix<'a>(&'a self, suffix: &'a str) -> BoxFuture<'a, Result<Vec<RunRecord>, Error>> {
        Box::pin(async move {
            let suffix = plain_suffix(suffix);
            let tail =
                "where substr(lower(hex(r.run)), -length(?1)) = ?1 order by r.created_at desc, r.run desc";
            self.records("a run is looked up", tail, vec![suffix.into()]).await
        })
    }

    fn export(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Stored>, Error>> {
        Box::pin(async move { Ok(self.found(run).await?.stored) })
    }

    fn verify(&self, run: RunId) -> BoxFuture<'_, Result<Report, Error>> {
        Box::pin(async move {
            let found = self.found(run).await?;
            Ok(Report::of(run, &found.stored, found.head))
        })
    }

    fn hashes(&self, run: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Digest>, Error>> {
        Box::pin(self.readers.run("a run's hashes are read", move |conn| cursors::hashes(conn, run, from)))
    }

    fn cursor<'a>(&'a self, sink: &'a str, run: RunId) -> BoxFuture<'a, Result<u64, Error>> {
        let sink = sink.to_owned();
        Box::pin(self.readers.run("a cursor is read", move |conn| cursors::cursor(conn, &sink, run)))
    }

    fn advance<'a>(
        &'a self,
        sink: &'a str,
        run: RunId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        let sink = sink.to_owned();
        Box::pin(async move {
            let work = move |conn: &rusqlite::Connection| cursors::advance(conn, &sink, run, from, to);
            self.writer()?.run("a cursor is moved", work).await
        })
    }

    fn hashed(&self, wanted: Vec<(RunId, u64)>) -> BoxFuture<'_, Vec<Result<Vec<Hashed>, Error>>> {
        Box::pin(async move {
            let runs = wanted.len();
            match self.decoded(wanted).await {
                Ok(read) => read,
                Err(error) => (0..runs).map(|_| Err(error.again())).collect(),
            }
        })
    }

    fn cursors<'a>(&'a self, sink: &'a str, runs: &'a [RunId]) -> BoxFuture<'a, Result<Vec<u64>, Error>> {
        let (sink, runs) = (sink.to_owned(), runs.to_vec());
        Box::pin(self.readers.run("cursors are read", move |conn| {
            runs.iter().map(|run| cursors::cursor(conn, &sink, *run)).collect()
        }))
    }

    fn advance_all<'a>(&'a self, sink: &'a str, moves: Vec<Forward>) -> BoxFuture<'a, Result<(), Error>> {
        let sink = sink.to_owned();
        Box::pin(async move {
            let work = move |conn: &rusqlite::Connection| {
                for Forward { run, from, to } in moves {
                    cursors::advance(conn, &sink, run, from, to)?;
                }
                Ok(())
            };
            self.writer()?.run("cursors are moved", work).await
        })
    }

    fn behind<'a>(&'a self, sink: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Behind>, Error>> {
        let sink = sink.to_owned();
        Box::pin(self.readers.run("cursors are read", move |conn| cursors::behind(conn, &sink, limit)))
    }

    fn prune(&self, ended_before: Timestamp) -> BoxFuture<'_, Result<Pruned, Error>> {
        Box::pin(async move {
            let doing = "ended runs are deleted";
            let writer = self.writer()?;
            let mut pruned = Pruned::default();
            for run in self.readers.run(doing, move |conn| upkeep::ended(conn, ended_before)).await? {
                let deleted = writer.run(doing, move |conn| upkeep::delete(conn, run, ended_before)).await?;
                let Some(entries) = deleted else { continue };
                let payloads = self.payloads.clone();
                let removed = tokio::task::spawn_blocking(move || payloads.remove(run)).await;
                let removed = removed.map_err(|e| Error::store(doing, e))?;
                pruned.payload_bytes += removed.map_err(|e| Error::store(doing, e))?;
                pruned.runs += 1;
                pruned.entries += entries;
            }
            Ok(pruned)
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, Error>> {
        Box::pin(async move {
            let doing = "the store is measured";
            let stats = self.readers.run(doing, upkeep::stats).await?;
            let payloads = self.payloads.clone();
            let bytes = tokio::task::spawn_blocking(move || payloads.bytes()).await;
            let bytes = bytes.map_err(|e| Error::store(doing, e))?.map_err(|e| Error::store(doing, e))?;
            Ok(Stats { payload_bytes: bytes, ..stats })
        })
    }
}
