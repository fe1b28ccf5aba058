//! The audit trail of a store: journals as spans, and spans to where they are wanted.

use std::{sync::Arc, time::Duration};

use foreplan_core::{failure::chain, id::RunId};
use foreplan_journal::{Error as JournalError, Forward, Hashed, RunStore, Store};
use foreplan_telemetry::{
    AuditSpan, Exporter, ExporterStats, Lag, Move, Options, Pace, Record, Sink, Source, SourceError, derive,
};
use foreplan_tracker::News;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle};

use super::{Error, System};

/// How long a process that ends waits for its traces to be taken. What is left the next one sends.
const FLUSH_WAIT: Duration = Duration::from_secs(5);

/// Where traces go, and what they hold.
#[derive(Clone, Default)]
pub struct Traces {
    /// The places.
    pub sinks: Vec<Arc<dyn Sink>>,
    /// What the spans hold.
    pub options: Options,
    /// How fast they go.
    pub pace: Pace,
}

/// The exporter of one process.
pub(crate) struct Trail {
    exporter: Arc<Exporter>,
    listening: Mutex<Option<JoinHandle<()>>>,
    over: Arc<Notify>,
}

impl Trail {
    /// Begins to export what the tracker records.
    pub(crate) fn begin(store: &Store, news: Arc<News>, traces: Traces) -> Self {
        let source =
            Arc::new(StoreSource { journal: Arc::clone(&store.journal), is_local: store.is_local() });
        let exporter = Arc::new(Exporter::spawn(source, traces.sinks, traces.options, traces.pace));
        let over = Arc::new(Notify::new());
        let listening = tokio::spawn(listen(Arc::clone(&exporter), news, Arc::clone(&over)));
        Self { exporter, listening: Mutex::new(Some(listening)), over }
    }

    /// Sends what is left of these runs, as long as that takes no longer than a moment.
    pub(crate) async fn finish(&self, runs: &[RunId]) {
        self.over.notify_one();
        let listening = self.listening.lock().take();
        if let Some(Err(error)) = futures::future::OptionFuture::from(listening).await {
            tracing::warn!(%error, "nobody listened to what the tracker told");
        }
        self.exporter.notify(runs);
        if !self.exporter.flush(FLUSH_WAIT).await {
            tracing::warn!("some spans were not exported in time; the journal keeps them");
        }
    }

    pub(crate) fn stats(&self) -> Vec<ExporterStats> {
        self.exporter.stats()
    }
}

/// How often the store is asked for what no process has exported: runs of one that died.
const CATCH_UP: Duration = Duration::from_secs(60);

/// How long the tracker tells before anybody listens again: waking up for each entry of a busy process
/// would cost its runs more than the export.
const LISTEN_PAUSE: Duration = Duration::from_millis(50);

async fn listen(exporter: Arc<Exporter>, news: Arc<News>, over: Arc<Notify>) {
    let mut looks = tokio::time::interval(CATCH_UP);
    looks.tick().await;
    let mut is_over = false;
    while !is_over {
        let come = async {
            tokio::time::sleep(LISTEN_PAUSE).await;
            news.come().await;
        };
        is_over = tokio::select! {
            () = come => false,
            () = over.notified() => true,
            _ = looks.tick() => {
                exporter.catch_up();
                false
            }
        };
        exporter.notify(&news.take());
    }
}

impl System {
    /// Returns a run's entries with the hashes of their stored bytes.
    ///
    /// # Errors
    ///
    /// If there is no such run, or its journal is damaged.
    pub async fn records(&self, run: RunId) -> Result<Vec<Record>, Error> {
        match records(self.inner.store.journal.as_ref(), run, 0).await {
            Ok(records) => Ok(records),
            Err(JournalError::NoRun(run)) => Err(Error::NoRun(run)),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the run's trace as far as it has come.
    ///
    /// # Errors
    ///
    /// If there is no such run, or its journal is damaged.
    pub async fn trace(&self, run: RunId, options: &Options) -> Result<Vec<AuditSpan>, Error> {
        Ok(derive(run, &self.records(run).await?, options))
    }

    /// Returns what each place that traces go to has got.
    #[must_use]
    pub fn trace_stats(&self) -> Vec<ExporterStats> {
        self.inner.trail.as_ref().map(Trail::stats).unwrap_or_default()
    }
}

/// A store, as an exporter sees it.
struct StoreSource {
    journal: Arc<dyn RunStore>,
    is_local: bool,
}

impl Source for StoreSource {
    fn is_local(&self) -> bool {
        self.is_local
    }

    fn records(&self, run: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Record>, SourceError>> {
        Box::pin(async move { records(self.journal.as_ref(), run, from).await.map_err(|e| source_error(&e)) })
    }

    fn cursor<'a>(&'a self, sink: &'a str, run: RunId) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async move { self.journal.cursor(sink, run).await.map_err(|e| source_error(&e)) })
    }

    fn advance<'a>(
        &'a self,
        sink: &'a str,
        run: RunId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.journal.advance(sink, run, from, to).await.map(drop).map_err(|e| source_error(&e))
        })
    }

    fn records_of(&self, wanted: Vec<(RunId, u64)>) -> BoxFuture<'_, Vec<Result<Vec<Record>, SourceError>>> {
        Box::pin(async move {
            let read = self.journal.hashed(wanted).await;
            read.into_iter().map(|read| read.map(to_records).map_err(|e| source_error(&e))).collect()
        })
    }

    fn cursors<'a>(
        &'a self,
        sink: &'a str,
        runs: &'a [RunId],
    ) -> BoxFuture<'a, Result<Vec<u64>, SourceError>> {
        Box::pin(async move { self.journal.cursors(sink, runs).await.map_err(|e| source_error(&e)) })
    }

    fn advance_all<'a>(&'a self, sink: &'a str, moves: Vec<Move>) -> BoxFuture<'a, Result<(), SourceError>> {
        let moves = moves.into_iter().map(|Move { run, from, to }| Forward { run, from, to }).collect();
        Box::pin(async move { self.journal.advance_all(sink, moves).await.map_err(|e| source_error(&e)) })
    }

    fn behind<'a>(&'a self, sink: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Lag>, SourceError>> {
        Box::pin(async move {
            let behind = self.journal.behind(sink, limit).await.map_err(|e| source_error(&e))?;
            Ok(behind.into_iter().map(|b| Lag { run: b.run, sent: b.sent, entries: b.entries }).collect())
        })
    }
}

async fn records(journal: &dyn RunStore, run: RunId, from: u64) -> Result<Vec<Record>, JournalError> {
    let read = journal.hashed(vec![(run, from)]).await.pop();
    read.unwrap_or(Err(JournalError::NoRun(run))).map(to_records)
}

fn to_records(entries: Vec<Hashed>) -> Vec<Record> {
    entries.into_iter().map(|(entry, hash)| Record { entry, hash }).collect()
}

fn source_error(error: &JournalError) -> SourceError {
    let text = chain(error);
    match error {
        JournalError::Corrupt { .. }
        | JournalError::TooNew { .. }
        | JournalError::Payload { .. }
        | JournalError::NoRun(_) => SourceError::Unreadable(text),
        _ => SourceError::Unavailable(text),
    }
}
