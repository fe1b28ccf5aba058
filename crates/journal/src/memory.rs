//! A journal in memory: entries are shared, never serialized, and hashed on export only.

use std::{collections::HashMap, sync::Arc};

use foreplan_core::{
    event::Entry,
    id::RunId,
    input::{Command, Input},
    map::IdMap,
    time::Timestamp,
};
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::{
    Behind, Claim, Error, Head, Journal, MemoryPayloads, NewRun, Outcome, Progress, Pruned, Report,
    RunFilter, RunRecord, RunStore, Stats, Stored, chain, check_order,
};

/// So many maps of runs that a few cores rarely meet at one lock.
const SHARDS: usize = 64;

/// A journal in memory. One process sees it, so a claim always succeeds.
#[derive(Debug)]
pub struct MemoryJournal {
    shards: [RwLock<IdMap<RunId, Arc<Mutex<Log>>>>; SHARDS],
    keys: Mutex<HashMap<(String, String), RunId>>,
    payloads: Arc<MemoryPayloads>,
    /// The process that owns the runs that it creates.
    owner: Option<String>,
    cursors: Mutex<HashMap<(String, RunId), u64>>,
}

/// One run.
#[derive(Debug)]
struct Log {
    record: RunRecord,
    entries: Vec<Arc<Entry>>,
    inbox: Vec<Letter>,
}

/// A command and what became of it.
#[derive(Debug)]
struct Letter {
    command: Command,
    polled: bool,
    outcome: Outcome,
}

impl MemoryJournal {
    /// Makes a journal whose exports keep their large values in `payloads`.
    #[must_use]
    pub fn new(payloads: Arc<MemoryPayloads>) -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            keys: Mutex::default(),
            payloads,
            owner: None,
            cursors: Mutex::default(),
        }
    }

    /// Makes runs that are created from now on belong to a process.
    #[must_use]
    pub fn owned_by(mut self, owner: &str) -> Self {
        self.owner = Some(owner.to_owned());
        self
    }

    fn shard(&self, run: RunId) -> &RwLock<IdMap<RunId, Arc<Mutex<Log>>>> {
        &self.shards[usize::from(run.0.as_bytes()[15]) % SHARDS]
    }

    fn log(&self, run: RunId) -> Result<Arc<Mutex<Log>>, Error> {
        self.shard(run).read().get(&run).cloned().ok_or(Error::NoRun(run))
    }

    fn insert(&self, new: NewRun, entry: Arc<Entry>, progress: Progress) -> Result<(), Error> {
        let run = new.run;
        let mut keys = self.keys.lock();
        let mut shard = self.shard(run).write();
        if shard.contains_key(&run) {
            return Err(Error::Exists(run));
        }
        if let Some(key) = new.key.clone() {
            match keys.entry((new.project.clone(), key)) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    return Err(Error::Exists(*first.get()));
                }
                std::collections::hash_map::Entry::Vacant(free) => free.insert(run),
            };
        }
        let record =
            RunRecord { run: new, progress, head: Head { seq: 0, hash: None }, owner: self.owner.clone() };
        let log = Log { record, entries: vec![entry], inbox: Vec::new() };
        shard.insert(run, Arc::new(Mutex::new(log)));
        Ok(())
    }

    fn push(&self, run: RunId, entries: Vec<(Arc<Entry>, Progress)>) -> Result<(), Error> {
        let log = self.log(run)?;
        let mut log = log.lock();
        check_order(run, &entries, log.entries.len() as u64)?;
        for (entry, progress) in entries {
            if let Input::Command(command) = &entry.cause {
                log.accept(command);
            }
            log.record.progress = progress;
            log.record.head.seq = entry.seq;
            log.entries.push(entry);
        }
        Ok(())
    }

    /// Returns the records that `wanted` asks for, newest first.
    fn records(&self, wanted: impl Fn(&RunRecord) -> bool) -> Vec<RunRecord> {
        let mut records = Vec::new();
        for shard in &self.shards {
            for log in shard.read().values() {
                let log = log.lock();
                if wanted(&log.record) {
                    records.push(log.record.clone());
                }
            }
        }
        records.sort_by_key(|r| std::cmp::Reverse((r.run.created_at, r.run.run)));
        records
    }

    async fn stored(&self, run: RunId) -> Result<Vec<Stored>, Error> {
        let entries = self.log(run)?.lock().entries.clone();
        let mut stored = Vec::with_capacity(entries.len());
        let mut prev = None;
        for entry in entries {
            let (bytes, hash) = chain::encode(run, &entry, self.payloads.as_ref()).await?.chain(prev);
            stored.push(Stored { seq: entry.seq, bytes, hash });
            prev = Some(hash);
        }
        Ok(stored)
    }
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Log {
    fn accept(&mut self, command: &Command) {
        match self.inbox.iter_mut().find(|l| l.command.id == command.id) {
            Some(letter) => letter.outcome = Outcome::Accepted,
            None => {
                self.inbox.push(Letter { command: command.clone(), polled: true, outcome: Outcome::Accepted })
            }
        }
    }
}

