//! Which runs this process carries on, and the child runs that it begins.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock, Weak},
};

use foreplan_core::{
    goal::RunSpec,
    id::RunId,
    input::{Command, Input},
};
use foreplan_journal::{Claim, Error as JournalError, RunFilter, Store};
use foreplan_tools::Toolbox;
use foreplan_tracker::{Children, SubmitError, TrackerHandle};
use futures::{
    StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, FutureExt as _},
};
use parking_lot::Mutex;

use super::{Error, drive::carry_out};

/// Runs that are claimed at once, so that their claims are written together.
const CLAIMS_AT_ONCE: usize = 256;

/// Makes this process the one that carries runs on. A child run and its parent have the same owner.
pub(super) struct Carrier {
    store: Store,
    toolbox: Arc<Toolbox>,
    tracker: OnceLock<TrackerHandle>,
    /// Runs that this process carries on.
    pub(super) mine: Mutex<HashSet<RunId>>,
}

impl Carrier {
    pub(super) fn new(store: Store, toolbox: Arc<Toolbox>) -> Self {
        Self { store, toolbox, tracker: OnceLock::new(), mine: Mutex::default() }
    }

    /// Says which tracker decides.
    pub(super) fn set_tracker(&self, tracker: TrackerHandle) {
        if self.tracker.set(tracker).is_err() {
            tracing::debug!("the tracker was known");
        }
    }

    /// Makes this process the one that carries on every open run that nobody carries on, once what
    /// killed processes of this project left running has ended. Returns them.
    pub(super) async fn take_all(&self) -> Result<Vec<RunId>, Error> {
        let Some(tracker) = self.tracker.get() else { return Ok(Vec::new()) };
        let (journal, owner) = (&self.store.journal, self.store.owner());
        let open = journal.list(RunFilter { open: true, limit: None }).await?;
        let claims = open.into_iter().map(|record| async move {
            let run = record.run.run;
            Ok::<_, JournalError>(match journal.claim(run, owner).await? {
                Claim::Claimed { .. } if !self.mine.lock().contains(&run) => Some(run),
                Claim::Claimed { .. } | Claim::Owned { .. } => None,
            })
        });
        let claims = futures::stream::iter(claims).buffered(CLAIMS_AT_ONCE);
        let taken: Vec<RunId> = claims.try_filter_map(|taken| async move { Ok(taken) }).try_collect().await?;
        self.toolbox.end_orphans().await.map_err(Error::Orphan)?;
        taken.iter().for_each(|run| self.own(tracker, *run));
        for (run, command) in journal.poll(owner).await? {
            carry_out(&self.store, tracker, run, command).await;
        }
        tracker.look_after(taken.clone(), owner).await;
        Ok(taken)
    }

    /// Makes a claimed run this process's own, for commands only.
    fn own(&self, tracker: &TrackerHandle, run: RunId) {
        self.mine.lock().insert(run);
        tracker.attend(run);
    }

    /// Makes this process the one that carries the run on, with the runs that it is a step of, once
    /// what killed processes of this project left running has ended.
    pub(super) fn take(&self, run: RunId) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let Some(tracker) = self.tracker.get() else { return Ok(()) };
            if self.mine.lock().contains(&run) {
                return Ok(());
            }
            let (journal, owner) = (&self.store.journal, self.store.owner());
            if let Claim::Owned { by } = journal.claim(run, owner).await? {
                return Err(Error::Owned { by });
            }
            self.toolbox.end_orphans().await.map_err(Error::Orphan)?;
            self.own(tracker, run);
            for command in journal.pending(run).await? {
                carry_out(&self.store, tracker, run, command).await;
            }
            tracker.carry_on(run, Some(owner.to_owned()));
            if let Some(parent) = self.parent(run).await?
                && let Err(error) = self.take(parent).await
            {
                tracing::debug!(%run, %parent, %error, "the parent of the run is carried on elsewhere");
            }
            Ok(())
        }
        .boxed()
    }

    /// Returns the run that this one is a step of.
    pub(super) async fn parent(&self, run: RunId) -> Result<Option<RunId>, JournalError> {
        let entries = self.store.journal.read(run, 0).await?;
        Ok(entries.first().and_then(|entry| match &entry.cause {
            Input::Submit { spec, .. } => spec.parent.as_ref().map(|parent| parent.run),
            _ => None,
        }))
    }
}

/// The carrier as its tracker knows it, which does not keep it.
pub(super) struct Offspring(pub(super) Weak<Carrier>);

impl Children for Offspring {
    fn begin(&self, run: RunId, spec: Arc<RunSpec>, by: String) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let carrier = self.0.upgrade().ok_or("the system has stopped")?;
            carrier.begin(run, spec, &by).await
        }
        .boxed()
    }

    fn command(&self, run: RunId, command: Command) -> BoxFuture<'_, ()> {
        async move {
            if let Some(carrier) = self.0.upgrade() {
                carrier.command(run, command).await;
            }
        }
        .boxed()
    }
}

impl Carrier {
    async fn begin(&self, run: RunId, spec: Arc<RunSpec>, by: &str) -> Result<(), String> {
        let tracker = self.tracker.get().ok_or("the system is not ready")?;
        match tracker.submit(run, spec, by).await {
            Ok(_) => drop(self.mine.lock().insert(run)),
            Err(SubmitError::Journal(JournalError::Exists(_))) => {
                self.take(run).await.map_err(|error| error.to_string())?;
            }
            Err(error) => return Err(error.to_string()),
        }
        // It may have said where it stands before anybody listened.
        tracker.ask(run);
        Ok(())
    }

    async fn command(&self, run: RunId, command: Command) {
        let Some(tracker) = self.tracker.get() else { return };
        if let Err(error) = self.take(run).await {
            return tracing::debug!(%run, %error, "a child run is carried on elsewhere");
        }
        if let Err(error) = tracker.command(run, command).await {
            tracing::debug!(%run, %error, "a child run was told what it does not do");
        }
    }
}
