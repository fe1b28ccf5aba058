//! The journal on a stream: one subject for each run, one message for what is appended at once.
//!
//! An append names the stream sequence of the run's last message; the server takes it only if that is
//! still the last. After a new owner's first append every older owner's fails. No lease is needed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::jetstream::{
    consumer::DeliverPolicy,
    context::{PublishError, PublishErrorKind},
    kv,
    message::PublishMessage,
    stream::Stream,
};
use bytes::Bytes;
use foreplan_core::{digest::Digest, event::Entry, id::RunId};
use foreplan_journal::{
    Error, Hashed, Head, Journal, NewRun, Progress, RunFilter, RunRecord, Stored, chain as entries,
    check_order,
};
use foreplan_protocol::wire::shard;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::{
    Connection, NatsPayloads, direct,
    error::chain,
    index,
    pack::{self, Line, Pack},
    read::{self, Wanted},
    together::Together,
};

/// Waits between the attempts to append the same bytes: a leader that moves takes a few seconds.
const RETRY_PAUSES: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// The journal of a deployment. Copies are the same journal.
#[derive(Clone)]
pub struct NatsJournal {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) connection: Connection,
    pub(crate) runs: Stream,
    /// Whether entries that were decided on together are one message.
    has_lines: bool,
    open: kv::Store,
    keys: kv::Store,
    pub(crate) cursors: tokio::sync::OnceCell<crate::cursors::Cursors>,
    pub(crate) payloads: NatsPayloads,
    known: Mutex<HashMap<RunId, Known>>,
    pub(crate) together: Together,
}

/// The end of a run's chain, as this process last saw it.
#[derive(Clone, Debug)]
struct Known {
    seq: u64,
    hash: Digest,
    /// The stream's sequence of the last entry.
    sequence: u64,
    /// What every entry's header says of the run.
    run: Arc<str>,
    has_ended: bool,
}

/// Entries on their way.
struct Write {
    run: RunId,
    /// The last one.
    seq: u64,
    bytes: Bytes,
    hashes: Vec<Digest>,
    /// The stream's sequence of the message before; 0 for the first.
    expected: u64,
    header: Arc<str>,
    progress: Progress,
}

impl Write {
    fn new(run: RunId, pack: Pack, expected: u64, header: Arc<str>) -> Self {
        let Pack { seq, bytes, hashes, progress } = pack;
        Self { run, seq, bytes: bytes.into(), hashes, expected, header, progress }
    }
}

/// What the server said about an append that it did not confirm.
enum Refused {
    /// 10071: the subject's last entry is another.
    Moved,
    /// Nobody knows whether it was taken, or it can be tried again.
    Unclear(String),
    /// There is no room.
    Full(String),
}

