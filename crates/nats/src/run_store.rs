//! The rest of a store: what processes need that share the deployment.
//!
//! Here nobody claims a run: its shard's tracker carries it on, and commands go there by
//! [`Client`](crate::Client).

use foreplan_core::{id::RunId, input::Command, time::Timestamp};
use foreplan_journal::{
    Claim, Error, Hashed, Head, Outcome, Pruned, Report, RunRecord, RunStore, Stats, Stored,
};
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::{NatsJournal, error::chain, journal::store, read};

/// The one name under which runs of a deployment are owned.
pub(crate) const DEPLOYMENT: &str = "deployment";

impl RunStore for NatsJournal {
    fn claim<'a>(&'a self, run: RunId, _owner: &'a str) -> BoxFuture<'a, Result<Claim, Error>> {
        Box::pin(async move {
            match self.inner.find(run).await? {
                Some(_) => Ok(Claim::Owned { by: DEPLOYMENT.to_owned() }),
                None => Err(Error::NoRun(run)),
            }
        })
    }

    fn release<'a>(&'a self, _run: RunId, _owner: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn owner_is_alive(&self, _owner: &str) -> bool {
        true
    }

    fn send(&self, run: RunId, _command: Command) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { Err(elsewhere(run)) })
    }

    fn poll<'a>(&'a self, _owner: &'a str) -> BoxFuture<'a, Result<Vec<(RunId, Command)>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn pending(&self, _run: RunId) -> BoxFuture<'_, Result<Vec<Command>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn refuse(&self, run: RunId, _command: Uuid, _why: String) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { Err(elsewhere(run)) })
    }

    fn outcome(&self, _run: RunId, _command: Uuid) -> BoxFuture<'_, Result<Option<Outcome>, Error>> {
        Box::pin(async { Ok(None) })
    }

    fn active_in_group<'a>(
        &'a self,
        project: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Vec<RunRecord>, Error>> {
        Box::pin(async move {
            let mut records = self.inner.records().await?;
            records.retain(|r| r.is_active_in(project, group));
            records.reverse();
            Ok(records)
        })
    }

    fn find_by_suffix<'a>(&'a self, suffix: &'a str) -> BoxFuture<'a, Result<Vec<RunRecord>, Error>> {
        Box::pin(async move {
            if let Ok(run) = suffix.parse() {
                return Ok(self.inner.find(run).await?.into_iter().collect());
            }
            let mut records = self.inner.records().await?;
            records.retain(|r| r.ends_with(suffix));
            Ok(records)
        })
    }

    fn export(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Stored>, Error>> {
        Box::pin(async move {
            let last = read::last(&self.inner.runs, &self.inner.subject(run))
                .await
                .map_err(|e| self.inner.unreadable(e))?;
            let last = last.ok_or(Error::NoRun(run))?;
            self.inner.stored(run, 0, last.sequence).await
        })
    }

    fn verify(&self, run: RunId) -> BoxFuture<'_, Result<Report, Error>> {
        Box::pin(async move {
            let stored = self.export(run).await?;
            // The index is what the last entry says of itself.
            let last = stored.last().ok_or(Error::NoRun(run))?;
            let head = Head { seq: last.seq, hash: Some(last.hash) };
            Ok(Report::of(run, &stored, head))
        })
    }

    fn hashes(
        &self,
        run: RunId,
        from: u64,
    ) -> BoxFuture<'_, Result<Vec<foreplan_core::digest::Digest>, Error>> {
        Box::pin(self.inner.hashes(run, from))
    }

    fn hashed(&self, wanted: Vec<(RunId, u64)>) -> BoxFuture<'_, Vec<Result<Vec<Hashed>, Error>>> {
        let read = wanted.into_iter().map(|(run, from)| self.inner.read(run, from));
        Box::pin(futures::future::join_all(read))
    }

    fn cursor<'a>(&'a self, sink: &'a str, run: RunId) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(async move { self.inner.cursors().await?.get(sink, run).await })
    }

    fn advance<'a>(
        &'a self,
        sink: &'a str,
        run: RunId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move { self.inner.cursors().await?.advance(sink, run, from, to).await })
    }

    fn behind<'a>(
        &'a self,
        sink: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<foreplan_journal::Behind>, Error>> {
        Box::pin(async move {
            let records = self.inner.records().await?;
            self.inner.cursors().await?.behind(sink, records, limit).await
        })
    }

    fn prune(&self, ended_before: Timestamp) -> BoxFuture<'_, Result<Pruned, Error>> {
        Box::pin(async move {
            let mut pruned = Pruned::default();
            let records = self.inner.records().await?;
            for record in records.iter().filter(|r| r.progress.ended_at.is_some_and(|at| at < ended_before)) {
                let (entries, bytes) = self.inner.remove(record).await?;
                pruned.runs += 1;
                pruned.entries += entries;
                pruned.payload_bytes += bytes;
            }
            Ok(pruned)
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, Error>> {
        Box::pin(async move {
            let records = self.inner.records().await?;
            let info = self.inner.runs.get_info().await;
            let info = info.map_err(|e| store("a stream is looked up", chain(&e)))?;
            Ok(Stats {
                runs: records.len() as u64,
                open: records.iter().filter(|r| r.progress.ended_at.is_none()).count() as u64,
                entries: records.iter().map(|r| r.head.seq + 1).sum(),
                journal_bytes: info.state.bytes,
                free_bytes: 0,
                payload_bytes: self.inner.payloads.bytes().await.map_err(|e| self.inner.unreadable(e))?,
            })
        })
    }
}

fn elsewhere(run: RunId) -> Error {
    store(
        "a command is sent",
        format!("run {run} is carried on by the deployment, which takes commands over its bus"),
    )
}
