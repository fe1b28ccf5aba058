//! What driving a run comes to.

use std::ops::Deref;

use foreplan_core::view::RunView;

/// Where a run stands when nothing more happens by itself. Either way it is a [`RunView`]: the
/// plan, the status of each step, the replans, the result.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The run has ended.
    Done(RunView),
    /// The run is paused, or waits for a person; `waiting_for` says for what.
    Waiting(RunView),
}

impl Outcome {
    /// Returns the view by value.
    #[must_use]
    pub fn into_view(self) -> RunView {
        match self {
            Self::Done(view) | Self::Waiting(view) => view,
        }
    }

    /// Returns whether a person must say something.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting(_))
    }
}

impl From<RunView> for Outcome {
    fn from(view: RunView) -> Self {
        if view.status.is_ended() { Self::Done(view) } else { Self::Waiting(view) }
    }
}

impl Deref for Outcome {
    type Target = RunView;

    fn deref(&self) -> &RunView {
        match self {
            Self::Done(view) | Self::Waiting(view) => view,
        }
    }
}

/// What a program says about a plan or step that waits for approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Go on.
    Approve {
        /// Who approves.
        by: String,
    },
    /// End the run.
    Reject {
        /// Who refuses.
        by: String,
        /// Why.
        reason: String,
    },
    /// Leave it to somebody else: the run stays waiting.
    Wait,
}