impl NatsJournal {
    /// Opens the journal of a deployment.
    ///
    /// # Errors
    ///
    /// If its streams cannot be used.
    pub async fn open(connection: &Connection) -> Result<Self, crate::Error> {
        let runs = connection.stream("RUNS").await?;
        let inner = Inner {
            connection: connection.clone(),
            has_lines: pack::has_lines(&runs),
            runs,
            open: connection.bucket("OPEN").await?,
            keys: connection.bucket("KEYS").await?,
            cursors: tokio::sync::OnceCell::new(),
            payloads: NatsPayloads::open(connection).await?,
            known: Mutex::default(),
            together: Together::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the payloads of the deployment.
    #[must_use]
    pub fn payloads(&self) -> &NatsPayloads {
        &self.inner.payloads
    }
}

impl Inner {
    pub(crate) fn subject(&self, run: RunId) -> String {
        self.connection.names.run(run)
    }

    async fn create(&self, new: NewRun, entry: &Entry, progress: Progress) -> Result<(), Error> {
        let run = new.run;
        if let Some(key) = &new.key {
            self.claim_key(&new.project, key, run).await?;
        }
        self.set_open(run).await?;
        let (bytes, hash) = entries::encode(run, entry, &self.payloads).await?.chain(None);
        let header = index::run_header(&new).into();
        let first = Pack::from(Line { seq: 0, bytes, hash, progress });
        match self.publish(Write::new(run, first, 0, header)).await {
            Err(Error::Conflict { run, .. }) => Err(Error::Exists(run)),
            done => done.map(drop),
        }
    }

    async fn append(&self, run: RunId, entries: Vec<(Arc<Entry>, Progress)>) -> Result<(), Error> {
        let Some((_, last)) = entries.last() else { return Ok(()) };
        let has_ended = last.ended_at.is_some();
        // Out of the table until the outcome is known: a future that is dropped leaves nothing stale.
        let known = self.known.lock().remove(&run);
        let known = match known {
            Some(known) => known,
            None => self.look(run).await?.ok_or(Error::NoRun(run))?,
        };
        check_order(run, &entries, known.seq + 1)?;
        if known.has_ended && !has_ended {
            self.set_open(run).await?;
        }
        let Known { mut hash, sequence: mut expected, run: header, .. } = known;
        let mut lines = Vec::with_capacity(entries.len());
        for (entry, progress) in entries {
            let body = entries::encode(run, &entry, &self.payloads).await?;
            let (bytes, own) = body.chain(Some(hash));
            lines.push(Line { seq: entry.seq, bytes, hash: own, progress });
            hash = own;
        }
        for pack in pack::packs(lines, self.has_lines) {
            expected = self.publish(Write::new(run, pack, expected, Arc::clone(&header))).await?;
        }
        if has_ended {
            self.known.lock().remove(&run);
        }
        Ok(())
    }

    /// Publishes entries until it is known whether they were taken, and returns the stream's sequence. The same
    /// bytes go every time.
    async fn publish(&self, write: Write) -> Result<u64, Error> {
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            let why = match self.try_publish(&write).await {
                Ok(sequence) => return self.taken(write, sequence),
                Err(Refused::Full(why)) => return Err(Error::Full(why)),
                Err(Refused::Unclear(why)) => Some(why),
                Err(Refused::Moved) => None,
            };
            // Neither a refusal nor a lost answer says whether an earlier try was taken: look.
            let last = read::last(&self.runs, &self.subject(write.run)).await;
            let is_free = match last {
                Ok(Some(last)) if last.payload == write.bytes => return self.taken(write, last.sequence),
                Ok(last) => last.map_or(0, |last| last.sequence) == write.expected,
                Err(error) => {
                    tracing::debug!(%error, "whether an entry was taken is not known yet");
                    true
                }
            };
            if !is_free {
                return Err(Error::Conflict { run: write.run, seq: write.seq });
            }
            let Some(pause) = pauses.next() else {
                let why = why.unwrap_or_else(|| "it refuses an entry that fits".to_owned());
                return Err(store("an entry is appended", why));
            };
            tokio::time::sleep(*pause).await;
        }
    }

    async fn try_publish(&self, write: &Write) -> Result<u64, Refused> {
        let message = PublishMessage::build()
            .payload(write.bytes.clone())
            .headers(index::headers(&write.header, write.progress, write.seq, &write.hashes))
            .expected_last_subject_sequence(write.expected);
        let sent = self.connection.js.send_publish(self.subject(write.run), message).await;
        match sent {
            Ok(answer) => {
                self.connection.gather.others();
                answer.await.map(|ack| ack.sequence).map_err(refused)
            }
            Err(error) => Err(refused(error)),
        }
    }

    fn taken(&self, write: Write, sequence: u64) -> Result<u64, Error> {
        let has_ended = write.progress.ended_at.is_some();
        if let Some(hash) = write.hashes.last() {
            let known = Known { seq: write.seq, hash: *hash, sequence, run: write.header, has_ended };
            self.known.lock().insert(write.run, known);
        }
        Ok(sequence)
    }

    /// Looks where a run's chain ends.
    async fn look(&self, run: RunId) -> Result<Option<Known>, Error> {
        let Some(last) = read::last(&self.runs, &self.subject(run)).await.map_err(|e| self.unreadable(e))?
        else {
            return Ok(None);
        };
        let record = index::record(run, &last.headers).ok_or_else(|| headless(run))?;
        let header = index::run_header_of(&last.headers).unwrap_or_default().into();
        Ok(Some(Known {
            seq: record.head.seq,
            hash: pack::last_hash(&last.payload),
            sequence: last.sequence,
            run: header,
            has_ended: record.progress.ended_at.is_some(),
        }))
    }

    /// Returns a run's entries from `from` on, with the hashes of their stored bytes.
    pub(crate) async fn read(self: &Arc<Self>, run: RunId, from: u64) -> Result<Vec<Hashed>, Error> {
        let _reading = self.together.begin();
        let Some(last) = read::last(&self.runs, &self.subject(run)).await.map_err(|e| self.unreadable(e))?
        else {
            return Err(Error::NoRun(run));
        };
        let head = index::record(run, &last.headers).ok_or_else(|| headless(run))?.head;
        if from > head.seq {
            return Ok(Vec::new());
        }
        let known = self.known.lock().get(&run).cloned().filter(|known| known.seq + 1 == from);
        let start = known.as_ref().map_or(0, |known| known.sequence + 1);
        let stored = self.stored(run, start, last.sequence).await?;
        let found = match known {
            Some(known) => {
                let part = entries::Part { from, before: Some(known.hash), stored: &stored, head };
                entries::read_part(run, part, &self.payloads).await?
            }
            None => entries::read(run, &stored, head, &self.payloads).await?,
        };
        self.remember(run, &last.headers, head, last.sequence);
        let hashed = found.into_iter().zip(stored.iter().map(|one| one.hash));
        Ok(hashed.filter(|(entry, _)| entry.seq >= from).collect())
    }

    fn remember(&self, run: RunId, headers: &async_nats::HeaderMap, head: Head, sequence: u64) {
        let Some(hash) = head.hash else { return };
        let mut known = self.known.lock();
        if known.get(&run).is_some_and(|known| known.seq >= head.seq) {
            return;
        }
        let has_ended = index::record(run, headers).is_some_and(|r| r.progress.ended_at.is_some());
        let header = index::run_header_of(headers).unwrap_or_default().into();
        known.insert(run, Known { seq: head.seq, hash, sequence, run: header, has_ended });
    }

    /// Returns the entries of a run as they are kept, between two sequences of the stream.
    pub(crate) async fn stored(
        self: &Arc<Self>,
        run: RunId,
        from: u64,
        until: u64,
    ) -> Result<Vec<Stored>, Error> {
        let read = self.messages(run, from, until).await;
        let mut stored = Vec::new();
        for one in read.map_err(|e| self.unreadable(e))? {
            if one.sequence <= until {
                stored.extend(pack::stored(&one.headers, one.payload).ok_or_else(|| headless(run))?);
            }
        }
        Ok(stored)
    }

    async fn messages(
        self: &Arc<Self>,
        run: RunId,
        from: u64,
        until: u64,
    ) -> Result<Vec<read::Read>, crate::Error> {
        if from == 0
            && let Some(read) = self.among_others(run, until).await
        {
            return Ok(read);
        }
        let subject = self.subject(run);
        let name = &self.runs.cached_info().config.name;
        if let Some(read) = direct::read(&self.connection, name, &subject, (from, until)).await? {
            return Ok(read);
        }
        let from = match from {
            0 => DeliverPolicy::All,
            start_sequence => DeliverPolicy::ByStartSequence { start_sequence },
        };
        read::read(&self.runs, Wanted { subject, from, headers_only: false, until: Some(until) }).await
    }

    /// Returns what the index knows of all runs.
    pub(crate) async fn records(&self) -> Result<Vec<RunRecord>, Error> {
        let wanted = Wanted {
            subject: self.connection.names.runs(),
            from: DeliverPolicy::LastPerSubject,
            headers_only: true,
            until: None,
        };
        let read = read::read(&self.runs, wanted).await.map_err(|e| self.unreadable(e))?;
        let record =
            |one: &read::Read| index::record(self.connection.names.run_of(&one.subject)?, &one.headers);
        let mut records: Vec<RunRecord> = read.iter().filter_map(record).collect();
        records.sort_by_key(|r| std::cmp::Reverse((r.run.created_at, r.run.run)));
        Ok(records)
    }

    pub(crate) async fn find(&self, run: RunId) -> Result<Option<RunRecord>, Error> {
        let last = read::last(&self.runs, &self.subject(run)).await.map_err(|e| self.unreadable(e))?;
        Ok(last.and_then(|last| index::record(run, &last.headers)))
    }

    pub(crate) fn unreadable(&self, error: crate::Error) -> Error {
        store("a run is read", self.connection.explain(error).to_string())
    }

    /// Notes that a run has not ended, before its entry says so: a takeover folds what stands here.
    async fn set_open(&self, run: RunId) -> Result<(), Error> {
        let key = format!("{}.{run}", shard(run));
        let put = self.open.put(&key, "".into()).await;
        put.map(|_| ()).map_err(|e| store("a run is noted as open", chain(&e)))
    }

    /// A note that stays is found to be wrong by the next takeover, and costs it one read.
    async fn close(&self, run: RunId) {
        if let Err(error) = self.open.purge(format!("{}.{run}", shard(run))).await {
            tracing::debug!(%run, %error, "an ended run is still noted as open");
        }
    }

    /// Makes a key this run's. A key whose run was never written is free.
    async fn claim_key(&self, project: &str, key: &str, run: RunId) -> Result<(), Error> {
        let failed = |reason: String| store("a key is claimed", reason);
        let name = hex(Digest::of_bytes(format!("{project}\0{key}").as_bytes()));
        match self.keys.create(&name, run.to_string().into()).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(chain(&error))),
        }
        let entry = self.keys.entry(&name).await.map_err(|e| failed(chain(&e)))?;
        let Some(entry) = entry else { return Err(failed("the key came and went".to_owned())) };
        let owner: Option<RunId> = std::str::from_utf8(&entry.value).ok().and_then(|id| id.parse().ok());
        match owner {
            Some(owner) if owner == run => Ok(()),
            Some(owner) if self.find(owner).await?.is_some() => Err(Error::Exists(owner)),
            _ => {
                let taken = self.keys.update(&name, run.to_string().into(), entry.revision).await;
                taken.map(|_| ()).map_err(|e| failed(chain(&e)))
            }
        }
    }

    /// Deletes a run with its payloads, and returns how many entries and payload bytes it had.
    pub(crate) async fn remove(&self, record: &RunRecord) -> Result<(u64, u64), Error> {
        let run = record.run.run;
        let failed = |e: crate::Error| store("a run is deleted", e.to_string());
        let bytes = self.payloads.remove(run).await.map_err(failed)?;
        self.cursors().await?.forget(run).await?;
        let purged = self.runs.purge().filter(self.subject(run)).await;
        purged.map_err(|e| store("a run is deleted", chain(&e)))?;
        if let Some(key) = &record.run.key {
            let name = hex(Digest::of_bytes(format!("{}\0{key}", record.run.project).as_bytes()));
            self.keys.purge(&name).await.map_err(|e| store("a key is freed", chain(&e)))?;
        }
        self.known.lock().remove(&run);
        Ok((record.head.seq + 1, bytes))
    }
}

