//! The state machine of a run.
//!
//! # Contract
//!
//! * [`Run::handle`] takes one [`Input`] and decides: it emits events, applies each to itself, and
//!   says what the shell must do. A decision with events is one journal entry with the number that
//!   [`Run::seq`] had before the call. If that entry cannot be appended, the state is ahead of the
//!   journal: drop it and fold again.
//! * [`Run::fold`] takes an entry of the journal. Folding all entries gives the live state, at every
//!   prefix.
//! * Verdicts hold for the plan version that they were made under: the shell drops those of another
//!   version, and the run asks for new ones.
//! * Time never runs backwards: a point before the last entry counts as the last entry's.
//! * [`Run::outstanding`] repeats what a new owner must ask again; [`Run::next_wake`] says when the
//!   run wants an [`Input::Wake`].
//!
//! One file per family of transitions: `planning`, `steps`, `items`, `effects`, `goals`, `replanning`,
//! `reviewing`, `commands`, `timers`. `apply` holds the meaning of every event.

mod adopt;
mod apply;
mod attempts;
mod cause;
mod commands;
mod effects;
mod fork;
mod goals;
mod items;
mod moves;
mod planning;
mod query;
mod recovery;
mod replanning;
mod reviewing;
mod state;
mod steps;
mod timers;
mod view;

use std::sync::Arc;

use crate::{
    action::Action,
    event::{Entry, Event, VERSION},
    goal::RunSpec,
    id::{RunId, StepId},
    input::Input,
    time::Timestamp,
    view::Status,
};

pub use effects::{PERMIT_DENIED, permit_denied};
pub use fork::Fork;
pub use planning::QUESTIONS_MAX;
pub use query::{Asked, Found};
pub use reviewing::REVIEW_TIME_MAX;
pub use state::{PlanVersion, Run, StepRun, StepState, Timer};

/// A step whose workers were lost this often pauses the run: something about it kills them.
pub const WORKERS_LOST_MAX: u32 = 5;

/// A step whose permits came too late this often in a row fails. A permit counts for ten seconds, so
/// whatever holds them up has lasted for minutes by then: nothing says that it will pass.
pub const PERMITS_LATE_MAX: u32 = 20;

/// How much longer than its timeout the tracker waits for an attempt: the worker ends it first, and
/// needs a moment to stop a process group and to answer.
pub const WORKER_GRACE: std::time::Duration = std::time::Duration::from_secs(30);

/// The shortest and the longest wait before a step that nobody serves is offered again: a worker that
/// registers is given it soon, and a long wait writes few entries.
pub const UNSERVED_WAIT: (std::time::Duration, std::time::Duration) =
    (std::time::Duration::from_secs(1), std::time::Duration::from_secs(20));

/// What a run decides about one input.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Decision {
    /// What happened: one journal entry, unless there are none.
    pub events: Vec<Event>,
    /// What the shell must do once the entry is durable.
    pub actions: Vec<Action>,
}

/// Why an input changes nothing and is sent back.
#[derive(
    Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The run has ended.
    #[error("the run has ended: {}", .0.as_str())]
    Ended(Status),
    /// Nothing of the kind waits.
    #[error("nothing waits for this: {0}")]
    NotWaiting(String),
    /// What was approved is not what waits.
    #[error("the digest is not that of what waits now: look again, then approve {expected}")]
    StaleDigest {
        /// What waits now.
        expected: crate::digest::Digest,
    },
    /// The plan that was edited is not the newest.
    #[error("the plan has moved on to version {current}: edit that")]
    StalePlan {
        /// The newest version.
        current: u32,
    },
    /// The run has no such step.
    #[error("the run has no step `{0}`")]
    UnknownStep(StepId),
    /// The answer does not fit.
    #[error("the answer does not fit: {0}")]
    Answer(String),
    /// The plan cannot be adopted.
    #[error("the plan cannot be adopted: {0}")]
    Plan(String),
    /// The command makes no sense now.
    #[error("{0}")]
    NotNow(String),
    /// The command was carried out before.
    #[error("this command was carried out before")]
    Duplicate,
}

