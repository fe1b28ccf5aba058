//! What becomes of a run whose store is full, once there is room again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use foreplan::{Error, System};
use foreplan_core::{failure::Failure, tool::Effect, view::Status};
use foreplan_executor::system_clock;
use foreplan_journal::{Options, RunFilter, RunRecord, Store};
use foreplan_tools::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pages of 4 KiB that the store may have.
const PAGES: u32 = 200;

/// Bytes of a page that is kept in the journal itself.
const PAGE_BYTES: usize = 50_000;

/// How long a run may take that has room.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Serialize, JsonSchema)]
struct Front {
    front: String,
}

#[derive(Serialize, JsonSchema)]
struct Back {
    back: String,
}

/// Returns two tools that need nothing of each other, and how often they are called.
fn pages() -> ([Tool; 2], Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let page = |calls: &AtomicUsize| {
        calls.fetch_add(1, Ordering::Relaxed);
        "x".repeat(PAGE_BYTES)
    };
    let (front, back) = (Arc::clone(&calls), Arc::clone(&calls));
    let tools = [
        Tool::function("write_front", "Write the front page", Effect::Idempotent, move |_: Nothing| {
            let front = page(&front);
            async { Ok::<_, Failure>(Front { front }) }
        }),
        Tool::function("write_back", "Write the back page", Effect::Idempotent, move |_: Nothing| {
            let back = page(&back);
            async { Ok::<_, Failure>(Back { back }) }
        }),
    ];
    (tools, calls)
}

async fn open(store: &Store) -> Vec<RunRecord> {
    store.journal.list(RunFilter { open: true, ..RunFilter::default() }).await.unwrap()
}

#[tokio::test]
async fn a_run_that_found_the_store_full_goes_on_by_itself_and_loses_no_result() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { page_limit: Some(PAGES), ..Options::default() }).unwrap();
    let (tools, calls) = pages();
    let builder = System::builder().tools(tools).produce(["front", "back"]);
    let system = builder.store(store.clone()).build().await.unwrap();
    let mut runs = 1;
    let full = loop {
        match system.run("Write").await {
            Ok(outcome) => assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason),
            Err(error) => break error,
        }
        runs += 1;
    };
    assert!(matches!(full, Error::Stuck(_)), "{full}");
    let [stuck] = &open(&store).await[..] else { panic!("one run has not ended") };

    store.journal.prune(system_clock()()).await.unwrap();

    let goes_on = async {
        while !open(&store).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, goes_on).await.expect("the run goes on");
    let ended = store.journal.find(stuck.run.run).await.unwrap().unwrap();
    assert_eq!(ended.progress.status, Status::Succeeded);
    assert_eq!(calls.load(Ordering::Relaxed), 2 * runs);
    assert_eq!(store.journal.verify(stuck.run.run).await.unwrap().fault, None);
    system.shutdown().await;
}