impl Journal for NatsJournal {
    fn create(&self, run: NewRun, entry: Arc<Entry>, progress: Progress) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.inner.create(run, &entry, progress).await })
    }

    fn append_all(
        &self,
        run: RunId,
        entries: Vec<(Arc<Entry>, Progress)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.inner.append(run, entries))
    }

    fn read(&self, run: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, Error>> {
        Box::pin(async move {
            let read = self.inner.read(run, from).await?;
            Ok(read.into_iter().map(|(entry, _)| entry).collect())
        })
    }

    fn find(&self, run: RunId) -> BoxFuture<'_, Result<Option<RunRecord>, Error>> {
        Box::pin(self.inner.find(run))
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunRecord>, Error>> {
        Box::pin(async move {
            let mut records = self.inner.records().await?;
            records.retain(|r| !filter.open || r.progress.ended_at.is_none());
            records.truncate(filter.limit.unwrap_or(usize::MAX));
            Ok(records)
        })
    }

    fn close(&self, run: RunId) -> BoxFuture<'_, ()> {
        Box::pin(self.inner.close(run))
    }
}

/// Reads what the server said about an append.
fn refused(error: PublishError) -> Refused {
    if error.kind() == PublishErrorKind::WrongLastSequence {
        return Refused::Moved;
    }
    match crate::bus::server_code(&error) {
        Some(10047 | 10077 | 10122) => Refused::Full(chain(&error)),
        // 10164 can be spurious; it says no more than a lost answer does.
        _ => Refused::Unclear(chain(&error)),
    }
}

fn hex(digest: Digest) -> String {
    digest.to_string().replace(':', "-")
}

fn headless(run: RunId) -> Error {
    Error::Corrupt { run, seq: 0, reason: "an entry has no index in its headers".to_owned() }
}

pub(crate) fn store(doing: &'static str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Store { doing, source: why.into() }
}
