//! Rows as values.

use foreplan_core::{
    digest::Digest,
    id::RunId,
    time::Timestamp,
    view::{Status, WaitKind},
};
use rusqlite::{Row, types::Type};
use serde::{Deserialize, de::value::StrDeserializer};
use uuid::Uuid;

use crate::{Head, NewRun, Progress, RunRecord, Stored};

/// What [`record`] reads, from `runs r join heads h using (id)`.
pub(super) const RECORD: &str = "r.run, r.project, r.goal, r.key, r.group_name, r.created_at, h.seq, \
     h.hash, h.status, h.waiting, h.since, h.next_wake, h.ended_at, h.steps_done, h.steps, h.replans, \
     h.owner from runs r join heads h on h.id = r.id";

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    Ok(RunRecord {
        run: NewRun {
            run: run_id(row, 0)?,
            project: row.get(1)?,
            goal: row.get(2)?,
            key: row.get(3)?,
            group: row.get(4)?,
            created_at: Timestamp(row.get(5)?),
        },
        head: Head { seq: row.get(6)?, hash: Some(Digest(row.get(7)?)) },
        progress: Progress {
            status: word(row, 8)?,
            waiting: row.get_ref(9)?.as_str_or_null()?.map(|_| word(row, 9)).transpose()?,
            since: Timestamp(row.get(10)?),
            next_wake: row.get::<_, Option<i64>>(11)?.map(Timestamp),
            ended_at: row.get::<_, Option<i64>>(12)?.map(Timestamp),
            steps_done: row.get(13)?,
            steps: row.get(14)?,
            replans: row.get(15)?,
        },
        owner: row.get(16)?,
    })
}

/// Reads `seq, hash, bytes`.
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored { seq: row.get(0)?, hash: Digest(row.get(1)?), bytes: row.get(2)? })
}

pub(super) fn run_id(row: &Row<'_>, at: usize) -> rusqlite::Result<RunId> {
    Ok(RunId(Uuid::from_bytes(row.get(at)?)))
}

fn word<'de, T: Deserialize<'de>>(row: &'de Row<'_>, at: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(at)?.as_str()?;
    T::deserialize(StrDeserializer::<serde::de::value::Error>::new(text))
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(e)))
}

pub(super) fn status_word(status: Status) -> &'static str {
    status.as_str()
}

pub(super) fn waiting_word(waiting: WaitKind) -> &'static str {
    match waiting {
        WaitKind::PlanApproval => "plan_approval",
        WaitKind::StepApproval => "step_approval",
        WaitKind::ReplanApproval => "replan_approval",
        WaitKind::Question => "question",
        WaitKind::UnknownOutcome => "unknown_outcome",
        WaitKind::ChildRun => "child_run",
    }
}
