//! Metrics of a process and of its store.

use std::{collections::HashSet, sync::Arc, time::Duration};

use foreplan_core::{id::RunId, time::Timestamp};
use foreplan_executor::system_clock;
use foreplan_journal::{Error as JournalError, RunFilter, RunStore};
use foreplan_telemetry::{
    ExporterStats,
    metrics::{ENTRIES_BEHIND, Fold, Gap, JOURNAL_LAG, Metrics, QUEUE_AGE, RUNS, STEPS},
};
use foreplan_tracker::{Progress, Standing, TrackerHandle};
use parking_lot::Mutex;
use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    task::JoinHandle,
};

use super::{Error, System};

/// Runs behind of which it is looked up how far: beyond that, only their number is told.
const BEHIND_MAX: usize = 1_000;

/// How long entries gather before they are counted: at a hundred thousand in a second, a quarter of what
/// the tracker keeps for those who watch.
const REST: Duration = Duration::from_millis(10);

/// What this process has counted since it began.
pub(crate) struct Counted {
    journal: Arc<dyn RunStore>,
    tracker: TrackerHandle,
    fold: Arc<Mutex<Fold>>,
    counting: JoinHandle<()>,
}

impl Counted {
    /// Begins to count what the tracker records.
    pub(crate) fn begin(journal: Arc<dyn RunStore>, tracker: TrackerHandle) -> Self {
        let fold = Arc::new(Mutex::new(Fold::default()));
        let counter =
            Counter { journal: Arc::clone(&journal), fold: Arc::clone(&fold), unread: HashSet::new() };
        let counting = tokio::spawn(counter.count(tracker.progress()));
        Self { journal, tracker, fold, counting }
    }

    /// Returns what was counted, with what is true now of the store and of the places that traces go
    /// to.
    pub(crate) async fn gather(
        &self,
        traces: &[ExporterStats],
        now: Timestamp,
    ) -> Result<Metrics, JournalError> {
        let records = self.journal.list(RunFilter::default()).await?;
        let mut metrics = {
            let mut fold = self.fold.lock();
            let mut metrics = fold.metrics();
            metrics.set(QUEUE_AGE, "", fold.queue_age(now).as_secs());
            metrics.set(JOURNAL_LAG, "", 0);
            let mut lost = HashSet::new();
            for record in &records {
                let (run, entries) = (record.run.run, record.head.seq + 1);
                let Some(next) = fold.next(run).filter(|next| *next < entries) else { continue };
                if self.is_lost(run) {
                    // Another process carries it on, and counts it.
                    lost.insert(run);
                } else {
                    metrics.add(JOURNAL_LAG, "", entries - next);
                }
            }
            fold.retain(|run| !lost.contains(&run));
            metrics
        };
        for record in records {
            let progress = record.progress;
            metrics.add(RUNS, progress.status.as_str(), 1);
            if progress.ended_at.is_none() {
                metrics.add(STEPS, "done", u64::from(progress.steps_done));
                metrics.add(STEPS, "left", u64::from(progress.steps.saturating_sub(progress.steps_done)));
            }
        }
        metrics.traces(traces);
        for sink in traces {
            let behind = self.journal.behind(&sink.sink, BEHIND_MAX).await?;
            let entries = behind.iter().map(|one| one.entries.saturating_sub(one.sent)).sum();
            metrics.set(ENTRIES_BEHIND, &sink.sink, entries);
        }
        Ok(metrics)
    }

    fn is_lost(&self, run: RunId) -> bool {
        matches!(self.tracker.standing(run).now(), Standing::Stuck { lost: true, .. })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counting.abort();
    }
}

/// Counts entries as they come, many at a time: nobody waits for a count, and to wake a thread for each
/// entry would cost the tracker more than the entry.
struct Counter {
    journal: Arc<dyn RunStore>,
    fold: Arc<Mutex<Fold>>,
    /// Runs of which entries were missed and could not be read.
    unread: HashSet<RunId>,
}

impl Counter {
    async fn count(mut self, mut progress: Receiver<Progress>) {
        loop {
            match progress.recv().await {
                Ok(told) => self.take(&told).await,
                // What is missing shows as a gap before the next entry of its run.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
            loop {
                match progress.try_recv() {
                    Ok(told) => self.take(&told).await,
                    Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            tokio::time::sleep(REST).await;
        }
    }

    async fn take(&mut self, told: &Progress) {
        let counted = self.fold.lock().observe(told.run, &told.entry);
        let Err(Gap { from }) = counted else { return };
        match self.journal.read(told.run, from).await {
            Ok(missed) => {
                let mut fold = self.fold.lock();
                for entry in &missed {
                    if let Err(Gap { from }) = fold.observe(told.run, entry) {
                        tracing::warn!(run = %told.run, from, "entries were missed again");
                    }
                }
                self.unread.remove(&told.run);
            }
            Err(error) if self.unread.insert(told.run) => {
                tracing::warn!(run = %told.run, %error, "entries were missed and are counted later");
            }
            Err(_) => {}
        }
    }
}

impl System {
    /// Returns the metrics of this process and its store, in the text that Prometheus reads. Counters
    /// begin with the process; runs are those of the store.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn metrics(&self) -> Result<String, Error> {
        let now = system_clock()();
        Ok(self.inner.counted.gather(&self.trace_stats(), now).await?.to_prometheus())
    }
}
