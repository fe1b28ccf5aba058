//! Journals on a server that somebody with every right has changed: the first entry that does not fit is
//! named.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be set up is a failed test")]

use std::sync::Arc;

use async_nats::{
    HeaderMap,
    jetstream::{self, message::StreamMessage, stream::Stream},
};
use foreplan_core::{
    digest::Digest,
    event::{Entry, Event, VERSION},
    goal::{PlannerSpec, RunSpec},
    id::RunId,
    input::Input,
    time::Timestamp,
    view::Status,
};
use foreplan_journal::{Error, Journal as _, NewRun, Progress, RunStore as _};
use foreplan_nats::{Connection, NatsJournal, Options, Setup};
use foreplan_testkit::nats::NatsServer;
use serde_json::json;
use uuid::Uuid;

/// The header with an entry's sequence and hash.
const HEAD: &str = "Foreplan-Head";

/// Entries of each run.
const ENTRIES: u64 = 6;

/// Two runs of a deployment, and everything that an administrator can do.
struct Tampered {
    _server: NatsServer,
    connection: Connection,
    js: jetstream::Context,
    stream: Stream,
    run: RunId,
    /// The run's messages, and those of the other.
    messages: [Vec<StreamMessage>; 2],
}

impl Tampered {
    async fn start() -> Self {
        let server = NatsServer::start();
        let connection = Connection::open(&Options::new(server.url())).await.unwrap();
        Setup::default().run(&connection).await.unwrap();
        let journal = NatsJournal::open(&connection).await.unwrap();
        let runs = [(); 2].map(|()| RunId(Uuid::now_v7()));
        for run in runs {
            write(&journal, run).await;
        }
        let js = jetstream::new(async_nats::connect(server.url()).await.unwrap());
        let name = connection.names().stream("RUNS");
        let mut stream = js.get_stream(name).await.unwrap();
        let last = stream.info().await.unwrap().state.last_sequence;
        let mut messages = [Vec::new(), Vec::new()];
        for sequence in 1..=last {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let of = runs.iter().position(|run| message.subject.ends_with(&run.to_string())).unwrap();
            messages[of].push(message);
        }
        Self { _server: server, connection, js, stream, run: runs[0], messages }
    }

    /// Puts a message behind the run's last entry.
    async fn put(&self, headers: HeaderMap, bytes: impl Into<Vec<u8>>) {
        let subject = self.messages[0][0].subject.clone();
        let payload = bytes.into().into();
        self.js.publish_with_headers(subject, headers, payload).await.unwrap().await.unwrap();
    }

    /// Returns the first entry that does not fit, and why.
    async fn fault(&self) -> (u64, String) {
        // Another process, which has seen nothing before.
        let journal = NatsJournal::open(&self.connection).await.unwrap();
        let fault = journal.verify(self.run).await.unwrap().fault.expect("something does not fit");
        let read = journal.read(self.run, 0).await;
        assert!(matches!(read, Err(Error::Corrupt { .. })), "nobody folds it: {read:?}");
        (fault.seq, fault.reason)
    }
}

async fn write(journal: &NatsJournal, run: RunId) {
    let new = NewRun {
        run,
        project: "p".to_owned(),
        goal: "a goal".to_owned(),
        key: None,
        group: None,
        created_at: Timestamp(1),
    };
    let progress = Progress {
        status: Status::Running,
        waiting: None,
        since: Timestamp(1),
        next_wake: None,
        ended_at: None,
        steps_done: 1,
        steps: 2,
        replans: 0,
    };
    journal.create(new, entry(run, 0), progress).await.unwrap();
    for seq in 1..ENTRIES {
        journal.append(run, entry(run, seq), progress).await.unwrap();
    }
}

fn entry(run: RunId, seq: u64) -> Arc<Entry> {
    let planner = PlannerSpec::Derive { produce: vec!["report".to_owned()] };
    let spec: RunSpec =
        serde_json::from_value(json!({"project": "p", "goal": "a goal", "planner": planner})).unwrap();
    let cause = Input::Submit { spec: Arc::new(spec), by: format!("ann of {run}"), kept: Vec::new() };
    Arc::new(Entry { v: VERSION, seq, at: Timestamp(seq as i64), cause, events: vec![Event::RunAccepted] })
}

