//! Putting a system together.

use std::{sync::Arc, time::Duration};

use foreplan_bus::{Bus, MemoryBus, service::Handle};
use foreplan_core::{
    budget::Limits,
    goal::{Approval, Group, PlannerSpec, Review, RunSpec},
    policy::ReplanPolicy,
    tool::Inventory,
};
use foreplan_executor::{Executor, Logs, Options as ExecutorOptions, system_clock};
use foreplan_journal::Store;
use foreplan_model::Models;
use foreplan_planner::{ModelPlanner, ModelReviewer, Planner, Planners};
use foreplan_replanner::{ModelReplanner, Replanner, Replanners};
use foreplan_tools::{Specialist, Tool, Toolbox};
use foreplan_tracker::Deps;
use serde_json::{Map, Value};

use super::{
    Deployment, Error, Inner, OnApproval, System, Traces,
    carrier::{Carrier, Offspring},
    deployment::Remote,
    drive,
    metrics::Counted,
    trail::Trail,
};
use crate::system::outcome::Approval as Said;

/// Runs that one process carries on at once: an actor and its state take a few kilobytes each.
pub(super) const ACTIVE_RUNS_MAX: usize = 10_000;

/// How often the inbox is looked at for commands from other processes: well within the second in
/// which they must be noticed.
const INBOX_INTERVAL: Duration = Duration::from_millis(100);

/// What runs are made of unless they say otherwise.
#[derive(Clone)]
pub(super) struct Defaults {
    pub(super) project: String,
    pub(super) planner: PlannerSpec,
    pub(super) params: Map<String, Value>,
    pub(super) approval: Approval,
    pub(super) review: Option<Review>,
    pub(super) replan: ReplanPolicy,
    pub(super) limits: Limits,
    pub(super) group: Option<Group>,
}

/// Puts a system together.
pub struct Builder {
    defaults: Defaults,
    tools: Vec<Tool>,
    specialists: Vec<Specialist>,
    toolbox: Option<Arc<Toolbox>>,
    store: Option<Store>,
    bus: Option<Arc<dyn Bus>>,
    planners: Planners,
    replanners: Replanners,
    models: Option<Arc<dyn Models>>,
    on_approval: Option<OnApproval>,
    log: Option<Logs>,
    active_runs_max: usize,
    traces: Traces,
    deployment: Option<Arc<dyn Deployment>>,
    inventory: Option<Arc<Inventory>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            defaults: Defaults {
                project: "default".to_owned(),
                planner: PlannerSpec::Derive { produce: Vec::new() },
                params: Map::new(),
                approval: Approval::default(),
                review: None,
                replan: ReplanPolicy::default(),
                limits: Limits::default(),
                group: None,
            },
            tools: Vec::new(),
            specialists: Vec::new(),
            toolbox: None,
            store: None,
            bus: None,
            planners: Planners::default(),
            replanners: Replanners::default(),
            models: None,
            on_approval: None,
            log: None,
            active_runs_max: ACTIVE_RUNS_MAX,
            traces: Traces::default(),
            deployment: None,
            inventory: None,
        }
    }
}

impl Builder {
    /// Names the project.
    #[must_use]
    pub fn project(mut self, name: impl Into<String>) -> Self {
        self.defaults.project = name.into();
        self
    }

    /// Adds a tool.
    #[must_use]
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Adds tools.
    #[must_use]
    pub fn tools(mut self, tools: impl IntoIterator<Item = Tool>) -> Self {
        self.tools.extend(tools);
        self
    }

    /// Adds a specialist: a pool of workers of its own for some tools.
    #[must_use]
    pub fn specialist(mut self, specialist: Specialist) -> Self {
        self.specialists.push(specialist);
        self
    }

    /// Takes a toolbox that is put together already, in the place of single tools.
    #[must_use]
    pub fn toolbox(mut self, toolbox: Arc<Toolbox>) -> Self {
        self.toolbox = Some(toolbox);
        self
    }

    /// Says who makes the plans.
    #[must_use]
    pub fn planner(mut self, planner: PlannerSpec) -> Self {
        self.defaults.planner = planner;
        self
    }

