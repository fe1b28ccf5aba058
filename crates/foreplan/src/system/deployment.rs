//! Runs that a deployment carries on: submitted and commanded there, followed by their journal.

use std::{sync::Arc, time::Duration};

use foreplan_core::{
    event::Entry,
    goal::RunSpec,
    id::{RunId, StepId},
    input::{Command, CommandKind},
    run::Run,
    time::Timestamp,
    tool::Inventory,
    view::Status,
};
use foreplan_tracker::Progress;
use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{Error, Outcome, System};

/// How often the journal is looked at when no news come: news may be lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Entries that those who look have not read yet.
const PROGRESS_BACKLOG: usize = 4096;

/// Other processes that carry runs on.
pub trait Deployment: Send + Sync + 'static {
    /// Submits a run, and returns its id: another run's, if one with the same project and key is
    /// there already.
    fn submit<'a>(
        &'a self,
        run: RunId,
        spec: Arc<RunSpec>,
        by: &'a str,
    ) -> BoxFuture<'a, Result<RunId, Error>>;

    /// Has a command carried out. Returns once it is durable.
    fn command(&self, run: RunId, command: Command) -> BoxFuture<'_, Result<(), Error>>;

    /// Returns a stream with an item whenever the run may have a new entry.
    fn news(&self, run: RunId) -> BoxFuture<'_, Result<BoxStream<'static, ()>, Error>>;

    /// Returns the tools that a project's executors announce.
    fn inventory_of(&self, project: &str) -> Arc<Inventory>;

    /// Returns the steps of a run that workers have in hand, as last heard.
    fn in_hand(&self, run: RunId) -> Vec<InHand>;
}

/// A step that a worker has in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InHand {
    /// The step.
    pub step: StepId,
    /// The attempt.
    pub attempt: u32,
    /// Who.
    pub worker: String,
    /// Since when.
    pub since: Timestamp,
}

/// A system's way to its deployment.
pub(super) struct Remote {
    pub(super) deployment: Arc<dyn Deployment>,
    pub(super) told: broadcast::Sender<Progress>,
}

impl Remote {
    pub(super) fn new(deployment: Arc<dyn Deployment>) -> Self {
        Self { deployment, told: broadcast::channel(PROGRESS_BACKLOG).0 }
    }

    pub(super) async fn command(&self, run: RunId, by: &str, kind: CommandKind) -> Result<(), Error> {
        let command = Command { id: Uuid::now_v7(), by: by.to_owned(), kind };
        self.deployment.command(run, command).await
    }
}

impl System {
    /// Follows a run of a deployment until it has ended, waits for a person, or is paused.
    pub(super) async fn follow_remote(&self, remote: &Remote, run: RunId) -> Result<Outcome, Error> {
        let mut news = remote.deployment.news(run).await?;
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        loop {
            let new = self.inner.store.journal.read(run, entries.len() as u64).await?;
            if !new.is_empty() {
                entries.extend(new.iter().map(Arc::clone));
                let state = Run::replay(run, entries.iter().map(AsRef::as_ref)).ok_or(Error::NoRun(run))?;
                for entry in new {
                    let _ = remote.told.send(Progress { run, entry, status: state.status() });
                }
                if rests(&state) && self.children_rest(&state).await? {
                    let view = self.view_of_run(&state).await?;
                    if !self.answer(&view).await? {
                        return Ok(view.into());
                    }
                }
            }
            tokio::select! {
                _ = news.next() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }
}

/// Returns whether nothing happens before a person speaks.
pub(super) fn rests(run: &Run) -> bool {
    match run.status() {
        Status::Succeeded | Status::Failed | Status::Cancelled | Status::Rejected => true,
        Status::Waiting | Status::Paused => run.is_idle(),
        Status::Planning | Status::Running | Status::Replanning => false,
    }
}
