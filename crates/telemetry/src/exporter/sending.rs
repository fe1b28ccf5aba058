//! One sink's way from a journal to its cursor.

use std::{collections::HashMap, future::poll_fn, pin::pin, sync::Arc, time::Duration};

use foreplan_core::id::RunId;

use super::{Exported, Source, SourceError};
use crate::{AuditSpan, Batch, Options, Record, SendError, Sink, Trace};

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

    /// Sends what the sink has not got of a run. Returns how much work that was, too.
    pub(super) async fn export(&mut self, run: RunId) -> (Exported, Duration) {
        let mut work = Work::default();
        let exported = match self.try_export(run, &mut work).await {
            Ok(spans) => Exported::All(spans),
            Err(failed) => {
                // What was derived and not sent is derived again.
                self.traces.remove(&run);
                failed
            }
        };
        (exported, work.0)
    }

    async fn try_export(&mut self, run: RunId, work: &mut Work) -> Result<u64, Exported> {
        let (source, name) = (Arc::clone(&self.source), self.sink.name().to_owned());
        let is_local = source.is_local();
        let stored = work.count(is_local, source.cursor(&name, run)).await?;
        // A trace that is kept was sent as far as it goes, also where the store keeps no cursors.
        let kept = self.traces.remove(&run).filter(|trace| trace.next() >= stored);
        let cursor = kept.as_ref().map_or(stored, Trace::next);
        let mut trace = kept.unwrap_or_else(|| Trace::new(run, self.options.clone()));
        let records = work.count(is_local, source.records(run, trace.next())).await?;
        let spans = work.count(true, async { fold(&mut trace, &records, cursor) }).await;
        let count = spans.len() as u64;
        for batch in Batch::split(run, spans) {
            self.send(batch, work).await?;
        }
        if trace.next() > cursor {
            work.count(is_local, source.advance(&name, run, stored, trace.next())).await?;
        }
        if !trace.is_over() && self.traces.len() < TRACES_MAX {
            self.traces.insert(run, trace);
        }
        Ok(count)
    }

    /// Sends a batch, in smaller parts if the sink asks for it.
    async fn send(&self, batch: Batch, work: &mut Work) -> Result<(), Exported> {
        let mut left = vec![batch];
        while let Some(batch) = left.pop() {
            match work.count(self.sink.is_local(), self.sink.send(&batch)).await {
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

/// Returns the spans of entries from the cursor on; those before it are folded only.
fn fold(trace: &mut Trace, records: &[Record], cursor: u64) -> Vec<AuditSpan> {
    let mut spans = Vec::new();
    for record in records {
        let made = trace.feed(record);
        if record.entry.seq >= cursor {
            spans.extend(made);
        }
    }
    spans
}

/// How much of the machine's time an export took.
#[derive(Default)]
struct Work(Duration);

impl Work {
    /// Counts all the time that something takes on this machine, where other threads read, write and
    /// wait for the disk; else that of this thread, since another machine does the rest.
    async fn count<T>(&mut self, is_local: bool, work: impl Future<Output = T>) -> T {
        let (mut work, mut polled) = (pin!(work), Duration::ZERO);
        let begun = std::time::Instant::now();
        let output = poll_fn(|cx| {
            let begun = std::time::Instant::now();
            let output = work.as_mut().poll(cx);
            polled += begun.elapsed();
            output
        });
        let output = output.await;
        self.0 += if is_local { begun.elapsed() } else { polled };
        output
    }
}

impl From<SourceError> for Exported {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Unavailable(_) => Self::Down(error.to_string(), None),
            SourceError::Unreadable(why) => Self::Unreadable(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_for_another_machine_is_no_work_and_for_this_one_it_is() {
        let wait = Duration::from_millis(200);
        let [mut here, mut there] = [Work::default(), Work::default()];
        here.count(true, tokio::time::sleep(wait)).await;
        there.count(false, tokio::time::sleep(wait)).await;
        assert!(here.0 >= wait && there.0 < wait, "{:?} {:?}", here.0, there.0);
    }
}
