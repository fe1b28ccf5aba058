//! What outlasts a full disk, a read-only folder, and the death of a process.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdout, Stdio},
    sync::Arc,
};

use foreplan_core::id::RunId;
use foreplan_journal::{Claim, Error, Journal, Options, RunStore, SqliteJournal, Store};
use support::*;

/// Tells this test binary, run by itself, that it is the process to be killed.
const CHILD: &str = "FOREPLAN_JOURNAL_TEST_CHILD";

/// Runs one of these tests in a process of its own, in which [`CHILD`] names the store.
fn child(test: &str, dir: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--quiet"])
        .env(CHILD, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn say(line: String) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// Appends to eight runs for ever, and says what was acknowledged.
async fn append_for_ever(dir: &Path) {
    let journal = Arc::new(sqlite(dir));
    let writers = (0..8).map(|_| {
        let journal = journal.clone();
        tokio::spawn(async move {
            let run = write_run(journal.as_ref(), 1).await;
            for seq in 1.. {
                append(journal.as_ref(), run, seq).await.unwrap();
                say(format!("ack {run} {seq}"));
            }
        })
    });
    futures::future::join_all(writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_no_acknowledged_entry() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return append_for_ever(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: HashMap<RunId, u64> = HashMap::new();
    for acks in [1, 40, 77, 200] {
        let (mut child, lines) = child("a_kill_loses_no_acknowledged_entry", dir.path());
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            let Some((run, seq)) = line.strip_prefix("ack ").and_then(|l| l.split_once(' ')) else {
                continue;
            };
            acknowledged.insert(run.parse().unwrap(), seq.parse().unwrap());
            seen += 1;
            if seen == acks {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= acks);
        let journal = sqlite(dir.path());
        for (run, seq) in &acknowledged {
            let entries = journal.read(*run, 0).await.unwrap();
            assert!(entries.len() as u64 > *seq, "entry {seq} of {run} is lost");
        }
    }
}

#[tokio::test]
async fn a_run_passes_on_when_its_owner_dies() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let store = Store::open(Path::new(&dir), Options::default()).unwrap();
        let run = write_run(store.journal.as_ref(), 1).await;
        store.journal.claim(run, store.owner()).await.unwrap();
        say(format!("own {run} {}", store.owner()));
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = child("a_run_passes_on_when_its_owner_dies", dir.path());
    let line = lines.find_map(|l| l.unwrap().strip_prefix("own ").map(str::to_owned)).unwrap();
    let (run, owner) = line.split_once(' ').unwrap();
    let run: RunId = run.parse().unwrap();

    let store = Store::open(dir.path(), Options::default()).unwrap();
    assert!(store.journal.owner_is_alive(owner));
    let claim = store.journal.claim(run, store.owner()).await.unwrap();
    assert_eq!(claim, Claim::Owned { by: owner.to_owned() });

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!store.journal.owner_is_alive(owner));
    let claim = store.journal.claim(run, store.owner()).await.unwrap();
    assert_eq!(claim, Claim::Claimed { previous: Some(owner.to_owned()) });
    assert_eq!(store.journal.find(run).await.unwrap().unwrap().owner.as_deref(), Some(store.owner()));
}

#[tokio::test]
async fn a_second_process_that_writes_a_run_loses_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (sqlite(dir.path()), sqlite(dir.path()));
    let run = write_run(&one, 3).await;
    append(&two, run, 3).await.unwrap();
    assert!(matches!(append(&one, run, 3).await, Err(Error::Conflict { seq: 3, .. })));
    append(&one, run, 4).await.unwrap();
    assert!(matches!(append(&two, run, 4).await, Err(Error::Conflict { seq: 4, .. })));
    assert_eq!(one.read(run, 0).await.unwrap().len(), 5);
    assert_eq!(two.verify(run).await.unwrap().fault, None);
}

#[tokio::test]
async fn on_a_full_disk_appending_stops_and_reading_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let limited = Options { page_limit: Some(48), ..Options::default() };
    let journal = SqliteJournal::open(dir.path(), limited).unwrap();
    let run = write_run(&journal, 1).await;
    let mut seq = 1;
    let full = loop {
        match append(&journal, run, seq).await {
            Ok(()) => seq += 1,
            Err(e) => break e,
        }
        assert!(seq < 10_000);
    };
    assert!(matches!(full, Error::Full(_)), "{full}");
    assert!(!full.is_retryable());
    assert!(matches!(append(&journal, run, seq).await, Err(Error::Full(_))));
    assert_eq!(journal.read(run, 0).await.unwrap().len() as u64, seq);
    assert_eq!(journal.find(run).await.unwrap().unwrap().head.seq, seq - 1);
    drop(journal);

    let journal = sqlite(dir.path());
    append(&journal, run, seq).await.unwrap();
    assert_eq!(journal.verify(run).await.unwrap().fault, None);
}

#[tokio::test]
async fn a_read_only_store_is_read_and_never_written() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let journal = sqlite(dir.path());
    let run = write_run(&journal, 3).await;
    drop(journal);
    assert!(!dir.path().join("journal.db-wal").exists(), "closing copies the log back");
    let writable =
        |mode| std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    writable(0o555);
    let journal = SqliteJournal::open_read_only(dir.path()).unwrap();
    let read = journal.read(run, 0).await;
    let refused = append(&journal, run, 3).await;
    drop(journal);
    writable(0o755);
    assert_eq!(read.unwrap().len(), 3);
    assert!(matches!(refused, Err(Error::Full(why)) if why.contains("reading only")));
}

#[tokio::test]
async fn a_store_that_does_not_exist_is_not_made_by_reading() {
    let dir = tempfile::tempdir().unwrap();
    assert!(SqliteJournal::open_read_only(&dir.path().join("none")).is_err());
    assert!(!dir.path().join("none").exists());
}
