//! Runs with goal steps: child runs that plan, wait, fail and are cancelled for themselves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;

use foreplan::{Approval, System};
use foreplan_core::{
    event::Event,
    failure::{Failure, FailureKind},
    fork::Refusal,
    goal::PlannerSpec,
    id::RunId,
    input::CommandKind,
    policy::{ReplanPolicy, Rule},
    tool::Effect,
    view::{RunView, Status, StepStatus, WaitKind},
};
use foreplan_journal::{RunFilter, Store};
use foreplan_testkit::Calls;
use foreplan_tools::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Deserialize, JsonSchema)]
struct Place {
    city: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Map {
    map: String,
}

#[derive(Serialize, JsonSchema)]
struct Receipt {
    receipt: String,
}

/// Draws the map of a city, of which `nowhere` has none.
fn draw() -> (Tool, Calls) {
    let calls = Calls::default();
    let counted = calls.clone();
    let draw = Tool::function("draw", "Draw a map", Effect::Read, move |place: Place| {
        counted.note();
        async move {
            if place.city == "nowhere" {
                return Err(Failure::new(FailureKind::Tool, "no_city", "nobody lives there").retryable(false));
            }
            Ok(Map { map: format!("map of {}", place.city) })
        }
    });
    (draw, calls)
}

/// Prints a map, which cannot be undone.
fn print() -> (Tool, Calls) {
    let calls = Calls::default();
    let counted = calls.clone();
    let print = Tool::function("print", "Print a map", Effect::Irreversible, move |map: Map| {
        counted.note();
        async move { Ok::<_, Failure>(Receipt { receipt: format!("printed {}", map.map) }) }
    });
    (print, calls)
}

/// A plan whose only step is a goal.
fn plan(city: &str, produce: &str) -> PlannerSpec {
    let goal = json!({"text": format!("Get the {produce}"), "produce": [produce]});
    let steps = json!([{"id": "sub", "title": "Get it", "goal": goal, "input": {"city": city}}]);
    let plan = json!({"format": 1, "goal": "a map", "steps": steps, "result": {"$ref": "sub"}});
    PlannerSpec::Runbook { plan: Arc::new(serde_json::from_value(plan).unwrap()) }
}

fn child(view: &RunView) -> RunId {
    view.steps[0].child.unwrap()
}

async fn runs(system: &System) -> usize {
    system.runs(RunFilter::default()).await.unwrap().len()
}

async fn approve(system: &System, view: &RunView) {
    let digest = view.waiting_for.as_ref().unwrap().digest.unwrap();
    system.command(view.run, "ann", CommandKind::Approve { step: None, digest }).await.unwrap();
}

#[tokio::test]
async fn a_goal_step_is_planned_and_run_on_its_own_and_its_result_is_the_output() {
    let (draw, calls) = draw();
    let system = System::builder().tool(draw).planner(plan("Bern", "map")).build().await.unwrap();

    let outcome = system.run("A map").await.unwrap();

    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!(outcome.result, Some(json!("map of Bern")));
    let child = system.view(child(&outcome)).await.unwrap();
    assert_eq!((child.status, child.goal.as_str()), (Status::Succeeded, "Get the map"));
    assert_eq!(child.parent.as_ref().map(|parent| parent.run), Some(outcome.run));
    assert_eq!((calls.count(), runs(&system).await), (1, 2));
    system.shutdown().await;
}

#[tokio::test]
async fn a_parent_waits_for_the_approval_of_its_child_run_and_goes_on_after_it() {
    let ((draw, _), (print, calls)) = (draw(), print());
    let builder = System::builder().tools([draw, print]).planner(plan("Bern", "receipt"));
    let system = builder.build().await.unwrap();

    let outcome = system.run("A map").await.unwrap();

    let wait = outcome.waiting_for.clone().unwrap();
    assert_eq!((wait.kind, wait.child), (WaitKind::ChildRun, Some(child(&outcome))));
    let waits = system.view(child(&outcome)).await.unwrap();
    assert_eq!(waits.waiting_for.as_ref().unwrap().kind, WaitKind::PlanApproval);
    assert_eq!(calls.count(), 0);
    approve(&system, &waits).await;
    let outcome = system.drive(outcome.run).await.unwrap();
    assert_eq!(outcome.result, Some(json!("printed map of Bern")), "{:?}", outcome.reason);
    assert_eq!(calls.count(), 1);
    system.shutdown().await;
}

#[tokio::test]
async fn no_fork_begins_while_a_child_run_is_in_hand() {
    let ((draw, _), (print, _)) = (draw(), print());
    let builder = System::builder().tools([draw, print]).planner(plan("Bern", "receipt"));
    let system = builder.build().await.unwrap();
    let outcome = system.run("A map").await.unwrap();
    let last = |view: &RunView| view.journal.entries - 1;
    let (run, waits) = (outcome.run, last(&outcome));
    let refused = system.fork_point(run, waits).await.unwrap_err();
    assert!(matches!(refused, foreplan::Error::Fork(Refusal::InHand { .. })), "{refused}");
    let refused = system.fork_point(run, 0).await.unwrap_err();
    assert!(matches!(refused, foreplan::Error::Fork(Refusal::Busy { .. })), "{refused}");

    approve(&system, &system.view(child(&outcome)).await.unwrap()).await;
    let ended = system.drive(run).await.unwrap().into_view();
    assert_eq!(ended.status, Status::Succeeded);
    let point = system.fork_point(run, last(&ended)).await.unwrap();
    assert_eq!(point.kept(&point.spec.params).len(), 1, "the result of the child run is kept");
    system.shutdown().await;
}

#[tokio::test]
async fn a_program_approves_child_runs_too() {
    let ((draw, _), (print, _)) = (draw(), print());
    let system = System::builder()
        .tools([draw, print])
        .planner(plan("Bern", "receipt"))
        .on_approval(|_| Approval::Approve { by: "policy".to_owned() })
        .build()
        .await
        .unwrap();
    let outcome = system.run("A map").await.unwrap();
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    system.shutdown().await;
}

#[tokio::test]
async fn a_child_run_that_fails_fails_its_step_and_a_rule_replans() {
    let instead = json!({"id": "sub", "input": {"city": "Rome"}});
    let rule = json!({"when": "failure.code == 'child_failed'", "replace": instead, "times": 1});
    let rule: Rule = serde_json::from_value(rule).unwrap();
    let (draw, calls) = draw();
    let system = System::builder()
        .tool(draw)
        .planner(plan("nowhere", "map"))
        .policy(ReplanPolicy { rules: vec![rule], ..ReplanPolicy::default() })
        .build()
        .await
        .unwrap();

    let outcome = system.run("A map").await.unwrap();

    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!(outcome.result, Some(json!("map of Rome")));
    assert_eq!((outcome.replans.len(), calls.count(), runs(&system).await), (1, 2, 3));
    system.shutdown().await;
}

#[tokio::test]
async fn a_cancelled_parent_cancels_its_child_run() {
    let ((draw, _), (print, calls)) = (draw(), print());
    let builder = System::builder().tools([draw, print]).planner(plan("Bern", "receipt"));
    let system = builder.build().await.unwrap();
    let outcome = system.run("A map").await.unwrap();
    let child = child(&outcome);

    system.command(outcome.run, "ann", CommandKind::Cancel { reason: None }).await.unwrap();
    let ended = system.drive(child).await.unwrap();

    assert_eq!((ended.status, calls.count()), (Status::Cancelled, 0));
    assert_eq!(system.view(outcome.run).await.unwrap().status, Status::Cancelled);
    system.shutdown().await;
}

#[tokio::test]
async fn a_cancelled_child_run_fails_its_step() {
    let ((draw, _), (print, _)) = (draw(), print());
    let builder = System::builder().tools([draw, print]).planner(plan("Bern", "receipt"));
    let system = builder.build().await.unwrap();
    let outcome = system.run("A map").await.unwrap();

    system.command(child(&outcome), "ann", CommandKind::Cancel { reason: None }).await.unwrap();
    let outcome = system.drive(outcome.run).await.unwrap();

    assert_eq!((outcome.status, outcome.steps[0].status), (Status::Failed, StepStatus::Failed));
    let failure = outcome.steps[0].failure.as_ref().unwrap();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Cancelled, "child_cancelled"));
    system.shutdown().await;
}

