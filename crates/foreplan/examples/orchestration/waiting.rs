//! Runs that wait for a person: what many of them cost, and how long a process takes to start with
//! all of them in its store.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use foreplan::{Builder, System};
use foreplan_core::{
    failure::Failure,
    goal::PlannerSpec,
    tool::Effect,
    view::{Status, WaitKind},
};
use foreplan_journal::RunFilter;
use foreplan_tools::Tool;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use crate::{Mode, memory_kb, store};

/// Runs that are begun at once.
const AT_ONCE: usize = 256;

/// How long the last actors may take to leave.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures `runs` runs that wait for the approval of their plan; with `start`, the start of a second
/// system on their store.
pub(crate) async fn measure(mode: Mode, runs: usize, dir: &Path, start: bool) -> anyhow::Result<Value> {
    if start && mode == Mode::Memory {
        bail!("`--workload start` needs a store that outlives its system: `--mode sqlite-full`");
    }
    let system = builder()?.store(store(mode, dir)?).build().await?;
    let before_kb = memory_kb("VmRSS:")?;
    let began = Instant::now();
    let waiting = begin(&system, runs).await?;
    let mut wall_s = began.elapsed().as_secs_f64();
    let mut rss_kb = memory_kb("VmRSS:")?;
    let mut actors = at_rest(&system).await?;
    let mut taken_s = None;
    let mut ok = waiting == runs && actors == 0;
    if start {
        system.shutdown().await;
        drop(system);
        let began = Instant::now();
        let again = builder()?.store(store(mode, dir)?).build().await?;
        let taken = again.resume_all().await?;
        taken_s = Some(began.elapsed().as_secs_f64());
        actors = at_rest(&again).await?;
        wall_s = began.elapsed().as_secs_f64();
        rss_kb = memory_kb("VmRSS:")?;
        ok = ok && taken.len() == runs && actors == 0 && still_wait(&again, runs).await?;
        again.shutdown().await;
    } else {
        ok = ok && still_wait(&system, runs).await?;
        system.shutdown().await;
    }
    Ok(json!({
        "workload": if start { "start" } else { "waiting" }, "mode": mode.name(),
        "wall_s": wall_s, "taken_s": taken_s, "runs": runs, "rss_kb": rss_kb, "ok": ok, "actors": actors,
        "rss_kb_before": before_kb, "rss_kb_most": memory_kb("VmHWM:")?,
        "settings": { "size": runs, "at_once": AT_ONCE },
    }))
}

fn builder() -> anyhow::Result<Builder> {
    let tool = |name: &str, effect| {
        Tool::function(name, "Does nothing", effect, |_: Value| async { Ok::<_, Failure>(json!({})) })
    };
    let plan = json!({"format": 1, "steps": [
        {"id": "look", "title": "Look at it", "tool": "look"},
        {"id": "send", "title": "Send it", "tool": "send", "needs": ["look"]},
        {"id": "note", "title": "Note it", "tool": "look", "needs": ["send"]},
    ]});
    let plan = serde_json::from_value(plan)?;
    Ok(System::builder()
        .project("bench")
        .tools([tool("look", Effect::Read), tool("send", Effect::Irreversible)])
        .planner(PlannerSpec::Runbook { plan }))
}

/// Begins runs, and returns how many came to wait for their approval.
async fn begin(system: &System, runs: usize) -> anyhow::Result<usize> {
    let waits = futures::stream::iter(0..runs).map(|_| async {
        let outcome = system.run("Measure").await?;
        let kind = outcome.waiting_for.as_ref().map(|wait| wait.kind);
        Ok::<_, foreplan::Error>(usize::from(kind == Some(WaitKind::PlanApproval)))
    });
    Ok(waits.buffer_unordered(AT_ONCE).try_fold(0, |sum, one| async move { Ok(sum + one) }).await?)
}

/// Waits until no run is in memory, and returns how many still are when patience ends.
async fn at_rest(system: &System) -> anyhow::Result<usize> {
    let until = Instant::now() + PATIENCE;
    while system.runs_in_memory() > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(system.runs_in_memory())
}

/// Returns whether every run waits, and one of them still folds and verifies.
async fn still_wait(system: &System, runs: usize) -> anyhow::Result<bool> {
    let records = system.runs(RunFilter { open: true, limit: None }).await?;
    let waiting = records.iter().filter(|record| record.progress.status == Status::Waiting).count();
    let one = records.last().context("no run is left")?.run.run;
    let is_sound = system.store().journal.verify(one).await?.fault.is_none();
    Ok(waiting == runs && is_sound && system.view(one).await?.status == Status::Waiting)
}
