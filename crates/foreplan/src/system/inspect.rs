//! Looking: at runs, at plans that are not run, at the record.

use std::sync::Arc;

use foreplan_core::{
    event::Entry,
    finding::Finding,
    goal::RunSpec,
    id::RunId,
    input::Proposal,
    plan::{Plan, StepKind},
    run::Run,
    tool::Inventory,
    view::{JournalView, RunView, Status, StepStatus, StepView, WaitKind},
};
use foreplan_journal::{RunFilter, RunRecord};
use foreplan_protocol::{Message, PlanOutcome, PlanRequest, Reply, Subject};
use foreplan_tracker::Planning;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Error, InHand, System};

/// A plan that nobody runs, with what `check` says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Who made it.
    pub by: String,
    /// The plan, checked.
    pub proposal: Proposal,
}

impl System {
    /// Returns how many runs are in the memory of this process. Those that wait for a person are not.
    #[must_use]
    pub fn runs_in_memory(&self) -> usize {
        self.inner.tracker.actors()
    }

    /// Returns the run as people and programs see it.
    ///
    /// # Errors
    ///
    /// If there is none, or its journal is damaged.
    pub async fn view(&self, run: RunId) -> Result<RunView, Error> {
        let entries = self.entries(run).await?;
        self.view_of(run, &entries).await
    }

    /// Returns the run as it stood after these entries.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub async fn view_of(&self, id: RunId, entries: &[Arc<Entry>]) -> Result<RunView, Error> {
        let run = Run::replay(id, entries.iter().map(AsRef::as_ref)).ok_or(Error::NoRun(id))?;
        self.view_of_run(&run).await
    }

    pub(super) async fn view_of_run(&self, run: &Run) -> Result<RunView, Error> {
        let (store, id) = (&self.inner.store, run.id());
        let record = store.journal.find(id).await?;
        let owner = record.as_ref().and_then(|record| record.owner.clone());
        let head = record.and_then(|record| record.head.hash);
        let journal = JournalView { entries: run.seq(), head };
        let result = match run.status() {
            Status::Succeeded => match foreplan_tracker::result(run, store.payloads.as_ref()).await {
                Ok(result) => result,
                Err(error) => {
                    tracing::warn!(run = %id, %error, "the result cannot be shown");
                    None
                }
            },
            _ => None,
        };
        let mut view = run.view(result, journal);
        self.name_workers(&mut view, owner);
        for wait in view.waiting.iter_mut().chain(view.waiting_for.iter_mut()) {
            let Some(step) = wait.step.as_ref().filter(|_| wait.kind == WaitKind::Question) else { continue };
            // A replanner's question stands as it asked it.
            if wait.question.as_deref() == written_question(run, step.as_str()) {
                wait.question = foreplan_tracker::question(run, step.as_str());
            }
        }
        Ok(view)
    }

    /// Names who has a step in hand now. That is no part of the journal: in one process it is the owner
    /// of the run, in a deployment the worker that said so.
    fn name_workers(&self, view: &mut RunView, owner: Option<String>) {
        if !view.steps.iter().any(|step| step.status == StepStatus::Running) {
            return;
        }
        let in_hand = self.inner.remote.as_ref().map(|_| self.in_hand(view.run));
        let owner = owner.filter(|owner| self.inner.store.journal.owner_is_alive(owner));
        for step in view.steps.iter_mut().filter(|step| is_in_flight(step)) {
            step.worker = match &in_hand {
                None => owner.clone(),
                Some(in_hand) => {
                    let held = in_hand.iter().find(|h| h.step == step.id && h.attempt == step.attempts);
                    step.started_at = held.map(|held| held.since).or(step.started_at);
                    held.map(|held| held.worker.clone())
                }
            };
        }
    }

    /// Returns the steps of a run that workers of the deployment have in hand, as last heard.
    #[must_use]
    pub fn in_hand(&self, run: RunId) -> Vec<InHand> {
        self.inner.remote.as_ref().map(|remote| remote.deployment.in_hand(run)).unwrap_or_default()
    }

    /// Returns the run's journal, verified.
    ///
    /// # Errors
    ///
    /// If there is none, or it is damaged.
    pub async fn entries(&self, run: RunId) -> Result<Vec<Arc<Entry>>, Error> {
        match self.inner.store.journal.read(run, 0).await {
            Ok(entries) => Ok(entries),
            Err(foreplan_journal::Error::NoRun(run)) => Err(Error::NoRun(run)),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the runs that match, newest first.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRecord>, Error> {
        Ok(self.inner.store.journal.list(filter).await?)
    }

    /// Returns the inventory that plans are made and checked with.
    #[must_use]
    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inner.inventory
    }

    /// Checks a plan without running it.
    #[must_use]
    pub fn check(&self, plan: &Arc<Plan>, spec: &RunSpec) -> Proposal {
        let of_project =
            self.inner.remote.as_ref().map(|remote| remote.deployment.inventory_of(&spec.project));
        let inventory = of_project.as_ref().unwrap_or(&self.inner.inventory);
        foreplan_tracker::propose(plan, Planning { spec, inventory, goals: true })
    }

    /// Asks the planner for a plan, and checks it. Nothing is recorded.
    ///
    /// # Errors
    ///
    /// [`Error::NoPlan`] if there is none.
    pub async fn plan(&self, spec: Arc<RunSpec>) -> Result<Planned, Error> {
        let run = RunId(Uuid::now_v7());
        let subject = Subject::Tracker(run);
        let (answers, mut answered) = mpsc::unbounded_channel();
        let consumer =
            move |message| answers.send(message).map_err(|_| foreplan_bus::Error::Gone("plan".to_owned()));
        self.inner.bus.serve(subject.clone(), Box::new(consumer));
        let request =
            PlanRequest { run, request: 1, spec: Arc::clone(&spec), context: None, answers: Vec::new() };
        let request = Message::Plan(Arc::new(request));
        let asked = self.inner.bus.publish(Subject::Planner, request).await;
        let answer = match asked {
            Ok(()) => answered.recv().await,
            Err(error) => return Err(Error::Start(error.to_string())),
        };
        self.inner.bus.leave(&subject);
        match answer {
            Some(Message::Reply {
                reply: Reply::Plan { by, outcome: PlanOutcome::Plan(plan), .. }, ..
            }) => Ok(Planned { by, proposal: self.check(&plan, &spec) }),
            Some(Message::Reply {
                reply: Reply::Plan { outcome: PlanOutcome::None { code, message, findings }, .. },
                ..
            }) => Err(Error::NoPlan { code, message, findings }),
            Some(Message::Reply {
                reply: Reply::Plan { outcome: PlanOutcome::Question { question }, .. },
                ..
            }) => {
                let message = format!("the planner asks: {question} (say it in the goal or in the guidance)");
                Err(Error::NoPlan { code: "question".to_owned(), message, findings: Vec::new() })
            }
            _ => Err(no_answer()),
        }
    }
}

fn is_in_flight(step: &StepView) -> bool {
    step.status == StepStatus::Running && step.attempts > 0 && step.ended_at.is_none()
}

/// Returns the question of a human step as its plan has it.
fn written_question<'a>(run: &'a Run, step: &str) -> Option<&'a str> {
    match run.definition(step)?.kind()? {
        StepKind::Human(human) => Some(&human.question),
        StepKind::Tool(_) | StepKind::Agent(_) | StepKind::Goal(_) => None,
    }
}

fn no_answer() -> Error {
    let findings: Vec<Finding> = Vec::new();
    Error::NoPlan { code: "no_answer".to_owned(), message: "the planner did not answer".to_owned(), findings }
}
