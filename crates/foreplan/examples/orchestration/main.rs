//! Measures whole processes: one workload through the public builder, one line of JSON.
//!
//! ```text
//! cargo run --release --example orchestration -- --workload chain --mode memory
//! ```
//!
//! * `--workload`: `chain` (steps one after the other), `fan` (one, many, one), `many` (concurrent
//!   runs of twelve steps), `latency` (twelve steps that take 50 ms, in groups of three); of the last two `--layers N`
//!   says how many groups of three steps a run has, 4 if nothing is said;
//! * `waiting` (runs that wait for a person: what they cost) and `start` (a process that starts with
//!   as many in its store);
//! * `recovery` (runs that wait, of 50 events each, over a server: how long a new tracker takes to have them
//!   in hand);
//! * `--mode`: `memory`, `sqlite-normal`, `sqlite-full`, `nats`: a real server, with the floor of the bare server
//!   beside it; `--replicas 3`, `--sync always`, `--slots N` workers of an executor, `--executors N` of them in
//!   processes of their own, with as many threads, compared with one;
//! * `--size N`: steps of the chain, width of the fan, or number of runs;
//! * `--rounds N`, `--threads N` (1: everything on one thread), `--dir PATH` for the store;
//! * `--traces file`: each run's trace is exported meanwhile, to files beside the store;
//! * `--workload models`: one task by a plan and by a step-by-step agent, over a model server that takes
//!   20 ms for an answer; `--mode` is `plan`, `react` or `react-parallel`, without it all of them side by
//!   side, a line each; `--tool-ms N` says how long each tool takes.
//!
//! A warm-up round is not counted. `wall_s` is the median round, `cpu_s` the processor time of one round
//! with all threads (over a server also `servers_cpu_s`, what the servers used), and `steps` are those of one
//! round. `spans` were exported by the end of the last.
//! `ok` holds only if every step ran exactly once with the right data, and every journal verifies.
//! The floors are measured in the same process: what a bare ractor loop and bare SQLite commits cost
//! on this machine at this moment.

mod floor;
mod models;
mod nats;
mod waiting;
mod workload;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use foreplan::Traces;
use foreplan_journal::{Store, SyncMode};
use foreplan_telemetry::FileSink;
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::{
    models::Way,
    workload::{Kind, LAYERS, LAYERS_MAX, Workload},
};

/// The allocator of the `foreplan` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What was asked for on the command line.
enum Job {
    Agents(Settings),
    Models { ways: Vec<Way>, tool: Duration, rounds: usize },
    Waiting { mode: Mode, runs: usize, dir: Option<PathBuf>, start: bool },
    Recovery(Settings),
}

/// Runs that wait, of which the figures to reach are stated.
const WAITING_RUNS: usize = 10_000;

/// A workload without models.
struct Settings {
    kind: Kind,
    mode: Mode,
    size: usize,
    /// Groups of three steps in a run.
    layers: usize,
    rounds: usize,
    threads: usize,
    dir: Option<PathBuf>,
    /// Whether traces are exported meanwhile.
    traces: bool,
    /// Copies that servers keep.
    replicas: usize,
    /// Whether a server acknowledges only what is on its disk.
    sync_always: bool,
    /// Processes of executors; none: they are in this one.
    executors: usize,
    /// Workers of each executor over a server.
    slots: usize,
    /// The server for which this process is one of them.
    execute: Option<String>,
}

/// Where the journal is.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Memory,
    SqliteNormal,
    SqliteFull,
    Nats,
}

impl Mode {
    const ALL: [(&str, Self); 4] = [
        ("memory", Self::Memory),
        ("sqlite-normal", Self::SqliteNormal),
        ("sqlite-full", Self::SqliteFull),
        ("nats", Self::Nats),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }

    fn sync(self) -> Option<SyncMode> {
        match self {
            Self::Memory | Self::Nats => None,
            Self::SqliteNormal => Some(SyncMode::Normal),
            Self::SqliteFull => Some(SyncMode::Full),
        }
    }
}

/// Options and their values, each of which is asked for by name.
struct Options(Vec<(String, String)>);

impl Options {
    const NAMES: [&str; 14] = [
        "--workload",
        "--mode",
        "--size",
        "--layers",
        "--rounds",
        "--threads",
        "--dir",
        "--traces",
        "--tool-ms",
        "--replicas",
        "--sync",
        "--executors",
        "--slots",
        "--execute",
    ];

