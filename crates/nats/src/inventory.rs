//! What the deployment can do: which capabilities are announced, and who is alive.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_nats::jetstream::{consumer::DeliverPolicy, kv};
use foreplan_core::{
    id::{Capability, RunId},
    tool::{AgentDescriptor, Inventory, InventorySource, ToolDescriptor},
};
use foreplan_protocol::wire::{Worker, untoken};
use futures::StreamExt as _;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::{
    Connection, Error, NatsBus,
    error::chain,
    hands::InHand,
    read::{self, Read, Wanted},
};

/// How often a worker shows a sign of life: three fit into the time after which it is no longer
/// listed.
const BEAT: Duration = Duration::from_secs(8);

/// Tools that are remembered until somebody asks which were left out.
const REJECTED_MAX: usize = 100;

/// How long to wait before a watch that ended is made again.
const PAUSE: Duration = Duration::from_secs(1);

/// The header of an entry that says that its key was deleted.
const OPERATION: &str = "KV-Operation";

/// What a pool of executors can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Announcement {
    /// The project.
    pub project: String,
    /// The capability.
    pub capability: Capability,
    /// The tools, as they are in the process that announces them.
    pub tools: Vec<Arc<ToolDescriptor>>,
    /// Present where the pool carries out agent steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentDescriptor>,
}

/// A worker's sign of life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Alive {
    /// `planner`, `executor`, `replanner`, `tracker`.
    pub roles: Vec<String>,
    /// The project of an executor.
    pub project: String,
    /// What an executor serves.
    pub capabilities: Vec<Capability>,
    /// Steps that it has had in hand for more than a moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_hand: Vec<InHand>,
}

/// What the deployment can do, as last heard. Copies are the same.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    capabilities: kv::Store,
    workers: kv::Store,
    known: RwLock<Known>,
    /// Workers by name, with when they were last heard of.
    alive: RwLock<HashMap<String, (tokio::time::Instant, Alive)>>,
    /// Tools that were announced and cannot be used: the pool's key with the tool, and its JSON.
    rejected: parking_lot::Mutex<Vec<(String, Vec<u8>)>>,
    tasks: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Known {
    announced: BTreeMap<String, Announcement>,
    inventories: HashMap<String, Arc<Inventory>>,
}

impl Registry {
    /// Reads what is announced and who lives, and listens for changes.
    ///
    /// # Errors
    ///
    /// If the deployment's buckets cannot be used.
    pub async fn open(connection: &Connection) -> Result<Self, Error> {
        let registry = Self::look(connection).await?;
        registry.follow().await?;
        Ok(registry)
    }