    /// Plans backwards from these artifacts.
    #[must_use]
    pub fn produce<S: Into<String>>(self, artifacts: impl IntoIterator<Item = S>) -> Self {
        let produce = artifacts.into_iter().map(Into::into).collect();
        self.planner(PlannerSpec::Derive { produce })
    }

    /// Has plans made by a model of [`Builder::models`]: `provider/name`.
    #[must_use]
    pub fn model_planner(self, model: impl Into<String>) -> Self {
        self.planner(PlannerSpec::Model { model: model.into() })
    }

    /// Says where models are found, for planners, replanners and reviewers.
    #[must_use]
    pub fn models(mut self, models: Arc<dyn Models>) -> Self {
        self.models = Some(models);
        self
    }

    /// Brings a planner of the program's own, and uses it.
    #[must_use]
    pub fn custom_planner(mut self, planner: impl Planner) -> Self {
        self.defaults.planner = PlannerSpec::Custom { name: planner.name().to_owned() };
        self.planners = self.planners.with(planner);
        self
    }

    /// Brings a replanner of the program's own, asked after those that there are.
    #[must_use]
    pub fn custom_replanner(mut self, replanner: impl Replanner) -> Self {
        self.replanners = self.replanners.with(replanner);
        self
    }

    /// Sets a param that plans refer to.
    #[must_use]
    pub fn param(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.defaults.params.insert(name.into(), value.into());
        self
    }

    /// Says when a person is asked.
    #[must_use]
    pub fn approval(mut self, approval: Approval) -> Self {
        self.defaults.approval = approval;
        self
    }

    /// Has plans, and outputs where it says so, judged by a model of [`Builder::models`].
    #[must_use]
    pub fn review(mut self, review: Review) -> Self {
        self.defaults.review = Some(review);
        self
    }

    /// Says what happens when reality disagrees with the plan.
    #[must_use]
    pub fn policy(mut self, policy: ReplanPolicy) -> Self {
        self.defaults.replan = policy;
        self
    }

