//! How far each place that traces go to has come: a bucket with one key for each place and run.
//!
//! A cursor that is read too old costs a repetition of the same bytes. It moves by compare-and-set,
//! so that of two exporters of a run one does.

use std::collections::HashMap;

use async_nats::jetstream::{consumer::DeliverPolicy, kv, stream::Stream};
use foreplan_core::{digest::Digest, id::RunId};
use foreplan_journal::{Behind, Error, RunRecord};

use crate::{
    Connection,
    error::chain,
    index,
    journal::{Inner, store},
    read::{self, Wanted},
};

/// The bucket's name.
pub(crate) const BUCKET: &str = "CURSORS";

/// Bytes of a sink's digest that name it in a key: a deployment has a few.
const SINK_BYTES: usize = 8;

/// The cursors of a deployment.
pub(crate) struct Cursors {
    bucket: kv::Store,
    stream: Stream,
    name: String,
}

impl Cursors {
    pub(crate) async fn open(connection: &Connection) -> Result<Self, crate::Error> {
        let name = connection.names.stream(BUCKET);
        let bucket = connection.bucket(BUCKET).await?;
        let stream = connection.js.get_stream(format!("KV_{name}")).await;
        let stream = stream.map_err(|e| crate::Error::server("the cursors are opened", chain(&e)))?;
        Ok(Self { bucket, stream, name })
    }

    /// Returns how many entries of a run a place has.
    pub(crate) async fn get(&self, sink: &str, run: RunId) -> Result<u64, Error> {
        Ok(self.entry(&key(sink, run)).await?.map_or(0, |entry| count(&entry.value)))
    }

    /// Moves a cursor, if it stands where the caller says. Returns whether it did.
    pub(crate) async fn advance(&self, sink: &str, run: RunId, from: u64, to: u64) -> Result<bool, Error> {
        let key = key(sink, run);
        let entry = self.entry(&key).await?;
        if entry.as_ref().map_or(0, |entry| count(&entry.value)) != from {
            return Ok(false);
        }
        let value = to.to_string().into();
        let failed = |reason: String| store("a cursor is moved", reason);
        match entry {
            Some(entry) => match self.bucket.update(&key, value, entry.revision).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => Ok(false),
                Err(error) => Err(failed(chain(&error))),
            },
            None => match self.bucket.create(&key, value).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(failed(chain(&error))),
            },
        }
    }

    /// Returns which of these runs a place lacks entries of, oldest first.
    pub(crate) async fn behind(
        &self,
        sink: &str,
        records: Vec<RunRecord>,
        limit: usize,
    ) -> Result<Vec<Behind>, Error> {
        let prefix = format!("$KV.{}.{}.", self.name, place(sink));
        let wanted = Wanted {
            subject: format!("{prefix}>"),
            from: DeliverPolicy::LastPerSubject,
            headers_only: false,
            until: None,
        };
        let read = read::read(&self.stream, wanted).await;
        let read = read.map_err(|e| store("cursors are read", e.to_string()))?;
        let sent: HashMap<RunId, u64> = read
            .iter()
            .filter_map(|one| Some((one.subject.strip_prefix(&prefix)?.parse().ok()?, count(&one.payload))))
            .collect();
        let behind = records.into_iter().rev().filter_map(|record| {
            let run = record.run.run;
            let (sent, entries) = (sent.get(&run).copied().unwrap_or(0), record.head.seq + 1);
            (sent < entries).then_some(Behind { run, sent, entries })
        });
        Ok(behind.take(limit).collect())
    }

    /// Forgets how far the places have come with a run that is deleted.
    pub(crate) async fn forget(&self, run: RunId) -> Result<(), Error> {
        let purged = self.stream.purge().filter(format!("$KV.{}.*.{run}", self.name)).await;
        purged.map(drop).map_err(|e| store("cursors are deleted", chain(&e)))
    }

    async fn entry(&self, key: &str) -> Result<Option<kv::Entry>, Error> {
        let entry = self.bucket.entry(key).await.map_err(|e| store("a cursor is read", chain(&e)))?;
        Ok(entry.filter(|entry| entry.operation == kv::Operation::Put))
    }
}

impl Inner {
    /// Returns the cursors, opened by those who export.
    pub(crate) async fn cursors(&self) -> Result<&Cursors, Error> {
        let opened = self.cursors.get_or_try_init(|| Cursors::open(&self.connection)).await;
        opened.map_err(|e| store("the cursors are opened", e.to_string()))
    }

    /// Returns the hashes of a run's entries from `from` on, which their headers hold.
    pub(crate) async fn hashes(&self, run: RunId, from: u64) -> Result<Vec<Digest>, Error> {
        let wanted =
            Wanted { subject: self.subject(run), from: DeliverPolicy::All, headers_only: true, until: None };
        let read = read::read(&self.runs, wanted).await;
        let read = read.map_err(|e| store("a run is read", e.to_string()))?;
        if read.is_empty() {
            return Err(Error::NoRun(run));
        }
        let hashes = read.iter().filter_map(|one| index::hashes(&one.headers)).flatten();
        Ok(hashes.filter(|(seq, _)| *seq >= from).map(|(_, hash)| hash).collect())
    }
}

/// Names hold what keys must not: URLs.
fn place(sink: &str) -> String {
    let digest = Digest::of_bytes(sink.as_bytes());
    digest.0[..SINK_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(sink: &str, run: RunId) -> String {
    format!("{}.{run}", place(sink))
}

/// A value that is none counts as nothing sent: everything is sent again.
fn count(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}