    /// Reads what is announced and who lives, as it stands now, and leaves nothing behind on the server: a
    /// stream bears a thousand listeners (2.15), and those of a process that ended for half a minute more.
    ///
    /// # Errors
    ///
    /// If the deployment's buckets cannot be used.
    pub async fn look(connection: &Connection) -> Result<Self, Error> {
        let inner = Inner {
            connection: connection.clone(),
            capabilities: connection.bucket("CAPABILITIES").await?,
            workers: connection.bucket("WORKERS").await?,
            known: RwLock::default(),
            alive: RwLock::default(),
            rejected: parking_lot::Mutex::default(),
            tasks: parking_lot::Mutex::default(),
        };
        for (key, value) in entries(&inner.capabilities).await? {
            inner.hear_capability(&key, Some(&value));
        }
        for (key, value) in entries(&inner.workers).await? {
            inner.hear_worker(key, Some(&value));
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Listens for changes from now on.
    ///
    /// # Errors
    ///
    /// If the server refuses it.
    pub async fn follow(&self) -> Result<(), Error> {
        let inner = &self.inner;
        if !inner.tasks.lock().is_empty() {
            return Ok(());
        }
        let capabilities = inner.capabilities.watch_with_history(">").await;
        let capabilities = capabilities.map_err(|e| Error::server("capabilities are watched", chain(&e)))?;
        let workers = inner.workers.watch_with_history(">").await;
        let workers = workers.map_err(|e| Error::server("workers are watched", chain(&e)))?;
        let listening = [
            tokio::spawn(Arc::clone(inner).hear_capabilities(capabilities)),
            tokio::spawn(Arc::clone(inner).hear_workers(workers)),
        ];
        inner.tasks.lock().extend(listening);
        Ok(())
    }

    /// Announces what a pool can do.
    ///
    /// # Errors
    ///
    /// If the server refuses it.
    pub async fn announce(&self, announcement: &Announcement) -> Result<(), Error> {
        let key = self.inner.connection.names.capability(&announcement.project, &announcement.capability);
        let bytes =
            serde_json::to_vec(announcement).map_err(|e| Error::server("a capability is announced", e))?;
        let put = self.inner.capabilities.put(&key, bytes.into()).await;
        put.map_err(|e| Error::server("a capability is announced", chain(&e)))?;
        // Its work can wait from now on, whether or not this process ever takes any.
        let connection = &self.inner.connection;
        let worker = Worker::Executor {
            project: announcement.project.clone(),
            capability: announcement.capability.clone(),
        };
        connection.work_consumer(&worker, connection.work_ack_wait().await?).await?;
        self.inner.hear(&key, Some(announcement.clone()));
        Ok(())
    }

    /// Shows signs of life of a worker, and what its bus has in hand, until it is gone or
    /// [`Registry::stop`] is called.
    ///
    /// # Errors
    ///
    /// If the server refuses the first.
    pub async fn live(
        &self,
        bus: &NatsBus,
        roles: Vec<String>,
        capabilities: Vec<Capability>,
    ) -> Result<(), Error> {
        let options = &bus.inner.options;
        let mut alive = Alive { roles, project: options.project.clone(), capabilities, in_hand: Vec::new() };
        let key = foreplan_protocol::wire::token(&options.worker);
        self.inner.beat(&key, &alive).await?;
        self.inner.alive.write().insert(key.clone(), (tokio::time::Instant::now(), alive.clone()));
        let (inner, hands) = (Arc::clone(&self.inner), bus.inner.hands.clone());
        let beating = tokio::spawn(async move {
            let mut beats = tokio::time::interval(BEAT);
            beats.tick().await;
            loop {
                let is_beat = tokio::select! {
                    _ = beats.tick() => true,
                    () = hands.changed() => false,
                };
                let in_hand = hands.told();
                if !is_beat && in_hand == alive.in_hand {
                    continue;
                }
                alive.in_hand = in_hand;
                if let Err(error) = inner.beat(&key, &alive).await {
                    tracing::debug!(%error, "a sign of life could not be sent");
                }
            }
        });
        self.inner.tasks.lock().push(beating);
        Ok(())
    }

    /// Ends the signs of life of a worker, and listening.
    pub async fn stop(&self, worker: &str) {
        for task in self.inner.tasks.lock().drain(..) {
            task.abort();
        }
        if let Err(error) = self.inner.workers.purge(foreplan_protocol::wire::token(worker)).await {
            tracing::debug!(%error, "the worker is listed until its time is up");
        }
    }

    /// Returns the tools that were announced and cannot be used, each once.
    pub(crate) fn rejected(&self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut self.inner.rejected.lock())
    }

    /// Returns the pools that are announced and have no living worker.
    #[must_use]
    pub fn unserved(&self) -> Vec<(String, Capability)> {
        let known = self.inner.known.read();
        let pools = known.announced.values().filter(|pool| !self.is_served(&pool.project, &pool.capability));
        pools.map(|pool| (pool.project.clone(), pool.capability.clone())).collect()
    }

    /// Returns the steps of a run that workers have had in hand for more than a moment, each with its
    /// worker.
    #[must_use]
    pub fn in_hand(&self, run: RunId) -> Vec<(String, InHand)> {
        let alive = self.inner.alive.read();
        let steps = alive.iter().flat_map(|(key, (_, alive))| alive.in_hand.iter().map(move |s| (key, s)));
        let of_run = steps.filter(|(_, step)| step.run == run);
        of_run.map(|(key, step)| (untoken(key).unwrap_or_else(|| key.clone()), step.clone())).collect()
    }

    /// Returns whether a living worker serves a capability of a project.
    #[must_use]
    pub fn is_served(&self, project: &str, capability: &Capability) -> bool {
        let alive = self.inner.alive.read();
        alive.values().any(|(seen, alive)| {
            seen.elapsed() < crate::setup::WORKER_AGE
                && alive.project == project
                && alive.capabilities.contains(capability)
        })
    }
}

impl InventorySource for Registry {
    fn inventory(&self) -> Arc<Inventory> {
        Arc::default()
    }

    fn inventory_of(&self, project: &str) -> Arc<Inventory> {
        self.inner.known.read().inventories.get(project).cloned().unwrap_or_default()
    }
}

impl Inner {
    async fn hear_capabilities(self: Arc<Self>, mut watch: kv::Watch) {
        loop {
            while let Some(Ok(entry)) = watch.next().await {
                let is_put = entry.operation == kv::Operation::Put;
                self.hear_capability(&entry.key, is_put.then_some(&entry.value[..]));
            }
            tokio::time::sleep(PAUSE).await;
            if let Ok(again) = self.capabilities.watch_with_history(">").await {
                watch = again;
            }
        }
    }

