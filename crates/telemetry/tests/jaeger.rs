//! What is said of a Jaeger that does not hold what the journal says.

#![allow(clippy::unwrap_used, reason = "tests may")]
#![cfg(feature = "otlp")]

#[path = "../../core/tests/run/support/mod.rs"]
mod support;

use std::sync::Arc;

use foreplan_core::digest::Digest;
use foreplan_telemetry::{
    AuditSpan, Options, Record, derive,
    jaeger::{What, compare, fetch},
    to_json,
};
use serde_json::{Value, json};
use support::{Harness, run_id, spec};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

fn spans() -> Vec<AuditSpan> {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "a", "tool": "read"}]));
    h.ok("a", 1);
    let record = |entry: &foreplan_core::event::Entry| Record {
        entry: Arc::new(entry.clone()),
        hash: Digest::of(entry),
    };
    let records: Vec<Record> = h.entries.iter().map(record).collect();
    derive(run_id(), &records, &Options::default())
}

/// Starts what answers like Jaeger.
async fn jaeger(status: u16, body: &str) -> MockServer {
    let server = MockServer::start().await;
    let at = format!("/api/v3/traces/{}", run_id().0.simple());
    let answer = ResponseTemplate::new(status).set_body_string(body);
    server.register(Mock::given(path(at)).respond_with(answer)).await;
    server
}

/// Returns what a Jaeger that holds this document is said to differ in.
async fn differences(document: &Value) -> Vec<(String, What)> {
    let server = jaeger(200, &json!({ "result": document }).to_string()).await;
    let held = fetch(&server.uri(), run_id()).await.unwrap().unwrap();
    let found = compare(&spans(), &held).unwrap();
    found.into_iter().map(|d| (d.name, d.what)).collect()
}

fn document() -> Value {
    serde_json::from_str(&to_json(&spans()).unwrap()).unwrap()
}

/// Returns the spans of the service at this place in the document.
fn of(document: &mut Value, service: usize) -> &mut Vec<Value> {
    document["resourceSpans"][service]["scopeSpans"][0]["spans"].as_array_mut().unwrap()
}

#[tokio::test]
async fn a_trace_that_is_whole_agrees_also_if_it_was_sent_twice() {
    assert_eq!(differences(&document()).await, []);
    let mut twice = document();
    let again: Vec<Value> = of(&mut twice, 0).clone();
    of(&mut twice, 0).extend(again);
    assert_eq!(differences(&twice).await, []);
}

#[tokio::test]
async fn what_is_missing_changed_or_foreign_is_named() {
    let mut evicted = document();
    let lost = of(&mut evicted, 0).remove(0)["name"].as_str().unwrap().to_owned();
    assert_eq!(differences(&evicted).await, [(lost, What::Missing)]);

    let mut halved = document();
    let all = of(&mut halved, 0).len();
    let lost: Vec<_> = of(&mut halved, 0)
        .drain(all / 2..)
        .map(|s| (s["name"].as_str().unwrap().to_owned(), What::Missing))
        .collect();
    assert!(lost.len() > 1);
    assert_eq!(differences(&halved).await, lost);

    let mut edited = document();
    let span = &mut of(&mut edited, 0)[0];
    let name = span["name"].as_str().unwrap().to_owned();
    span["endTimeUnixNano"] = json!("1");
    span["attributes"].as_array_mut().unwrap().retain(|a| a["key"] != "foreplan.journal.hash");
    let fields = vec!["endTimeUnixNano".to_owned(), "foreplan.journal.hash".to_owned()];
    assert_eq!(differences(&edited).await, [(name, What::Differs(fields))]);

    let mut foreign = document();
    let mut span = of(&mut foreign, 0)[0].clone();
    span["spanId"] = json!("00000000000000ff");
    span["name"] = json!("made up");
    of(&mut foreign, 0).push(span);
    assert_eq!(differences(&foreign).await, [("made up".to_owned(), What::Unknown)]);
}

#[tokio::test]
async fn spans_of_a_workers_own_are_none_of_the_journals_business() {
    let mut document = document();
    let mut own = document["resourceSpans"][0].clone();
    own["scopeSpans"][0]["scope"]["name"] = json!("worker");
    own["scopeSpans"][0]["spans"][0]["spanId"] = json!("00000000000000ff");
    document["resourceSpans"].as_array_mut().unwrap().push(own);
    assert_eq!(differences(&document).await, []);
}

#[tokio::test]
async fn what_is_no_jaeger_is_said_to_be_none() {
    let nothing = jaeger(404, "{}").await;
    assert_eq!(fetch(&nothing.uri(), run_id()).await, Ok(None));
    for (status, body) in [(200, "<html>"), (200, "{\"data\": []}"), (500, "{}"), (302, "")] {
        let server = jaeger(status, body).await;
        assert!(fetch(&server.uri(), run_id()).await.is_err(), "{status} {body}");
    }
    assert!(fetch("http://127.0.0.1:1", run_id()).await.is_err());
    assert!(fetch("nonsense", run_id()).await.is_err());
}
