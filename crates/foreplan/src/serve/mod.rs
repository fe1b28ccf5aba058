//! One process of a deployment: any of the four roles, over a NATS server.
//!
//! Means live here: an executor's process has a project with its tools. Planners, replanners and
//! trackers have none; what a run is for comes with the run.
//!
//! ```text
//!  client ──CMD──▶ tracker ──WORK──▶ planner, replanner, executor
//!                     ▲ │                        │
//!                     │ └──append──▶ RUNS        │
//!                     └───────────rep────────────┘
//! ```

mod children;
mod desk;
mod health;
mod remote;
mod watch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use foreplan_bus::{Bus, service::Handle};
use foreplan_core::{id::RunId, tool::InventorySource as _};
use foreplan_executor::{
    Executor, ExecutorHandle, Logs, Options as ExecutorOptions, PERMIT_WAIT, system_clock,
};
use foreplan_journal::Store;
use foreplan_model::Models;
use foreplan_nats::{Announcement, BusOptions, Connection, NatsBus, NatsJournal, Registry, Shards};
use foreplan_planner::{ModelPlanner, ModelReviewer, Planners};
use foreplan_replanner::{ModelReplanner, Replanners};
use foreplan_tools::Toolbox;
use foreplan_tracker::{Deps, TrackerHandle};
use uuid::Uuid;

use crate::system::{Traces, metrics::Counted, trail::Trail};

pub use foreplan_nats::{Connection as NatsConnection, Options as NatsOptions, Part, PartState, Setup, Tls};
pub use health::serve_health;
pub use remote::{Remote, store};
pub use watch::Watch;

/// Runs that one tracker carries on at once.
const ACTIVE_RUNS_MAX: usize = 10_000;

/// How long a process that drains waits for the steps in hand.
const DRAIN_MAX: Duration = Duration::from_secs(25);

/// A part that a process can play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Role {
    /// Makes plans, and reviews.
    Planner,
    /// Executes steps.
    Executor,
    /// Says what to do about a plan that does not hold.
    Replanner,
    /// Carries runs on.
    Tracker,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Planner, Self::Executor, Self::Replanner, Self::Tracker];

    /// Returns the name that people write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Executor => "executor",
            Self::Replanner => "replanner",
            Self::Tracker => "tracker",
        }
    }
}

/// What a process does.
pub struct Service {
    worker: String,
    bus: NatsBus,
    registry: Registry,
    connection: Connection,
    executor: Option<ExecutorHandle>,
    planner: Option<Handle>,
    reviewer: Option<Handle>,
    replanner: Option<Handle>,
    tracker: Option<(TrackerHandle, Shards)>,
    trail: Option<Arc<Trail>>,
    counted: Option<Arc<Counted>>,
    roles: Vec<Role>,
    is_draining: Arc<AtomicBool>,
}

/// What a process is to do.
pub struct ServiceOptions {
    /// Its roles.
    pub roles: Vec<Role>,
    /// The project whose tools it has.
    pub project: String,
    /// The tools, for the role of an executor.
    pub toolbox: Option<Arc<Toolbox>>,
    /// Where tools write what they print.
    pub log: Option<Logs>,
    /// Where models are found, for planners, replanners and agent steps.
    pub models: Arc<dyn Models>,
    /// Where a tracker lets traces go.
    pub traces: Traces,
}

/// Why a process does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The deployment cannot be used.
    #[error(transparent)]
    Nats(#[from] foreplan_nats::Error),
    /// An agent did not start.
    #[error("an agent did not start: {0}")]
    Start(String),
}

impl Service {
    /// Begins to serve.
    ///
    /// # Errors
    ///
    /// If the deployment is not set up, or an agent does not start.
    pub async fn start(connection: Connection, options: ServiceOptions) -> Result<Self, Error> {
        let started = Self::launch(connection.clone(), options).await;
        started.map_err(|error| match error {
            Error::Nats(error) => Error::Nats(connection.explain(error)),
            error @ Error::Start(_) => error,
        })
    }

    async fn launch(connection: Connection, options: ServiceOptions) -> Result<Self, Error> {
        connection.verify().await?;
        let worker = worker_name();
        let journal = NatsJournal::open(&connection).await?;
        let registry = Registry::open(&connection).await?;
        let bus = NatsBus::new(connection.clone(), BusOptions::new(&worker, &options.project));
        let mut service = Self {
            worker,
            bus,
            registry,
            connection,
            executor: None,
            planner: None,
            reviewer: None,
            replanner: None,
            tracker: None,
            trail: None,
            counted: None,
            roles: options.roles.clone(),
            is_draining: Arc::default(),
        };
        let capabilities = match &options.toolbox {
            Some(toolbox) if options.roles.contains(&Role::Executor) => {
                service.announce(toolbox, &options.project).await?
            }
            _ => Vec::new(),
        };
        let roles = options.roles.iter().map(|role| role.as_str().to_owned()).collect();
        service.registry.live(&service.bus, roles, capabilities).await?;
        for role in &options.roles {
            service.begin(*role, &options, &journal).await?;
        }
        Ok(service)
    }

    async fn announce(
        &self,
        toolbox: &Toolbox,
        project: &str,
    ) -> Result<Vec<foreplan_core::id::Capability>, Error> {
        let inventory = toolbox.inventory();
        let mut capabilities = Vec::new();
        for specialist in toolbox.specialists() {
            let listed = specialist.tools.iter().filter_map(|tool| inventory.get(tool.as_str()));
            let announcement = Announcement {
                project: project.to_owned(),
                capability: specialist.capability.clone(),
                tools: listed.cloned().collect(),
                agent: specialist.agent(),
            };
            self.registry.announce(&announcement).await?;
            capabilities.push(specialist.capability.clone());
        }
        Ok(capabilities)
    }

