//! What the index knows of a run: headers of its last message. So there is no index beside the journal
//! that could disagree with it.

use std::fmt::Write as _;

use async_nats::HeaderMap;
use foreplan_core::{
    digest::Digest,
    id::RunId,
    time::Timestamp,
    view::{Status, WaitKind},
};
use foreplan_journal::{Head, NewRun, Progress, RunRecord};
use serde::{Deserialize, Serialize};

/// The header that names the run.
const RUN: &str = "Foreplan-Run";

/// The header that says where the run stands.
const PROGRESS: &str = "Foreplan-Progress";

/// The header with the last entry's sequence, and the hash of each entry.
const HEAD: &str = "Foreplan-Head";

/// Bytes of a goal that the index keeps: lists show less.
const GOAL_BYTES_MAX: usize = 512;

/// What the index says of every run, for one's entries.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RunHeader {
    project: String,
    goal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    created_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct ProgressHeader {
    status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waiting: Option<WaitKind>,
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_wake: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    steps_done: u32,
    steps: u32,
    replans: u32,
}

/// Returns the header that every entry of a run carries.
pub(crate) fn run_header(new: &NewRun) -> String {
    let mut goal = new.goal.clone();
    if goal.len() > GOAL_BYTES_MAX {
        let mut end = GOAL_BYTES_MAX;
        while !goal.is_char_boundary(end) {
            end -= 1;
        }
        goal.truncate(end);
        goal.push('…');
    }
    to_json(&RunHeader {
        project: new.project.clone(),
        goal,
        key: new.key.clone(),
        group: new.group.clone(),
        created_at: new.created_at,
    })
}

/// Returns the headers of entries, of which `seq` is the last one's, from their hashes in order.
pub(crate) fn headers(run: &str, progress: Progress, seq: u64, hashes: &[Digest]) -> HeaderMap {
    let Progress { status, waiting, since, next_wake, ended_at, steps_done, steps, replans } = progress;
    let progress = ProgressHeader { status, waiting, since, next_wake, ended_at, steps_done, steps, replans };
    let mut headers = HeaderMap::new();
    headers.insert(RUN, run);
    headers.insert(PROGRESS, to_json(&progress));
    let mut head = seq.to_string();
    for hash in hashes {
        let _ = write!(head, " {hash}");
    }
    headers.insert(HEAD, head);
    headers
}

/// Returns the header that names the run, as it stands on one of its entries.
pub(crate) fn run_header_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(RUN).map(|value| value.as_str())
}

/// Returns the end of the chain that the headers of entries name.
pub(crate) fn head(headers: &HeaderMap) -> Option<(u64, Digest)> {
    let (seq, hashes) = headers.get(HEAD)?.as_str().split_once(' ')?;
    let last = hashes.rsplit(' ').next()?;
    Some((seq.parse().ok()?, last.parse().ok()?))
}

/// Returns the sequences and hashes of entries that their headers name.
pub(crate) fn hashes(headers: &HeaderMap) -> Option<Vec<(u64, Digest)>> {
    let (last, hashes) = headers.get(HEAD)?.as_str().split_once(' ')?;
    let last: u64 = last.parse().ok()?;
    let hashes: Vec<Digest> = hashes.split(' ').map(|hash| hash.parse().ok()).collect::<Option<_>>()?;
    let first = (last + 1).checked_sub(hashes.len() as u64)?;
    Some((first..).zip(hashes).collect())
}

/// Returns what the headers of a run's last entry say of the run.
pub(crate) fn record(run: RunId, headers: &HeaderMap) -> Option<RunRecord> {
    let new: RunHeader = serde_json::from_str(headers.get(RUN)?.as_str()).ok()?;
    let progress: ProgressHeader = serde_json::from_str(headers.get(PROGRESS)?.as_str()).ok()?;
    let (seq, hash) = head(headers)?;
    let RunHeader { project, goal, key, group, created_at } = new;
    let ProgressHeader { status, waiting, since, next_wake, ended_at, steps_done, steps, replans } = progress;
    Some(RunRecord {
        run: NewRun { run, project, goal, key, group, created_at },
        progress: Progress { status, waiting, since, next_wake, ended_at, steps_done, steps, replans },
        head: Head { seq, hash: Some(hash) },
        owner: Some(crate::run_store::DEPLOYMENT.to_owned()),
    })
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
