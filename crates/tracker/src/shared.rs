//! What all actors of a tracker share.

use std::{
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use foreplan_bus::Bus;
use foreplan_core::{event::Entry, id::RunId, time::Timestamp, tool::Inventory, view::Status};
use foreplan_journal::{Journal, Payloads};
use tokio::sync::broadcast;

use crate::{children::Children, news::News, timers::Timers};

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Tells which tools a project can plan with now.
pub type Inventories = Arc<dyn Fn(&str) -> Arc<Inventory> + Send + Sync>;

/// What a tracker is made of.
pub struct Deps {
    /// Where requests go.
    pub bus: Arc<dyn Bus>,
    /// Where entries go.
    pub journal: Arc<dyn Journal>,
    /// Where large values are.
    pub payloads: Arc<dyn Payloads>,
    /// What plans are checked against.
    pub inventories: Inventories,
    /// Where the child runs of goal steps are; without it, nobody carries them out.
    pub children: Option<Arc<dyn Children>>,
    /// Where time comes from.
    pub clock: Clock,
    /// How many runs may be active at once; more are refused as busy.
    pub active_runs_max: usize,
}

/// Something that happened to a run, for those who watch.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The run.
    pub run: RunId,
    /// What happened: a durable entry.
    pub entry: Arc<Entry>,
    /// Where the run stands after it.
    pub status: Status,
}

/// Progress that watchers have not read yet; a slower one misses some and is told so.
const PROGRESS_BACKLOG: usize = 4096;

pub(crate) struct Shared {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) payloads: Arc<dyn Payloads>,
    pub(crate) inventories: Inventories,
    pub(crate) children: Option<Arc<dyn Children>>,
    pub(crate) clock: Clock,
    pub(crate) active_runs_max: usize,
    pub(crate) timers: Timers,
    pub(crate) progress: broadcast::Sender<Progress>,
    /// Made for who asks for it.
    pub(crate) news: OnceLock<Arc<News>>,
    pub(crate) proposals: crate::proposal::Proposals,
    pub(crate) standings: crate::handle::Standings,
    /// Whether runs move between this tracker and others: see [`crate::TrackerHandle::share`].
    pub(crate) is_shared: AtomicBool,
}

impl Shared {
    pub(crate) fn new(deps: Deps) -> Self {
        Self {
            bus: deps.bus,
            journal: deps.journal,
            payloads: deps.payloads,
            inventories: deps.inventories,
            children: deps.children,
            clock: deps.clock,
            active_runs_max: deps.active_runs_max,
            timers: Timers::default(),
            progress: broadcast::channel(PROGRESS_BACKLOG).0,
            news: OnceLock::new(),
            proposals: crate::proposal::Proposals::default(),
            standings: crate::handle::Standings::default(),
            is_shared: AtomicBool::new(false),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Returns how long it is until `at`.
    pub(crate) fn until(&self, at: Timestamp) -> Duration {
        at.since(self.now())
    }
}