    /// Takes what a key of the bucket holds; nothing, if it was deleted.
    fn hear_capability(&self, key: &str, value: Option<&[u8]>) {
        match value.map(serde_json::from_slice::<Announcement>).transpose() {
            Ok(announcement) => self.hear(key, announcement.map(|announcement| self.sound(announcement))),
            Err(error) => tracing::warn!(key, %error, "an announcement cannot be read"),
        }
    }

    /// Leaves out the tools whose schemas are none: nobody could check what they take and return.
    fn sound(&self, mut announcement: Announcement) -> Announcement {
        let pool = format!("{}.{}", announcement.project, announcement.capability);
        announcement.tools.retain(|tool| {
            let schemas = [("input", &tool.input), ("output", &tool.output)];
            let fault = schemas
                .iter()
                .find_map(|(of, schema)| Some((of, jsonschema::validator_for(schema).err()?.to_string())));
            let Some((of, why)) = fault else { return true };
            tracing::warn!(pool, tool = %tool.name, of, why, "a tool is left out: its schema is none");
            let mut rejected = self.rejected.lock();
            if rejected.len() < REJECTED_MAX {
                let bytes = serde_json::to_vec(tool).unwrap_or_default();
                rejected.push((format!("{pool}.{}", tool.name), bytes));
            }
            false
        });
        announcement
    }

    async fn beat(&self, key: &str, alive: &Alive) -> Result<(), Error> {
        let failed = |reason: String| Error::server("a worker is announced", reason);
        let bytes = serde_json::to_vec(alive).map_err(|e| failed(e.to_string()))?;
        self.workers.put(key, bytes.into()).await.map(|_| ()).map_err(|e| failed(chain(&e)))
    }

    async fn hear_workers(self: Arc<Self>, mut watch: kv::Watch) {
        loop {
            while let Some(Ok(entry)) = watch.next().await {
                let is_put = entry.operation == kv::Operation::Put;
                self.hear_worker(entry.key, is_put.then_some(&entry.value[..]));
            }
            tokio::time::sleep(PAUSE).await;
            if let Ok(again) = self.workers.watch_with_history(">").await {
                watch = again;
            }
        }
    }

    /// Takes what a key of the bucket holds; nothing, if it was deleted.
    fn hear_worker(&self, key: String, value: Option<&[u8]>) {
        let mut alive = self.alive.write();
        alive.retain(|_, (seen, _)| seen.elapsed() < crate::setup::WORKER_AGE);
        match value.and_then(|value| serde_json::from_slice(value).ok()) {
            Some(worker) => drop(alive.insert(key, (tokio::time::Instant::now(), worker))),
            None => drop(alive.remove(&key)),
        }
    }

    fn hear(&self, key: &str, announcement: Option<Announcement>) {
        let mut known = self.known.write();
        let before = match announcement {
            Some(announcement) if known.announced.get(key) == Some(&announcement) => return,
            Some(announcement) => {
                known.announced.insert(key.to_owned(), announcement.clone()).or(Some(announcement))
            }
            None => known.announced.remove(key),
        };
        let Some(project) = before.map(|before| before.project) else { return };
        let inventory = inventory_of(known.announced.values().filter(|a| a.project == project));
        known.inventories.insert(project, Arc::new(inventory));
    }
}

/// Returns what a bucket holds now, by its keys.
async fn entries(bucket: &kv::Store) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let wanted = Wanted {
        subject: format!("{}>", bucket.prefix),
        from: DeliverPolicy::LastPerSubject,
        headers_only: false,
        until: None,
    };
    let read = read::read(&bucket.stream, wanted).await?;
    let entry = |one: Read| Some((one.subject.strip_prefix(&bucket.prefix)?.to_owned(), one.payload));
    Ok(read.into_iter().filter(|one| one.headers.get(OPERATION).is_none()).filter_map(entry).collect())
}

/// Returns the tools of several pools. A tool that two pools announce alike has both; of two that
/// differ, the one whose pool comes first by name counts, and the other pool refuses it.
fn inventory_of<'a>(announced: impl Iterator<Item = &'a Announcement>) -> Inventory {
    let mut tools: BTreeMap<_, ToolDescriptor> = BTreeMap::new();
    let mut agents = Vec::new();
    for announcement in announced {
        agents.extend(announcement.agent.clone());
        for tool in &announcement.tools {
            let mut tool = ToolDescriptor::clone(tool);
            tool.capabilities = vec![announcement.capability.clone()];
            match tools.get_mut(&tool.name) {
                None => drop(tools.insert(tool.name.clone(), tool)),
                Some(known) if known.digest == tool.digest => known.capabilities.extend(tool.capabilities),
                Some(known) => tracing::warn!(
                    tool = %tool.name,
                    kept = %known.digest.short(),
                    left = %tool.digest.short(),
                    "two pools announce different tools of one name"
                ),
            }
        }
    }
    tools.into_values().collect::<Inventory>().with_agents(agents)
}
