//! The library as an embedding program uses it.

use foreplan::{Approval, Outcome, System};
use foreplan_core::{
    failure::{Failure, FailureKind},
    id::{RunId, StepId},
    input::CommandKind,
    tool::Effect,
    view::{Status, StepStatus, WaitKind},
};
use foreplan_tools::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Numbers {
    numbers: Vec<i64>,
}

#[derive(Serialize, JsonSchema)]
struct Total {
    total: i64,
}

fn load() -> Tool {
    Tool::function("load", "Load the numbers", Effect::Read, |_: Nothing| async {
        Ok::<_, Failure>(Numbers { numbers: vec![1, 2, 3] })
    })
}

fn add() -> Tool {
    Tool::function("add", "Add the numbers up", Effect::Read, |input: Numbers| async move {
        Ok::<_, Failure>(Total { total: input.numbers.iter().sum() })
    })
}

#[tokio::test]
async fn a_goal_is_derived_run_and_answered() {
    let system = System::builder().tools([load(), add()]).produce(["total"]).build().await.unwrap();

    let outcome = system.run("Add the numbers up").await.unwrap();

    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!(outcome.plan.as_ref().unwrap().steps.len(), 2);
    assert!(outcome.steps.iter().all(|step| step.status == StepStatus::Succeeded));
    assert!(outcome.replans.is_empty());
    assert_eq!(outcome.result, Some(serde_json::json!(6)));
    system.shutdown().await;
}

#[tokio::test]
async fn an_irreversible_step_waits_for_approval_and_happens_once() {
    let publish =
        Tool::function("publish", "Publish the total", Effect::Irreversible, |_: Published| async {
            Ok::<_, Failure>(Receipt { receipt: "r-1".to_owned() })
        });
    let tools = [load(), add(), publish];
    let system = System::builder().tools(tools).produce(["receipt"]).build().await.unwrap();

    let outcome = system.run("Publish the total").await.unwrap();
    let waiting = outcome.waiting_for.clone().unwrap();
    assert_eq!(waiting.kind, WaitKind::PlanApproval);
    assert!(matches!(outcome, Outcome::Waiting(_)));

    let kind = CommandKind::Approve { step: None, digest: waiting.digest.unwrap() };
    system.command(outcome.run, "ann", kind).await.unwrap();
    let outcome = system.drive(outcome.run).await.unwrap();
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!(outcome.result, Some(serde_json::json!("r-1")));
    system.shutdown().await;
}

#[derive(Deserialize, JsonSchema)]
struct Published {
    #[expect(dead_code, reason = "only its presence matters")]
    total: i64,
}

#[derive(Serialize, JsonSchema)]
struct Receipt {
    receipt: String,
}

#[tokio::test]
async fn a_program_answers_approvals() {
    let publish = Tool::function("publish", "Publish", Effect::Irreversible, |_: Nothing| async {
        Ok::<_, Failure>(Receipt { receipt: "r-2".to_owned() })
    });
    let system = System::builder()
        .tool(publish)
        .produce(["receipt"])
        .on_approval(|_| Approval::Approve { by: "policy".to_owned() })
        .build()
        .await
        .unwrap();
    let outcome = system.run("Publish").await.unwrap();
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    system.shutdown().await;
}

#[tokio::test]
async fn a_panicking_tool_fails_its_step_and_nothing_else() {
    let bad = Tool::function("bad", "Panics", Effect::Read, |_: Nothing| async {
        if true {
            panic!("boom");
        }
        Ok::<_, Failure>(Total { total: 0 })
    });
    let system = System::builder().tool(bad).produce(["total"]).build().await.unwrap();
    let outcome = system.run("Panic").await.unwrap();
    assert_eq!(outcome.status, Status::Failed);
    let failure = outcome.steps[0].failure.as_ref().unwrap();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Tool, "panicked"));
    let id: StepId = "bad".parse().unwrap();
    assert_eq!(outcome.steps[0].id, id);
    system.shutdown().await;
}

#[tokio::test]
async fn a_run_that_does_not_exist_is_an_error() {
    let system = System::builder().tool(load()).produce(["numbers"]).build().await.unwrap();
    let error = system.drive(RunId(uuid::Uuid::now_v7())).await.unwrap_err();
    assert!(error.to_string().contains("there is no run"), "{error}");
    system.shutdown().await;
}

#[tokio::test]
async fn a_thousand_runs_that_wait_for_a_person_hold_no_actor() {
    const RUNS: usize = 1_000;
    let publish = Tool::function("publish", "Publish", Effect::Irreversible, |_: Nothing| async {
        Ok::<_, Failure>(Receipt { receipt: "r-3".to_owned() })
    });
    let system = System::builder().tool(publish).produce(["receipt"]).build().await.unwrap();
    let mut last = None;
    for outcome in futures::future::join_all((0..RUNS).map(|_| system.run("Publish"))).await {
        let outcome = outcome.unwrap();
        assert_eq!(outcome.waiting_for.as_ref().unwrap().kind, WaitKind::PlanApproval);
        last = Some(outcome.into_view());
    }
    // An actor leaves a moment after its run has come to rest.
    let gone = async {
        while system.runs_in_memory() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.unwrap();

    let view = last.unwrap();
    let kind = CommandKind::Approve { step: None, digest: view.waiting_for.unwrap().digest.unwrap() };
    system.command(view.run, "ann", kind).await.unwrap();
    assert_eq!(system.drive(view.run).await.unwrap().status, Status::Succeeded);
    system.shutdown().await;
}
