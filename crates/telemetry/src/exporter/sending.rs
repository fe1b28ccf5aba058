//! One sink's way from journals to its cursors.

use std::{collections::HashMap, future::poll_fn, iter, pin::pin, sync::Arc, time::Duration};

use foreplan_core::id::RunId;

use super::{Exported, Source, SourceError, source::Move};
use crate::{AuditSpan, Batch, Options, Record, SendError, Sink, Trace};

/// Traces that are kept between two exports, so that a long run is not derived from its beginning
/// each time. One takes about as much as the state of its run.
const TRACES_MAX: usize = 1024;

/// One sink's way from journals to its cursors.
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

    /// Sends what the sink has not got of some runs. Returns how much work that was, too.
    pub(super) async fn export(&mut self, runs: &[RunId]) -> (Vec<(RunId, Exported)>, Duration) {
        let mut work = Work::default();
        let exported = self.export_all(runs, &mut work).await;
        (exported, work.0)
    }

    async fn export_all(&mut self, runs: &[RunId], work: &mut Work) -> Vec<(RunId, Exported)> {
        let (source, is_local) = (Arc::clone(&self.source), self.source.is_local());
        let cursors = match work.count(is_local, source.cursors(self.sink.name(), runs)).await {
            Ok(cursors) => cursors,
            Err(error) => return all_down(runs.iter().copied(), error.into()),
        };
        let ways: Vec<Way> = runs.iter().zip(cursors).map(|(run, stored)| self.way(*run, stored)).collect();
        let wanted = ways.iter().map(|way| (way.run, way.trace.next())).collect();
        let records = work.count(is_local, source.records_of(wanted)).await;
        let (mut sent, mut failed) = (Vec::new(), Vec::new());
        let mut left = ways.into_iter().zip(records);
        // What was derived and not sent is derived again.
        for (mut way, records) in left.by_ref() {
            match self.send_all(&mut way, records, work).await {
                Ok(()) => sent.push(way),
                Err(error) => {
                    let is_down = matches!(error, Exported::Down(..));
                    failed.push((way.run, error));
                    if is_down {
                        break;
                    }
                }
            }
        }
        failed.extend(left.map(|(way, _)| (way.run, Exported::Untried)));
        let mut exported = self.settle(sent, work).await;
        exported.extend(failed);
        exported
    }

    /// Returns how far a run's trace has come.
    fn way(&mut self, run: RunId, stored: u64) -> Way {
        // A trace that is kept was sent as far as it goes, also where the store keeps no cursors.
        let kept = self.traces.remove(&run).filter(|trace| trace.next() >= stored);
        let cursor = kept.as_ref().map_or(stored, Trace::next);
        let trace = kept.unwrap_or_else(|| Trace::new(run, self.options.clone()));
        Way { run, stored, cursor, trace, spans: 0 }
    }

    async fn send_all(
        &self,
        way: &mut Way,
        records: Result<Vec<Record>, SourceError>,
        work: &mut Work,
    ) -> Result<(), Exported> {
        let records = records?;
        let spans = work.count(true, async { fold(&mut way.trace, &records, way.cursor) }).await;
        way.spans = spans.len() as u64;
        for batch in Batch::split(way.run, spans) {
            self.send(batch, work).await?;
        }
        Ok(())
    }

    /// Moves the cursors on, once the sink keeps what it took.
    async fn settle(&mut self, sent: Vec<Way>, work: &mut Work) -> Vec<(RunId, Exported)> {
        let settled = work.count(self.sink.is_local(), self.sink.settle()).await;
        if let Err(error) = settled {
            return all_down(sent.into_iter().map(|way| way.run), error.into());
        }
        let (source, is_local) = (Arc::clone(&self.source), self.source.is_local());
        let moves: Vec<Move> = sent.iter().filter_map(Way::to_move).collect();
        if !moves.is_empty()
            && let Err(error) = work.count(is_local, source.advance_all(self.sink.name(), moves)).await
        {
            return all_down(sent.into_iter().map(|way| way.run), error.into());
        }
        let mut exported = Vec::with_capacity(sent.len());
        for Way { run, trace, spans, .. } in sent {
            if !trace.is_over() && self.traces.len() < TRACES_MAX {
                self.traces.insert(run, trace);
            }
            exported.push((run, Exported::All(spans)));
        }
        exported
    }

    /// Sends a batch, in smaller parts if the sink asks for it.
    async fn send(&self, batch: Batch, work: &mut Work) -> Result<(), Exported> {
        let mut left = vec![batch];
        while let Some(batch) = left.pop() {
            match work.count(self.sink.is_local(), self.sink.send(&batch)).await {
                Ok(()) => {}
                Err(SendError::TooLarge) => match batch.halves() {
                    Some((first, second)) => left.extend([second, first]),
                    None => return Err(Exported::Refused("one span alone is too large".to_owned())),
                },
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A run on its way to the sink.
struct Way {
    run: RunId,
    /// Where the cursor stands.
    stored: u64,
    /// The first entry whose spans the sink has not got.
    cursor: u64,
    trace: Trace,
    /// How many it got.
    spans: u64,
}

impl Way {
    fn to_move(&self) -> Option<Move> {
        let (run, from, to) = (self.run, self.stored, self.trace.next());
        (to > self.cursor).then_some(Move { run, from, to })
    }
}

/// Returns that the sink, or the store, is down for these runs: what the first of them met says why.
fn all_down(runs: impl Iterator<Item = RunId>, error: Exported) -> Vec<(RunId, Exported)> {
    runs.zip(iter::once(error).chain(iter::repeat_with(|| Exported::Untried))).collect()
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

impl From<SendError> for Exported {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Unavailable { message, after } => Self::Down(message, after),
            SendError::Refused(why) => Self::Refused(why),
            SendError::TooLarge => Self::Refused(error.to_string()),
        }
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
