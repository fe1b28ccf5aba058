//! What a tracker's process does with what comes for its queues.

use std::{sync::Arc, time::Duration};

use foreplan_core::{
    goal::{RunSpec, WhenBusy},
    id::RunId,
    input::Command,
    run::Rejection,
};
use foreplan_journal::{Error as JournalError, Journal as _, RunStore as _};
use foreplan_nats::{Answer, NatsJournal, Refusal};
use foreplan_protocol::wire::Queues;
use foreplan_tracker::{CommandError, SubmitError, TrackerHandle};
use futures::future::BoxFuture;

/// How often a run that waits for its turn in a group looks.
const TURN_INTERVAL: Duration = Duration::from_millis(500);

/// Hands runs and commands to the tracker.
#[derive(Clone)]
pub(super) struct Desk {
    tracker: TrackerHandle,
    journal: NatsJournal,
}

impl Desk {
    pub(super) fn new(tracker: TrackerHandle, journal: NatsJournal) -> Self {
        tracker.share();
        Self { tracker, journal }
    }

    async fn accept(&self, run: RunId, spec: Arc<RunSpec>, by: &str) -> Result<(), Refusal> {
        let busy = self.busy_group(&spec, run).await?;
        let is_child = spec.parent.is_some();
        let rejects = spec.group.as_ref().is_some_and(|group| group.when_busy == WhenBusy::Reject);
        let submitted = match busy {
            Some(first) if rejects => {
                return Err(Refusal::Busy(format!(
                    "run {first} of the group is active, and the project refuses a second one"
                )));
            }
            Some(_) => {
                let submitted = self.tracker.submit_held(run, Arc::clone(&spec), by).await;
                if submitted.is_ok() {
                    tokio::spawn(self.clone().begin_in_turn(run, spec));
                }
                submitted
            }
            None => self.tracker.submit(run, spec, by).await,
        };
        match submitted {
            Ok(_) => Ok(()),
            Err(SubmitError::Journal(JournalError::Exists(first))) if first == run => {
                if is_child {
                    self.tracker.ask(run);
                }
                Ok(())
            }
            Err(SubmitError::Journal(JournalError::Exists(first))) => Err(Refusal::Exists(first)),
            Err(error @ SubmitError::Busy { .. }) => Err(Refusal::Busy(error.to_string())),
            Err(SubmitError::Fork(refusal)) => Err(Refusal::Fork(refusal.to_string())),
            Err(SubmitError::Journal(error)) => Err(Refusal::Stuck(error.to_string())),
        }
    }

    async fn busy_group(&self, spec: &RunSpec, own: RunId) -> Result<Option<RunId>, Refusal> {
        let Some(group) = &spec.group else { return Ok(None) };
        let active = self.journal.active_in_group(&spec.project, &group.name).await;
        let active = active.map_err(|error| Refusal::Stuck(error.to_string()))?;
        Ok(active.first().map(|record| record.run.run).filter(|first| *first != own))
    }

    async fn begin_in_turn(self, run: RunId, spec: Arc<RunSpec>) {
        while matches!(self.busy_group(&spec, run).await, Ok(Some(_))) {
            tokio::time::sleep(TURN_INTERVAL).await;
        }
        self.tracker.carry_on(run, None);
    }

    async fn carry_out(&self, run: RunId, command: Command) -> Result<(), Refusal> {
        match self.tracker.command(run, command).await {
            Ok(()) | Err(CommandError::Rejected(Rejection::Duplicate)) => Ok(()),
            Err(CommandError::Rejected(rejection)) => Err(Refusal::Rejected(rejection)),
            Err(error) => match self.journal.find(run).await {
                Ok(None) => Err(Refusal::NoRun(run)),
                Ok(Some(_)) | Err(_) => Err(Refusal::Stuck(error.to_string())),
            },
        }
    }
}

impl foreplan_nats::Desk for Desk {
    fn submit(&self, run: RunId, spec: Arc<RunSpec>, by: String) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let parent = spec.parent.clone();
            let accepted = self.accept(run, spec, &by).await;
            // A run that may be there after all is begun again.
            if let (Some(parent), Err(refusal)) = (parent, &accepted)
                && !matches!(refusal, Refusal::Stuck(_))
            {
                self.tracker.decline(parent, &refusal.to_string()).await;
            }
            answer(accepted)
        })
    }

    fn command(&self, run: RunId, command: Command) -> BoxFuture<'_, Answer> {
        Box::pin(async move { answer(self.carry_out(run, command).await) })
    }

    fn attend(&self, run: RunId) {
        self.tracker.attend(run);
    }

    fn carry_on(&self, run: RunId) {
        self.tracker.carry_on(run, None);
    }

    fn forget(&self, queues: Queues, lost: u8) {
        self.tracker.forget(move |run| queues.of(run) == lost);
    }
}

fn answer(result: Result<(), Refusal>) -> Answer {
    result.map_or_else(Answer::Refused, |()| Answer::Accepted)
}
