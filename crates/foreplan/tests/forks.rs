//! Runs that begin where others were, as an embedding program makes them.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be set up is a failed test")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use foreplan::System;
use foreplan_core::{
    event::{Event, Gate},
    failure::Failure,
    fork::Refusal,
    goal::{ApprovalMode, PlannerSpec, RunSpec},
    id::RunId,
    input::CommandKind,
    plan::Plan,
    tool::Effect,
    view::{RunView, Status, WaitKind},
};
use foreplan_telemetry::Options;
use foreplan_tools::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

/// More than an entry holds.
const TEXT_BYTES: usize = 200_000;

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Text {
    text: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Sent {
    bytes: usize,
}

/// How often each tool was called.
#[derive(Default)]
struct Calls {
    write: AtomicUsize,
    send: AtomicUsize,
    note: AtomicUsize,
}

fn tools(calls: &Arc<Calls>) -> [Tool; 3] {
    let (write, send, note) = (Arc::clone(calls), Arc::clone(calls), Arc::clone(calls));
    [
        Tool::function("write", "Write a long text", Effect::Read, move |_: Nothing| {
            write.write.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Failure>(Text { text: "x".repeat(TEXT_BYTES) }) }
        }),
        Tool::function("send", "Send a text", Effect::Irreversible, move |input: Text| {
            send.send.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, Failure>(Sent { bytes: input.text.len() }) }
        }),
        Tool::function("note", "Note how long it was", Effect::Read, move |input: Sent| {
            note.note.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, Failure>(Sent { bytes: input.bytes }) }
        }),
    ]
}

/// A plan whose step that sends has this name.
fn plan(send: &str) -> Arc<Plan> {
    let plan = json!({"format": 1, "steps": [
        {"id": "write", "title": "Write the text", "tool": "write"},
        {"id": send, "title": "Send the text", "tool": "send", "input": {"text": {"$ref": "write.text"}}},
        {"id": "note", "title": "Note its length", "tool": "note", "input": {"bytes": {"$ref": format!("{send}.bytes")}}},
    ], "result": {"$ref": "note.bytes"}});
    Arc::new(serde_json::from_value(plan).unwrap())
}

fn spec() -> RunSpec {
    let spec = json!({"project": "default", "goal": "Send it", "planner": {"kind": "runbook", "plan": plan("send")}});
    serde_json::from_value(spec).unwrap()
}

async fn approve(system: &System, run: RunId) -> RunView {
    let waiting = system.drive(run).await.unwrap().into_view().waiting_for.unwrap();
    assert_eq!(waiting.kind, WaitKind::PlanApproval);
    let kind = CommandKind::Approve { step: None, digest: waiting.digest.unwrap() };
    system.command(run, "ann", kind).await.unwrap();
    system.drive(run).await.unwrap().into_view()
}

/// Sends a text, and returns the run.
async fn sent(system: &System) -> RunId {
    let run = RunId(Uuid::now_v7());
    system.submit(run, Arc::new(spec()), "ann").await.unwrap();
    let view = approve(system, run).await;
    assert_eq!(view.status, Status::Succeeded, "{:?}", view.reason);
    run
}

/// Returns the entry after which a step had succeeded.
async fn after(system: &System, run: RunId, id: &str) -> u64 {
    let entries = system.entries(run).await.unwrap();
    let is_done =
        |event: &Event| matches!(event, Event::AttemptSucceeded { step, .. } if step.as_str() == id);
    entries.iter().find(|entry| entry.events.iter().any(is_done)).unwrap().seq
}

#[tokio::test]
async fn a_fork_asks_again_keeps_large_results_and_sends_nothing_twice() {
    let calls = Arc::new(Calls::default());
    let system = System::builder().tools(tools(&calls)).build().await.unwrap();
    let origin = sent(&system).await;
    let seq = after(&system, origin, "send").await;

    let point = system.fork_point(origin, seq).await.unwrap();
    let fork = RunId(Uuid::now_v7());
    let wanted = RunSpec { origin: Some(point.origin), key: None, ..point.spec.as_ref().clone() };
    system.fork(fork, wanted, "bob").await.unwrap();
    let view = approve(&system, fork).await;
    assert_eq!(
        (view.status, view.result.clone()),
        (Status::Succeeded, Some(json!(TEXT_BYTES))),
        "{:?}",
        view.reason
    );
    assert_eq!(view.origin, Some(point.origin));
    let made = [&calls.write, &calls.send, &calls.note].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(made, [1, 1, 2], "what was there is kept, what came later is made again");

    let entries = system.entries(origin).await.unwrap();
    let recorded = Event::RunForked { run: fork, seq, by: "bob".to_owned() };
    assert_eq!(entries.last().unwrap().events, [recorded]);
    let links = async |run: RunId, name: &str| {
        let spans = system.trace(run, &Options::default()).await.unwrap();
        let span = spans.into_iter().find(|span| span.span.name == name).unwrap();
        span.span.links.into_iter().map(|link| link.trace_id).collect::<Vec<_>>()
    };
    assert_eq!(links(fork, "run accepted").await, [origin.0.as_bytes().to_vec()]);
    assert_eq!(links(origin, "run forked").await, [fork.0.as_bytes().to_vec()]);
    system.shutdown().await;
}

#[tokio::test]
async fn the_same_irreversible_call_under_another_name_is_not_made_again() {
    let calls = Arc::new(Calls::default());
    let system = System::builder().tools(tools(&calls)).build().await.unwrap();
    let origin = sent(&system).await;
    let seq = after(&system, origin, "write").await;
    // The text was on its way then.
    let refused = system.fork_point(origin, seq).await.unwrap_err();
    let foreplan::Error::Fork(Refusal::InHand { before: Some(before), .. }) = refused else {
        panic!("{refused}")
    };

    let point = system.fork_point(origin, before).await.unwrap();
    let mut wanted =
        RunSpec { planner: PlannerSpec::Runbook { plan: plan("mail") }, ..point.spec.as_ref().clone() };
    wanted.origin = Some(foreplan_core::fork::Origin { keeps_plan: false, ..point.origin });
    let fork = RunId(Uuid::now_v7());
    system.fork(fork, wanted, "bob").await.unwrap();
    let view = approve(&system, fork).await;
    assert_eq!(
        (view.status, view.result.clone()),
        (Status::Succeeded, Some(json!(TEXT_BYTES))),
        "{:?}",
        view.reason
    );
    assert_eq!(calls.send.load(Ordering::SeqCst), 1, "the text was sent once");
    system.shutdown().await;
}

#[tokio::test]
async fn an_approval_of_the_origin_is_none_of_its_fork() {
    let calls = Arc::new(Calls::default());
    let system = System::builder().tools(tools(&calls)).build().await.unwrap();
    let origin = sent(&system).await;
    let seq = system.entries(origin).await.unwrap().len() as u64 - 1;
    let point = system.fork_point(origin, seq).await.unwrap();
    let fork = RunId(Uuid::now_v7());
    let mut wanted = RunSpec { origin: Some(point.origin), ..point.spec.as_ref().clone() };
    assert_eq!(wanted.approval.mode, ApprovalMode::Risky);
    wanted.approval.envelope = None;
    system.fork(fork, wanted, "bob").await.unwrap();
    let outcome = system.drive(fork).await.unwrap();
    assert_eq!(outcome.status, Status::Waiting);
    let entries = system.entries(fork).await.unwrap();
    let asks = |event: &Event| matches!(event, Event::ApprovalRequested { gate: Gate::Plan, .. });
    assert!(entries.iter().any(|entry| entry.events.iter().any(asks)));
    system.shutdown().await;
}