    fn parse(mut args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut given = Vec::new();
        while let Some(name) = args.next() {
            if !Self::NAMES.contains(&name.as_str()) {
                bail!("`{name}` is no option; there are {}", Self::NAMES.join(" "));
            }
            let value = args.next().with_context(|| format!("`{name}` needs a value"))?;
            given.push((name, value));
        }
        Ok(Self(given))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().rfind(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> anyhow::Result<Option<usize>> {
        let number = |text: &str| text.parse().with_context(|| format!("`{name} {text}` is no number"));
        self.text(name).map(number).transpose()
    }

    /// Returns what one of these names stands for.
    fn known<T: Copy>(&self, name: &str, known: &[(&str, T)]) -> anyhow::Result<Option<T>> {
        let find = |text: &str| {
            let found = known.iter().find(|(name, _)| *name == text);
            let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            found.map(|(_, value)| *value).with_context(|| format!("`{name} {text}`: there are {}", names()))
        };
        self.text(name).map(find).transpose()
    }
}

impl Job {
    fn parse(args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let options = Options::parse(args)?;
        let rounds = options.number("--rounds")?.unwrap_or(11).max(1);
        if options.text("--workload") == Some("models") {
            let way = options.known("--mode", &Way::ALL)?;
            let ways = way.map_or_else(|| Way::ALL.map(|(_, way)| way).to_vec(), |way| vec![way]);
            let tool = Duration::from_millis(options.number("--tool-ms")?.unwrap_or(0) as u64);
            return Ok(Self::Models { ways, tool, rounds });
        }
        let dir = options.text("--dir").map(PathBuf::from);
        let mode = options.known("--mode", &Mode::ALL)?;
        if let Some(name @ ("waiting" | "start")) = options.text("--workload") {
            let runs = options.number("--size")?.unwrap_or(WAITING_RUNS).max(1);
            let mode = mode.unwrap_or(Mode::SqliteFull);
            if mode == Mode::Nats {
                bail!("`waiting` and `start` measure a store of one process");
            }
            return Ok(Self::Waiting { mode, runs, dir, start: name == "start" });
        }
        let kind = options.text("--workload").context(
            "say which `--workload`: chain, fan, many, latency, waiting, start, recovery or models",
        )?;
        let is_recovery = kind == "recovery";
        if is_recovery && mode.is_some_and(|mode| mode != Mode::Nats) {
            bail!("`recovery` measures the journal of a server: `--mode nats`");
        }
        let kind = if is_recovery { Kind::Many } else { Kind::parse(kind)? };
        let size = options.number("--size")?;
        let settings = Settings {
            kind,
            mode: mode.unwrap_or(Mode::Memory),
            size: size.unwrap_or(if is_recovery { WAITING_RUNS } else { kind.size() }).max(1),
            layers: options.number("--layers")?.unwrap_or(LAYERS).clamp(1, LAYERS_MAX),
            rounds,
            threads: options.number("--threads")?.unwrap_or_else(cores).max(1),
            dir,
            traces: options.known("--traces", &[("file", true)])?.unwrap_or(false),
            replicas: options.number("--replicas")?.unwrap_or(1).max(1),
            sync_always: options.known("--sync", &[("always", true)])?.unwrap_or(false),
            executors: options.number("--executors")?.unwrap_or(0),
            slots: options.number("--slots")?.unwrap_or(64).max(1),
            execute: options.text("--execute").map(str::to_owned),
        };
        Ok(if is_recovery { Self::Recovery(settings) } else { Self::Agents(settings) })
    }

    fn threads(&self) -> usize {
        match self {
            Self::Agents(settings) | Self::Recovery(settings) => settings.threads,
            Self::Models { .. } | Self::Waiting { .. } => cores(),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() -> ExitCode {
    let measured = Job::parse(std::env::args().skip(1)).and_then(|job| {
        let threads = job.threads();
        let mut runtime = match threads {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        if threads > 1 {
            runtime.worker_threads(threads);
        }
        // A worker of the runtime drives the main future too, not the thread that waits for it.
        runtime.enable_all().build()?.block_on(async { tokio::spawn(measure(job)).await? })
    });
    match measured {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            let ok = lines.iter().all(|line| line["ok"] == true);
            if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("orchestration: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn measure(job: Job) -> anyhow::Result<Vec<Value>> {
    match job {
        Job::Agents(settings) => Ok(vec![measure_agents(settings).await?]),
        Job::Recovery(settings) => Ok(vec![nats::recovery::measure(&settings).await?]),
        Job::Models { ways, tool, rounds } => {
            let mut lines = Vec::new();
            for way in ways {
                lines.push(models::measure(way, tool, rounds).await?);
            }
            Ok(lines)
        }
        Job::Waiting { mode, runs, dir, start } => {
            let folder = folder(dir.as_deref())?;
            Ok(vec![waiting::measure(mode, runs, folder.path(), start).await?])
        }
    }
}

fn folder(dir: Option<&Path>) -> anyhow::Result<tempfile::TempDir> {
    Ok(match dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    })
}

fn store(mode: Mode, folder: &Path) -> anyhow::Result<Store> {
    Ok(match mode.sync() {
        None => Store::memory(),
        Some(sync) => Store::open(folder, foreplan_journal::Options { sync, ..Default::default() })?,
    })
}

async fn measure_agents(settings: Settings) -> anyhow::Result<Value> {
    if let Some(url) = &settings.execute {
        return nats::execute(&settings, url).await;
    }
    if settings.mode == Mode::Nats {
        return nats::measure(&settings).await;
    }
    let folder = folder(settings.dir.as_deref())?;
    let store = store(settings.mode, folder.path())?;
    let workload = Workload::new(settings.kind, settings.size, settings.layers);
    let mut traces = Traces::default();
    if settings.traces {
        traces.sinks.push(Arc::new(FileSink::new(folder.path().join("traces"))));
    }
    let system = workload.builder().store(store.clone()).traces(traces).build().await?;

    let mut runs = Vec::new();
    let mut wrong = None;
    let mut walls = Vec::new();
    let mut cpu_before_s = 0.0;
    for round in 0..=settings.rounds {
        if round == 1 {
            cpu_before_s = cpu_s(std::process::id())?;
        }
        let began = Instant::now();
        let running = (0..workload.runs).map(|_| {
            let system = system.clone();
            async move {
                tokio::spawn(async move { system.run("Measure").await }).await?.map_err(anyhow::Error::from)
            }
        });
        let ended = try_join_all(running).await?;
        if round > 0 {
            walls.push(began.elapsed().as_secs_f64());
        }
        wrong = wrong.or_else(|| workload.wrong(&ended, None));
        runs.extend(ended.iter().map(|outcome| outcome.run));
    }
    let cpu_s = (cpu_s(std::process::id())? - cpu_before_s) / settings.rounds as f64;
    let spans: u64 = system.trace_stats().iter().map(|sink| sink.spans).sum();
    let rss_kb = memory_kb("VmHWM:")?;
    walls.sort_by(f64::total_cmp);
    let wall_s = walls[walls.len() / 2];

    wrong = wrong.or_else(|| workload.wrong(&[], Some(settings.rounds + 1)));
    for run in runs {
        if let Some(fault) = store.journal.verify(run).await?.fault {
            wrong = Some(format!("entry {} of {run} does not verify: {}", fault.seq, fault.reason));
        }
    }
    system.shutdown().await;
    let floors = floor::measure(folder.path()).await?;
    let critical_path_s = workload.critical_path().await.map(|path| path.as_secs_f64());

    Ok(json!({
        "workload": settings.kind.name(), "mode": settings.mode.name(),
        "wall_s": wall_s, "steps": workload.steps(), "rss_kb": rss_kb, "ok": wrong.is_none(),
        "wrong": wrong,
        "step_us": wall_s * 1e6 / workload.steps() as f64,
        "steps_per_s": workload.steps() as f64 / wall_s,
        "critical_path_s": critical_path_s,
        "over_critical_path": critical_path_s.map(|path| wall_s / path - 1.0),
        "best_s": walls[0], "worst_s": walls[walls.len() - 1], "cpu_s": cpu_s, "spans": spans,
        "settings": {
            "size": settings.size, "layers": settings.layers, "runs": workload.runs,
                "rounds": settings.rounds,
            "threads": settings.threads, "concurrency": workload.concurrency,
            "traces": settings.traces,
        },
        "floors": floors,
    }))
}

/// Ticks of a second in which the system counts a process's time.
const TICKS: f64 = 100.0;

/// Returns the processor time that a process has used.
fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no such figure")?;
    let ticks = |at: usize| {
        fields.split(' ').nth(at).context("no such figure")?.parse::<f64>().map_err(anyhow::Error::from)
    };
    // User and system time: fields 14 and 15 of proc_pid_stat(5), which counts from 1.
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

/// Returns the memory that the process has (`VmRSS:`), or the most that it has had so far (`VmHWM:`).
fn memory_kb(which: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(which)).context("no such figure")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
