//! What holds for every journal, in memory and in SQLite.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;

use foreplan_core::{
    id::RunId,
    input::{Command, CommandKind, Input},
    time::Timestamp,
    view::{Status, WaitKind},
};
use foreplan_journal::{Claim, Error, Forward, NewRun, Outcome, Progress, Pruned, RunFilter};
use serde_json::json;
use support::*;
use uuid::Uuid;

#[tokio::test]
async fn what_was_appended_is_read_from_any_sequence_on() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 5).await;
        for from in 0..7 {
            let entries = journal.read(run, from).await.unwrap();
            let seqs: Vec<_> = entries.iter().map(|e| e.seq).collect();
            assert_eq!(seqs, (from..5).collect::<Vec<_>>(), "{name}");
        }
        assert_eq!(*journal.read(run, 4).await.unwrap()[0], *entry(4, result(json!(4))), "{name}");
    }
}

#[tokio::test]
async fn a_second_writer_of_a_sequence_loses_cleanly() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 2).await;
        append(journal.as_ref(), run, 2).await.unwrap();
        for wrong in [0, 1, 2, 4] {
            let lost = append(journal.as_ref(), run, wrong).await;
            assert!(matches!(lost, Err(Error::Conflict { seq, .. }) if seq == wrong), "{name}: {lost:?}");
        }
        append(journal.as_ref(), run, 3).await.unwrap();
        assert_eq!(journal.read(run, 0).await.unwrap().len(), 4, "{name}");
        assert_eq!(journal.verify(run).await.unwrap().fault, None, "{name}");
    }
}

#[tokio::test]
async fn entries_that_are_appended_together_are_all_there_or_none() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 2).await;
        let together = |seqs: &[u64]| {
            let one = |seq: &u64| (entry(*seq, result(json!(seq))), progress(Status::Running));
            journal.append_all(run, seqs.iter().map(one).collect())
        };
        together(&[2, 3, 4]).await.unwrap();
        for (wrong, first) in [(&[4, 5][..], 4), (&[5, 7], 7), (&[6], 6), (&[5, 5], 5)] {
            let lost = together(wrong).await;
            assert!(matches!(lost, Err(Error::Conflict { seq, .. }) if seq == first), "{name}: {lost:?}");
        }
        assert_eq!(journal.read(run, 0).await.unwrap().len(), 5, "{name}");
        assert_eq!(journal.find(run).await.unwrap().unwrap().head.seq, 4, "{name}");
        together(&[5]).await.unwrap();
        assert_eq!(journal.verify(run).await.unwrap().fault, None, "{name}");
    }
}

#[tokio::test]
async fn the_index_knows_what_the_last_of_them_said_and_each_command_is_accepted() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 1).await;
        let commands = [CommandKind::Pause, CommandKind::Resume].map(|kind| Command {
            id: Uuid::now_v7(),
            by: "ann".to_owned(),
            kind,
        });
        let statuses = [Status::Paused, Status::Running];
        let entries =
            commands.iter().zip(statuses).zip(1..).map(|((command, status), seq)| {
                (entry(seq, Input::Command(command.clone())), progress(status))
            });
        journal.append_all(run, entries.collect()).await.unwrap();
        assert_eq!(journal.find(run).await.unwrap().unwrap().progress, progress(Status::Running), "{name}");
        for command in commands {
            assert_eq!(journal.outcome(run, command.id).await.unwrap(), Some(Outcome::Accepted), "{name}");
        }
    }
}

