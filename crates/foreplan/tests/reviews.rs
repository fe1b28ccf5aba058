//! Runs whose plans and outputs a model judges.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;

use foreplan::{Outcome, System};
use foreplan_core::{
    failure::{Failure, FailureKind},
    goal::{PlannerSpec, Review},
    input::CommandKind,
    policy::{ReplanPolicy, Rule},
    tool::Effect,
    view::{Status, StepStatus, WaitKind},
};
use foreplan_testkit::{Calls, ScriptedModels};
use foreplan_tools::Tool;
use serde_json::{Value, json};

const JUDGE: &str = "test/judge";

/// Writes a longer text with every call.
fn write() -> (Tool, Calls) {
    let calls = Calls::default();
    let counted = calls.clone();
    let write = Tool::function("write", "Write the text", Effect::Read, move |_: Value| {
        let count = counted.note() as usize;
        async move { Ok::<_, Failure>(json!({"text": "word ".repeat(count)})) }
    });
    (write, calls)
}

fn plan(step: Value) -> PlannerSpec {
    let steps = json!([step, {"id": "after", "title": "Again", "tool": "write", "needs": ["write"]}]);
    let plan = json!({"format": 1, "goal": "a text", "steps": steps, "result": {"$ref": "write.text"}});
    PlannerSpec::Runbook { plan: Arc::new(serde_json::from_value(plan).unwrap()) }
}

fn reviewed() -> Value {
    let outcome = "a text of two words";
    json!({"id": "write", "title": "Write", "tool": "write", "outcome": outcome, "review": true,
        "on_failure": {"attempts": 2, "backoff": "10ms"}})
}

fn says(accepts: bool, reasons: &[&str]) -> Value {
    json!({"accepts": accepts, "reasons": reasons})
}

fn review(plans: bool, results: bool) -> Review {
    Review { model: JUDGE.to_owned(), plans, results }
}

async fn system(models: &ScriptedModels, review: Review, planner: PlannerSpec) -> (System, Calls) {
    let (write, calls) = write();
    let builder = System::builder().tool(write).models(Arc::new(models.clone()));
    (builder.review(review).planner(planner).build().await.unwrap(), calls)
}

async fn approve(system: &System, outcome: &Outcome) {
    let digest = outcome.waiting_for.as_ref().unwrap().digest.unwrap();
    system.command(outcome.run, "ann", CommandKind::Approve { step: None, digest }).await.unwrap();
}

#[tokio::test]
async fn a_plan_that_the_reviewer_refuses_waits_for_a_person_who_sees_why() {
    let models = ScriptedModels::answering([says(false, &["nothing checks the text"])]);
    let step = json!({"id": "write", "title": "Write", "tool": "write"});
    let (system, calls) = system(&models, review(true, false), plan(step)).await;

    let outcome = system.run("A text").await.unwrap();

    assert_eq!(outcome.waiting_for.as_ref().unwrap().kind, WaitKind::PlanApproval);
    let [said] = outcome.reviews.as_slice() else { panic!("{:?}", outcome.reviews) };
    assert_eq!((said.version, said.accepts, said.by.as_str()), (Some(1), false, JUDGE));
    assert_eq!(said.reasons, ["nothing checks the text"]);
    assert_eq!((calls.count(), outcome.usage.model_calls), (0, 1), "a review carries nothing out");
    approve(&system, &outcome).await;
    assert_eq!(system.drive(outcome.run).await.unwrap().status, Status::Succeeded);
    system.shutdown().await;
}

#[tokio::test]
async fn a_plan_is_not_adopted_unseen_when_nobody_can_review_it() {
    let (write, _) = write();
    let step = json!({"id": "write", "title": "Write", "tool": "write"});
    let builder = System::builder().tool(write).review(review(true, false)).planner(plan(step));
    let system = builder.build().await.unwrap();

    let outcome = system.run("A text").await.unwrap();

    assert_eq!(outcome.status, Status::Waiting);
    assert!(outcome.reviews[0].reasons[0].starts_with("there is no judgement: unserved"));
    system.shutdown().await;
}

#[tokio::test]
async fn an_output_is_made_again_until_the_reviewer_accepts_it() {
    let models = ScriptedModels::answering([says(false, &["one word"]), says(true, &[])]);
    let (system, calls) = system(&models, review(false, false), plan(reviewed())).await;

    let outcome = system.run("A text").await.unwrap();

    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!(outcome.result, Some(json!("word word ")));
    assert_eq!(calls.count(), 3, "two attempts, and the step behind them");
    let attempts: Vec<_> = outcome.reviews.iter().map(|r| (r.attempt, r.accepts)).collect();
    assert_eq!(attempts, [(Some(1), false), (Some(2), true)]);
    assert_eq!(outcome.usage.model_calls, 2);
    assert!(models.asked()[0].messages.iter().any(|m| format!("{m:?}").contains("a text of two words")));
    system.shutdown().await;
}

#[tokio::test]
async fn an_output_that_is_never_accepted_fails_its_step_and_rules_see_the_reasons() {
    let refuses = |_: usize, _: &foreplan_model::Request| {
        Ok(foreplan_model::Answer { text: says(false, &["no"]).to_string(), ..Default::default() })
    };
    let rule: Rule =
        serde_json::from_value(json!({"when": "failure.kind == 'review'", "skip": true})).unwrap();
    let (write, calls) = write();
    let system = System::builder()
        .tool(write)
        .models(Arc::new(ScriptedModels::new(refuses)))
        .review(review(false, false))
        .policy(ReplanPolicy { rules: vec![rule], ..ReplanPolicy::default() })
        .planner(plan(reviewed()))
        .build()
        .await
        .unwrap();

    let outcome = system.run("A text").await.unwrap();

    assert_eq!(calls.count(), 3);
    let step = &outcome.steps[0];
    assert_eq!(step.status, StepStatus::Skipped);
    let failure = step.failure.as_ref().unwrap();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Review, "not_accepted"));
    system.shutdown().await;
}
