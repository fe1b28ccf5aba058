//! Runs that a model plans and replans: what is asked, what is accepted, and what comes of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;

use foreplan::{Outcome, System};
use foreplan_core::{
    call::{Call, Purpose, Target},
    event::RunFailure,
    failure::{Failure, FailureKind},
    input::{CommandKind, Input, Proposal, Verdicts},
    run::Run,
    tool::Effect,
    view::{Status, WaitKind},
};
use foreplan_model::{Answer, Error, ErrorKind};
use foreplan_testkit::{Calls, ScriptedModels};
use foreplan_tools::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const MODEL: &str = "test/strong";

#[derive(Deserialize, JsonSchema)]
struct Place {
    from: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Numbers {
    numbers: Vec<i64>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Total {
    total: i64,
}

/// Loads numbers from a place, of which `gone` is empty.
fn load() -> Tool {
    counted_load().0
}

fn counted_load() -> (Tool, Calls) {
    let calls = Calls::default();
    let counted = calls.clone();
    let load = Tool::function("load", "Load the numbers", Effect::Read, move |input: Place| {
        counted.note();
        async move {
            if input.from == "gone" {
                let failure = Failure::new(FailureKind::Tool, "not_found", "there is nothing at `gone`");
                return Err(failure.retryable(false));
            }
            Ok(Numbers { numbers: vec![1, 2, 3] })
        }
    });
    (load, calls)
}

fn add() -> Tool {
    Tool::function("add", "Add the numbers up", Effect::Read, |input: Numbers| async move {
        Ok::<_, Failure>(Total { total: input.numbers.iter().sum() })
    })
}

fn publish() -> (Tool, Calls) {
    let calls = Calls::default();
    let counted = calls.clone();
    let publish =
        Tool::function("publish", "Publish the total", Effect::Irreversible, move |input: Total| {
            counted.note();
            async move { Ok::<_, Failure>(json!({"published": input.total})) }
        });
    (publish, calls)
}

async fn system(models: &ScriptedModels, tools: impl IntoIterator<Item = Tool>) -> System {
    System::builder()
        .tools(tools)
        .models(Arc::new(models.clone()))
        .model_planner(MODEL)
        .build()
        .await
        .unwrap()
}

fn step(id: &str, tool: &str, input: Value) -> Value {
    json!({"id": id, "title": id, "do": {"tool": tool, "input": input}, "needs": [], "when": null, "for_each": null, "expect": null})
}

fn plan(steps: Value, result: &str) -> Value {
    json!({"answer": {"kind": "plan", "rationale": "because", "steps": steps, "result": {"ref": result}}})
}

/// `load` then `add`.
fn sum() -> Value {
    let steps = json!([
        step("load", "load", json!({"from": {"value": "here"}})),
        step("add", "add", json!({"numbers": {"ref": "load.numbers"}})),
    ]);
    plan(steps, "add.total")
}

async fn calls(system: &System, outcome: &Outcome) -> Vec<Call> {
    let entries = system.entries(outcome.run).await.unwrap();
    let of = |input: &Input| match input {
        Input::Planned(reply) => reply.calls.clone(),
        Input::Replanned(reply) => reply.calls.clone(),
        _ => Vec::new(),
    };
    entries.iter().flat_map(|entry| of(&entry.cause)).collect()
}

async fn failure(system: &System, outcome: &Outcome) -> RunFailure {
    let entries = system.entries(outcome.run).await.unwrap();
    let run = Run::replay(outcome.run, entries.iter().map(AsRef::as_ref)).unwrap();
    run.run_failure().cloned().unwrap()
}

#[tokio::test]
async fn a_plan_takes_one_call_and_the_run_no_other() {
    let models = ScriptedModels::answering([sum()]);
    let system = system(&models, [load(), add()]).await;

    let outcome = system.run("Add the numbers up").await.unwrap();

    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!(outcome.result, Some(json!(6)));
    assert_eq!((outcome.usage.model_calls, outcome.usage.react_calls_at_least), (1, 3));
    let calls = calls(&system, &outcome).await;
    let [Call { target: Target::Model(call), failure: None, .. }] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    assert_eq!((call.model.as_str(), call.purpose), (MODEL, Purpose::Plan));
    assert_eq!(call.request, models.asked()[0].digest());
    system.shutdown().await;
}

#[tokio::test]
async fn the_model_is_told_the_goal_the_tools_and_the_form_of_a_plan() {
    let models = ScriptedModels::answering([sum()]);
    let system = system(&models, [load(), add()]).await;
    system.run("Add the numbers up").await.unwrap();
    let asked = models.asked();
    let text = format!("{:?}", asked[0].messages);
    assert!(text.contains("Goal: Add the numbers up"), "{text}");
    assert!(
        asked[0].system.contains("load(from: string) -> {numbers: [integer]} · read"),
        "{}",
        asked[0].system
    );
    let schema = &asked[0].output.as_ref().unwrap().schema;
    assert!(schema["$defs"]["step"]["properties"]["do"]["anyOf"].as_array().unwrap().len() >= 2);
    system.shutdown().await;
}

/// A step-by-step agent of LangGraph sends 12,420 tokens for a task of twelve calls: a plan is to take
/// a tenth.
const PROMPT_CHARS_MAX: usize = 12_420 / 10 * 4;

#[tokio::test]
async fn a_dozen_tools_are_told_in_a_tenth_of_what_a_step_by_step_agent_sends() {
    let models = ScriptedModels::answering([sum()]);
    let named = |at: u32| {
        Tool::function(
            format!("fetch_{at}"),
            "Fetch a page of the report by its place",
            Effect::Read,
            |place: Place| async move { Ok::<_, Failure>(json!({"from": place.from})) },
        )
    };
    let system = system(&models, [load(), add()].into_iter().chain((0..10).map(named))).await;
    system.run("Add the numbers up").await.unwrap();
    let request = &models.asked()[0];
    let sent = request.system.chars().count() + format!("{:?}", request.messages).chars().count();
    assert!(sent <= PROMPT_CHARS_MAX, "{sent} characters are more than {PROMPT_CHARS_MAX}");
    system.shutdown().await;
}

#[tokio::test]
async fn findings_go_back_to_the_model_and_the_mended_plan_is_adopted() {
    let wrong = plan(json!([step("load", "laod", json!({"from": {"value": "here"}}))]), "load.numbers");
    let models = ScriptedModels::answering([wrong, sum()]);
    let system = system(&models, [load(), add()]).await;
    let outcome = system.run("Add the numbers up").await.unwrap();
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!(outcome.usage.model_calls, 2);
    let told = format!("{:?}", models.asked()[1].messages.last());
    assert!(told.contains("there is no tool `laod`; did you mean `load`?"), "{told}");
    system.shutdown().await;
}

#[tokio::test]
async fn a_model_that_never_writes_a_valid_plan_fails_the_run_with_the_findings_and_nothing_runs() {
    let (publish, published) = publish();
    let wrong = || {
        let steps = json!([
            step("publish", "publish", json!({"total": {"value": 1}})),
            step("add", "add", json!({"numbers": {"ref": "nowhere.numbers"}})),
        ]);
        plan(steps, "add.total")
    };
    let models = ScriptedModels::answering([wrong(), wrong(), wrong()]);
    let system = system(&models, [add(), publish]).await;
    let outcome = system.run("Add the numbers up").await.unwrap();
    let RunFailure::NoPlan { code, message } = failure(&system, &outcome).await else { panic!("a plan") };
    assert_eq!(code, "invalid_plan");
    assert!(message.contains("nowhere"), "{message}");
    let entries = system.entries(outcome.run).await.unwrap();
    let kept = entries.iter().any(|entry| {
        matches!(&entry.cause, Input::Planned(reply) if matches!(&reply.proposal, Proposal::Invalid { findings, .. } if !findings.is_empty()))
    });
    assert!(kept, "the plan is on record with its findings");
    assert_eq!((outcome.usage.model_calls, published.count()), (3, 0));
    system.shutdown().await;
}

#[tokio::test]
async fn a_missing_input_that_a_tool_makes_is_closed_without_a_call() {
    let models = ScriptedModels::answering([plan(
        json!([
            step("load", "load", json!({"from": {"value": "here"}})),
            step("publish", "publish", json!({}))
        ]),
        "publish.published",
    )]);
    let (publish, published) = publish();
    let system = System::builder()
        .tools([load(), add(), publish])
        .models(Arc::new(models.clone()))
        .model_planner(MODEL)
        .on_approval(|_| foreplan::Approval::Approve { by: "ann".to_owned() })
        .build()
        .await
        .unwrap();
    let outcome = system.run("Publish the total").await.unwrap();
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!((outcome.usage.model_calls, published.count()), (1, 1));
    let ids: Vec<&str> = outcome.plan.as_ref().unwrap().steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["load", "add", "publish"]);
    system.shutdown().await;
}

#[tokio::test]
async fn what_no_tool_can_do_is_answered_as_such() {
    let models =
        ScriptedModels::answering([json!({"answer": {"kind": "impossible", "reason": "nothing prints"}})]);
    let system = system(&models, [load()]).await;
    let outcome = system.run("Print it").await.unwrap();
    let RunFailure::NoPlan { code, message } = failure(&system, &outcome).await else { panic!("a plan") };
    assert_eq!(code, "impossible");
    assert!(message.contains("nothing prints"), "{message}");
    system.shutdown().await;
}

#[tokio::test]
async fn an_unclear_goal_is_asked_about_and_the_answer_goes_into_the_plan() {
    let question = json!({"answer": {"kind": "question", "question": "From where?"}});
    let models = ScriptedModels::answering([question, sum()]);
    let system = system(&models, [load(), add()]).await;

    let outcome = system.run("Add the numbers up").await.unwrap();
    let wait = outcome.waiting_for.clone().unwrap();
    assert_eq!((wait.kind, wait.question.as_deref()), (WaitKind::Question, Some("From where?")));
    let step = wait.step.unwrap();
    assert_eq!(step.as_str(), "plan");

    let value = Arc::new(json!("from here"));
    let answer = CommandKind::Answer { step, value, verdicts: Verdicts::default() };
    system.command(outcome.run, "ann", answer).await.unwrap();
    let outcome = system.drive(outcome.run).await.unwrap();
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!(outcome.usage.model_calls, 2);
    let told = format!("{:?}", models.asked()[1].messages);
    assert!(told.contains("Asked: From where?") && told.contains("from here"), "{told}");
    system.shutdown().await;
}

#[tokio::test]
async fn a_model_that_does_not_answer_is_a_typed_failure() {
    for kind in [ErrorKind::Refused, ErrorKind::Unavailable, ErrorKind::ContextTooLong, ErrorKind::Quota] {
        let models = ScriptedModels::new(move |_, _| Err(Error::new(MODEL, kind, "say it otherwise")));
        let system = system(&models, [load()]).await;
        let outcome = system.run("Add").await.unwrap();
        let RunFailure::NoPlan { code, message } = failure(&system, &outcome).await else { panic!("a plan") };
        assert_eq!(code, kind.code());
        assert!(message.contains("say it otherwise"), "{message}");
        assert_eq!(models.asked().len(), 1, "an error is not repaired");
        let calls = calls(&system, &outcome).await;
        assert_eq!(calls[0].failure.as_ref().unwrap().code, kind.code());
        system.shutdown().await;
    }
}

#[tokio::test]
async fn prose_and_fences_around_a_plan_are_read_and_an_empty_answer_is_mended() {
    let fenced = format!("Here is the plan:\n```json\n{}\n```\nGood luck!", sum());
    let models = ScriptedModels::answering([json!(""), json!(fenced)]);
    let system = system(&models, [load(), add()]).await;
    let outcome = system.run("Add the numbers up").await.unwrap();
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!(outcome.usage.model_calls, 2);
    system.shutdown().await;
}

#[tokio::test]
async fn a_plan_of_five_thousand_steps_is_refused_with_the_limit() {
    let steps: Vec<Value> = (0..5_000)
        .map(|at| step(&format!("load_{at}"), "load", json!({"from": {"value": "here"}})))
        .collect();
    let huge = plan(json!(steps), "load_0.numbers").to_string();
    let models = ScriptedModels::new(move |_, _| Ok(Answer { text: huge.clone(), ..Answer::default() }));
    let system = system(&models, [load()]).await;
    let outcome = system.run("Load a lot").await.unwrap();
    let RunFailure::NoPlan { code, message } = failure(&system, &outcome).await else { panic!("a plan") };
    assert_eq!(code, "invalid_plan");
    assert!(message.contains("the plan has 5000 steps, and 2000 are allowed"), "{message}");
    assert_eq!(models.asked().len(), 3);
    system.shutdown().await;
}

#[tokio::test]
async fn a_failed_step_is_tried_again_as_the_model_rewrites_it() {
    let lost = plan(
        json!([
            step("load", "load", json!({"from": {"value": "gone"}})),
            step("add", "add", json!({"numbers": {"ref": "load.numbers"}})),
        ]),
        "add.total",
    );
    let retry = json!({"decision": {
        "kind": "retry", "reason": "the numbers lie elsewhere",
        "step": step("load", "load", json!({"from": {"value": "here"}})),
    }});
    let models = ScriptedModels::answering([lost, retry]);
    let system = system(&models, [load(), add()]).await;
    let outcome = system.run("Add the numbers up").await.unwrap();
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!(outcome.result, Some(json!(6)));
    let [replan] = outcome.replans.as_slice() else { panic!("{:?}", outcome.replans) };
    assert_eq!((replan.decision.as_str(), replan.by.as_str()), ("patch", "model"));
    assert!(replan.reason.starts_with("the numbers lie elsewhere"), "{}", replan.reason);
    let told = format!("{:?}", models.asked()[1].messages);
    assert!(told.contains("not_found") && told.contains("there is nothing at `gone`"), "{told}");
    assert_eq!(calls(&system, &outcome).await.len(), 2);
    assert_eq!(outcome.usage.model_calls, 2);
    system.shutdown().await;
}

#[tokio::test]
async fn a_decision_that_cannot_be_carried_out_is_mended_once_and_then_the_run_fails() {
    let lost = plan(json!([step("load", "load", json!({"from": {"value": "gone"}}))]), "load.numbers");
    let odd = || json!({"decision": {"kind": "patch", "reason": "r", "insert": [], "replace": [], "drop": ["gone"]}});
    let models = ScriptedModels::answering([lost, odd(), odd()]);
    let system = system(&models, [load()]).await;
    let outcome = system.run("Load").await.unwrap();
    assert_eq!(outcome.status, Status::Failed);
    assert!(
        outcome.reason.as_deref().unwrap().contains("`gone`, which is no step of the plan"),
        "{:?}",
        outcome.reason
    );
    assert_eq!(models.asked().len(), 3);
    system.shutdown().await;
}

#[tokio::test]
async fn a_revised_goal_keeps_what_is_done_and_adds_what_is_left() {
    let (publish, published) = publish();
    let more = json!({"answer": {
        "kind": "plan", "rationale": "the total is there already", "keep": ["load", "add"],
        "steps": [step("publish", "publish", json!({"total": {"ref": "add.total"}}))],
        "result": {"ref": "publish.published"},
    }});
    let mut first = sum();
    first["answer"]["steps"].as_array_mut().unwrap().push(
        json!({"id": "sure", "title": "Ask", "human": {"question": "Sure?", "answer": null}, "needs": ["add"], "when": null}),
    );
    let models = ScriptedModels::answering([first, more]);
    let (load, loaded) = counted_load();
    let system = system(&models, [load, add(), publish]).await;
    let outcome = system.run("Add the numbers up").await.unwrap();
    assert_eq!(outcome.waiting_for.as_ref().unwrap().kind, WaitKind::Question);

    let revise = CommandKind::Revise {
        goal: Some("Publish the total".to_owned()),
        produce: None,
        params: Default::default(),
    };
    system.command(outcome.run, "ann", revise).await.unwrap();
    let outcome = system.drive(outcome.run).await.unwrap();
    let wait = outcome.waiting_for.clone().unwrap();
    assert_eq!(wait.kind, WaitKind::ReplanApproval, "it publishes now");
    let kind = CommandKind::Approve { step: None, digest: wait.digest.unwrap() };
    system.command(outcome.run, "ann", kind).await.unwrap();
    let outcome = system.drive(outcome.run).await.unwrap();

    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!((loaded.count(), published.count()), (1, 1), "what is done is not done again");
    let [replan] = outcome.replans.as_slice() else { panic!("{:?}", outcome.replans) };
    assert_eq!(
        (replan.trigger.as_str(), replan.reason.as_str()),
        ("goal_revised", "the total is there already")
    );
    let told = format!("{:?}", models.asked()[1].messages);
    assert!(told.contains("The goal was revised") && told.contains("succeeded: "), "{told}");
    system.shutdown().await;
}
