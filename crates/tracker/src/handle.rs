//! The tracker as its surroundings see it.

use std::{collections::HashMap, sync::Arc};

use foreplan_core::{
    action::Action,
    event::Entry,
    fork::Refusal,
    goal::RunSpec,
    id::RunId,
    input::{Command, Input},
    run::{Rejection, Run},
    time::Timestamp,
};
use foreplan_journal::NewRun;
use parking_lot::Mutex;
use ractor::{ActorRef, rpc::CallResult};
use tokio::sync::{broadcast, watch};

use crate::{
    news::News,
    perform::progress,
    shared::{Progress, Shared},
    supervisor::Order,
};

/// Where a run stands, for those who wait for it.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Something is going on, or will by itself.
    Active,
    /// Nothing happens before a person, or a timer, speaks; or the run has ended. The run as it then
    /// is: what follows is not in it.
    Idle(Arc<Run>),
    /// The run cannot be carried on here.
    Stuck {
        /// Why.
        why: String,
        /// Whether another process carries it on.
        lost: bool,
    },
}

/// Why a run was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Too many runs are active.
    #[error("{max} runs are active, and no more are allowed at once: wait for one to end")]
    Busy {
        /// The limit.
        max: usize,
    },
    /// It cannot begin where another run was.
    #[error(transparent)]
    Fork(#[from] Refusal),
    /// The journal refused the run.
    #[error(transparent)]
    Journal(#[from] foreplan_journal::Error),
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The run refused it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The run cannot be carried on here.
    #[error("the run cannot be carried on: {0}")]
    Stuck(String),
    /// The tracker has stopped.
    #[error("the tracker has stopped")]
    Stopped,
}

/// A tracker that runs.
#[derive(Clone)]
pub struct TrackerHandle {
    pub(crate) supervisor: ActorRef<Order>,
    pub(crate) shared: Arc<Shared>,
}

impl TrackerHandle {
    /// Creates a run and begins it. Returns where it stands, once its first entry is durable.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`].
    pub async fn submit(&self, id: RunId, spec: Arc<RunSpec>, by: &str) -> Result<Watch, SubmitError> {
        let (run, actions) = self.create(id, spec, by).await?;
        let standing = self.standing(id);
        self.order(Order::Begin(Box::new((run, actions))));
        Ok(standing)
    }

    /// Creates a run that begins when it is carried on. Returns where it stands.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`].
    pub async fn submit_held(&self, id: RunId, spec: Arc<RunSpec>, by: &str) -> Result<Watch, SubmitError> {
        self.create(id, spec, by).await?;
        Ok(self.standing(id))
    }

    async fn create(
        &self,
        id: RunId,
        spec: Arc<RunSpec>,
        by: &str,
    ) -> Result<(Run, Vec<Action>), SubmitError> {
        let max = self.shared.active_runs_max;
        if self.shared.standings.active() >= max {
            return Err(SubmitError::Busy { max });
        }
        let kept = crate::fork::kept(&self.shared, id, &spec).await?;
        let now = self.shared.now();
        let new = NewRun {
            run: id,
            project: spec.project.clone(),
            goal: spec.goal.clone(),
            key: spec.key.clone(),
            group: spec.group.as_ref().map(|g| g.name.clone()),
            created_at: now,
        };
        let input = Input::Submit { spec, by: by.to_owned(), kept };
        let (run, decision) = Run::submit(id, now, &input).expect("the input is a submission");
        let entry: Arc<Entry> = Arc::new(Run::entry(0, now, input, decision.events));
        self.shared.journal.create(new, Arc::clone(&entry), progress(&run)).await?;
        self.shared.standings.set(id, Standing::Active);
        self.shared.tell(id, entry, run.status());
        Ok((run, decision.actions))
    }

    /// Carries on a run whose journal is there. With `takeover`, the process that carried it on
    /// before is gone, and its workers with it.
    pub fn carry_on(&self, run: RunId, takeover: Option<String>) {
        self.shared.standings.set(run, Standing::Active);
        self.order(Order::CarryOn { run, takeover });
    }

    /// Carries on runs whose process, and its workers, are gone. One that waits for a person loses
    /// nothing by that: its timer is set, and it does not stay in memory. Returns once they are in hand.
    pub async fn look_after(&self, runs: Vec<RunId>, takeover: &str) {
        let takeover = takeover.to_owned();
        let _ = self.supervisor.call(|reply| Order::LookAfter { runs, takeover, reply }, None).await;
    }

    /// Makes a run take commands without dispatching anything until it is carried on.
    pub fn attend(&self, run: RunId) {
        self.order(Order::Attend(run));
    }

    /// Says that runs move between this tracker and others, and are forgotten here when they leave. So
    /// an entry that another one has written is no reason to leave a run that is still here: it is
    /// folded again.
    pub fn share(&self) {
        self.shared.is_shared.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Drops from memory the runs for which this holds: others carry them on.
    pub fn forget(&self, whose: impl Fn(RunId) -> bool + Send + 'static) {
        self.order(Order::Forget(Box::new(whose)));
    }

    /// Returns how many attempts are in flight, once every actor has read what it was sent before.
    pub async fn in_flight(&self) -> u32 {
        match self.supervisor.call(Order::InFlight, None).await {
            Ok(CallResult::Success(in_flight)) => in_flight,
            Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => 0,
        }
    }

    /// Returns how many runs have an actor: those that wait for a person have none.
    #[must_use]
    pub fn actors(&self) -> usize {
        self.shared.standings.active()
    }

    /// Carries out a command. Returns once its entry is durable.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn command(&self, run: RunId, command: Command) -> Result<(), CommandError> {
        let asked = self
            .supervisor
            .call(|reply| Order::Command { run, command: Box::new(command), reply }, None)
            .await;
        match asked {
            Ok(CallResult::Success(result)) => result,
            Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => match self.standing(run).now() {
                Standing::Stuck { why, .. } => Err(CommandError::Stuck(why)),
                Standing::Active | Standing::Idle(_) => Err(CommandError::Stopped),
            },
        }
    }

    /// Returns where a run stands, and every change of it.
    #[must_use]
    pub fn standing(&self, run: RunId) -> Watch {
        Watch { run, standing: self.shared.standings.watch(run), shared: Arc::clone(&self.shared) }
    }

    /// Returns every durable entry from now on.
    #[must_use]
    pub fn progress(&self) -> broadcast::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    /// Returns which runs get entries from now on, for the one who asks now and then: what one takes
    /// another does not hear of.
    #[must_use]
    pub fn news(&self) -> Arc<News> {
        Arc::clone(self.shared.news.get_or_init(Arc::default))
    }

    /// Starts nothing more; results of what is in flight are still recorded.
    pub async fn hold(&self) {
        let _ = self.supervisor.call(Order::Hold, None).await;
    }

    /// Ends the tracker and all its actors.
    pub async fn stop(&self) {
        let _ = self.supervisor.stop_and_wait(None, None).await;
    }

    /// Returns the time by the tracker's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    fn order(&self, order: Order) {
        if self.supervisor.cast(order).is_err() {
            tracing::debug!("the tracker has stopped");
        }
    }
}