#[tokio::test]
async fn a_new_process_finds_the_child_run_that_was_created_before_the_crash() {
    let store = Store::memory();
    let (draw, calls) = draw();
    let first = System::builder().tool(draw).planner(plan("Bern", "map")).store(store.clone());
    let first = first.build().await.unwrap();
    let outcome = first.run("A map").await.unwrap();
    let (parent, child) = (outcome.run, child(&outcome));
    first.shutdown().await;

    // The journal of the parent ends where it had asked for its child run, as after a kill -9 between
    // that and the child run's answer.
    let again = Store::memory();
    let asked = up_to(&first, parent, |event| matches!(event, Event::AttemptStarted { .. })).await;
    for (run, keep) in [(parent, asked), (child, usize::MAX)] {
        copy(&first, &again, run, keep).await;
    }
    let second = System::builder().tool(self::draw().0).store(again).build().await.unwrap();
    let outcome = second.drive(parent).await.unwrap();

    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!((outcome.steps[0].attempts, runs(&second).await), (1, 2), "no second child run");
    assert_eq!(calls.count(), 1);
    second.shutdown().await;
}

/// Returns how many entries there are up to the first with such an event.
async fn up_to(system: &System, run: RunId, is_last: fn(&Event) -> bool) -> usize {
    let entries = system.entries(run).await.unwrap();
    entries.iter().position(|entry| entry.events.iter().any(is_last)).unwrap() + 1
}

