//! Metrics of a process and of its store.

use std::sync::Arc;

use foreplan_journal::RunFilter;
use foreplan_telemetry::metrics::{Metrics, RUNS, STEPS};
use foreplan_tracker::Progress;
use parking_lot::Mutex;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinHandle,
};

use super::{Error, System};

/// What this process has counted since it began.
pub(super) struct Counted {
    metrics: Arc<Mutex<Metrics>>,
    counting: JoinHandle<()>,
}

impl Counted {
    /// Begins to count what the tracker records.
    pub(super) fn begin(progress: Receiver<Progress>) -> Self {
        let metrics = Arc::new(Mutex::new(Metrics::default()));
        let counting = tokio::spawn(count(Arc::clone(&metrics), progress));
        Self { metrics, counting }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counting.abort();
    }
}

async fn count(metrics: Arc<Mutex<Metrics>>, mut progress: Receiver<Progress>) {
    loop {
        match progress.recv().await {
            Ok(told) => metrics.lock().observe(&told.entry),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "entries were not counted; metrics say less than happened");
            }
            Err(RecvError::Closed) => return,
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
        let mut metrics = self.inner.counted.metrics.lock().clone();
        metrics.traces(&self.trace_stats());
        for record in self.inner.store.journal.list(RunFilter::default()).await? {
            let progress = record.progress;
            metrics.add(RUNS, progress.status.as_str(), 1);
            if progress.ended_at.is_none() {
                metrics.add(STEPS, "done", u64::from(progress.steps_done));
                metrics.add(STEPS, "left", u64::from(progress.steps.saturating_sub(progress.steps_done)));
            }
        }
        Ok(metrics.to_prometheus())
    }
}
