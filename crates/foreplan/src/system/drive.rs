//! Runs: submitted, driven, commanded, carried on, and left in order.

use std::{sync::Arc, time::Duration};

use foreplan_core::{
    goal::{RunSpec, WhenBusy},
    id::RunId,
    input::{Command, CommandKind},
    run::{Run, StepState},
    view::{RunView, Status, WaitKind},
};
use foreplan_journal::{Claim, Error as JournalError, Outcome as Sent, Store};
use foreplan_tracker::{CommandError, Standing, TrackerHandle, Watch};
use uuid::Uuid;

use super::{Approval, Error, Outcome, System, deployment::rests};

/// How long the owner of a run may take to answer a command: it looks ten times a second.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// How often a process looks whether something changed in a store that others write.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What came of a submission.
enum Submitted {
    /// The run is new.
    New(Watch),
    /// There is one with its project and key.
    Existing(RunId),
}

impl System {
    /// Runs a goal with the builder's planner and policy, until it is done or waits for a person.
    ///
    /// # Errors
    ///
    /// If the run cannot be accepted or carried on; a run that fails is an [`Outcome`].
    pub async fn run(&self, goal: &str) -> Result<Outcome, Error> {
        let spec = self.inner.defaults.spec(goal);
        let id = RunId(Uuid::now_v7());
        match self.create(id, Arc::new(spec), &whoami()).await? {
            Submitted::New(standing) => self.follow(id, standing).await,
            Submitted::Existing(run) => self.drive(run).await,
        }
    }

    /// Accepts a run and begins it. Returns its id: another run's, if one with the same project and
    /// key is there already.
    ///
    /// # Errors
    ///
    /// If too much is going on, or the store cannot be written.
    pub async fn submit(&self, id: RunId, spec: Arc<RunSpec>, by: &str) -> Result<RunId, Error> {
        match self.create(id, spec, by).await? {
            Submitted::New(_) => Ok(id),
            Submitted::Existing(run) => Ok(run),
        }
    }

    async fn create(&self, id: RunId, spec: Arc<RunSpec>, by: &str) -> Result<Submitted, Error> {
        let inner = &self.inner;
        if let Some(remote) = &inner.remote {
            return remote.deployment.submit(id, spec, by).await.map(Submitted::Existing);
        }
        let busy = self.busy_group(&spec, id).await?;
        if let (Some((group, active)), true) = (&busy, rejects(&spec)) {
            return Err(Error::GroupBusy { group: group.clone(), active: *active });
        }
        let submitted = match busy {
            None => inner.tracker.submit(id, Arc::clone(&spec), by).await,
            Some(_) => inner.tracker.submit_held(id, Arc::clone(&spec), by).await,
        };
        let standing = match submitted.map_err(Error::from) {
            Ok(standing) => standing,
            Err(Error::Journal(JournalError::Exists(run))) => return Ok(Submitted::Existing(run)),
            Err(error) => return Err(error),
        };
        inner.carrier.mine.lock().insert(id);
        if busy.is_some() {
            tokio::spawn(self.clone().begin_in_turn(id, spec));
        }
        Ok(Submitted::New(standing))
    }

    /// Returns the active run of the spec's group, if there is one.
    async fn busy_group(&self, spec: &RunSpec, own: RunId) -> Result<Option<(String, RunId)>, Error> {
        let Some(group) = &spec.group else { return Ok(None) };
        let active = self.inner.store.journal.active_in_group(&spec.project, &group.name).await?;
        let first = active.first().map(|record| record.run.run).filter(|first| *first != own);
        Ok(first.map(|first| (group.name.clone(), first)))
    }

    async fn begin_in_turn(self, id: RunId, spec: Arc<RunSpec>) {
        while matches!(self.busy_group(&spec, id).await, Ok(Some(_))) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        self.inner.tracker.carry_on(id, None);
    }

    /// Carries a run on until it has ended, waits for a person, or is paused.
    ///
    /// # Errors
    ///
    /// If another process carries it on, or it cannot be carried on at all.
    pub async fn drive(&self, run: RunId) -> Result<Outcome, Error> {
        let record = self.inner.store.journal.find(run).await?.ok_or(Error::NoRun(run))?;
        if record.progress.status.is_ended() {
            return Ok(Outcome::Done(self.view(run).await?));
        }
        if let Some(remote) = &self.inner.remote {
            return self.follow_remote(remote, run).await;
        }
        let standing = self.inner.tracker.standing(run);
        self.take(run).await?;
        if self.rests(run).await? {
            let view = self.view(run).await?;
            if !self.answer(&view).await? {
                return Ok(view.into());
            }
        }
        self.follow(run, standing).await
    }

