//! Stores: one with a run, one with a damaged journal beside it, one that grows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use foreplan_core::{digest::Digest, id::RunId};
use foreplan_telemetry::{AuditSpan, Lag, Options, Record, Source, SourceError, derive};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::json;

use crate::support::{Harness, run_id, spec};

/// Returns the entries of a run with so many steps, from its begin to its end.
pub(crate) fn records(steps: usize) -> Vec<Record> {
    let plan: Vec<_> = (0..steps).map(|at| json!({"id": format!("s{at}"), "tool": "read"})).collect();
    let (mut h, _) = Harness::started(spec(), &json!(plan));
    for at in 0..steps {
        h.ok(&format!("s{at}"), 1);
    }
    assert!(h.run.status().is_ended());
    let record = |entry: &foreplan_core::event::Entry| Record {
        entry: Arc::new(entry.clone()),
        hash: Digest::of(entry),
    };
    h.entries.iter().map(record).collect()
}

/// A store with one run.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) records: Vec<Record>,
    cursors: Mutex<HashMap<String, u64>>,
    /// Cursors that are not moved although they should be: a process that was killed before it could.
    pub(crate) lost: Mutex<u32>,
}

impl Store {
    pub(crate) fn new(steps: usize) -> Arc<Self> {
        Arc::new(Self { records: records(steps), ..Self::default() })
    }

    pub(crate) fn expected(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        of(derive(run_id(), &self.records, &Options::default()).iter())
    }
}

/// Returns the bytes of spans by their ids.
fn of<'a>(spans: impl Iterator<Item = &'a AuditSpan>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    spans.map(|s| (s.span.span_id.clone(), s.span.encode_to_vec())).collect()
}

impl Source for Store {
    fn is_local(&self) -> bool {
        true
    }

    fn records(&self, _: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Record>, SourceError>> {
        let records = self.records[usize::try_from(from).unwrap()..].to_vec();
        Box::pin(async move { Ok(records) })
    }

    fn cursor<'a>(&'a self, sink: &'a str, _: RunId) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async move { Ok(self.cursors.lock().get(sink).copied().unwrap_or(0)) })
    }

    fn advance<'a>(
        &'a self,
        sink: &'a str,
        _: RunId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let mut lost = self.lost.lock();
            if *lost > 0 {
                *lost -= 1;
                return Err(SourceError::Unavailable("killed".to_owned()));
            }
            let mut cursors = self.cursors.lock();
            let cursor = cursors.entry(sink.to_owned()).or_default();
            if *cursor == from {
                *cursor = to;
            }
            Ok(())
        })
    }

    fn behind<'a>(&'a self, sink: &'a str, _: usize) -> BoxFuture<'a, Result<Vec<Lag>, SourceError>> {
        Box::pin(async move {
            let (sent, entries) = (self.cursor(sink, run_id()).await?, self.records.len() as u64);
            Ok((sent < entries).then_some(Lag { run: run_id(), sent, entries }).into_iter().collect())
        })
    }
}

/// A store in which one journal is damaged, beside a whole one.
pub(crate) struct Damaged(pub(crate) Arc<Store>);

/// The run whose journal is damaged.
pub(crate) const DAMAGED: RunId = RunId(uuid::Uuid::from_u128(7));

impl Source for Damaged {
    fn is_local(&self) -> bool {
        true
    }

    fn records(&self, run: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Record>, SourceError>> {
        if run == DAMAGED {
            return Box::pin(async { Err(SourceError::Unreadable("entry 4 is another".to_owned())) });
        }
        self.0.records(run, from)
    }

    fn cursor<'a>(&'a self, sink: &'a str, run: RunId) -> BoxFuture<'a, Result<u64, SourceError>> {
        if run == DAMAGED { Box::pin(async { Ok(0) }) } else { self.0.cursor(sink, run) }
    }

    fn advance<'a>(
        &'a self,
        sink: &'a str,
        run: RunId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        assert_ne!(run, DAMAGED, "nothing of it was sent");
        self.0.advance(sink, run, from, to)
    }

    fn behind<'a>(&'a self, sink: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Lag>, SourceError>> {
        self.0.behind(sink, limit)
    }
}

/// A store that grows and keeps no cursors.
pub(crate) struct Growing {
    pub(crate) whole: Arc<Store>,
    pub(crate) visible: Mutex<usize>,
}

impl Source for Growing {
    fn is_local(&self) -> bool {
        true
    }

    fn records(&self, _: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Record>, SourceError>> {
        let visible = *self.visible.lock();
        let records = self.whole.records[usize::try_from(from).unwrap()..visible].to_vec();
        Box::pin(async move { Ok(records) })
    }

    fn cursor<'a>(&'a self, _: &'a str, _: RunId) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async { Ok(0) })
    }

    fn advance<'a>(&'a self, _: &'a str, _: RunId, _: u64, _: u64) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    fn behind<'a>(&'a self, _: &'a str, _: usize) -> BoxFuture<'a, Result<Vec<Lag>, SourceError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