    /// Says what a run may use.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.defaults.limits = limits;
        self
    }

    /// Lets at most one run of a group be active.
    #[must_use]
    pub fn group(mut self, group: Group) -> Self {
        self.defaults.group = Some(group);
        self
    }

    /// Answers approvals by program.
    #[must_use]
    pub fn on_approval(
        mut self,
        answer: impl Fn(&foreplan_core::view::RunView) -> Said + Send + Sync + 'static,
    ) -> Self {
        self.on_approval = Some(Arc::new(answer));
        self
    }

    /// Keeps runs in this store; without one, they end with the process.
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Lets the agents talk over this bus.
    #[must_use]
    pub fn bus(mut self, bus: Arc<dyn Bus>) -> Self {
        self.bus = Some(bus);
        self
    }

    /// Says where tools write what they print.
    #[must_use]
    pub fn log(mut self, log: Logs) -> Self {
        self.log = Some(log);
        self
    }

    /// Says how many runs may be active at once.
    #[must_use]
    pub fn active_runs_max(mut self, max: usize) -> Self {
        self.active_runs_max = max;
        self
    }

    /// Says where traces go; without it, nowhere.
    #[must_use]
    pub fn traces(mut self, traces: Traces) -> Self {
        self.traces = traces;
        self
    }

    /// Leaves the runs to a deployment. The store must be the deployment's.
    #[must_use]
    pub fn deployment(mut self, deployment: Arc<dyn Deployment>) -> Self {
        self.deployment = Some(deployment);
        self
    }

    /// Plans and checks with these tools in the place of the toolbox's own.
    #[must_use]
    pub fn inventory(mut self, inventory: Arc<Inventory>) -> Self {
        self.inventory = Some(inventory);
        self
    }

    /// Starts the agents.
    ///
    /// # Errors
    ///
    /// If the tools cannot be served, or an agent does not start.
    pub async fn build(self) -> Result<System, Error> {
        let toolbox = match self.toolbox {
            Some(toolbox) => toolbox,
            None => Arc::new(Toolbox::new(self.tools, self.specialists)?),
        };
        let store = self.store.unwrap_or_else(Store::memory);
        let bus = self.bus.unwrap_or_else(|| Arc::new(MemoryBus::new()));
        let inventory = self.inventory.unwrap_or_else(|| Arc::new(toolbox.inventory()));
        let source = |inventory: &Arc<Inventory>| {
            let inventory = Arc::clone(inventory);
            move || Arc::clone(&inventory)
        };
        let start = |e: &dyn std::fmt::Display| Error::Start(e.to_string());
        let options =
            ExecutorOptions { log: self.log, models: self.models.clone(), ..ExecutorOptions::default() };
        let payloads = Arc::clone(&store.payloads);
        let executor =
            Executor::spawn(Arc::clone(&bus), Arc::clone(&toolbox), Arc::clone(&payloads), options)
                .await
                .map_err(|e| start(&e))?;
        let (mut planners, mut replanners, mut reviewer) = (self.planners, self.replanners, None);
        if let Some(models) = self.models {
            let clock = system_clock();
            planners = planners.with(ModelPlanner::new(Arc::clone(&models), Arc::clone(&clock)));
            replanners = replanners.with(ModelReplanner::new(Arc::clone(&models), Arc::clone(&clock)));
            let reviews = ModelReviewer::new(models, Arc::clone(&payloads), clock);
            reviewer = Some(review_with(reviews, &bus).await?);
        }
        let spawned = foreplan_planner::spawn(Arc::clone(&bus), planners, Arc::new(source(&inventory))).await;
        let planner = spawned.map_err(|e| start(&e))?;
        let spawned =
            foreplan_replanner::spawn(Arc::clone(&bus), replanners, Arc::new(source(&inventory))).await;
        let replanner = spawned.map_err(|e| start(&e))?;
        let carrier = Arc::new(Carrier::new(store.clone(), Arc::clone(&toolbox)));
        let deps = Deps {
            bus: Arc::clone(&bus),
            journal: Arc::clone(&store.journal) as _,
            payloads,
            inventories: Arc::new(every_project(source(&inventory))),
            children: Some(Arc::new(Offspring(Arc::downgrade(&carrier)))),
            clock: system_clock(),
            active_runs_max: self.active_runs_max,
        };
        let tracker = foreplan_tracker::spawn(deps).await.map_err(|e| start(&e))?;
        carrier.set_tracker(tracker.clone());
        let inbox = tokio::spawn(drive::read_inbox(store.clone(), tracker.clone(), INBOX_INTERVAL));
        let counted = Counted::begin(Arc::clone(&store.journal), tracker.clone());
        let is_wanted = !self.traces.sinks.is_empty();
        let trail = is_wanted.then(|| Trail::begin(&store, tracker.news(), self.traces));
        Ok(System {
            inner: Arc::new(Inner {
                bus,
                store,
                toolbox,
                inventory,
                tracker,
                executor,
                planner,
                replanner,
                reviewer,
                on_approval: self.on_approval,
                remote: self.deployment.map(Remote::new),
                defaults: self.defaults,
                carrier,
                inbox,
                trail,
                counted,
            }),
        })
    }
}

async fn review_with(reviewer: ModelReviewer, bus: &Arc<dyn Bus>) -> Result<Handle, Error> {
    let spawned = foreplan_planner::spawn_reviewer(Arc::clone(bus), Arc::new(reviewer)).await;
    spawned.map_err(|error| Error::Start(error.to_string()))
}

/// Gives all projects the same tools.
fn every_project(
    source: impl Fn() -> Arc<Inventory> + Send + Sync,
) -> impl Fn(&str) -> Arc<Inventory> + Send + Sync {
    move |_| source()
}

impl Defaults {
    pub(super) fn spec(&self, goal: &str) -> RunSpec {
        RunSpec {
            project: self.project.clone(),
            goal: goal.to_owned(),
            params: self.params.clone(),
            planner: self.planner.clone(),
            guidance: None,
            approval: self.approval.clone(),
            review: self.review.clone(),
            replan: self.replan.clone(),
            limits: self.limits.clone(),
            group: self.group.clone(),
            key: None,
            origin: None,
            parent: None,
        }
    }
}
