//! The journal, the payloads and the set-up, on a real server.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be set up is a failed test")]

use std::sync::Arc;

use async_nats::jetstream;
use foreplan_core::{
    event::{Entry, Event, VERSION},
    goal::{PlannerSpec, RunSpec},
    id::RunId,
    input::{Command, CommandKind, Input},
    time::Timestamp,
    view::Status,
};
use foreplan_journal::{Error, Journal as _, NewRun, Payloads as _, Progress, RunFilter, RunStore as _};
use foreplan_nats::{Connection, NatsJournal, NatsPayloads, Options, PartState, Setup};
use foreplan_protocol::wire::Queues;
use foreplan_testkit::nats::NatsServer;
use serde_json::json;
use uuid::Uuid;

struct Deployment {
    server: NatsServer,
    connection: Connection,
}

impl Deployment {
    /// Returns how many messages hold the entries of all runs.
    async fn messages(&self) -> u64 {
        let js = jetstream::new(async_nats::connect(self.server.url()).await.unwrap());
        let runs = js.get_stream(self.connection.names().stream("RUNS")).await.unwrap();
        runs.cached_info().state.messages
    }
}

async fn deployment() -> Deployment {
    deployment_with(Setup::default()).await
}

async fn deployment_with(setup: Setup) -> Deployment {
    let server = NatsServer::start();
    let connection = Connection::open(&Options::new(server.url())).await.unwrap();
    setup.run(&connection).await.unwrap();
    Deployment { server, connection }
}

fn run_id() -> RunId {
    RunId(Uuid::now_v7())
}

fn new_run(run: RunId, key: Option<&str>) -> NewRun {
    let (project, goal) = ("p".to_owned(), "a goal\nin two lines, ä".to_owned());
    NewRun { run, project, goal, key: key.map(str::to_owned), group: None, created_at: Timestamp(1) }
}

