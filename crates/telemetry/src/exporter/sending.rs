//! One sink's way from a journal to its cursor.

use std::{collections::HashMap, sync::Arc};

use foreplan_core::id::RunId;

use super::{Exported, Source, SourceError};
use crate::{Batch, Options, SendError, Sink, Trace};

/// Traces that are kept between two exports, so that a long run is not derived from its beginning
/// each time. One takes about as much as the state of its run.
const TRACES_MAX: usize = 1024;

/// One sink's way from a journal to its cursor.
pub(super) struct Sending {
    source: Arc<dyn Source>,
    sink: Arc<dyn Sink>,
    options: Options,
    traces: HashMap<RunId, Trace>,
}

impl Sending {
    pub(super) fn new(source: Arc<dyn Source>, sink: Arc<dyn Sink>, options: Options) -> Self {
        Self { source, sink, options, traces: HashMap::new() }
    }

    pub(super) fn sink_name(&self) -> &str {
        self.sink.name()
    }

    /// Returns runs of earlier processes that the sink has not got.
    pub(super) async fn behind(&self, limit: usize) -> Vec<RunId> {
        match self.source.behind(self.sink.name(), limit).await {
            Ok(lags) => lags.into_iter().map(|lag| lag.run).collect(),
            Err(error) => {
                tracing::warn!(sink = self.sink.name(), %error, "what the sink has not got is not known");
                Vec::new()
            }
        }
    }

    /// Sends what the sink has not got of a run.
    pub(super) async fn export(&mut self, run: RunId) -> Exported {
        match self.try_export(run).await {
            Ok(spans) => Exported::All(spans),
            Err(failed) => {
                // What was derived and not sent is derived again.
                self.traces.remove(&run);
                failed
            }
        }
    }

    async fn try_export(&mut self, run: RunId) -> Result<u64, Exported> {
        let name = self.sink.name().to_owned();
        let stored = self.source.cursor(&name, run).await?;
        // A trace that is kept was sent as far as it goes, also where the store keeps no cursors.
        let kept = self.traces.remove(&run).filter(|trace| trace.next() >= stored);
        let cursor = kept.as_ref().map_or(stored, Trace::next);
        let mut trace = kept.unwrap_or_else(|| Trace::new(run, self.options.clone()));
        let records = self.source.records(run, trace.next()).await?;
        let mut spans = Vec::new();
        for record in &records {
            let made = trace.feed(record);
            if record.entry.seq >= cursor {
                spans.extend(made);
            }
        }
        let count = spans.len() as u64;
        for batch in Batch::split(run, spans) {
            self.send(batch).await?;
        }
        if trace.next() > cursor {
            self.source.advance(&name, run, stored, trace.next()).await?;
        }
        if !trace.is_over() && self.traces.len() < TRACES_MAX {
            self.traces.insert(run, trace);
        }
        Ok(count)
    }

    /// Sends a batch, in smaller parts if the sink asks for it.
    async fn send(&self, batch: Batch) -> Result<(), Exported> {
        let mut left = vec![batch];
        while let Some(batch) = left.pop() {
            match self.sink.send(&batch).await {
                Ok(()) => {}
                Err(SendError::Unavailable { message, after }) => return Err(Exported::Down(message, after)),
                Err(SendError::Refused(why)) => return Err(Exported::Refused(why)),
                Err(SendError::TooLarge) => match batch.halves() {
                    Some((first, second)) => left.extend([second, first]),
                    None => return Err(Exported::Refused("one span alone is too large".to_owned())),
                },
            }
        }
        Ok(())
    }
}

impl From<SourceError> for Exported {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Unavailable(_) => Self::Down(error.to_string(), None),
            SourceError::Unreadable(_) => Self::Refused(error.to_string()),
        }
    }
}
