//! A journal that somebody edited: the first entry that does not fit is named.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use foreplan_core::{input::Input, view::Status};
use foreplan_journal::{Error, Journal, RunStore, SqliteJournal};
use rusqlite::Connection;
use support::*;

/// Edits a journal of two runs of six entries each (ids 1 and 2 in the tables), and returns what
/// reading the first one says.
async fn read_after(edit: impl FnOnce(&Connection)) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let journal = sqlite(dir.path());
    let run = write_run(&journal, 6).await;
    let other = run_id();
    let submitted = entry(0, Input::Takeover { by: "another".to_owned() });
    journal.create(new_run(other), submitted, progress(Status::Running)).await.unwrap();
    for seq in 1..6 {
        let cause = result(serde_json::json!("another"));
        journal.append(other, entry(seq, cause), progress(Status::Running)).await.unwrap();
    }
    edit(&intruder(dir.path()));
    assert_eq!(journal.read(other, 0).await.unwrap().len(), 6);
    let report = journal.verify(run).await.unwrap();
    let error = journal.read(run, 0).await.unwrap_err();
    match (&error, report.fault) {
        (Error::Corrupt { seq, .. }, Some(fault)) => assert_eq!(*seq, fault.seq),
        (Error::TooNew { .. }, None) => {}
        (error, fault) => panic!("{error}: {fault:?}"),
    }
    error
}

fn execute(sql: &'static str) -> impl FnOnce(&Connection) {
    move |conn| {
        assert_ne!(conn.execute(sql, []).unwrap(), 0);
    }
}

async fn first_misfit(edit: impl FnOnce(&Connection)) -> (u64, String) {
    match read_after(edit).await {
        Error::Corrupt { seq, reason, .. } => (seq, reason),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_flipped_byte_is_named() {
    for seq in [0, 2, 5] {
        let (named, reason) = first_misfit(|conn| {
            let (id, mut bytes): (i64, Vec<u8>) = conn
                .query_row("select id, bytes from entries where run = 1 and seq = ?1", [seq], |r| {
                    Ok((r.get(0)?, r.get(1)?))
                })
                .unwrap();
            bytes[20] ^= 1;
            conn.execute("update entries set bytes = ?2 where id = ?1", (id, bytes)).unwrap();
        })
        .await;
        assert_eq!(named, seq, "{reason}");
        assert!(reason.contains("not those that were written"), "{reason}");
    }
}

#[tokio::test]
async fn an_edited_entry_is_named_although_its_own_hash_fits() {
    for seq in [0, 3, 5] {
        let (named, reason) = first_misfit(|conn| {
            rewrite(conn, |stored| {
                if stored.seq == seq {
                    let text = String::from_utf8(stored.bytes.clone()).unwrap();
                    stored.bytes = text.replace("\"at\":", "\"at\":1").into_bytes();
                }
            });
        })
        .await;
        assert_eq!((named, reason.contains("chain behind it")), (seq, true), "{reason}");
    }
}

#[tokio::test]
async fn a_removed_entry_is_named() {
    for (sql, seq) in [
        ("delete from entries where run = 1 and seq = 0", 0),
        ("delete from entries where run = 1 and seq = 3", 3),
        ("delete from entries where run = 1 and seq = 5", 5),
        ("delete from entries where run = 1 and seq > 2", 3),
        ("delete from entries where run = 1", 0),
    ] {
        let (named, reason) = first_misfit(execute(sql)).await;
        assert_eq!((named, reason.contains("missing")), (seq, true), "{sql}: {reason}");
    }
}

#[tokio::test]
async fn reordered_entries_are_named() {
    let (named, reason) = first_misfit(|conn| {
        for (from, to) in [(2, 99), (4, 2), (99, 4)] {
            conn.execute("update entries set seq = ?2 where run = 1 and seq = ?1", (from, to)).unwrap();
        }
    })
    .await;
    assert_eq!(named, 2, "{reason}");
}

#[tokio::test]
async fn an_entry_of_another_run_is_named() {
    for seq in [0, 3, 5] {
        let (named, reason) = first_misfit(|conn| {
            let sql = "update entries set (bytes, hash) =
                           (select bytes, hash from entries where run = 2 and seq = ?1)
                       where run = 1 and seq = ?1";
            conn.execute(sql, [seq]).unwrap();
        })
        .await;
        assert_eq!(named, seq, "{reason}");
    }
}

#[tokio::test]
async fn an_entry_behind_the_end_is_named() {
    let (named, reason) = first_misfit(execute(
        "insert into entries(run, seq, hash, bytes) select run, 6, hash, bytes from entries where run = 1 and seq = 5",
    ))
    .await;
    assert_eq!((named, reason.contains("behind entry 5")), (6, true), "{reason}");
}

#[tokio::test]
async fn an_end_that_was_moved_back_is_named() {
    let (named, _) = first_misfit(execute(
        "update heads set (seq, hash) = (select seq, hash from entries where run = 1 and seq = 3) where id = 1",
    ))
    .await;
    assert_eq!(named, 4);
}

#[tokio::test]
async fn an_end_far_away_is_named_at_once() {
    let (named, _) = first_misfit(execute("update heads set seq = 9007199254740991 where id = 1")).await;
    assert_eq!(named, 6);
}

#[tokio::test]
async fn only_what_was_asked_for_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let journal = sqlite(dir.path());
    let run = write_run(&journal, 6).await;
    intruder(dir.path()).execute("delete from entries where seq = 1", []).unwrap();
    assert_eq!(journal.read(run, 3).await.unwrap().len(), 3);
    assert!(matches!(journal.read(run, 1).await, Err(Error::Corrupt { seq: 1, .. })));
}

#[tokio::test]
async fn a_damaged_run_is_never_continued_over_its_gap() {
    let dir = tempfile::tempdir().unwrap();
    let journal = sqlite(dir.path());
    let run = write_run(&journal, 6).await;
    drop(journal);
    intruder(dir.path()).execute("delete from entries where seq = 5", []).unwrap();
    let journal = sqlite(dir.path());
    assert!(matches!(append(&journal, run, 5).await, Err(Error::Conflict { .. })));
    assert!(matches!(journal.read(run, 0).await, Err(Error::Corrupt { seq: 5, .. })));
}

#[tokio::test]
async fn an_entry_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = sqlite(dir.path());
    let run = write_run(&journal, 1).await;
    let conn = intruder(dir.path());
    rewrite(&conn, |stored| {
        let text = String::from_utf8(stored.bytes.clone()).unwrap();
        stored.bytes = text.replace("\"v\":1", "\"v\":99").replace("submit", "teleport").into_bytes();
    });
    conn.execute("update heads set hash = (select hash from entries)", []).unwrap();
    let error = journal.read(run, 0).await.unwrap_err();
    assert!(matches!(error, Error::TooNew { seq: 0, version: 99, known: 1, .. }), "{error}");
    assert_eq!(journal.verify(run).await.unwrap().fault, None);
}

#[tokio::test]
async fn a_store_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(sqlite(dir.path()));
    intruder(dir.path()).pragma_update(None, "user_version", 99).unwrap();
    for opened in
        [SqliteJournal::open(dir.path(), Default::default()), SqliteJournal::open_read_only(dir.path())]
    {
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::NewerStore { found: 99, known: 1 }), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("journal.db"), "no journal at all ".repeat(1000)).unwrap();
    for opened in
        [SqliteJournal::open(dir.path(), Default::default()), SqliteJournal::open_read_only(dir.path())]
    {
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}