fn progress(status: Status) -> Progress {
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

fn entry(seq: u64) -> Arc<Entry> {
    entry_at(seq, seq as i64)
}

fn entry_at(seq: u64, at: i64) -> Arc<Entry> {
    let planner = PlannerSpec::Derive { produce: vec!["report".to_owned()] };
    let spec: RunSpec =
        serde_json::from_value(json!({"project": "p", "goal": "g", "planner": planner})).unwrap();
    let (cause, events) = match seq {
        0 => (
            Input::Submit { spec: Arc::new(spec), by: "ada".to_owned(), kept: Vec::new() },
            vec![Event::RunAccepted],
        ),
        _ => (Input::Wake, Vec::new()),
    };
    Arc::new(Entry { v: VERSION, seq, at: Timestamp(at), cause, events })
}

async fn write(journal: &NatsJournal, run: RunId, count: u64) {
    journal.create(new_run(run, None), entry(0), progress(Status::Running)).await.unwrap();
    for seq in 1..count {
        journal.append(run, entry(seq), progress(Status::Running)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_up_twice_changes_nothing_and_a_difference_is_named() {
    let fixture = deployment().await;
    let again = Setup::default().run(&fixture.connection).await.unwrap();
    assert!(again.iter().all(|part| part.state == PartState::Present), "{again:?}");
    fixture.connection.verify().await.unwrap();

    let other = Options { tenant: "other".to_owned(), ..Options::new(fixture.server.url()) };
    let other = Connection::open(&other).await.unwrap();
    let missing = other.verify().await.unwrap_err().to_string();
    assert!(missing.contains("other_RUNS") && missing.contains("foreplan nats setup"), "{missing}");
    let dry = Setup { dry_run: true, ..Setup::default() }.run(&other).await.unwrap();
    assert!(dry.iter().all(|part| part.state == PartState::Missing), "{dry:?}");

    let three = Setup { replicas: 3, ..Setup::default() }.run(&fixture.connection).await;
    let difference = three.unwrap_err().to_string();
    assert!(difference.contains("`fp_RUNS`") && difference.contains("num_replicas is 1"), "{difference}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_is_refused_by_name() {
    let server = NatsServer::start_with(&foreplan_testkit::nats::binary(None), &[]);
    let Err(error) = Connection::open(&Options::new(server.url())).await else { panic!("it has none") };
    assert!(error.to_string().contains("JetStream"), "{error}");
    let Err(error) = Connection::open(&Options::new("nats://127.0.0.1:1")).await else {
        panic!("nobody is there")
    };
    assert!(error.to_string().contains("cannot be used"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_read_back_and_their_chain_verifies() {
    let fixture = deployment().await;
    let journal = NatsJournal::open(&fixture.connection).await.unwrap();
    let run = run_id();
    write(&journal, run, 10).await;
    // Another process has seen nothing yet.
    let other = NatsJournal::open(&fixture.connection).await.unwrap();
    for journal in [&journal, &other] {
        let entries = journal.read(run, 0).await.unwrap();
        assert_eq!(entries.iter().map(|e| e.seq).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert_eq!(journal.read(run, 7).await.unwrap().len(), 3);
        assert!(journal.read(run, 10).await.unwrap().is_empty());
    }
    journal.append(run, entry(10), progress(Status::Running)).await.unwrap();
    assert_eq!(other.read(run, 10).await.unwrap().len(), 1);
    let report = other.verify(run).await.unwrap();
    assert_eq!((report.entries, report.fault), (11, None));
    assert!(matches!(journal.read(run_id(), 0).await, Err(Error::NoRun(_))));
}

/// Returns entries that were decided on together, after each of which another step is done.
fn together(seqs: impl IntoIterator<Item = u64>) -> Vec<(Arc<Entry>, Progress)> {
    let after = |seq: u64| Progress { steps_done: seq as u32, ..progress(Status::Running) };
    seqs.into_iter().map(|seq| (entry(seq), after(seq))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_were_decided_together_are_one_message() {
    let fixture = deployment().await;
    let journal = NatsJournal::open(&fixture.connection).await.unwrap();
    let run = run_id();
    write(&journal, run, 2).await;
    journal.append_all(run, together(2..5)).await.unwrap();
    assert_eq!(fixture.messages().await, 3);
    assert_eq!(journal.find(run).await.unwrap().unwrap().progress.steps_done, 4);

    let other = NatsJournal::open(&fixture.connection).await.unwrap();
    for from in 0..6 {
        let seqs: Vec<u64> = other.read(run, from).await.unwrap().iter().map(|e| e.seq).collect();
        assert_eq!(seqs, (from..5).collect::<Vec<_>>());
    }
    assert_eq!(other.hashes(run, 3).await.unwrap(), journal.hashes(run, 0).await.unwrap()[3..]);
    let lost = other.append_all(run, together(4..6)).await;
    assert!(matches!(lost, Err(Error::Conflict { seq: 4, .. })), "{lost:?}");
    other.append_all(run, together(5..7)).await.unwrap();
    let report = journal.verify(run).await.unwrap();
    assert_eq!((report.entries, report.fault), (7, None));
    assert_eq!(journal.stats().await.unwrap().entries, 7);
    // What it knew of the run's end is no longer so.
    let lost = journal.append(run, entry_at(5, 50), progress(Status::Running)).await;
    assert!(matches!(lost, Err(Error::Conflict { .. })), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_one_message_cannot_hold_are_several() {
    let fixture = deployment().await;
    let journal = NatsJournal::open(&fixture.connection).await.unwrap();
    let run = run_id();
    write(&journal, run, 1).await;
    let long = Command { id: Uuid::now_v7(), by: "a".repeat(60_000), kind: CommandKind::Pause };
    let large = |seq| Entry { cause: Input::Command(long.clone()), ..entry(seq).as_ref().clone() };
    let entries = (1..20).map(|seq| (Arc::new(large(seq)), progress(Status::Paused)));
    journal.append_all(run, entries.collect()).await.unwrap();
    assert_eq!(fixture.messages().await, 1 + 3, "eight of 60 KB fit into one of 512 KiB");
    let report = journal.verify(run).await.unwrap();
    assert_eq!((report.entries, report.fault), (20, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_trackers_of_an_earlier_version_serve_each_entry_is_a_message() {
    let fixture = deployment_with(Setup { queues: Some(Queues::EVERY_SHARD), ..Setup::default() }).await;
    let journal = NatsJournal::open(&fixture.connection).await.unwrap();
    let run = run_id();
    write(&journal, run, 1).await;
    journal.append_all(run, together(1..4)).await.unwrap();
    assert_eq!(fixture.messages().await, 4);
    assert_eq!(journal.verify(run).await.unwrap().fault, None);

    let divided = Setup { queues: Queues::new(16), ..Setup::default() };
    let dry = Setup { dry_run: true, ..divided }.run(&fixture.connection).await.unwrap_err().to_string();
    assert!(dry.contains("`fp_CMD`") && dry.contains("64"), "{dry}");
    divided.run(&fixture.connection).await.unwrap();
    let journal = NatsJournal::open(&fixture.connection).await.unwrap();
    journal.append_all(run, together(4..7)).await.unwrap();
    assert_eq!(fixture.messages().await, 5);
    assert_eq!(journal.read(run, 0).await.unwrap().len(), 7, "both forms are read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_of_a_sequence_loses_cleanly() {
    let fixture = deployment().await;
    let first = NatsJournal::open(&fixture.connection).await.unwrap();
    let second = NatsJournal::open(&fixture.connection).await.unwrap();
    let run = run_id();
    write(&first, run, 2).await;
    second.append(run, entry_at(2, 50), progress(Status::Paused)).await.unwrap();
    let lost = first.append(run, entry(2), progress(Status::Running)).await;
    assert!(matches!(lost, Err(Error::Conflict { seq: 2, .. })), "{lost:?}");
    assert_eq!(first.read(run, 0).await.unwrap().len(), 3);
    // Once it has read what the other wrote, it can go on.
    first.append(run, entry(3), progress(Status::Running)).await.unwrap();
    let stale = second.append(run, entry_at(3, 50), progress(Status::Cancelled)).await;
    assert!(matches!(stale, Err(Error::Conflict { seq: 3, .. })), "{stale:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_confirmation_was_lost_is_recognized() {
    let fixture = deployment().await;
    let first = NatsJournal::open(&fixture.connection).await.unwrap();
    let second = NatsJournal::open(&fixture.connection).await.unwrap();
    let run = run_id();
    write(&first, run, 2).await;
    let _ = second.read(run, 0).await.unwrap();
    // The second process's own try of the same bytes was taken, and it never heard so.
    first.append(run, entry(2), progress(Status::Running)).await.unwrap();
    second.append(run, entry(2), progress(Status::Running)).await.unwrap();
    assert_eq!(first.read(run, 0).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_project_and_key_are_one_run() {
    let fixture = deployment().await;
    let journal = NatsJournal::open(&fixture.connection).await.unwrap();
    let (first, second) = (run_id(), run_id());
    journal.create(new_run(first, Some("k")), entry(0), progress(Status::Running)).await.unwrap();
    let twice = journal.create(new_run(second, Some("k")), entry(0), progress(Status::Running)).await;
    assert!(matches!(twice, Err(Error::Exists(run)) if run == first), "{twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_follows_the_last_entries() {
    let fixture = deployment().await;
    let journal = NatsJournal::open(&fixture.connection).await.unwrap();
    let (open, ended) = (run_id(), run_id());
    write(&journal, open, 3).await;
    write(&journal, ended, 1).await;
    journal.append(ended, entry(1), progress(Status::Succeeded)).await.unwrap();
    let all = journal.list(RunFilter::default()).await.unwrap();
    assert_eq!(all.len(), 2);
    let listed = journal.list(RunFilter { open: true, limit: None }).await.unwrap();
    assert_eq!(listed.iter().map(|r| r.run.run).collect::<Vec<_>>(), [open]);
    let found = journal.find(open).await.unwrap().unwrap();
    assert_eq!((found.head.seq, found.run.goal.as_str()), (2, "a goal\nin two lines, ä"));
    let id = open.0.simple().to_string();
    assert_eq!(journal.find_by_suffix(&id[id.len() - 12..]).await.unwrap().len(), 1);
    let pruned = journal.prune(Timestamp(200)).await.unwrap();
    assert_eq!((pruned.runs, pruned.entries), (1, 2));
    assert_eq!(journal.find(ended).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_value_is_kept_once_and_verified() {
    let fixture = deployment().await;
    let journal = NatsJournal::open(&fixture.connection).await.unwrap();
    let (run, value) = (run_id(), Arc::new(json!("x".repeat(5 << 20))));
    let payloads = journal.payloads();
    let payload = payloads.put(run, value.clone()).await.unwrap();
    assert_eq!(payloads.put(run, value.clone()).await.unwrap(), payload);
    assert_eq!(payloads.get(run, payload).await.unwrap(), value);
    assert!(matches!(payloads.get(run_id(), payload).await, Err(Error::Payload { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_are_read_and_kept_though_the_server_restarts_meanwhile() {
    let mut fixture = deployment().await;
    let journal = NatsJournal::open(&fixture.connection).await.unwrap();
    let [old, new] = ["old", "new"].map(|text| Arc::new(json!(text.repeat(100_000))));
    let (run, payloads) = (run_id(), journal.payloads());
    let payload = payloads.put(run, old.clone()).await.unwrap();

    fixture.server.kill();
    let reading = tokio::spawn({
        let payloads = payloads.clone();
        async move { payloads.get(run, payload).await }
    });
    let keeping = tokio::spawn({
        let (payloads, new) = (payloads.clone(), new.clone());
        async move { payloads.put(run, new).await }
    });
    // It stays away for longer than one request waits.
    let others = NatsPayloads::open(&fixture.connection).await;
    assert!(others.is_err());
    fixture.server.restart();
    let (read, kept) = (reading.await.unwrap(), keeping.await.unwrap());
    assert_eq!(read.unwrap(), old);
    assert_eq!(payloads.get(run, kept.unwrap()).await.unwrap(), new);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_outlives_a_restart_of_the_server() {
    let mut fixture = deployment().await;
    let journal = NatsJournal::open(&fixture.connection).await.unwrap();
    let run = run_id();
    write(&journal, run, 2).await;
    fixture.server.restart();
    journal.append(run, entry(2), progress(Status::Running)).await.unwrap();
    assert_eq!(journal.read(run, 0).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_place_has_as_much_of_a_run_as_it_said() {
    let deployment = deployment().await;
    let journal = NatsJournal::open(&deployment.connection).await.unwrap();
    let (run, other, sink) = (run_id(), run_id(), "otlp jaeger:4318/v1/traces");
    journal.create(new_run(run, None), entry(0), progress(Status::Planning)).await.unwrap();
    journal.append(run, entry(1), progress(Status::Succeeded)).await.unwrap();
    journal.create(new_run(other, None), entry(0), progress(Status::Planning)).await.unwrap();

    assert_eq!(journal.cursor(sink, run).await.unwrap(), 0);
    assert!(journal.advance(sink, run, 0, 1).await.unwrap());
    assert!(!journal.advance(sink, run, 0, 2).await.unwrap(), "another exporter has moved it");
    let behind: Vec<_> =
        journal.behind(sink, 9).await.unwrap().iter().map(|b| (b.run, b.sent, b.entries)).collect();
    assert_eq!(behind, [(run, 1, 2), (other, 0, 1)]);
    assert!(journal.advance(sink, run, 1, 2).await.unwrap());
    assert_eq!(journal.cursor(sink, run).await.unwrap(), 2);
    assert_eq!(journal.cursor("file", run).await.unwrap(), 0, "each place has its own");
    assert_eq!(journal.behind(sink, 9).await.unwrap().len(), 1);
    assert_eq!(journal.behind("file", 1).await.unwrap().len(), 1, "no more than were asked for");

    let exported = journal.export(run).await.unwrap();
    let hashes: Vec<_> = exported.iter().map(|stored| stored.hash).collect();
    assert_eq!(journal.hashes(run, 0).await.unwrap(), hashes);
    assert_eq!(journal.hashes(run, 1).await.unwrap(), hashes[1..]);
    assert!(matches!(journal.hashes(run_id(), 0).await, Err(Error::NoRun(_))));

    journal.prune(Timestamp(101)).await.unwrap();
    assert_eq!(journal.cursor(sink, run).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_another_deployment_uses_is_refused_by_name() {
    let server = NatsServer::start();
    let other = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let stream = async_nats::jetstream::stream::Config {
        name: "others".to_owned(),
        subjects: vec!["fp.run.>".to_owned()],
        ..Default::default()
    };
    other.create_stream(stream).await.unwrap();
    let connection = Connection::open(&Options::new(server.url())).await.unwrap();
    let refused = Setup::default().run(&connection).await.unwrap_err().to_string();
    assert!(refused.contains("`fp_RUNS`") && refused.contains("overlap"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_read_all_at_once_are_each_read_whole() {
    let Deployment { server, connection } = deployment().await;
    let journal = NatsJournal::open(&connection).await.unwrap();
    let runs: Vec<RunId> = (0..300).map(|_| run_id()).collect();
    for seq in 0..4 {
        // Entries of all runs lie between those of one; some runs have fewer.
        let written = runs.iter().enumerate().filter(|(at, _)| seq <= *at as u64 % 4).map(|(_, run)| {
            let (journal, progress) = (&journal, progress(Status::Running));
            async move {
                match seq {
                    0 => journal.create(new_run(*run, None), entry(0), progress).await,
                    _ => journal.append(*run, entry(seq), progress).await,
                }
            }
        });
        futures::future::try_join_all(written).await.unwrap();
    }
    let another = Connection::open(&Options::new(server.url())).await.unwrap();
    let another = NatsJournal::open(&another).await.unwrap();
    let read = futures::future::try_join_all(runs.iter().map(|run| another.read(*run, 0))).await.unwrap();
    for (at, entries) in read.iter().enumerate() {
        let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, (0..=at as u64 % 4).collect::<Vec<_>>(), "run {at}");
    }
    another.append(runs[7], entry(4), progress(Status::Running)).await.unwrap();
    let missing = futures::future::join_all((0..100).map(|_| another.read(run_id(), 0))).await;
    assert!(missing.iter().all(|read| matches!(read, Err(Error::NoRun(_)))));
}