#[tokio::test]
async fn a_run_that_does_not_exist_has_no_entries() {
    for (name, journal) in stores().all {
        let run = run_id();
        assert!(matches!(append(journal.as_ref(), run, 1).await, Err(Error::NoRun(r)) if r == run), "{name}");
        assert!(matches!(journal.read(run, 0).await, Err(Error::NoRun(r)) if r == run), "{name}");
        assert_eq!(journal.find(run).await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn a_project_has_one_run_of_a_key() {
    for (name, journal) in stores().all {
        let keyed = |run, project: &str| NewRun {
            project: project.to_owned(),
            key: Some("k".to_owned()),
            ..new_run(run)
        };
        let first = run_id();
        create(journal.as_ref(), keyed(first, "p")).await.unwrap();
        let again = create(journal.as_ref(), keyed(run_id(), "p")).await;
        assert!(matches!(again, Err(Error::Exists(run)) if run == first), "{name}: {again:?}");
        let same = create(journal.as_ref(), new_run(first)).await;
        assert!(matches!(same, Err(Error::Exists(run)) if run == first), "{name}: {same:?}");
        create(journal.as_ref(), keyed(run_id(), "other")).await.unwrap();
        append(journal.as_ref(), first, 1).await.unwrap();
    }
}

#[tokio::test]
async fn the_index_knows_what_the_last_append_said() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 2).await;
        let said = Progress {
            status: Status::Waiting,
            waiting: Some(WaitKind::UnknownOutcome),
            since: Timestamp(7),
            next_wake: Some(Timestamp(8)),
            ended_at: None,
            steps_done: 3,
            steps: 9,
            replans: 1,
        };
        journal.append(run, entry(2, Input::Wake), said).await.unwrap();
        let record = journal.find(run).await.unwrap().unwrap();
        assert_eq!((record.progress, record.run, record.head.seq), (said, new_run(run), 2), "{name}");
    }
}

#[tokio::test]
async fn a_run_that_is_reopened_is_open_again() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 1).await;
        let open = RunFilter { open: true, limit: None };
        journal.append(run, entry(1, Input::Wake), progress(Status::Failed)).await.unwrap();
        assert_eq!(journal.list(open).await.unwrap(), [], "{name}");
        journal.append(run, entry(2, Input::Wake), progress(Status::Running)).await.unwrap();
        assert_eq!(journal.list(open).await.unwrap().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn runs_are_listed_newest_first() {
    for (name, journal) in stores().all {
        let mut runs = Vec::new();
        for created in [30, 10, 20] {
            let run = run_id();
            let new = NewRun { created_at: Timestamp(created), group: Some("g".to_owned()), ..new_run(run) };
            create(journal.as_ref(), new).await.unwrap();
            runs.push(run);
        }
        let ids = |list: Vec<foreplan_journal::RunRecord>| list.iter().map(|r| r.run.run).collect::<Vec<_>>();
        let all = ids(journal.list(RunFilter::default()).await.unwrap());
        assert_eq!(all, [runs[0], runs[2], runs[1]], "{name}");
        let two = ids(journal.list(RunFilter { open: true, limit: Some(2) }).await.unwrap());
        assert_eq!(two, all[..2], "{name}");

        journal.append(runs[2], entry(1, Input::Wake), progress(Status::Succeeded)).await.unwrap();
        let group = ids(journal.active_in_group("p", "g").await.unwrap());
        assert_eq!(group, [runs[1], runs[0]], "{name}: oldest first, without the one that ended");
        assert_eq!(journal.active_in_group("other", "g").await.unwrap(), [], "{name}");
    }
}

#[tokio::test]
async fn a_run_is_found_by_the_end_of_its_id() {
    for (name, journal) in stores().all {
        let ids = ["018f0000-0000-7000-8000-00000abcdef1", "018f0000-0000-7000-8000-00001abcdef1"];
        for id in ids {
            create(journal.as_ref(), new_run(id.parse().unwrap())).await.unwrap();
        }
        let found = async |suffix: &str| journal.find_by_suffix(suffix).await.unwrap().len();
        assert_eq!(found("ABCDEF1").await, 2, "{name}");
        assert_eq!(found("0abcdef1").await, 1, "{name}");
        assert_eq!(found(ids[0]).await, 1, "{name}");
        assert_eq!(found("bcdef").await, 0, "{name}");
        assert_eq!(found("%").await, 0, "{name}");
    }
}

#[tokio::test]
async fn a_command_is_carried_out_once_however_often_it_is_sent() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 1).await;
        journal.claim(run, "me").await.unwrap();
        let pause = command(CommandKind::Pause);
        assert_eq!(journal.outcome(run, pause.id).await.unwrap(), None, "{name}");

        journal.send(run, pause.clone()).await.unwrap();
        journal.send(run, pause.clone()).await.unwrap();
        assert_eq!(journal.outcome(run, pause.id).await.unwrap(), Some(Outcome::Pending), "{name}");
        assert_eq!(journal.poll("other").await.unwrap(), [], "{name}");
        assert_eq!(journal.poll("me").await.unwrap(), [(run, pause.clone())], "{name}");
        assert_eq!(journal.poll("me").await.unwrap(), [], "{name}");
        assert_eq!(journal.pending(run).await.unwrap(), std::slice::from_ref(&pause), "{name}");

        let accepted = entry(1, Input::Command(pause.clone()));
        journal.append(run, accepted, progress(Status::Paused)).await.unwrap();
        assert_eq!(journal.outcome(run, pause.id).await.unwrap(), Some(Outcome::Accepted), "{name}");
        journal.refuse(run, pause.id, "too late".to_owned()).await.unwrap();
        journal.send(run, pause.clone()).await.unwrap();
        assert_eq!(journal.outcome(run, pause.id).await.unwrap(), Some(Outcome::Accepted), "{name}");
        assert_eq!(journal.pending(run).await.unwrap(), [], "{name}");
        assert_eq!(journal.poll("me").await.unwrap(), [], "{name}");
    }
}

