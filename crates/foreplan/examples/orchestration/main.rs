//! Measures whole processes: one workload through the public builder, one line of JSON.
//!
//! ```text
//! cargo run --release --example orchestration -- --workload chain --mode memory
//! ```
//!
//! * `--workload`: `chain` (steps one after the other), `fan` (one, many, one), `many` (concurrent
//!   runs of twelve steps), `latency` (twelve steps that take 50 ms, in groups of three);
//! * `--mode`: `memory`, `sqlite-normal`, `sqlite-full`;
//! * `--size N`: steps of the chain, width of the fan, or number of runs;
//! * `--rounds N`, `--threads N` (1: everything on one thread), `--dir PATH` for the store;
//! * `--traces file`: each run's trace is exported meanwhile, to files beside the store.
//!
//! A warm-up round is not counted. `wall_s` is the median round, and `steps` are those of one round.
//! `ok` holds only if every step ran exactly once with the right data, and every journal verifies.
//! The floors are measured in the same process: what a bare ractor loop and bare SQLite commits cost
//! on this machine at this moment.

mod floor;
mod workload;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Instant};

use anyhow::{Context as _, bail};
use foreplan::Traces;
use foreplan_journal::{Options, Store, SyncMode};
use foreplan_telemetry::FileSink;
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::workload::{Kind, Workload};

/// The allocator of the `foreplan` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What was asked for on the command line.
struct Settings {
    kind: Kind,
    mode: Mode,
    size: usize,
    rounds: usize,
    threads: usize,
    dir: Option<PathBuf>,
    /// Whether traces are exported meanwhile.
    traces: bool,
}

/// Where the journal is.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Memory,
    SqliteNormal,
    SqliteFull,
}

impl Mode {
    const ALL: [(&str, Self); 3] =
        [("memory", Self::Memory), ("sqlite-normal", Self::SqliteNormal), ("sqlite-full", Self::SqliteFull)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }

    fn sync(self) -> Option<SyncMode> {
        match self {
            Self::Memory => None,
            Self::SqliteNormal => Some(SyncMode::Normal),
            Self::SqliteFull => Some(SyncMode::Full),
        }
    }
}

impl Settings {
    fn parse(mut args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut kind, mut mode, mut size, mut rounds, mut dir) = (None, Mode::Memory, None, 11, None);
        let (mut threads, mut traces) = (threads, false);
        while let Some(name) = args.next() {
            let value = args.next().with_context(|| format!("`{name}` needs a value"))?;
            let number = || value.parse::<usize>().ok().filter(|n| *n > 0);
            let number = || number().with_context(|| format!("`{name} {value}` is no number above 0"));
            match name.as_str() {
                "--workload" => kind = Some(Kind::parse(&value)?),
                "--mode" => {
                    let known = Mode::ALL.iter().find(|(name, _)| *name == value);
                    mode = known.with_context(|| format!("`{value}` is no mode"))?.1;
                }
                "--size" => size = Some(number()?),
                "--rounds" => rounds = number()?,
                "--threads" => threads = number()?,
                "--dir" => dir = Some(PathBuf::from(&value)),
                "--traces" if value == "file" => traces = true,
                _ => bail!(
                    "`{name}` is no option; there are --workload --mode --size --rounds --threads --dir --traces"
                ),
            }
        }
        let kind = kind.context("say which `--workload`: chain, fan, many or latency")?;
        Ok(Self { kind, mode, size: size.unwrap_or(kind.size()), rounds, threads, dir, traces })
    }
}

fn main() -> ExitCode {
    let measured = Settings::parse(std::env::args().skip(1)).and_then(|settings| {
        let mut runtime = match settings.threads {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        if settings.threads > 1 {
            runtime.worker_threads(settings.threads);
        }
        // A worker of the runtime drives the main future too, not the thread that waits for it.
        runtime.enable_all().build()?.block_on(async { tokio::spawn(measure(settings)).await? })
    });
    match measured {
        Ok(line) => {
            println!("{line}");
            if line["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("orchestration: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn measure(settings: Settings) -> anyhow::Result<Value> {
    let folder = match &settings.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let store = match settings.mode.sync() {
        None => Store::memory(),
        Some(sync) => Store::open(folder.path(), Options { sync, ..Options::default() })?,
    };
    let workload = Workload::new(settings.kind, settings.size);
    let mut traces = Traces::default();
    if settings.traces {
        traces.sinks.push(Arc::new(FileSink::new(folder.path().join("traces"))));
    }
    let system = workload.builder().store(store.clone()).traces(traces).build().await?;

    let mut outcomes = Vec::new();
    let mut walls = Vec::new();
    for round in 0..=settings.rounds {
        let began = Instant::now();
        let runs = (0..workload.runs).map(|_| {
            let system = system.clone();
            async move {
                tokio::spawn(async move { system.run("Measure").await }).await?.map_err(anyhow::Error::from)
            }
        });
        let ended = try_join_all(runs).await?;
        if round > 0 {
            walls.push(began.elapsed().as_secs_f64());
        }
        outcomes.extend(ended);
    }
    let rss_kb = peak_rss_kb()?;
    walls.sort_by(f64::total_cmp);
    let wall_s = walls[walls.len() / 2];

    let mut wrong = workload.wrong(&outcomes, settings.rounds + 1);
    for outcome in &outcomes {
        if let Some(fault) = store.journal.verify(outcome.run).await?.fault {
            wrong = Some(format!("entry {} of {} does not verify: {}", fault.seq, outcome.run, fault.reason));
        }
    }
    system.shutdown().await;
    let floors = floor::measure(folder.path()).await?;

    Ok(json!({
        "workload": settings.kind.name(), "mode": settings.mode.name(),
        "wall_s": wall_s, "steps": workload.steps(), "rss_kb": rss_kb, "ok": wrong.is_none(),
        "wrong": wrong,
        "step_us": wall_s * 1e6 / workload.steps() as f64,
        "steps_per_s": workload.steps() as f64 / wall_s,
        "over_critical_path": workload.critical_path().map(|path| wall_s / path.as_secs_f64() - 1.0),
        "best_s": walls[0], "worst_s": walls[walls.len() - 1],
        "settings": {
            "size": settings.size, "runs": workload.runs, "rounds": settings.rounds,
            "threads": settings.threads, "concurrency": workload.concurrency,
            "traces": settings.traces,
        },
        "floors": floors,
    }))
}

/// Returns the most memory that the process has had so far.
fn peak_rss_kb() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
