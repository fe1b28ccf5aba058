//! What can go wrong with a system, apart from what becomes of runs.

use foreplan_core::{finding::Finding, fork::Refusal, id::RunId, run::Rejection};
use foreplan_tracker::{CommandError, SubmitError};

/// What can go wrong with a system, apart from what becomes of runs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tools cannot be served.
    #[error(transparent)]
    Tools(#[from] foreplan_tools::Error),
    /// An agent did not start.
    #[error("an agent did not start: {0}")]
    Start(String),
    /// The store cannot be read or written.
    #[error(transparent)]
    Journal(#[from] foreplan_journal::Error),
    /// There is no such run.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// Another process carries the run on.
    #[error("process {by} carries the run on")]
    Owned {
        /// Which.
        by: String,
    },
    /// Another run of the group is active.
    #[error("run {active} of the group `{group}` is active, and the project refuses a second one")]
    GroupBusy {
        /// The group.
        group: String,
        /// The active run.
        active: RunId,
    },
    /// No run can begin where it was to be forked.
    #[error(transparent)]
    Fork(#[from] Refusal),
    /// Too many runs are active.
    #[error("{max} runs are active, and no more are allowed at once: wait for one to end")]
    Busy {
        /// The limit.
        max: usize,
    },
    /// The run refused a command.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The owner of the run refused a command.
    #[error("{0}")]
    Refused(String),
    /// The owner of the run has not answered.
    #[error(
        "the command is recorded, but process {by} has not answered yet: look again with `foreplan show`"
    )]
    Unanswered {
        /// The owner.
        by: String,
    },
    /// A command that a killed process left running cannot be ended.
    #[error(
        "a command that a killed process left running cannot be ended, so its run waits: {0}; end it, then resume"
    )]
    Orphan(#[source] std::io::Error),
    /// The run cannot be carried on.
    #[error("the run cannot be carried on: {0}")]
    Stuck(String),
    /// The deployment cannot be used.
    #[error("{0}")]
    Deployment(String),
    /// There is no plan.
    #[error("{message}")]
    NoPlan {
        /// A stable word.
        code: String,
        /// Why, and what to do.
        message: String,
        /// Details with their places.
        findings: Vec<Finding>,
    },
}

impl From<SubmitError> for Error {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Busy { max } => Self::Busy { max },
            SubmitError::Fork(refusal) => Self::Fork(refusal),
            SubmitError::Journal(error) => Self::Journal(error),
        }
    }
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Rejected(rejection) => Self::Rejected(rejection),
            CommandError::Stuck(why) => Self::Stuck(why),
            CommandError::Stopped => Self::Stuck("the system has stopped".to_owned()),
        }
    }
}