    /// Waits for a run of this process to come to rest where nobody here answers.
    async fn follow(&self, run: RunId, mut standing: Watch) -> Result<Outcome, Error> {
        loop {
            match standing.now() {
                // What a child run does next is still to reach it.
                Standing::Idle(rested) if !self.children_rest(&rested).await? => {}
                Standing::Idle(rested) => {
                    let view = self.view_of_run(&rested).await?;
                    if !self.answer(&view).await? {
                        if view.status.is_ended() {
                            self.inner.carrier.mine.lock().remove(&run);
                        }
                        return Ok(view.into());
                    }
                }
                Standing::Stuck { why, .. } => return Err(Error::Stuck(why)),
                Standing::Active => {}
            }
            if !standing.changed().await {
                return Err(Error::Stuck("the system has stopped".to_owned()));
            }
        }
    }

    /// Returns whether the journal says that nothing happens by itself. A run that came to rest
    /// before anybody watched it is forgotten, and no change of its standing will ever say so.
    async fn rests(&self, run: RunId) -> Result<bool, Error> {
        let record = self.inner.store.journal.find(run).await?.ok_or(Error::NoRun(run))?;
        match record.progress.status {
            Status::Succeeded | Status::Failed | Status::Cancelled | Status::Rejected => Ok(true),
            Status::Planning | Status::Running | Status::Replanning => Ok(false),
            Status::Waiting | Status::Paused => {
                let entries = self.entries(run).await?;
                let Some(folded) = Run::replay(run, entries.iter().map(AsRef::as_ref)) else {
                    return Ok(false);
                };
                Ok(folded.is_idle() && self.children_rest(&folded).await?)
            }
        }
    }

