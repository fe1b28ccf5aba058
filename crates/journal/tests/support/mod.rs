//! Runs, entries and stores for the tests of this crate.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{path::Path, sync::Arc};

use foreplan_core::{
    event::{Entry, Event, VERSION},
    goal::{PlannerSpec, RunSpec},
    id::RunId,
    input::{AttemptOutcome, AttemptReply, Command, CommandKind, Input, Verdicts},
    payload::Output,
    time::Timestamp,
    view::Status,
};
use foreplan_journal::{Error, MemoryJournal, NewRun, Options, Progress, RunStore, SqliteJournal, Stored};
use rusqlite::Connection;
use serde_json::{Value, json};
use uuid::Uuid;

/// A run id that no other test has.
pub(crate) fn run_id() -> RunId {
    RunId(Uuid::now_v7())
}

pub(crate) fn new_run(run: RunId) -> NewRun {
    NewRun {
        run,
        project: "p".to_owned(),
        goal: "test".to_owned(),
        key: None,
        group: None,
        created_at: Timestamp(1),
    }
}

pub(crate) fn progress(status: Status) -> Progress {
    Progress {
        status,
        waiting: None,
        since: Timestamp(1),
        next_wake: None,
        ended_at: status.is_ended().then_some(Timestamp(100)),
        steps_done: 1,
        steps: 2,
        replans: 0,
    }
}

pub(crate) fn spec(planner: PlannerSpec) -> RunSpec {
    serde_json::from_value(json!({"project": "p", "goal": "test", "planner": planner})).unwrap()
}

pub(crate) fn entry(seq: u64, cause: Input) -> Arc<Entry> {
    let events = if seq == 0 { vec![Event::RunAccepted] } else { vec![] };
    Arc::new(Entry { v: VERSION, seq, at: Timestamp(seq as i64), cause, events })
}

pub(crate) fn submit() -> Input {
    let planner = PlannerSpec::Derive { produce: vec!["report".to_owned()] };
    Input::Submit { spec: Arc::new(spec(planner)), by: "tester".to_owned(), kept: Vec::new() }
}

pub(crate) fn result(value: Value) -> Input {
    Input::Result(AttemptReply {
        step: "a".parse().unwrap(),
        attempt: 1,
        outcome: AttemptOutcome::Output(Output::inline(value)),
        worker: "w".to_owned(),
        claim: None,
        input: Some(foreplan_core::digest::Digest([1; 32]).into()),
        started_at: Timestamp(1),
        ended_at: Timestamp(2),
        usage: Default::default(),
        calls: Vec::new(),
        verdicts: Verdicts::default(),
    })
}

pub(crate) fn command(kind: CommandKind) -> Command {
    Command { id: Uuid::now_v7(), by: "tester".to_owned(), kind }
}

/// Creates a run of `count` entries.
pub(crate) async fn write_run(journal: &dyn RunStore, count: u64) -> RunId {
    let run = run_id();
    create(journal, new_run(run)).await.unwrap();
    for seq in 1..count {
        append(journal, run, seq).await.unwrap();
    }
    run
}

pub(crate) async fn create(journal: &dyn RunStore, new: NewRun) -> Result<(), Error> {
    journal.create(new, entry(0, submit()), progress(Status::Running)).await
}

pub(crate) async fn append(journal: &dyn RunStore, run: RunId, seq: u64) -> Result<(), Error> {
    journal.append(run, entry(seq, result(json!(seq))), progress(Status::Running)).await
}

/// Every kind of store, for rules that hold for all.
pub(crate) struct Stores {
    pub all: Vec<(&'static str, Arc<dyn RunStore>)>,
    _dir: tempfile::TempDir,
}

pub(crate) fn stores() -> Stores {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = sqlite(dir.path());
    let memory: Arc<dyn RunStore> = Arc::new(MemoryJournal::default());
    Stores { all: vec![("memory", memory), ("sqlite", Arc::new(sqlite))], _dir: dir }
}

pub(crate) fn sqlite(dir: &Path) -> SqliteJournal {
    SqliteJournal::open(dir, Options::default()).unwrap()
}

/// A connection that knows nothing of the journal's rules.
pub(crate) fn intruder(dir: &Path) -> Connection {
    Connection::open(dir.join("journal.db")).unwrap()
}

/// The entries of the first run as they are kept, changed by `edit`, and kept again with the hashes
/// that fit the bytes.
pub(crate) fn rewrite(conn: &Connection, edit: impl Fn(&mut Stored)) {
    let mut select = conn.prepare("select id, seq, bytes from entries where run = 1").unwrap();
    let rows: Vec<(i64, u64, Vec<u8>)> = select
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (id, seq, bytes) in rows {
        let hash = foreplan_core::digest::Digest::of_bytes(&bytes);
        let mut stored = Stored { seq, bytes, hash };
        edit(&mut stored);
        let hash = foreplan_core::digest::Digest::of_bytes(&stored.bytes);
        conn.execute("update entries set bytes = ?2, hash = ?3 where id = ?1", (id, stored.bytes, hash.0))
            .unwrap();
    }
}