#[tokio::test]
async fn the_sender_of_a_refused_command_reads_why() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 1).await;
        let resume = command(CommandKind::Resume);
        journal.send(run, resume.clone()).await.unwrap();
        journal.refuse(run, resume.id, "it is not paused".to_owned()).await.unwrap();
        journal.send(run, resume.clone()).await.unwrap();
        let refused = Some(Outcome::Refused("it is not paused".to_owned()));
        assert_eq!(journal.outcome(run, resume.id).await.unwrap(), refused, "{name}");
        assert_eq!(journal.pending(run).await.unwrap(), [], "{name}");
        let nobodys = journal.send(run_id(), resume).await;
        assert!(matches!(nobodys, Err(Error::NoRun(_))), "{name}");
    }
}

#[tokio::test]
async fn a_command_that_lost_its_append_stays_in_the_inbox() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 2).await;
        let pause = command(CommandKind::Pause);
        journal.send(run, pause.clone()).await.unwrap();
        let stale =
            journal.append(run, entry(1, Input::Command(pause.clone())), progress(Status::Paused)).await;
        assert!(matches!(stale, Err(Error::Conflict { .. })), "{name}");
        assert_eq!(journal.outcome(run, pause.id).await.unwrap(), Some(Outcome::Pending), "{name}");
    }
}

#[tokio::test]
async fn a_released_run_can_be_claimed() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 1).await;
        assert_eq!(journal.claim(run, "me").await.unwrap(), Claim::Claimed { previous: None }, "{name}");
        assert_eq!(journal.claim(run, "me").await.unwrap(), Claim::Claimed { previous: None }, "{name}");
        journal.release(run, "other").await.unwrap();
        assert_eq!(journal.find(run).await.unwrap().unwrap().owner.as_deref(), Some("me"), "{name}");
        journal.release(run, "me").await.unwrap();
        assert_eq!(journal.find(run).await.unwrap().unwrap().owner, None, "{name}");
    }
}

#[tokio::test]
async fn pruning_deletes_old_ended_runs_alone() {
    for (name, journal) in stores().all {
        let open = write_run(journal.as_ref(), 3).await;
        let keyed = NewRun { key: Some("k".to_owned()), ..new_run(run_id()) };
        create(journal.as_ref(), keyed.clone()).await.unwrap();
        let large = entry(1, result(json!("x".repeat(100_000))));
        journal.append(keyed.run, large, progress(Status::Succeeded)).await.unwrap();
        journal.verify(keyed.run).await.unwrap();

        assert_eq!(journal.prune(Timestamp(100)).await.unwrap(), Pruned::default(), "{name}");
        let pruned = journal.prune(Timestamp(101)).await.unwrap();
        let all = Pruned { runs: 1, entries: 2, payload_bytes: 100_002 };
        assert_eq!(pruned, all, "{name}");
        assert_eq!(journal.find(keyed.run).await.unwrap(), None, "{name}");
        assert_eq!(journal.read(open, 0).await.unwrap().len(), 3, "{name}");
        let stats = journal.stats().await.unwrap();
        assert_eq!((stats.runs, stats.open, stats.entries, stats.payload_bytes), (1, 1, 3, 0), "{name}");
        create(journal.as_ref(), keyed).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_many_runs_keep_the_order_and_the_chain_of_each() {
    for (name, journal) in stores().all {
        let writers: Vec<_> = (0..200)
            .map(|_| {
                let journal = Arc::clone(&journal);
                tokio::spawn(async move {
                    let run = write_run(journal.as_ref(), 10).await;
                    let lost = append(journal.as_ref(), run, 3).await;
                    assert!(matches!(lost, Err(Error::Conflict { seq: 3, .. })));
                    run
                })
            })
            .collect();
        for writer in writers {
            let run = writer.await.unwrap();
            let entries = journal.read(run, 0).await.unwrap();
            assert!(entries.iter().map(|e| e.seq).eq(0..10), "{name}");
            let report = journal.verify(run).await.unwrap();
            assert_eq!((report.entries, report.fault), (10, None), "{name}");
        }
    }
}

#[tokio::test]
async fn an_export_is_the_chain_of_what_was_appended() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 3).await;
        let stored = journal.export(run).await.unwrap();
        let report = journal.verify(run).await.unwrap();
        assert_eq!(report.head.hash, Some(stored[2].hash), "{name}");
        let last: serde_json::Value = serde_json::from_slice(&stored[2].bytes).unwrap();
        assert_eq!(last["prev"], json!(stored[1].hash), "{name}");
        let fields: Vec<_> = last.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["v", "seq", "at", "cause", "events", "prev"], "{name}");
    }
}