impl Journal for MemoryJournal {
    fn create(&self, run: NewRun, entry: Arc<Entry>, progress: Progress) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.insert(run, entry, progress) })
    }

    fn append_all(
        &self,
        run: RunId,
        entries: Vec<(Arc<Entry>, Progress)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.push(run, entries) })
    }

    fn read(&self, run: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, Error>> {
        Box::pin(async move {
            let log = self.log(run)?;
            let log = log.lock();
            let from = usize::try_from(from).unwrap_or(usize::MAX).min(log.entries.len());
            Ok(log.entries[from..].to_vec())
        })
    }

    fn find(&self, run: RunId) -> BoxFuture<'_, Result<Option<RunRecord>, Error>> {
        Box::pin(async move { Ok(self.log(run).ok().map(|log| log.lock().record.clone())) })
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunRecord>, Error>> {
        Box::pin(async move {
            let mut records = self.records(|r| !filter.open || r.progress.ended_at.is_none());
            records.truncate(filter.limit.unwrap_or(usize::MAX));
            Ok(records)
        })
    }
}

impl RunStore for MemoryJournal {
    fn claim<'a>(&'a self, run: RunId, owner: &'a str) -> BoxFuture<'a, Result<Claim, Error>> {
        Box::pin(async move {
            let log = self.log(run)?;
            let previous = log.lock().record.owner.replace(owner.to_owned());
            Ok(Claim::Claimed { previous: previous.filter(|p| p != owner) })
        })
    }

