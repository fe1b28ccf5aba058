//! What a process exits with: a contract with scripts.

use foreplan_core::{
    event::RunFailure,
    view::{RunView, Status},
};
use foreplan_model::ErrorKind;

/// What a process exits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The run succeeded; the command did its work.
    Ok = 0,
    /// Internal error.
    Internal = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Waiting for a person, or paused.
    Waiting = 3,
    /// No valid plan was adopted, or it is stale.
    NoPlan = 4,
    /// Rejected or cancelled.
    Rejected = 5,
    /// A budget or the deadline was exceeded.
    Budget = 6,
    /// The journal does not verify.
    Corrupt = 7,
    /// The store or a server is unreachable or busy.
    Unavailable = 8,
    /// The run failed.
    Failed = 10,
    /// Interrupted.
    Interrupted = 130,
    /// Terminated.
    Terminated = 143,
}

impl Exit {
    /// Returns what a command that carried a run on exits with.
    #[must_use]
    pub fn of(view: &RunView, failure: Option<&RunFailure>) -> Self {
        match view.status {
            Status::Succeeded => Self::Ok,
            Status::Waiting | Status::Paused => Self::Waiting,
            Status::Cancelled | Status::Rejected => Self::Rejected,
            Status::Failed => match failure {
                Some(RunFailure::NoPlan { code, .. }) => Self::of_no_plan(code),
                Some(RunFailure::Budget { .. } | RunFailure::ApprovalTimeout) => Self::Budget,
                Some(RunFailure::Step { .. } | RunFailure::Decided { .. }) | None => Self::Failed,
            },
            Status::Planning | Status::Running | Status::Replanning => Self::Ok,
        }
    }
}

impl Exit {
    /// Returns what a command exits with that has no plan for the reason `code`.
    #[must_use]
    pub fn of_no_plan(code: &str) -> Self {
        if code == ErrorKind::Unavailable.code() { Self::Unavailable } else { Self::NoPlan }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
