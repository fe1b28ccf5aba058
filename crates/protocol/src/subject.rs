//! Where messages go. Subjects are built and read here and nowhere else.

use std::fmt;

use foreplan_core::id::{Capability, RunId};

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Any planner.
    Planner,
    /// Any replanner.
    Replanner,
    /// Any reviewer.
    Reviewer,
    /// Any executor of the capability.
    Executor(Capability),
    /// All executors: hints that concern attempts in flight.
    Executors,
    /// The tracker that owns the run.
    Tracker(RunId),
    /// Whoever wakes trackers of runs that are not in memory.
    Trackers,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planner => f.write_str("planner"),
            Self::Replanner => f.write_str("replanner"),
            Self::Reviewer => f.write_str("reviewer"),
            Self::Executor(capability) => write!(f, "executor.{capability}"),
            Self::Executors => f.write_str("executors"),
            Self::Tracker(run) => write!(f, "tracker.{run}"),
            Self::Trackers => f.write_str("trackers"),
        }
    }
}
