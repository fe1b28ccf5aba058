//! Measures what an append costs, beside the bare commit that it cannot be cheaper than. Prints one
//! JSON line for each measurement. `cpu_us` tells on a busy machine what the wall clock cannot.
//!
//! `cargo run --release -p foreplan-journal --example append_floor [DIR]`

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use foreplan_core::{
    event::{Entry, Event, VERSION},
    id::RunId,
    input::{AttemptOutcome, AttemptReply, Input, Readiness, Verdicts},
    payload::Output,
    time::Timestamp,
    view::Status,
};
use foreplan_journal::{
    Journal, MemoryJournal, NewRun, Options, Progress, RunStore, SqliteJournal, SyncMode,
};
use uuid::Uuid;

const ALONE: u64 = 2_000;
const RUNS: u64 = 1_000;
const STEPS: u64 = 40;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    bare_commits(&base)?;
    let memory = Arc::new(MemoryJournal::default());
    alone("memory", memory.clone(), 200_000).await?;
    together("memory", memory).await?;
    for (name, sync) in [("sqlite-normal", SyncMode::Normal), ("sqlite-full", SyncMode::Full)] {
        let dir = tempfile::tempdir_in(&base)?;
        let journal = Arc::new(SqliteJournal::open(dir.path(), Options { sync, ..Options::default() })?);
        alone(name, journal.clone(), ALONE).await?;
        together(name, journal).await?;
    }
    Ok(())
}

fn bare_commits(base: &Path) -> Result<(), Failure> {
    let dir = tempfile::tempdir_in(base)?;
    let conn = rusqlite::Connection::open(dir.path().join("floor.db"))?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.execute_batch("create table t(id integer primary key, bytes blob) strict")?;
    let bytes = vec![7_u8; 600];
    let mut insert = conn.prepare("insert into t(bytes) values (?1)")?;
    let start = Start::now();
    for _ in 0..ALONE {
        insert.execute([&bytes])?;
    }
    report("bare-commit", "sqlite-full", ALONE, &start);
    Ok(())
}

async fn alone(mode: &str, journal: Arc<impl RunStore>, count: u64) -> Result<(), Failure> {
    let run = create(journal.as_ref()).await?;
    for seq in 1..=100 {
        journal.append(run, result(seq), progress()).await?;
    }
    let entries: Vec<_> = (101..=100 + count).map(result).collect();
    let start = Start::now();
    for entry in entries {
        journal.append(run, entry, progress()).await?;
    }
    report("alone", mode, count, &start);
    assert_eq!(journal.verify(run).await?.fault, None);
    Ok(())
}

async fn together(mode: &str, journal: Arc<impl RunStore>) -> Result<(), Failure> {
    let start = Start::now();
    let writers: Vec<_> = (0..RUNS)
        .map(|_| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let run = create(journal.as_ref()).await?;
                for seq in 1..=STEPS {
                    journal.append(run, result(seq), progress()).await?;
                }
                Ok::<_, Failure>(run)
            })
        })
        .collect();
    let mut runs = Vec::new();
    for writer in writers {
        runs.push(writer.await??);
    }
    report("1000-runs", mode, RUNS * (STEPS + 1), &start);
    for run in runs {
        assert_eq!(journal.verify(run).await?.fault, None);
    }
    Ok(())
}

async fn create(journal: &impl Journal) -> Result<RunId, Failure> {
    let run = RunId(Uuid::now_v7());
    let new = NewRun {
        run,
        project: "floor".to_owned(),
        goal: "measure".to_owned(),
        key: None,
        group: None,
        created_at: Timestamp(0),
    };
    journal.create(new, result(0), progress()).await?;
    Ok(run)
}

/// An entry like those of a chain of steps: one result, which unlocks and starts the next step.
fn result(seq: u64) -> Arc<Entry> {
    let step = |n: u64| format!("step_{n}").parse().unwrap_or_else(|_| unreachable!("a step id"));
    Arc::new(Entry {
        v: VERSION,
        seq,
        at: Timestamp(seq as i64),
        cause: Input::Result(AttemptReply {
            step: step(seq),
            attempt: 1,
            outcome: AttemptOutcome::Output(Output::inline(
                serde_json::json!({"value": seq, "text": "some text"}),
            )),
            worker: "worker".to_owned(),
            claim: None,
            input: None,
            started_at: Timestamp(1),
            ended_at: Timestamp(2),
            usage: Default::default(),
            calls: Vec::new(),
            verdicts: Verdicts { ready: vec![(step(seq + 1), Readiness::Go)], ..Verdicts::default() },
        }),
        events: vec![
            Event::AttemptSucceeded { step: step(seq), attempt: 1 },
            Event::StepReady { step: step(seq + 1) },
            Event::AttemptStarted { step: step(seq + 1), attempt: 1, verify: false },
        ],
    })
}

fn progress() -> Progress {
    Progress {
        status: Status::Running,
        waiting: None,
        since: Timestamp(0),
        next_wake: None,
        ended_at: None,
        steps_done: 0,
        steps: 40,
        replans: 0,
    }
}

/// When a measurement began, by the clock and by the processor time that was used until then.
struct Start {
    at: Instant,
    cpu: Option<Duration>,
}

impl Start {
    fn now() -> Self {
        Self { at: Instant::now(), cpu: cpu_used() }
    }
}

/// Returns the processor time of all threads: fields 14 and 15 of `/proc/self/stat`, in 1/100 s.
fn cpu_used() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

fn report(what: &str, mode: &str, count: u64, start: &Start) {
    let took = start.at.elapsed();
    let each = |span: Duration| (span.as_secs_f64() * 1e8 / count as f64).round() / 100.0;
    let cpu = cpu_used().zip(start.cpu).map(|(now, then)| each(now.saturating_sub(then)));
    println!(
        "{}",
        serde_json::json!({
            "what": what, "mode": mode, "count": count,
            "each_us": each(took), "cpu_us": cpu,
            "per_s": (count as f64 / took.as_secs_f64()).round(),
        })
    );
}