async fn copy(from: &System, to: &Store, run: RunId, keep: usize) {
    let entries = from.entries(run).await.unwrap();
    let record = from.store().journal.find(run).await.unwrap().unwrap();
    let progress = foreplan_journal::Progress { status: Status::Running, ended_at: None, ..record.progress };
    let mut kept = entries.into_iter().take(keep);
    to.journal.create(record.run, kept.next().unwrap(), progress).await.unwrap();
    for entry in kept {
        to.journal.append(run, entry, progress).await.unwrap();
    }
}

#[tokio::test]
async fn goals_lie_no_deeper_than_the_limit() {
    let goal = json!({"text": "Deeper", "produce": ["map"]});
    let step = json!({"id": "sub", "title": "Deeper", "goal": goal, "input": {"city": "Bern"}});
    let document = json!({"format": 1, "goal": "a map", "steps": [step]});
    let plan = Arc::new(serde_json::from_value(document).unwrap());
    let (draw, _) = draw();
    let limits = foreplan_core::budget::Limits { depth: 0, ..Default::default() };
    let builder = System::builder().tool(draw).limits(limits).planner(PlannerSpec::Runbook { plan });
    let system = builder.build().await.unwrap();
    let outcome = system.run("A map").await.unwrap();
    assert_eq!(outcome.status, Status::Failed);
    assert!(outcome.reason.as_ref().unwrap().contains("2 deep at most"), "{:?}", outcome.reason);
    system.shutdown().await;
}

#[tokio::test]
async fn a_paused_parent_pauses_its_child_run_and_resume_goes_on_with_both() {
    let system = with_tools(&Store::memory()).await;
    let (parent, child) = paused_and_resumed(&system).await;
    approve(&system, &system.view(child).await.unwrap()).await;
    assert_eq!(system.drive(parent).await.unwrap().status, Status::Succeeded);
    system.shutdown().await;
}

#[tokio::test]
async fn a_resume_that_a_crash_swallowed_reaches_the_child_run_with_the_next_process() {
    let (first, second) = (Store::memory(), Store::memory());
    let system = with_tools(&first).await;
    let (parent, child) = paused_and_resumed(&system).await;

    // As after a kill -9 between the parent's entry and what it says to its child run.
    let paused = up_to(&system, child, |event| matches!(event, Event::RunPaused { .. })).await;
    for (run, keep) in [(parent, usize::MAX), (child, paused)] {
        copy(&system, &second, run, keep).await;
    }
    system.shutdown().await;
    let system = with_tools(&second).await;
    assert_eq!(system.view(child).await.unwrap().status, Status::Paused);
    system.drive(parent).await.unwrap();
    until(&system, child, Status::Waiting).await;
    approve(&system, &system.view(child).await.unwrap()).await;
    assert_eq!(system.drive(parent).await.unwrap().status, Status::Succeeded);
    system.shutdown().await;
}

/// Makes a system whose child run asks before it prints.
async fn with_tools(store: &Store) -> System {
    let ((draw, _), (print, _)) = (draw(), print());
    let builder = System::builder().tools([draw, print]).planner(plan("Bern", "receipt"));
    builder.store(store.clone()).build().await.unwrap()
}

/// Pauses a run whose child run waits, and resumes it; returns both.
async fn paused_and_resumed(system: &System) -> (RunId, RunId) {
    let outcome = system.run("A map").await.unwrap();
    let (parent, child) = (outcome.run, child(&outcome));
    system.command(parent, "ann", CommandKind::Pause).await.unwrap();
    until(system, child, Status::Paused).await;
    system.command(parent, "ann", CommandKind::Resume).await.unwrap();
    until(system, child, Status::Waiting).await;
    (parent, child)
}

/// Returns once a run stands so.
async fn until(system: &System, run: RunId, status: Status) {
    let mut progress = system.progress();
    let standing = async {
        while system.view(run).await.unwrap().status != status {
            progress.recv().await.unwrap();
        }
    };
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, standing).await.expect("the run comes to stand so");
}

#[tokio::test]
async fn who_only_records_what_a_person_says_of_a_child_run_leaves_its_parent_alone() {
    let store = Store::memory();
    let first = with_tools(&store).await;
    let waits = first.run("A map").await.unwrap().into_view();
    first.shutdown().await;

    // Like the process of `foreplan reject`, it has none of the project's tools.
    let clerk = System::builder().store(store.clone()).build().await.unwrap();
    let before = clerk.entries(waits.run).await.unwrap().len();
    clerk.record(child(&waits), "ann", CommandKind::Reject { reason: "no".to_owned() }).await.unwrap();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    clerk.shutdown().await;
    assert_eq!(clerk.view(child(&waits)).await.unwrap().status, Status::Rejected);
    assert_eq!(clerk.entries(waits.run).await.unwrap().len(), before);

    let second = with_tools(&store).await;
    let outcome = second.drive(waits.run).await.unwrap();
    let failure = outcome.steps[0].failure.clone().unwrap();
    assert_eq!((outcome.status, failure.code.as_str()), (Status::Failed, "child_rejected"));
    second.shutdown().await;
}