#[tokio::test]
async fn a_cursor_moves_from_where_it_was_seen_and_from_nowhere_else() {
    for (name, journal) in stores().all {
        let first = write_run(journal.as_ref(), 3).await;
        let second = write_run(journal.as_ref(), 2).await;
        let behind = async |sink: &'static str| {
            let found = journal.behind(sink, 10).await.unwrap();
            found.iter().map(|b| (b.run, b.sent, b.entries)).collect::<Vec<_>>()
        };
        assert_eq!(behind("file").await, [(first, 0, 3), (second, 0, 2)], "{name}");
        assert!(journal.advance("file", first, 0, 2).await.unwrap(), "{name}");
        assert!(!journal.advance("file", first, 0, 3).await.unwrap(), "{name}");
        assert_eq!(journal.cursor("file", first).await.unwrap(), 2, "{name}");
        assert_eq!(journal.cursor("otlp", first).await.unwrap(), 0, "{name}");
        assert!(journal.advance("file", second, 0, 2).await.unwrap(), "{name}");
        assert_eq!(behind("file").await, [(first, 2, 3)], "{name}");
        assert_eq!(behind("otlp").await.len(), 2, "{name}");
    }
}

#[tokio::test]
async fn hashes_are_those_of_the_stored_bytes() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 4).await;
        let stored: Vec<_> = journal.export(run).await.unwrap().iter().map(|s| s.hash).collect();
        assert_eq!(journal.hashes(run, 0).await.unwrap(), stored, "{name}");
        assert_eq!(journal.hashes(run, 2).await.unwrap(), stored[2..], "{name}");
        let other = write_run(journal.as_ref(), 2).await;
        let wanted = vec![(run, 2), (RunId(Uuid::nil()), 0), (other, 0)];
        let read = journal.hashed(wanted).await;
        let entries = |read: &[foreplan_journal::Hashed]| -> Vec<_> {
            read.iter().map(|(entry, hash)| (entry.seq, *hash)).collect()
        };
        assert_eq!(entries(read[0].as_ref().unwrap()), [(2, stored[2]), (3, stored[3])], "{name}");
        assert!(matches!(read[1], Err(Error::NoRun(_))), "{name}");
        assert_eq!(read[2].as_ref().unwrap().len(), 2, "{name}");
    }
}

#[tokio::test]
async fn cursors_of_many_runs_move_together_and_a_run_that_is_gone_holds_up_none() {
    for (name, journal) in stores().all {
        let [first, second] = [write_run(journal.as_ref(), 3).await, write_run(journal.as_ref(), 2).await];
        assert!(journal.advance("file", second, 0, 1).await.unwrap(), "{name}");
        let gone = RunId(Uuid::nil());
        let moves = [(first, 0, 3), (gone, 0, 1), (second, 0, 2)];
        let moves = moves.map(|(run, from, to)| Forward { run, from, to }).to_vec();
        journal.advance_all("file", moves).await.unwrap();
        let cursors = journal.cursors("file", &[second, first, gone]).await.unwrap();
        assert_eq!(cursors, [1, 3, 0], "{name}: one that was moved meanwhile stays");
    }
}
