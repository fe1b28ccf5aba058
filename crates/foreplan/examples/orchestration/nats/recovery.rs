//! How long a tracker takes to have many runs in hand again whose last tracker is gone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use foreplan::{
    System,
    serve::{NatsConnection, NatsOptions, store},
};
use foreplan_bus::MemoryBus;
use foreplan_core::{
    event::Entry, failure::Failure, goal::PlannerSpec, id::RunId, tool::Effect, view::WaitKind,
};
use foreplan_executor::system_clock;
use foreplan_journal::{NewRun, Progress, Store};
use foreplan_tools::Tool;
use foreplan_tracker::{Deps, Standing};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{connect, serve};
use crate::{Settings, memory_kb};

/// Steps that each run has done before it waits: its journal has 50 events then.
const STEPS: usize = 23;

/// Runs that are written at once.
const AT_ONCE: usize = 256;

/// How long all runs may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures `settings.size` runs that wait for a person, in the journal of a server.
pub(crate) async fn measure(settings: &Settings) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir()?;
    let servers = serve(settings, folder.path())?;
    let url = servers[0].url();
    let writer = connect(&url, settings.replicas).await?;
    let pattern = Pattern::make().await?;
    let (writing, _) = store(&writer).await?;
    let runs: Vec<RunId> = (0..settings.size).map(|_| RunId(Uuid::now_v7())).collect();
    let written = futures::stream::iter(runs.clone()).map(|run| pattern.write(&writing, run));
    written.buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await?;

    let began = Instant::now();
    let connection = NatsConnection::open(&NatsOptions::new(&url)).await?;
    let (reading, _) = store(&connection).await?;
    let folded = tokio::time::timeout(PATIENCE, fold(&reading, &runs)).await;
    folded.context("the runs are not in hand in time")??;
    let wall_s = began.elapsed().as_secs_f64();
    let events: usize = pattern.entries.iter().map(|entry| entry.events.len()).sum();
    Ok(json!({
        "workload": "recovery", "mode": "nats", "wall_s": wall_s, "ok": true,
        "runs": settings.size, "entries": pattern.entries.len(), "events": events,
        "runs_per_s": settings.size as f64 / wall_s, "rss_kb": memory_kb("VmHWM:")?,
        "settings": {
            "threads": settings.threads, "replicas": settings.replicas, "sync_always": settings.sync_always,
        },
    }))
}

/// Has a tracker carry the runs on, and returns once each of them waits again.
async fn fold(store: &Store, runs: &[RunId]) -> anyhow::Result<()> {
    let tracker = foreplan_tracker::spawn(Deps {
        bus: Arc::new(MemoryBus::new()),
        journal: Arc::clone(&store.journal) as _,
        payloads: Arc::clone(&store.payloads),
        inventories: Arc::new(|_| Arc::default()),
        children: None,
        clock: system_clock(),
        active_runs_max: runs.len(),
    });
    let tracker = tracker.await?;
    let watches: Vec<_> = runs.iter().map(|run| tracker.standing(*run)).collect();
    for run in runs {
        tracker.carry_on(*run, None);
    }
    for mut watch in watches {
        loop {
            match watch.now() {
                Standing::Idle(_) => break,
                Standing::Stuck { why, .. } => bail!("a run is stuck: {why}"),
                Standing::Active => drop(watch.changed().await),
            }
        }
    }
    tracker.stop().await;
    Ok(())
}

/// What every run has written.
struct Pattern {
    new: NewRun,
    entries: Vec<Arc<Entry>>,
    progress: Progress,
}

impl Pattern {
    /// Takes it from a run in one process.
    async fn make() -> anyhow::Result<Self> {
        let tool = Tool::function("look", "Looks", Effect::Read, |_: Value| async {
            Ok::<_, Failure>(json!({"seen": true}))
        });
        let mut steps: Vec<Value> = (0..STEPS)
            .map(|at| json!({"id": format!("s{at}"), "title": "Look at it", "tool": "look"}))
            .collect();
        let needs: Vec<String> = (0..STEPS).map(|at| format!("s{at}")).collect();
        steps.push(json!({"id": "ask", "title": "Ask", "needs": needs, "human": {"question": "And now?"}}));
        let plan = serde_json::from_value(json!({"format": 1, "steps": steps}))?;
        let system = System::builder().project("bench").tools([tool]).planner(PlannerSpec::Runbook { plan });
        let system = system.build().await?;
        let outcome = system.run("Measure").await?;
        if outcome.waiting_for.as_ref().map(|wait| wait.kind) != Some(WaitKind::Question) {
            bail!("the run does not wait for an answer: {:?}", outcome.reason);
        }
        let journal = &system.store().journal;
        let record = journal.find(outcome.run).await?.context("the run has no record")?;
        let entries = journal.read(outcome.run, 0).await?;
        system.shutdown().await;
        Ok(Self { new: record.run, entries, progress: record.progress })
    }

    async fn write(&self, store: &Store, run: RunId) -> anyhow::Result<()> {
        let (first, rest) = self.entries.split_first().context("the pattern has no entry")?;
        let new = NewRun { run, ..self.new.clone() };
        store.journal.create(new, Arc::clone(first), self.progress).await?;
        for entry in rest {
            store.journal.append(run, Arc::clone(entry), self.progress).await?;
        }
        Ok(())
    }
}