    async fn begin(
        &mut self,
        role: Role,
        options: &ServiceOptions,
        journal: &NatsJournal,
    ) -> Result<(), Error> {
        let bus: Arc<dyn Bus> = Arc::new(self.bus.clone());
        let start = |e: &dyn std::fmt::Display| Error::Start(e.to_string());
        match role {
            Role::Executor => {
                let Some(toolbox) = options.toolbox.clone() else { return Ok(()) };
                let payloads = Arc::new(journal.payloads().clone());
                let process = Some(self.worker.clone());
                // A third of the wait lies between two signs of life, so that what is asked for in
                // another third is answered, or void, before the worker counts as lost.
                let permit_wait = (self.connection.work_ack_wait().await? / 3).min(PERMIT_WAIT);
                let options = ExecutorOptions {
                    log: options.log.clone(),
                    process,
                    permit_wait,
                    models: Some(Arc::clone(&options.models)),
                    ..ExecutorOptions::default()
                };
                let executor = Executor::spawn(bus, toolbox, payloads, options).await;
                self.executor = Some(executor.map_err(|e| start(&e))?);
            }
            Role::Planner => {
                let inventory = Arc::new(self.registry.clone());
                let planners =
                    Planners::default().with(ModelPlanner::new(Arc::clone(&options.models), system_clock()));
                let planner = foreplan_planner::spawn(bus, planners, inventory).await;
                self.planner = Some(planner.map_err(|e| start(&e))?);
                let payloads = Arc::new(journal.payloads().clone());
                let reviews = ModelReviewer::new(Arc::clone(&options.models), payloads, system_clock());
                let reviewer =
                    foreplan_planner::spawn_reviewer(Arc::new(self.bus.clone()), Arc::new(reviews)).await;
                self.reviewer = Some(reviewer.map_err(|e| start(&e))?);
            }
            Role::Replanner => {
                let inventory = Arc::new(self.registry.clone());
                let replanners = Replanners::default()
                    .with(ModelReplanner::new(Arc::clone(&options.models), system_clock()));
                let replanner = foreplan_replanner::spawn(bus, replanners, inventory).await;
                self.replanner = Some(replanner.map_err(|e| start(&e))?);
            }
            Role::Tracker => {
                let registry = self.registry.clone();
                let deps = Deps {
                    bus,
                    journal: Arc::new(journal.clone()),
                    payloads: Arc::new(journal.payloads().clone()),
                    inventories: Arc::new(move |project| registry.inventory_of(project)),
                    children: Some(Arc::new(children::Offspring(self.bus.clone()))),
                    clock: system_clock(),
                    active_runs_max: ACTIVE_RUNS_MAX,
                };
                let tracker = foreplan_tracker::spawn(deps).await.map_err(|e| start(&e))?;
                let counted = Arc::new(Counted::begin(Arc::new(journal.clone()), tracker.clone()));
                if !options.traces.sinks.is_empty() {
                    let store =
                        Store::shared(Arc::new(journal.clone()), Arc::new(journal.payloads().clone()));
                    self.trail = Some(Arc::new(Trail::begin(&store, tracker.news(), options.traces.clone())));
                }
                self.counted = Some(counted);
                let desk = desk::Desk::new(tracker.clone(), journal.clone());
                let shards = Shards::start(&self.bus, &self.registry, Arc::new(desk)).await?;
                self.tracker = Some((tracker, shards));
            }
        }
        Ok(())
    }

    /// Returns the name under which the deployment knows this process.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// Returns what tells whether this process takes work now.
    pub fn readiness(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let (connection, is_draining) = (self.connection.clone(), Arc::clone(&self.is_draining));
        move || connection.is_connected() && !is_draining.load(Ordering::Relaxed)
    }

    /// Returns what tells of this process.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(&self.worker, &self.roles, self.counted.clone(), self.trail.clone())
    }

    /// Takes nothing more, finishes what is in hand, gives its runs to other trackers, and ends.
    pub async fn drain(self) {
        self.is_draining.store(true, Ordering::Relaxed);
        if let Some((tracker, shards)) = self.tracker {
            tracker.hold().await;
            shards.stop().await;
            tracker.stop().await;
        }
        if let Some(trail) = &self.trail {
            trail.finish(&[]).await;
        }
        if let Some(executor) = &self.executor
            && tokio::time::timeout(DRAIN_MAX, executor.stop()).await.is_err()
        {
            tracing::warn!("steps in hand did not end in time; they count as lost");
            executor.cancel_all();
            executor.stop().await;
        }
        for asked in [self.planner, self.reviewer].into_iter().flatten() {
            asked.stop().await;
        }
        if let Some(replanner) = self.replanner {
            replanner.stop().await;
        }
        self.bus.drain().await;
        self.registry.stop(&self.worker).await;
        self.connection.close().await;
    }
}

/// Makes a name that says where the process is: host, process id, and what tells it from another
/// container with both.
fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().split('.').next().filter(|host| !host.is_empty()).unwrap_or("worker");
    let id = RunId(Uuid::now_v7()).0.simple().to_string();
    format!("{host}-{}-{}", std::process::id(), &id[id.len() - 4..])
}