    /// Returns whether the child runs that a run waits for wait themselves: what one of them did since
    /// may not have reached it.
    pub(super) async fn children_rest(&self, run: &Run) -> Result<bool, Error> {
        if run.status().is_ended() {
            return Ok(true);
        }
        for step in run.steps() {
            let StepState::Child { attempt, .. } = step.state else { continue };
            if !self.child_rests(run, run.id().child(&step.id, attempt)).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns whether a child run waits itself. One that was paused with its parent, which has gone on
    /// since, is about to be told so.
    async fn child_rests(&self, parent: &Run, child: RunId) -> Result<bool, Error> {
        let entries = match self.entries(child).await {
            Ok(entries) => entries,
            Err(Error::NoRun(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(child) = Run::replay(child, entries.iter().map(AsRef::as_ref)) else { return Ok(false) };
        let was_paused = child.paused_by() == Some(&parent.id().speaks_as()) && parent.paused_by().is_none();
        if child.status().is_ended() || was_paused || !rests(&child) {
            return Ok(false);
        }
        Box::pin(self.children_rest(&child)).await
    }

    async fn take(&self, run: RunId) -> Result<(), Error> {
        self.inner.carrier.take(run).await
    }

    /// Carries on every open run that nobody carries on. Returns them.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn resume_all(&self) -> Result<Vec<RunId>, Error> {
        self.inner.carrier.take_all().await
    }

    /// Carries out a command: here if this process carries the run on or nobody does, else by the
    /// process that does. Returns once it is durable.
    ///
    /// # Errors
    ///
    /// Why the run refuses it.
    pub async fn command(&self, run: RunId, by: &str, kind: CommandKind) -> Result<(), Error> {
        if let Some(remote) = &self.inner.remote {
            return remote.command(run, by, kind).await;
        }
        let command = Command { id: Uuid::now_v7(), by: by.to_owned(), kind };
        match self.take(run).await {
            Ok(()) => Ok(self.inner.tracker.command(run, command).await?),
            Err(Error::Owned { by }) => self.send(run, by, command).await,
            Err(Error::Journal(JournalError::NoRun(run))) => Err(Error::NoRun(run)),
            Err(error) => Err(error),
        }
    }

    /// Records a command without carrying the run on: nothing is dispatched by this process.
    ///
    /// # Errors
    ///
    /// Why the run refuses it.
    pub async fn record(&self, run: RunId, by: &str, kind: CommandKind) -> Result<(), Error> {
        let inner = &self.inner;
        if inner.remote.is_some() || inner.carrier.mine.lock().contains(&run) {
            return self.command(run, by, kind).await;
        }
        let command = Command { id: Uuid::now_v7(), by: by.to_owned(), kind };
        let owner = inner.store.owner();
        match inner.store.journal.claim(run, owner).await {
            Ok(Claim::Owned { by }) => return self.send(run, by, command).await,
            Ok(Claim::Claimed { .. }) => {}
            Err(JournalError::NoRun(run)) => return Err(Error::NoRun(run)),
            Err(error) => return Err(error.into()),
        }
        inner.tracker.attend(run);
        let result = inner.tracker.command(run, command).await;
        inner.store.journal.release(run, owner).await?;
        Ok(result?)
    }

    async fn send(&self, run: RunId, owner: String, command: Command) -> Result<(), Error> {
        let journal = &self.inner.store.journal;
        let id = command.id;
        journal.send(run, command).await?;
        let answered = tokio::time::timeout(ANSWER_WAIT, async {
            loop {
                match journal.outcome(run, id).await? {
                    Some(Sent::Accepted) => return Ok(()),
                    Some(Sent::Refused(why)) => return Err(Error::Refused(why)),
                    Some(Sent::Pending) | None => tokio::time::sleep(LOOK_INTERVAL).await,
                }
            }
        });
        answered.await.unwrap_or(Err(Error::Unanswered { by: owner }))
    }

    /// Lets the program answer an approval. Returns whether it did.
    pub(super) async fn answer(&self, view: &RunView) -> Result<bool, Error> {
        let (Some(ask), Some(wait)) = (&self.inner.on_approval, &view.waiting_for) else { return Ok(false) };
        if let (WaitKind::ChildRun, Some(child)) = (wait.kind, view.child_that_waits()) {
            let child = self.view(child).await?;
            return Box::pin(self.answer(&child)).await;
        }
        let is_approval =
            matches!(wait.kind, WaitKind::PlanApproval | WaitKind::StepApproval | WaitKind::ReplanApproval);
        let (true, Some(digest), Status::Waiting) = (is_approval, wait.digest, view.status) else {
            return Ok(false);
        };
        match ask(view) {
            Approval::Approve { by } => {
                let kind = CommandKind::Approve { step: wait.step.clone(), digest };
                self.command(view.run, &by, kind).await?;
            }
            Approval::Reject { by, reason } => {
                self.command(view.run, &by, CommandKind::Reject { reason }).await?
            }
            Approval::Wait => return Ok(false),
        }
        Ok(true)
    }

    /// Starts nothing more, waits for the work in hand, and leaves the runs to the next process.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        inner.inbox.abort();
        inner.tracker.hold().await;
        inner.executor.stop().await;
        let settled = tokio::time::timeout(ANSWER_WAIT, async {
            while inner.tracker.in_flight().await > 0 {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        });
        if settled.await.is_err() {
            tracing::warn!("some results were not recorded in time; their steps will be tried again");
        }
        inner.tracker.stop().await;
        inner.planner.stop().await;
        inner.replanner.stop().await;
        if let Some(reviewer) = &inner.reviewer {
            reviewer.stop().await;
        }
        let mine: Vec<RunId> = inner.carrier.mine.lock().drain().collect();
        if let Some(trail) = &inner.trail {
            trail.finish(&mine).await;
        }
        for run in mine {
            if let Err(error) = inner.store.journal.release(run, inner.store.owner()).await {
                tracing::warn!(%run, %error, "the run could not be released; its lock ends with the process");
            }
        }
    }

    /// Ends every call in hand, so that a shutdown does not wait for it. Nothing more is recorded: as
    /// after a crash, the next process decides by the effect of each step what becomes of it.
    pub async fn abandon_work(&self) {
        self.inner.tracker.stop().await;
        self.inner.executor.cancel_all();
    }
}

fn rejects(spec: &RunSpec) -> bool {
    spec.group.as_ref().is_some_and(|group| group.when_busy == WhenBusy::Reject)
}

/// Returns the name under which this process' user acts.
fn whoami() -> String {
    std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned())
}

pub(super) async fn carry_out(store: &Store, tracker: &TrackerHandle, run: RunId, command: Command) {
    let id = command.id;
    let refused = match tracker.command(run, command).await {
        Ok(()) => return,
        Err(CommandError::Rejected(rejection)) => rejection.to_string(),
        Err(error) => error.to_string(),
    };
    if let Err(error) = store.journal.refuse(run, id, refused).await {
        tracing::warn!(%run, %error, "a refusal could not be recorded");
    }
}

/// Carries out what other processes ask of this one's runs, until aborted.
pub(super) async fn read_inbox(store: Store, tracker: TrackerHandle, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        match store.journal.poll(store.owner()).await {
            Ok(commands) => {
                for (run, command) in commands {
                    carry_out(&store, &tracker, run, command).await;
                }
            }
            Err(error) => tracing::warn!(%error, "the inbox could not be read"),
        }
    }
}
