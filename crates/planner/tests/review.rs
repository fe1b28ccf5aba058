//! The reviewer over the memory bus, with a test in the place of the tracker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{sync::Arc, time::Duration};

use foreplan_bus::{Bus as _, Error, MemoryBus};
use foreplan_core::{
    call::{Call, Purpose, Target},
    failure::FailureKind,
    goal::RunSpec,
    id::RunId,
    payload::Output,
    review::{Judgement, ReviewOutcome, ReviewSubject},
    time::Timestamp,
};
use foreplan_journal::Store;
use foreplan_model::ErrorKind;
use foreplan_planner::{ModelReviewer, spawn_reviewer};
use foreplan_protocol::{Message, Reply, ReviewRequest, Subject};
use foreplan_testkit::ScriptedModels;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const RUN: RunId = RunId(uuid::Uuid::from_u128(7));

const MODEL: &str = "test/careful";

/// How long a test waits for an answer before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns what a reviewer answers, with the store that holds its payloads.
async fn review(
    models: &ScriptedModels,
    store: &Store,
    subject: ReviewSubject,
) -> (ReviewOutcome, Vec<Call>) {
    let bus = Arc::new(MemoryBus::new());
    let (sender, mut replies) = mpsc::unbounded_channel();
    let tracker = move |message| sender.send(message).map_err(|_| Error::Gone("test".to_owned()));
    bus.serve(Subject::Tracker(RUN), Box::new(tracker));
    let models = Arc::new(models.clone());
    let reviewer = ModelReviewer::new(models, Arc::clone(&store.payloads), Arc::new(Timestamp::default));
    let handle = spawn_reviewer(bus.clone(), Arc::new(reviewer)).await.unwrap();
    let spec = json!({"project": "p", "goal": "a report", "planner": {"kind": "derive", "produce": []}});
    let spec: RunSpec = serde_json::from_value(spec).unwrap();
    let request =
        ReviewRequest { run: RUN, review: 3, spec: Arc::new(spec), model: MODEL.to_owned(), subject };
    bus.publish(Subject::Reviewer, Message::Review(Arc::new(request))).await.unwrap();
    let message = tokio::time::timeout(PATIENCE, replies.recv()).await.unwrap().unwrap();
    handle.stop().await;
    let Message::Reply { run: RUN, reply: Reply::Review { review: 3, by, outcome, usage, calls } } = message
    else {
        panic!("{message:?}")
    };
    assert_eq!(by, MODEL);
    assert_eq!(usage.model_calls as usize, calls.len());
    (outcome, calls)
}

fn plan() -> ReviewSubject {
    let plan = json!({"format": 1, "steps": [{"id": "deploy", "tool": "deploy"}]});
    ReviewSubject::Plan { plan: Arc::new(serde_json::from_value(plan).unwrap()), findings: Vec::new() }
}

fn output(output: Output) -> ReviewSubject {
    let step = json!({"id": "draft", "tool": "draft", "outcome": "three sentences"});
    let step = Box::new(serde_json::from_value(step).unwrap());
    ReviewSubject::Output { step, input: Arc::new(json!({"rows": 7})), output }
}

fn judgement(accepts: bool, reasons: &[&str]) -> Value {
    json!({"accepts": accepts, "reasons": reasons})
}

fn told(models: &ScriptedModels) -> String {
    format!("{:?}", models.asked()[0].messages)
}

#[tokio::test]
async fn a_plan_is_judged_with_reasons_by_one_call() {
    let models = ScriptedModels::answering([judgement(false, &["`deploy` comes before any test"])]);
    let (outcome, calls) = review(&models, &Store::memory(), plan()).await;
    let reasons = vec!["`deploy` comes before any test".to_owned()];
    assert_eq!(outcome, ReviewOutcome::Judgement(Judgement { accepts: false, reasons }));
    let [Call { target: Target::Model(call), .. }] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((call.purpose, call.model.as_str()), (Purpose::Review, MODEL));
    assert!(told(&models).contains("a report") && told(&models).contains("deploy"), "{}", told(&models));
}

#[tokio::test]
async fn an_output_is_judged_by_what_its_step_states() {
    let models = ScriptedModels::answering([judgement(true, &[])]);
    let (outcome, _) = review(&models, &Store::memory(), output(Output::inline(json!("One. Two.")))).await;
    assert_eq!(outcome.failure(), None);
    for shown in ["three sentences", "One. Two."] {
        assert!(told(&models).contains(shown), "{}", told(&models));
    }
}

#[tokio::test]
async fn an_output_that_is_kept_by_reference_is_loaded() {
    let store = Store::memory();
    let payload = store.payloads.put(RUN, Arc::new(json!("kept elsewhere"))).await.unwrap();
    let models = ScriptedModels::answering([judgement(false, &["too short"])]);
    let (outcome, _) = review(&models, &store, output(Output::Payload(payload))).await;
    let failure = outcome.failure().unwrap();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Review, "too short"));
    assert!(told(&models).contains("kept elsewhere"), "{}", told(&models));
}

#[tokio::test]
async fn who_refuses_without_a_reason_is_asked_once_more_and_then_has_no_judgement() {
    let models = ScriptedModels::answering([judgement(false, &[]), judgement(false, &[" "])]);
    let (outcome, calls) = review(&models, &Store::memory(), plan()).await;
    let ReviewOutcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Review, "malformed_answer"));
    assert_eq!(calls.len(), 2);
}

#[tokio::test]
async fn a_model_that_does_not_answer_has_no_judgement() {
    let refuses = |_: usize, _: &foreplan_model::Request| {
        Err(foreplan_model::Error::new(MODEL, ErrorKind::Refused, "I would rather not"))
    };
    let (outcome, calls) = review(&ScriptedModels::new(refuses), &Store::memory(), plan()).await;
    let ReviewOutcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.kind, FailureKind::ModelRefused);
    assert_eq!(calls.len(), 1);
}
