//! The workloads over a real server: all roles in this process, or executors in processes of their own.

mod floor;

use std::{
    collections::HashSet,
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

use crate::{Settings, workload::Workload};

/// Longest time that a round may take.
const ROUND_MAX: Duration = Duration::from_secs(300);

/// What an entry says that ends a run well.
const SUCCEEDED: &[u8] = b"\"run_succeeded\"";

/// A deployment that is measured.
struct Site {
    url: String,
    connection: NatsConnection,
    store: Store,
    system: System,
    service: Service,
    executors: Vec<Executor>,
    _servers: Vec<NatsServer>,
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
    runs: Vec<RunId>,
}

pub(crate) async fn measure(settings: &Settings) -> anyhow::Result<Value> {
    let workload = Workload::new(settings.kind, settings.size).with_concurrency(settings.slots);
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("server.conf");
    std::fs::write(&config, if settings.sync_always { "jetstream { sync_interval: always }" } else { "" })?;
    let mut line = json!({});
    let few = if settings.executors > 1 { Some(1) } else { None };
    for executors in few.into_iter().chain([settings.executors]) {
        let site = Site::start(settings, &workload, &config, executors).await?;
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
    let workload = Workload::new(settings.kind, settings.size).with_concurrency(settings.slots);
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
        config: &std::path::Path,
        executors: usize,
    ) -> anyhow::Result<Self> {
        let config = config.to_str().context("the folder's name is no text")?;
        let servers = match settings.replicas {
            1 => vec![NatsServer::start_with(&nats::binary(None), &["-js", "-c", config])],
            size => nats::cluster(size, &["-c", config]),
        };
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
        Ok(Self { url, connection, store, system, service, executors, _servers: servers })
    }

    async fn rounds(&self, settings: &Settings, workload: &Workload) -> anyhow::Result<Value> {
        let (mut walls, mut outcomes, mut wrong) = (Vec::new(), Vec::new(), None);
        for round in 0..=settings.rounds {
            workload.forget_times();
            let done = self.round(workload).await?;
            if round > 0 {
                walls.push(done.wall_s);
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
        walls.sort_by(f64::total_cmp);
        let wall_s = walls[walls.len() / 2];
        let steps_per_s = workload.steps() as f64 / wall_s;
        Ok(json!({
            "workload": settings.kind.name(), "mode": "nats",
            "wall_s": wall_s, "steps": workload.steps(), "ok": wrong.is_none(), "wrong": wrong,
            "steps_per_s": steps_per_s, "step_us": wall_s * 1e6 / workload.steps() as f64,
            "of_floor": steps_per_s / floor["steps_per_s"].as_f64().unwrap_or(f64::NAN),
            "between_steps_us": between,
            "best_s": walls[0], "worst_s": walls[walls.len() - 1],
            "settings": {
                "size": settings.size, "runs": workload.runs, "rounds": settings.rounds,
                "threads": settings.threads, "replicas": settings.replicas,
                "sync_always": settings.sync_always, "executors": self.executors.len(),
                "slots": settings.slots,
            },
            "floors": {"jetstream": floor},
        }))
    }

    /// Submits the runs, and waits until the last has ended.
    async fn round(&self, workload: &Workload) -> anyhow::Result<Round> {
        let listening = async_nats::connect(&self.url).await?;
        let mut entries = listening.subscribe("fp.run.>").await?;
        listening.flush().await?;
        let runs: Vec<RunId> = (0..workload.runs).map(|_| RunId(Uuid::now_v7())).collect();
        let mut open: HashSet<String> = runs.iter().map(RunId::to_string).collect();
        let spec = Arc::new(workload.spec());
        let began = Instant::now();
        let submitting = try_join_all(runs.iter().map(|run| {
            let (system, spec, run) = (self.system.clone(), Arc::clone(&spec), *run);
            async move { system.submit(run, spec, "bench").await }
        }));
        let ending = async {
            while !open.is_empty() {
                let entry = entries.next().await.context("the server is gone")?;
                if entry.payload.windows(SUCCEEDED.len()).any(|part| part == SUCCEEDED) {
                    open.remove(entry.subject.rsplit('.').next().unwrap_or_default());
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
        Ok(Round { wall_s: began.elapsed().as_secs_f64(), runs })
    }

    async fn stop(self) {
        drop(self.executors);
        self.system.shutdown().await;
        self.service.drain().await;
        self.connection.close().await;
    }
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
    let mut child = Executor(command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?);
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().context("it has no output")?).read_line(&mut line)?;
    if line.trim() != "ready" {
        bail!("an executor did not begin");
    }
    Ok(child)
}
