//! What a process tells those who watch it: its health, its metrics, and where they are sent.

use std::sync::Arc;

use foreplan_core::time::Timestamp;
use foreplan_executor::system_clock;
use foreplan_telemetry::{
    ExporterStats,
    metrics::{Metrics, UP},
};
use futures::future::BoxFuture;

use super::Role;
use crate::system::{metrics::Counted, trail::Trail};

/// What a process counts and exports: trackers alone see entries.
#[derive(Clone)]
pub struct Watch {
    inner: Arc<Inner>,
}

struct Inner {
    worker: String,
    roles: Vec<Role>,
    since: Timestamp,
    counted: Option<Arc<Counted>>,
    trail: Option<Arc<Trail>>,
}

impl Watch {
    pub(super) fn new(
        worker: &str,
        roles: &[Role],
        counted: Option<Arc<Counted>>,
        trail: Option<Arc<Trail>>,
    ) -> Self {
        let (worker, roles, since) = (worker.to_owned(), roles.to_vec(), system_clock()());
        Self { inner: Arc::new(Inner { worker, roles, since, counted, trail }) }
    }

    /// Returns the metrics of this process. If the journal cannot be read now, its counters are
    /// missing.
    pub async fn metrics(&self) -> Metrics {
        let inner = &self.inner;
        let mut metrics = Metrics::default();
        if let Some(counted) = &inner.counted {
            match counted.gather(&self.traces(), system_clock()()).await {
                Ok(gathered) => metrics = gathered,
                Err(error) => tracing::warn!(%error, "the metrics of the journal are missing"),
            }
        }
        for role in &inner.roles {
            metrics.set(UP, role.as_str(), 1);
        }
        metrics
    }

    fn traces(&self) -> Vec<ExporterStats> {
        self.inner.trail.as_ref().map(|trail| trail.stats()).unwrap_or_default()
    }

    /// Returns what `/metrics` answers with.
    pub fn page(&self) -> impl Fn() -> BoxFuture<'static, String> + Send + Sync + use<> {
        let watch = self.clone();
        move || {
            let watch = watch.clone();
            Box::pin(async move { watch.metrics().await.to_prometheus() })
        }
    }

    /// Sends the metrics to a collector as often as that, until dropped.
    #[cfg(feature = "otlp")]
    pub async fn send_metrics(self, to: foreplan_telemetry::OtlpSink, every: std::time::Duration) {
        use foreplan_telemetry::{Sink as _, metrics::Counter};

        let service = match self.inner.roles.as_slice() {
            [role] => format!("foreplan-{}", role.as_str()),
            _ => "foreplan".to_owned(),
        };
        let by = Counter { service, instance: self.inner.worker.clone(), since: self.inner.since };
        let mut ticks = tokio::time::interval(every);
        let mut is_taken = true;
        loop {
            ticks.tick().await;
            let request = self.metrics().await.to_otlp(&by, system_clock()());
            match to.post(request).await {
                Ok(()) => is_taken = true,
                Err(error) if is_taken => {
                    tracing::warn!(sink = to.name(), %error, "the metrics were not taken; the next ones follow");
                    is_taken = false;
                }
                Err(_) => {}
            }
        }
    }
}
