//! What the index knows of a run.

use foreplan_core::{
    digest::Digest,
    id::RunId,
    time::Timestamp,
    view::{Status, WaitKind},
};

/// What the index keeps of a run from its first entry on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// The run.
    pub run: RunId,
    /// Its project.
    pub project: String,
    /// What it is for.
    pub goal: String,
    /// Unique with the project, if given.
    pub key: Option<String>,
    /// At most one run of a group is active.
    pub group: Option<String>,
    /// When it was accepted.
    pub created_at: Timestamp,
}

/// What the index keeps of a run from entry to entry. Small and cheap: it goes with every append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where the run stands.
    pub status: Status,
    /// What it waits for, if anything.
    pub waiting: Option<WaitKind>,
    /// Since when it has this status.
    pub since: Timestamp,
    /// When it must be woken.
    pub next_wake: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Steps done.
    pub steps_done: u32,
    /// Steps of the plan in force.
    pub steps: u32,
    /// Adopted plan versions after the first.
    pub replans: u32,
}

/// The end of a run's hash chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last entry.
    pub seq: u64,
    /// SHA-256 of its stored bytes; absent where it is made on export only.
    pub hash: Option<Digest>,
}

/// What the index knows of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// From its first entry.
    pub run: NewRun,
    /// From its last.
    pub progress: Progress,
    /// The end of its chain.
    pub head: Head,
    /// The process that carries it on, if one does.
    pub owner: Option<String>,
}

/// Which runs are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only those that have not ended.
    pub open: bool,
    /// At most this many.
    pub limit: Option<usize>,
}

impl RunRecord {
    /// Returns whether it has not ended, and counts in this group.
    #[must_use]
    pub fn is_active_in(&self, project: &str, group: &str) -> bool {
        self.progress.ended_at.is_none()
            && self.run.project == project
            && self.run.group.as_deref() == Some(group)
    }

    /// Returns whether its id ends so, whatever way that was written.
    #[must_use]
    pub fn ends_with(&self, suffix: &str) -> bool {
        self.run.run.0.simple().to_string().ends_with(&plain_suffix(suffix))
    }
}

/// Returns the end of a run id as its hexadecimal digits alone, whatever way it was written.
pub(crate) fn plain_suffix(suffix: &str) -> String {
    suffix.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect()
}