impl Run {
    /// Creates the run from its submission; `None` if the input is another. The decision is the
    /// run's first entry.
    #[must_use]
    pub fn submit(id: RunId, now: Timestamp, submission: &Input) -> Option<(Self, Decision)> {
        let Input::Submit { spec, .. } = submission else { return None };
        let mut run = Self::new(id, Arc::clone(spec), now);
        let mut turn = Turn::new(&mut run, now, submission);
        turn.emit(Event::RunAccepted);
        turn.request_plan(None);
        let decision = turn.finish();
        Some((run, decision))
    }

    /// Decides about one input.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] changes nothing; who sent the input is told why.
    pub fn handle(&mut self, now: Timestamp, input: &Input) -> Result<Decision, Rejection> {
        let now = now.max(self.at);
        let mut turn = Turn::new(self, now, input);
        match input {
            Input::Submit { .. } => return Err(Rejection::Duplicate),
            Input::Planned(reply) => {
                turn.planned(reply);
                turn.check_budget();
            }
            Input::Evaluated { ready } => turn.evaluated(ready),
            Input::Result(reply) => {
                turn.result(reply);
                turn.check_budget();
            }
            Input::Permit { step, attempt, call, asker } => {
                turn.permit(step, *attempt, call.as_ref(), asker);
            }
            Input::Replanned(reply) => {
                turn.replanned(reply);
                turn.check_budget();
            }
            Input::Child { step, attempt, waits } => turn.child_stands(step, *attempt, *waits),
            Input::Reviewed(reply) => {
                turn.reviewed(reply);
                turn.check_budget();
            }
            Input::Command(command) => turn.command(command)?,
            Input::Wake => turn.wake(),
            Input::Takeover { by } => turn.takeover(by),
        }
        Ok(turn.finish())
    }

    /// Applies an entry of the journal.
    pub fn fold(&mut self, entry: &Entry) {
        for event in &entry.events {
            self.apply(entry.at, &entry.cause, event);
        }
        self.seal(entry.at, &entry.cause);
    }

    /// Returns the state that a journal leads to; `None` if it does not begin with a submission.
    #[must_use]
    pub fn replay<'a>(id: RunId, entries: impl IntoIterator<Item = &'a Entry>) -> Option<Self> {
        let mut entries = entries.into_iter();
        let first = entries.next()?;
        let Input::Submit { spec, .. } = &first.cause else { return None };
        let mut run = Self::new(id, Arc::clone(spec), first.at);
        run.fold(first);
        for entry in entries {
            run.fold(entry);
        }
        Some(run)
    }

    /// Makes the entry of a decision. `seq` is what [`Run::seq`] was before.
    #[must_use]
    pub fn entry(seq: u64, at: Timestamp, cause: Input, events: Vec<Event>) -> Entry {
        Entry { v: VERSION, seq, at, cause, events }
    }

    /// Returns the run's spec, as last revised.
    #[must_use]
    pub fn spec(&self) -> &Arc<RunSpec> {
        &self.spec
    }
}

/// One input being decided about.
struct Turn<'a> {
    run: &'a mut Run,
    now: Timestamp,
    cause: &'a Input,
    events: Vec<Event>,
    actions: Vec<Action>,
}

impl<'a> Turn<'a> {
    fn new(run: &'a mut Run, now: Timestamp, cause: &'a Input) -> Self {
        Self { run, now, cause, events: Vec::with_capacity(4), actions: Vec::with_capacity(2) }
    }

    fn emit(&mut self, event: Event) {
        self.run.apply(self.now, self.cause, &event);
        self.events.push(event);
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Carries out what follows from the events so far, then seals the entry.
    fn finish(mut self) -> Decision {
        if !self.events.is_empty() {
            self.follow_up();
            self.tell_children();
            self.run.seal(self.now, self.cause);
        }
        Decision { events: self.events, actions: self.actions }
    }
}