    fn release<'a>(&'a self, run: RunId, owner: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.log(run)?.lock().record.owner.take_if(|o| o == owner);
            Ok(())
        })
    }

    fn owner_is_alive(&self, _owner: &str) -> bool {
        true
    }

    fn send(&self, run: RunId, command: Command) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let log = self.log(run)?;
            let mut log = log.lock();
            if log.inbox.iter().all(|l| l.command.id != command.id) {
                log.inbox.push(Letter { command, polled: false, outcome: Outcome::Pending });
            }
            Ok(())
        })
    }

    fn poll<'a>(&'a self, owner: &'a str) -> BoxFuture<'a, Result<Vec<(RunId, Command)>, Error>> {
        Box::pin(async move {
            let mut commands = Vec::new();
            for shard in &self.shards {
                for (run, log) in shard.read().iter() {
                    let mut log = log.lock();
                    if log.record.owner.as_deref() != Some(owner) {
                        continue;
                    }
                    let new = |l: &&mut Letter| !l.polled && l.outcome == Outcome::Pending;
                    commands.extend(log.inbox.iter_mut().filter(new).map(|letter| {
                        letter.polled = true;
                        (*run, letter.command.clone())
                    }));
                }
            }
            Ok(commands)
        })
    }

    fn pending(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Command>, Error>> {
        Box::pin(async move {
            let log = self.log(run)?;
            let mut log = log.lock();
            let waiting = log.inbox.iter_mut().filter(|l| l.outcome == Outcome::Pending);
            Ok(waiting
                .map(|letter| {
                    letter.polled = true;
                    letter.command.clone()
                })
                .collect())
        })
    }

    fn refuse(&self, run: RunId, command: Uuid, why: String) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let log = self.log(run)?;
            let mut log = log.lock();
            let letter = log.inbox.iter_mut().find(|l| l.command.id == command);
            if let Some(letter) = letter.filter(|l| l.outcome == Outcome::Pending) {
                letter.outcome = Outcome::Refused(why);
            }
            Ok(())
        })
    }

    fn outcome(&self, run: RunId, command: Uuid) -> BoxFuture<'_, Result<Option<Outcome>, Error>> {
        Box::pin(async move {
            let log = self.log(run)?;
            let log = log.lock();
            Ok(log.inbox.iter().find(|l| l.command.id == command).map(|l| l.outcome.clone()))
        })
    }

    fn active_in_group<'a>(
        &'a self,
        project: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Vec<RunRecord>, Error>> {
        Box::pin(async move {
            let mut records = self.records(|r| r.is_active_in(project, group));
            records.reverse();
            Ok(records)
        })
    }

    fn find_by_suffix<'a>(&'a self, suffix: &'a str) -> BoxFuture<'a, Result<Vec<RunRecord>, Error>> {
        Box::pin(async move { Ok(self.records(|r| r.ends_with(suffix))) })
    }

    fn export(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Stored>, Error>> {
        Box::pin(self.stored(run))
    }

    fn cursor<'a>(&'a self, sink: &'a str, run: RunId) -> BoxFuture<'a, Result<u64, Error>> {
        let found = self.cursors.lock().get(&(sink.to_owned(), run)).copied();
        Box::pin(async move { Ok(found.unwrap_or(0)) })
    }

    fn advance<'a>(
        &'a self,
        sink: &'a str,
        run: RunId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            self.log(run)?;
            let mut cursors = self.cursors.lock();
            let cursor = cursors.entry((sink.to_owned(), run)).or_insert(0);
            let moves = *cursor == from;
            if moves {
                *cursor = to;
            }
            Ok(moves)
        })
    }

    fn behind<'a>(&'a self, sink: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Behind>, Error>> {
        let mut behind: Vec<_> = self
            .records(|_| true)
            .into_iter()
            .map(|record| {
                let run = record.run.run;
                let sent = self.cursors.lock().get(&(sink.to_owned(), run)).copied().unwrap_or(0);
                Behind { run, sent, entries: record.head.seq + 1 }
            })
            .filter(|behind| behind.sent < behind.entries)
            .collect();
        behind.reverse();
        behind.truncate(limit);
        Box::pin(async move { Ok(behind) })
    }

    fn verify(&self, run: RunId) -> BoxFuture<'_, Result<Report, Error>> {
        Box::pin(async move {
            let stored = self.stored(run).await?;
            let head = Head { seq: stored.len() as u64 - 1, hash: stored.last().map(|s| s.hash) };
            Ok(Report::of(run, &stored, head))
        })
    }

    fn prune(&self, ended_before: Timestamp) -> BoxFuture<'_, Result<Pruned, Error>> {
        Box::pin(async move {
            let mut pruned = Pruned::default();
            for record in self.records(|r| r.progress.ended_at.is_some_and(|at| at < ended_before)) {
                let run = record.run.run;
                if let Some(key) = record.run.key {
                    self.keys.lock().remove(&(record.run.project, key));
                }
                self.cursors.lock().retain(|(_, of), _| *of != run);
                if let Some(log) = self.shard(run).write().remove(&run) {
                    pruned.runs += 1;
                    pruned.entries += log.lock().entries.len() as u64;
                    pruned.payload_bytes += self.payloads.remove(run);
                }
            }
            Ok(pruned)
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, Error>> {
        Box::pin(async move {
            let records = self.records(|_| true);
            Ok(Stats {
                runs: records.len() as u64,
                open: records.iter().filter(|r| r.progress.ended_at.is_none()).count() as u64,
                entries: records.iter().map(|r| r.head.seq + 1).sum(),
                journal_bytes: 0,
                free_bytes: 0,
                payload_bytes: self.payloads.bytes(),
            })
        })
    }
}