/// Returns the headers of a message with another end of the chain in them, and nothing that the server
/// compares.
fn headed(message: &StreamMessage, seq: u64, hash: Digest) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter() {
        let name = name.to_string();
        if let Some(value) = values.first().filter(|_| name.starts_with("Foreplan-")) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(HEAD, format!("{seq} {hash}"));
    headers
}

/// Returns the bytes of an entry with another sequence.
fn renumbered(message: &StreamMessage, from: u64, to: u64) -> String {
    let text = String::from_utf8(message.payload.to_vec()).unwrap();
    let moved = text.replace(&format!("\"seq\":{from}"), &format!("\"seq\":{to}"));
    assert_ne!(moved, text);
    moved
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_can_be_deleted_and_entries_that_were_purged_are_named() {
    let tampered = Tampered::start().await;
    let third = tampered.messages[0][2].sequence;
    assert!(tampered.stream.delete_message(third).await.is_err(), "the stream denies it");
    let subject = tampered.messages[0][0].subject.to_string();
    tampered.stream.purge().filter(subject).sequence(third).await.unwrap();
    let (seq, reason) = tampered.fault().await;
    assert_eq!((seq, reason.contains("missing")), (0, true), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_another_run_is_named() {
    let tampered = Tampered::start().await;
    let foreign = &tampered.messages[1][5];
    let bytes = renumbered(foreign, 5, 6);
    tampered.put(headed(foreign, 6, Digest::of_bytes(bytes.as_bytes())), bytes).await;
    let (seq, reason) = tampered.fault().await;
    assert_eq!((seq, reason.contains("chain behind it")), (5, true), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_bytes_are_not_those_of_its_hash_is_named() {
    let tampered = Tampered::start().await;
    let last = &tampered.messages[0][5];
    let written = renumbered(last, 5, 6);
    let headers = headed(last, 6, Digest::of_bytes(written.as_bytes()));
    tampered.put(headers, written.replace("ann", "bob")).await;
    let (seq, reason) = tampered.fault().await;
    assert_eq!((seq, reason.contains("not those that were written")), (6, true), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_stands_there_again_is_named() {
    for again in [0, 2, 5] {
        let tampered = Tampered::start().await;
        let message = &tampered.messages[0][again];
        let headers = headed(message, again as u64, Digest::of_bytes(&message.payload));
        tampered.put(headers, message.payload.to_vec()).await;
        let (seq, reason) = tampered.fault().await;
        assert_eq!((seq, reason.contains(&format!("entry {again}"))), (ENTRIES, true), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_leaves_a_gap_is_named() {
    let tampered = Tampered::start().await;
    let last = &tampered.messages[0][5];
    let bytes = renumbered(last, 5, 9);
    tampered.put(headed(last, 9, Digest::of_bytes(bytes.as_bytes())), bytes).await;
    let (seq, reason) = tampered.fault().await;
    assert_eq!((seq, reason.contains("missing")), (ENTRIES, true), "{reason}");
}

/// Returns the bytes of an entry behind another, whose bytes are `before`.
fn behind(before: &[u8], entry: &str) -> String {
    let (body, _) = entry.split_once("\"prev\"").unwrap();
    format!("{body}\"prev\":\"{}\"}}", Digest::of_bytes(before))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_message_that_is_altered_lost_or_added_is_named() {
    for (change, expected) in [("none", None), ("alter", Some(6)), ("lose", Some(6)), ("add", Some(7))] {
        let tampered = Tampered::start().await;
        let last = &tampered.messages[0][5];
        let first = behind(&last.payload, &renumbered(last, 5, 6));
        let second = behind(first.as_bytes(), &first.replace("\"seq\":6", "\"seq\":7"));
        let [one, two] = [&first, &second].map(|line| Digest::of_bytes(line.as_bytes()));
        let mut headers = headed(last, 7, two);
        headers.insert(HEAD, format!("7 {one} {two}"));
        let written = format!("{first}\n{second}");
        let changed = match change {
            "alter" => written.replacen("ann", "bob", 1),
            "lose" => second,
            "add" => format!("{written}\n{{}}"),
            _ => written,
        };
        tampered.put(headers, changed).await;
        let journal = NatsJournal::open(&tampered.connection).await.unwrap();
        let fault = journal.verify(tampered.run).await.unwrap().fault;
        assert_eq!(fault.map(|fault| fault.seq), expected, "{change}");
        assert_eq!(journal.read(tampered.run, 0).await.is_ok(), expected.is_none(), "{change}");
    }
}
