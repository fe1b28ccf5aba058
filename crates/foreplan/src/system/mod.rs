//! Everything of one process over one store: the four agents, the bus between them, and the runs.
//!
//! [`System`] is what programs embed and what every verb of the command line calls. It owns no
//! state of a run: the tracker does, and the journal.

mod builder;
mod carrier;
mod deployment;
mod drive;
mod error;
mod fork;
mod inspect;
pub(crate) mod metrics;
mod outcome;
pub(crate) mod trail;

use std::sync::Arc;

use foreplan_bus::{Bus, service::Handle};
use foreplan_core::view::RunView;
use foreplan_executor::ExecutorHandle;
use foreplan_journal::Store;
use foreplan_tools::Toolbox;
use foreplan_tracker::{Progress, TrackerHandle};
use tokio::sync::broadcast;

pub use builder::Builder;
pub use deployment::{Deployment, InHand};
pub use error::Error;
pub use inspect::Planned;
pub use outcome::{Approval, Outcome};
pub use trail::Traces;

/// What a program says about a plan or step that waits for approval.
pub type OnApproval = Arc<dyn Fn(&RunView) -> Approval + Send + Sync>;

/// The agents of one process over one store. Copies are the same system.
#[derive(Clone)]
pub struct System {
    inner: Arc<Inner>,
}

struct Inner {
    bus: Arc<dyn Bus>,
    store: Store,
    toolbox: Arc<Toolbox>,
    inventory: Arc<foreplan_core::tool::Inventory>,
    tracker: TrackerHandle,
    executor: ExecutorHandle,
    planner: Handle,
    replanner: Handle,
    reviewer: Option<Handle>,
    on_approval: Option<OnApproval>,
    /// Carries the runs on in the place of this process.
    remote: Option<deployment::Remote>,
    defaults: builder::Defaults,
    carrier: Arc<carrier::Carrier>,
    inbox: tokio::task::JoinHandle<()>,
    trail: Option<trail::Trail>,
    counted: metrics::Counted,
}

impl System {
    /// Begins to put a system together.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns every durable entry from now on, as it is made.
    #[must_use]
    pub fn progress(&self) -> broadcast::Receiver<Progress> {
        match &self.inner.remote {
            Some(remote) => remote.told.subscribe(),
            None => self.inner.tracker.progress(),
        }
    }

    /// Returns whether a deployment carries the runs on.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.inner.remote.is_some()
    }

    /// Returns the tools of this process.
    #[must_use]
    pub fn toolbox(&self) -> &Arc<Toolbox> {
        &self.inner.toolbox
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }
}