/// Where a run stands, for as long as somebody looks.
pub struct Watch {
    run: RunId,
    standing: watch::Receiver<Standing>,
    shared: Arc<Shared>,
}

impl Watch {
    /// Returns where the run stands now.
    pub fn now(&mut self) -> Standing {
        self.standing.borrow_and_update().clone()
    }

    /// Returns once the run stands elsewhere than [`Watch::now`] last said; `false` if it never will,
    /// since the tracker has stopped.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn changed(&mut self) -> bool {
        self.standing.changed().await.is_ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.standings.unwatch(self.run);
    }
}

/// Where runs stand that somebody waits for, or that are active.
#[derive(Default)]
pub(crate) struct Standings {
    runs: Mutex<HashMap<RunId, watch::Sender<Standing>>>,
    active: std::sync::atomic::AtomicUsize,
}

impl Standings {
    pub(crate) fn watch(&self, run: RunId) -> watch::Receiver<Standing> {
        self.runs.lock().entry(run).or_insert_with(|| watch::Sender::new(Standing::Active)).subscribe()
    }

    /// Says where a run stands. One that is idle is forgotten once nobody waits for it.
    pub(crate) fn set(&self, run: RunId, standing: Standing) {
        let mut runs = self.runs.lock();
        let is_active = matches!(standing, Standing::Active);
        let sender = runs.entry(run).or_insert_with(|| watch::Sender::new(Standing::Active));
        sender.send_replace(standing);
        if !is_active && sender.receiver_count() == 0 {
            runs.remove(&run);
        }
    }

    /// Forgets a run that does not move when its last watcher, who still counts here, leaves.
    fn unwatch(&self, run: RunId) {
        let mut runs = self.runs.lock();
        let is_last = |sender: &watch::Sender<Standing>| {
            sender.receiver_count() <= 1 && !matches!(*sender.borrow(), Standing::Active)
        };
        if runs.get(&run).is_some_and(is_last) {
            runs.remove(&run);
        }
    }

    /// Counts the actors in memory.
    pub(crate) fn count(&self, active: usize) {
        self.active.store(active, std::sync::atomic::Ordering::Relaxed);
    }

    fn active(&self) -> usize {
        self.active.load(std::sync::atomic::Ordering::Relaxed)
    }
}
