//! The workloads over a real server: all roles in this process, or executors in processes of their own.

mod floor;
pub(crate) mod recovery;
mod starts;

use std::{
    collections::HashSet,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use foreplan::{
    Outcome, System, Traces,
    serve::{NatsConnection, NatsOptions, Remote, Role, Service, ServiceOptions, Setup, store},
};
use foreplan_core::{id::RunId, tool::InventorySource as _};
use foreplan_journal::Store;
use foreplan_model::{Client as Models, Configs};
use foreplan_testkit::nats::{self, NatsServer};
use foreplan_tools::Toolbox;
use futures::{StreamExt as _, future::try_join_all};
use serde_json::{Value, json};
use uuid::Uuid;

use self::starts::Starts;
use crate::{
    Settings, cpu_s,
    workload::{Kind, Workload},
};

/// Longest time that a round may take.
const ROUND_MAX: Duration = Duration::from_secs(300);

/// Where a deployment notes which runs are open, and what it says of one that no longer is. The entries themselves
/// would be one more message for each step.
const NOTES: &str = "$KV.fp_OPEN.>";
const ENDED: (&str, &str) = ("KV-Operation", "PURGE");

/// A deployment that is measured.
struct Site {
    url: String,
    connection: NatsConnection,
    store: Store,
    system: System,
    service: Service,
    executors: Vec<Executor>,
    servers: Vec<NatsServer>,
}

/// An executor in a process of its own, killed when dropped.
struct Executor(Child);

impl Drop for Executor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a round went.
struct Round {
    wall_s: f64,
    cpu_s: f64,
    servers_cpu_s: f64,
    runs: Vec<RunId>,
}

pub(crate) async fn measure(settings: &Settings) -> anyhow::Result<Value> {
    let workload =
        Workload::new(settings.kind, settings.size, settings.layers).with_concurrency(settings.slots);
    let folder = tempfile::tempdir()?;
    let mut line = json!({});
    let few = if settings.executors > 1 { Some(1) } else { None };
    for executors in few.into_iter().chain([settings.executors]) {
        let site = Site::start(settings, &workload, folder.path(), executors).await?;
        let mut measured = site.rounds(settings, &workload).await?;
        if let Some(one) = line["steps_per_s"].as_f64() {
            measured["one_executor_steps_per_s"] = json!(one);
            measured["times_one_executor"] =
                json!(measured["steps_per_s"].as_f64().unwrap_or_default() / one);
        }
        line = measured;
        site.stop().await;
    }
    Ok(line)
}

/// Serves as an executor until killed.
pub(crate) async fn execute(settings: &Settings, url: &str) -> anyhow::Result<Value> {
    let workload =
        Workload::new(settings.kind, settings.size, settings.layers).with_concurrency(settings.slots);
    let connection = NatsConnection::open(&NatsOptions::new(url)).await?;
    let _service = Service::start(connection, options(vec![Role::Executor], &workload)?).await?;
    println!("ready");
    std::future::pending().await
}

fn options(roles: Vec<Role>, workload: &Workload) -> anyhow::Result<ServiceOptions> {
    let (tools, pools) = workload.means();
    let toolbox = Some(Arc::new(Toolbox::new(tools, pools)?));
    let models = Arc::new(Models::new(Configs::default(), Arc::new(|_: &str| None)));
    let traces = Traces::default();
    Ok(ServiceOptions { roles, project: "bench".to_owned(), toolbox, log: None, models, traces })
}

impl Site {
    async fn start(
        settings: &Settings,
        workload: &Workload,
        folder: &Path,
        executors: usize,
    ) -> anyhow::Result<Self> {
        let servers = serve(settings, folder)?;
        let url = servers[0].url();
        let connection = connect(&url, settings.replicas).await?;
        let mut roles = vec![Role::Tracker, Role::Planner, Role::Replanner];
        if executors == 0 {
            roles.push(Role::Executor);
        }
        let service = Service::start(connection.clone(), options(roles, workload)?).await?;
        let executors = (0..executors).map(|_| spawn(settings, &url)).collect::<anyhow::Result<_>>()?;
        let client = NatsConnection::open(&NatsOptions::new(&url)).await?;
        let (store, registry) = store(&client).await?;
        let inventory = registry.inventory_of("bench");
        let system = System::builder()
            .toolbox(Arc::new(Toolbox::new([], [])?))
            .store(store.clone())
            .inventory(inventory)
            .deployment(Arc::new(Remote::new(client, registry)))
            .build()
            .await?;
        Ok(Self { url, connection, store, system, service, executors, servers })
    }

    async fn rounds(&self, settings: &Settings, workload: &Workload) -> anyhow::Result<Value> {
        let (mut walls, mut outcomes, mut wrong) = (Vec::new(), Vec::new(), None);
        let (mut cpu_s, mut servers_cpu_s) = (0.0, 0.0);
        for round in 0..=settings.rounds {
            workload.forget_times();
            let done = self.round(workload, Duration::ZERO).await?;
            if round > 0 {
                walls.push(done.wall_s);
                cpu_s += done.cpu_s / settings.rounds as f64;
                servers_cpu_s += done.servers_cpu_s / settings.rounds as f64;
            }
            for run in done.runs {
                if let Some(fault) = self.store.journal.verify(run).await?.fault {
                    wrong = Some(format!("entry {} of {run} does not verify: {}", fault.seq, fault.reason));
                }
                outcomes.push(Outcome::from(self.system.view(run).await?));
            }
        }
        // Calls in other processes are counted there.
        let counted = self.executors.is_empty().then_some(settings.rounds + 1);
        wrong = wrong.or(workload.wrong(&outcomes, counted));
        let between = workload.times_between_us();
        let floor = floor::measure(&self.url, settings.replicas).await?;
        let of_floor = |rate: f64, name: &str| rate / floor[name].as_f64().unwrap_or(f64::NAN);
        walls.sort_by(f64::total_cmp);
        let wall_s = walls[walls.len() / 2];
        let steps_per_s = workload.steps() as f64 / wall_s;
        let starts_us = match settings.kind {
            Kind::Many => self.starts_at_half_load_us(workload, wall_s).await?,
            Kind::Chain | Kind::Fan | Kind::Latency => None,
        };
        Ok(json!({
            "workload": settings.kind.name(), "mode": "nats",
            "wall_s": wall_s, "steps": workload.steps(), "ok": wrong.is_none(), "wrong": wrong,
            "steps_per_s": steps_per_s, "step_us": wall_s * 1e6 / workload.steps() as f64,
            "of_floor": of_floor(steps_per_s, "steps_per_s"),
            "of_floor_in_order": of_floor(steps_per_s, "in_order_steps_per_s"),
            "between_steps_us": between, "dispatch_to_start_us": starts_us,
            "best_s": walls[0], "worst_s": walls[walls.len() - 1], "cpu_s": cpu_s,
            "servers_cpu_s": servers_cpu_s,
            "settings": {
                "size": settings.size, "layers": settings.layers, "runs": workload.runs,
                "rounds": settings.rounds,
                "threads": settings.threads, "replicas": settings.replicas,
                "sync_always": settings.sync_always, "executors": self.executors.len(),
                "slots": settings.slots,
            },
            "floors": {"jetstream": floor},
        }))
    }

    /// Submits the runs one after the other, half as fast as they were done, and returns how long their
    /// steps waited for a worker: the median and the 99th percentile.
    async fn starts_at_half_load_us(
        &self,
        workload: &Workload,
        wall_s: f64,
    ) -> anyhow::Result<Option<(u64, u64)>> {
        let pause = Duration::from_secs_f64(2.0 * wall_s / workload.runs as f64);
        let mut starts = Starts::default();
        for run in self.round(workload, pause).await?.runs {
            starts.add(self.store.journal.read(run, 0).await?.iter().map(AsRef::as_ref));
        }
        Ok(starts.percentiles_us())
    }

    /// Submits the runs, each a pause after the one before, and waits until the last has ended.
    async fn round(&self, workload: &Workload, pause: Duration) -> anyhow::Result<Round> {
        let listening = async_nats::connect(&self.url).await?;
        let mut notes = listening.subscribe(NOTES).await?;
        listening.flush().await?;
        let runs: Vec<RunId> = (0..workload.runs).map(|_| RunId(Uuid::now_v7())).collect();
        let mut open: HashSet<String> = runs.iter().map(RunId::to_string).collect();
        let spec = Arc::new(workload.spec());
        let (cpu_before_s, servers_before_s) = (self.cpu_s()?, self.servers_cpu_s()?);
        let began = Instant::now();
        let submitting = try_join_all(runs.iter().zip(0_u32..).map(|(run, number)| {
            let (system, spec, run) = (self.system.clone(), Arc::clone(&spec), *run);
            async move {
                tokio::time::sleep(pause * number).await;
                system.submit(run, spec, "bench").await
            }
        }));
        let ending = async {
            while !open.is_empty() {
                let note = notes.next().await.context("the server is gone")?;
                let said = note.headers.as_ref().and_then(|headers| headers.get(ENDED.0));
                if said.is_some_and(|said| said.as_str() == ENDED.1) {
                    open.remove(note.subject.rsplit('.').next().unwrap_or_default());
                }
            }
            anyhow::Ok(())
        };
        let both = async {
            let (submitted, ended) = tokio::join!(submitting, ending);
            submitted?;
            ended
        };
        tokio::time::timeout(ROUND_MAX, both).await.context("the runs do not end")??;
        Ok(Round {
            wall_s: began.elapsed().as_secs_f64(),
            cpu_s: self.cpu_s()? - cpu_before_s,
            servers_cpu_s: self.servers_cpu_s()? - servers_before_s,
            runs,
        })
    }

    /// The processor time of the deployment's processes.
    fn cpu_s(&self) -> anyhow::Result<f64> {
        let executors = self.executors.iter().map(|executor| executor.0.id());
        executors.chain([std::process::id()]).map(cpu_s).sum()
    }

    fn servers_cpu_s(&self) -> anyhow::Result<f64> {
        self.servers.iter().map(|server| cpu_s(server.pid())).sum()
    }

    async fn stop(self) {
        drop(self.executors);
        self.system.shutdown().await;
        self.service.drain().await;
        self.connection.close().await;
    }
}

/// Starts the servers that are asked for.
fn serve(settings: &Settings, folder: &Path) -> anyhow::Result<Vec<NatsServer>> {
    let config = folder.join("server.conf");
    std::fs::write(&config, if settings.sync_always { "jetstream { sync_interval: always }" } else { "" })?;
    let config = config.to_str().context("the folder's name is no text")?;
    Ok(match settings.replicas {
        1 => vec![NatsServer::start_with(&nats::binary(None), &["-js", "-c", config])],
        size => nats::cluster(size, &["-c", config]),
    })
}

/// Connects, and sets a deployment up. Servers that are to choose a leader answer nothing until then.
async fn connect(url: &str, replicas: usize) -> anyhow::Result<NatsConnection> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let made = async {
            let connection = NatsConnection::open(&NatsOptions::new(url)).await?;
            Setup { replicas, ..Setup::default() }.run(&connection).await?;
            anyhow::Ok(connection)
        };
        match made.await {
            Err(error) if replicas == 1 || Instant::now() > end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
            Ok(connection) => return Ok(connection),
        }
    }
}

/// Starts this program as an executor, and returns once it serves.
fn spawn(settings: &Settings, url: &str) -> anyhow::Result<Executor> {
    use std::io::{BufRead as _, BufReader};
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--mode", "nats", "--workload", settings.kind.name(), "--execute", url]);
    command.args(["--size", &settings.size.to_string(), "--slots", &settings.slots.to_string()]);
    command.args(["--layers", &settings.layers.to_string(), "--threads", &settings.threads.to_string()]);
    let mut child = Executor(command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?);
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().context("it has no output")?).read_line(&mut line)?;
    if line.trim() != "ready" {
        bail!("an executor did not begin");
    }
    Ok(child)
}
