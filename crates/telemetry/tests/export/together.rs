//! Runs that go to a sink together: what they share, and what they do not.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use foreplan_core::id::RunId;
use foreplan_telemetry::{
    Batch, Exporter, Lag, Move, Options, Pace, Record, SendError, Sink, Source, SourceError, derive,
};
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::{PATIENCE, store::records};

/// What is refused is not asked for again in the time of a test.
const PACE: Pace = Pace { refused: Duration::from_secs(600), ..crate::PACE };

/// A store whose runs all have the same entries.
struct Store {
    records: Vec<Record>,
    cursors: Mutex<HashMap<RunId, u64>>,
    /// How many cursors were moved at once, each time.
    moved: Mutex<Vec<usize>>,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self { records: records(1), cursors: Mutex::default(), moved: Mutex::default() })
    }

    fn has_all(&self, run: RunId) -> bool {
        self.cursors.lock().get(&run) == Some(&(self.records.len() as u64))
    }
}

impl Source for Store {
    fn is_local(&self) -> bool {
        true
    }

    fn records(&self, _: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Record>, SourceError>> {
        let records = self.records[usize::try_from(from).unwrap()..].to_vec();
        Box::pin(async move { Ok(records) })
    }

    fn cursor<'a>(&'a self, _: &'a str, run: RunId) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async move { Ok(self.cursors.lock().get(&run).copied().unwrap_or(0)) })
    }

    fn advance<'a>(
        &'a self,
        _: &'a str,
        run: RunId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let mut cursors = self.cursors.lock();
            assert_eq!(cursors.insert(run, to).unwrap_or(0), from, "the cursor of {run}");
            Ok(())
        })
    }

    fn advance_all<'a>(&'a self, sink: &'a str, moves: Vec<Move>) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.moved.lock().push(moves.len());
            for Move { run, from, to } in moves {
                self.advance(sink, run, from, to).await?;
            }
            Ok(())
        })
    }

    fn behind<'a>(&'a self, _: &'a str, _: usize) -> BoxFuture<'a, Result<Vec<Lag>, SourceError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// A sink that keeps what it took when it is asked to settle, and not before.
#[derive(Default)]
struct Ledger {
    taken: Mutex<Vec<Batch>>,
    kept: Mutex<Vec<Batch>>,
    /// How often it fails to settle, and loses what it took.
    failures: Mutex<u32>,
    /// A run whose spans it refuses.
    refused: Option<RunId>,
    /// A run at which it is down, once.
    down: Mutex<Option<RunId>>,
}

impl Sink for Ledger {
    fn name(&self) -> &str {
        "ledger"
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            if self.refused == Some(batch.run) {
                return Err(SendError::Refused("not these".to_owned()));
            }
            if self.down.lock().take_if(|run| *run == batch.run).is_some() {
                return Err(unavailable());
            }
            self.taken.lock().push(batch.clone());
            Ok(())
        })
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let taken = std::mem::take(&mut *self.taken.lock());
            let mut failures = self.failures.lock();
            if *failures > 0 {
                *failures -= 1;
                return Err(unavailable());
            }
            self.kept.lock().extend(taken);
            Ok(())
        })
    }
}

fn unavailable() -> SendError {
    SendError::Unavailable { message: "the disk is full".to_owned(), after: None }
}

impl Ledger {
    /// Returns how many batches are kept of each run, after checking that they are all of its spans.
    fn kept(&self, store: &Store) -> BTreeMap<RunId, usize> {
        let mut kept = BTreeMap::new();
        for batch in self.kept.lock().iter() {
            assert_eq!(batch.spans, derive(batch.run, &store.records, &Options::default()));
            *kept.entry(batch.run).or_default() += 1;
        }
        kept
    }
}

fn runs(number: u128) -> Vec<RunId> {
    (1..=number).map(|run| RunId(uuid::Uuid::from_u128(run))).collect()
}

fn once(runs: &[RunId]) -> BTreeMap<RunId, usize> {
    runs.iter().map(|run| (*run, 1)).collect()
}

fn exporter(store: &Arc<Store>, sink: &Arc<Ledger>) -> Exporter {
    let (source, sink) = (Arc::clone(store) as Arc<dyn Source>, Arc::clone(sink) as Arc<dyn Sink>);
    Exporter::spawn(source, vec![sink], Options::default(), PACE)
}

#[tokio::test]
async fn the_cursors_of_many_runs_move_together_and_each_run_is_sent_once() {
    let (store, sink, runs) = (Store::new(), Arc::new(Ledger::default()), runs(40));
    let exporter = exporter(&store, &sink);
    exporter.notify(&runs);
    assert!(exporter.flush(PATIENCE).await);
    assert_eq!(sink.kept(&store), once(&runs));
    assert!(runs.iter().all(|run| store.has_all(*run)));
    let moved = store.moved.lock().clone();
    assert_eq!(moved.iter().sum::<usize>(), 40);
    assert!(moved.len() <= 4, "{moved:?}");
}

#[tokio::test]
async fn no_cursor_moves_before_the_sink_has_settled() {
    let (store, runs) = (Store::new(), runs(3));
    let sink = Arc::new(Ledger { failures: Mutex::new(2), ..Ledger::default() });
    let exporter = exporter(&store, &sink);
    exporter.notify(&runs);
    assert!(!exporter.flush(PATIENCE).await, "the sink is down");
    assert!(runs.iter().all(|run| !store.has_all(*run)));
    let all = async {
        while !exporter.flush(PATIENCE).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    assert_eq!(sink.kept(&store), once(&runs));
    assert_eq!(exporter.stats()[0].failures, 2, "three runs were down twice, for one reason");
}

#[tokio::test]
async fn spans_that_are_refused_keep_no_other_run_waiting() {
    let (store, all) = (Store::new(), runs(3));
    let sink = Arc::new(Ledger { refused: Some(all[1]), ..Ledger::default() });
    let exporter = exporter(&store, &sink);
    exporter.notify(&all);
    assert!(!exporter.flush(PATIENCE).await);
    assert_eq!(sink.kept(&store), once(&[all[0], all[2]]));
    assert!(store.has_all(all[0]) && !store.has_all(all[1]) && store.has_all(all[2]));
}

#[tokio::test]
async fn what_was_sent_before_a_sink_went_down_is_not_sent_again() {
    let (store, all) = (Store::new(), runs(3));
    let sink = Arc::new(Ledger { down: Mutex::new(Some(all[1])), ..Ledger::default() });
    let exporter = exporter(&store, &sink);
    exporter.notify(&all);
    let sent = async {
        while !exporter.flush(PATIENCE).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, sent).await.unwrap();
    assert_eq!(sink.kept(&store), once(&all));
    assert_eq!(exporter.stats()[0].failures, 1);
}
