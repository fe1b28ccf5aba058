//! What the executor answers to one request.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::support::{POOL, Setup, echo, failure, returned, run_id};
use foreplan_core::{
    digest::Digest,
    failure::{EffectState, Failure, FailureKind},
    id::ToolName,
    input::AttemptOutcome,
    payload::{INLINE_BYTES_MAX, Output},
    tool::Effect,
};
use foreplan_executor::PERMIT_WAIT;
use foreplan_journal::Payloads as _;
use foreplan_protocol::{Cancel, Message};
use foreplan_tools::{Specialist, Tool, Toolbox};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

#[derive(Deserialize, JsonSchema)]
struct Numbers {
    numbers: Vec<i64>,
}

#[derive(Serialize, JsonSchema)]
struct Sum {
    sum: i64,
}

fn add() -> Tool {
    Tool::function("add", "Adds numbers", Effect::Read, |input: Numbers| async move {
        Ok(Sum { sum: input.numbers.iter().sum() })
    })
}

fn never(effect: Effect) -> Tool {
    Tool::function("never", "Does not end", effect, |_: Value| pending::<Result<Value, Failure>>())
}

#[tokio::test]
async fn a_step_is_answered_with_its_output() {
    let mut setup = Setup::new(1, [add()]).await;
    setup.send(setup.request("sum", "add", json!({"numbers": [1, 2, 39]}))).await.unwrap();
    let reply = setup.reply().await;
    assert_eq!(reply.outcome, returned(json!({"sum": 42})));
    assert_eq!((reply.step.as_str(), reply.attempt), ("sum", 1));
    assert_eq!(reply.worker, format!("{POOL}/0"));
    assert_eq!((reply.started_at.0, reply.ended_at.0), (0, 1));
    assert_eq!(reply.usage.tool_calls, 1);
}

#[tokio::test]
async fn an_input_that_does_not_fit_is_refused() {
    let mut setup = Setup::new(1, [add()]).await;
    let failure = setup.failure("add", json!({"numbers": "many"})).await;
    assert_eq!(failure.kind, FailureKind::InputSchema);
    assert!(failure.message.contains("/numbers"), "{}", failure.message);
}

#[tokio::test]
async fn an_unknown_tool_is_refused() {
    let mut setup = Setup::new(1, [add()]).await;
    setup.send(setup.request("step", "subtract", json!({}))).await.unwrap();
    let reply = setup.reply().await;
    assert_eq!(reply.usage.tool_calls, 0);
    let failure = failure(reply.outcome);
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::ToolChanged, "unknown_tool"));
    assert!(!failure.is_retryable());
}

#[tokio::test]
async fn a_tool_of_another_specialist_is_refused() {
    let specialist = |capability: &str, tool: &str| Specialist {
        capability: capability.into(),
        tools: vec![ToolName::from(tool)],
        concurrency: 1,
        agent: None,
    };
    let toolbox =
        Toolbox::new([add(), echo(Effect::Read)], [specialist(POOL, "add"), specialist("other", "echo")]);
    let mut setup = Setup::of(toolbox.unwrap(), None).await;
    assert_eq!(setup.failure("echo", json!({})).await.code, "tool_not_listed");
}

#[tokio::test]
async fn a_tool_that_is_not_the_approved_one_is_refused() {
    let mut setup = Setup::new(1, [add()]).await;
    let request = setup.request("step", "add", json!({"numbers": []}));
    let work = foreplan_protocol::StepWork::Tool { tool: "add".into(), tool_digest: Digest([7; 32]) };
    setup.send(foreplan_protocol::StepRequest { work, ..request }).await.unwrap();
    let failure = failure(setup.reply().await.outcome);
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::ToolChanged, "tool_changed"));
    assert_eq!(failure.retryable, Some(false));
    assert_eq!(failure.effect, Some(EffectState::None));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_ends_at_its_timeout() {
    let mut setup = Setup::new(1, [never(Effect::Read), add()]).await;
    let began = Instant::now();
    let failure = setup.failure("never", json!({})).await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Timeout, "timeout"));
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!(setup.answer("add", json!({"numbers": [1]})).await, returned(json!({"sum": 1})));
}

#[tokio::test]
async fn a_running_call_can_be_cancelled() {
    let started = std::sync::Arc::new(tokio::sync::Notify::new());
    let tool = Tool::function("hang", "Says that it began, and hangs", Effect::Idempotent, {
        let started = started.clone();
        move |_: Value| {
            started.notify_one();
            pending::<Result<Value, Failure>>()
        }
    });
    let mut setup = Setup::new(1, [tool]).await;
    setup.send(setup.request("step", "hang", json!({}))).await.unwrap();
    started.notified().await;
    let cancel = Cancel { run: run_id(), step: "step".parse().unwrap(), attempt: 1 };
    setup.hint(Message::Cancel(Cancel { attempt: 2, ..cancel.clone() })).await;
    assert_eq!(setup.executor.in_hand(), 1);
    setup.hint(Message::Cancel(cancel)).await;
    let failure = failure(setup.reply().await.outcome);
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Cancelled, "cancelled"));
}

#[tokio::test]
async fn an_irreversible_call_is_made_once_its_permit_is_granted() {
    let mut setup = Setup::new(1, [echo(Effect::Irreversible)]).await;
    setup.send(setup.request("deploy", "echo", json!({"v": 1}))).await.unwrap();
    let asked = setup.asked().await;
    assert_eq!((asked.run, asked.step.as_str(), asked.attempt), (run_id(), "deploy", 1));
    setup.permit(asked, true).await;
    assert_eq!(setup.reply().await.outcome, returned(json!({"got": {"v": 1}})));
}

#[tokio::test]
async fn an_irreversible_call_without_permit_is_not_made() {
    let mut setup = Setup::new(1, [echo(Effect::Irreversible)]).await;
    setup.send(setup.request("deploy", "echo", json!({}))).await.unwrap();
    let asked = setup.asked().await;
    setup.permit(asked, false).await;
    let reply = setup.reply().await;
    assert_eq!(reply.usage.tool_calls, 0);
    let failure = failure(reply.outcome);
    assert_eq!((failure.code.as_str(), failure.effect), ("permit_denied", Some(EffectState::None)));
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_does_not_come_counts_as_denied() {
    let mut setup = Setup::new(1, [echo(Effect::Irreversible)]).await;
    let began = Instant::now();
    setup.send(setup.request("deploy", "echo", json!({}))).await.unwrap();
    let asked = setup.asked().await;
    let failure = failure(setup.reply().await.outcome);
    assert_eq!((failure.code.as_str(), failure.effect), ("permit_denied", Some(EffectState::None)));
    assert_eq!(began.elapsed().as_secs(), PERMIT_WAIT.as_secs());
    setup.permit(asked, true).await;
    assert_eq!(setup.executor.in_hand(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_permit_of_a_request_is_not_used_by_its_repetition() {
    let mut setup = Setup::new(1, [echo(Effect::Irreversible)]).await;
    let request = setup.request("deploy", "echo", json!({}));
    setup.send(request.clone()).await.unwrap();
    let first = setup.asked().await;
    let given_up = setup.reply().await;
    assert_eq!(given_up.claim, first.asker.claim);

    setup.send(request).await.unwrap();
    let second = setup.asked().await;
    assert_eq!(second.asker.worker, first.asker.worker);
    assert_ne!(second.asker.claim, first.asker.claim);
    setup.permit(first, true).await;
    let reply = setup.reply().await;
    assert_eq!((reply.claim, reply.usage.tool_calls), (second.asker.claim, 0));
    assert_eq!(failure(reply.outcome).code, "permit_denied");
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_a_stalled_worker_finds_too_late_is_not_used() {
    let calls = Arc::new(AtomicU32::new(0));
    let tool = Tool::function("send", "Counts its calls", Effect::Irreversible, {
        let calls = calls.clone();
        move |_: Value| {
            calls.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok::<_, Failure>(json!({})))
        }
    });
    let mut setup = Setup::new(1, [tool]).await;
    setup.send(setup.request("deploy", "send", json!({}))).await.unwrap();
    let asked = setup.asked().await;
    // The answer is there before the worker looks, and the worker looks when it has expired.
    setup.permit(asked, true).await;
    tokio::time::advance(PERMIT_WAIT).await;
    let failure = failure(setup.reply().await.outcome);
    assert_eq!((failure.code.as_str(), failure.effect), ("permit_denied", Some(EffectState::None)));
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_wait_for_a_permit_can_be_cancelled() {
    let mut setup = Setup::new(1, [echo(Effect::Irreversible)]).await;
    setup.send(setup.request("deploy", "echo", json!({}))).await.unwrap();
    setup.asked().await;
    setup.executor.cancel_all();
    let failure = failure(setup.reply().await.outcome);
    assert_eq!((failure.code.as_str(), failure.effect), ("cancelled", Some(EffectState::None)));
}

#[tokio::test(start_paused = true)]
async fn the_effect_of_a_permitted_call_that_fails_is_unknown_unless_the_tool_says() {
    let fails = |name: &str, effect: Option<EffectState>| {
        Tool::function(name, "Fails", Effect::Irreversible, move |_: Value| {
            let failure = Failure::new(FailureKind::Tool, "refused", "the server refused");
            std::future::ready(Err::<Value, _>(Failure { effect, ..failure }))
        })
    };
    let tools =
        [fails("silent", None), fails("honest", Some(EffectState::None)), never(Effect::Irreversible)];
    let mut setup = Setup::new(1, tools).await;
    for (tool, effect) in
        [("silent", EffectState::Unknown), ("honest", EffectState::None), ("never", EffectState::Unknown)]
    {
        setup.send(setup.request("step", tool, json!({}))).await.unwrap();
        let asked = setup.asked().await;
        setup.permit(asked, true).await;
        assert_eq!(failure(setup.reply().await.outcome).effect, Some(effect), "{tool}");
    }
}

#[tokio::test]
async fn a_large_output_goes_by_reference() {
    let large = || json!(vec!["row"; INLINE_BYTES_MAX / 4]);
    let tool =
        Tool::function("rows", "Returns many rows", Effect::Read, move |_: Value| async move { Ok(large()) });
    let mut setup = Setup::new(1, [tool]).await;
    let AttemptOutcome::Output(Output::Payload(payload)) = setup.answer("rows", json!({})).await else {
        panic!("the output is not kept by reference");
    };
    assert_eq!(*setup.payloads.get(run_id(), payload).await.unwrap(), large());
}

#[tokio::test]
async fn referenced_parts_of_an_input_are_loaded() {
    let mut setup = Setup::new(1, [echo(Effect::Read)]).await;
    let inner = json!({"$payload": {"sha256": Digest([1; 32]), "bytes": 1}});
    let rows = json!(["a", inner]);
    let payload = setup.payloads.put(run_id(), rows.clone().into()).await.unwrap();
    let input = json!({"rows": payload.to_value(), "again": [payload.to_value()], "n": 1});
    let outcome = setup.answer("echo", input).await;
    assert_eq!(outcome, returned(json!({"got": {"rows": rows, "again": [rows], "n": 1}})));
}

#[tokio::test]
async fn an_input_whose_payload_is_missing_cannot_be_bound() {
    let mut setup = Setup::new(1, [echo(Effect::Read)]).await;
    let missing = json!({"rows": {"$payload": {"sha256": Digest([1; 32]), "bytes": 1}}});
    let failure = setup.failure("echo", missing).await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::InputSchema, "payload_unreadable"));
}

#[tokio::test(start_paused = true)]
async fn the_timeout_is_that_of_the_request() {
    let mut setup = Setup::new(1, [never(Effect::Read)]).await;
    let request = setup.request("step", "never", json!({}));
    let began = Instant::now();
    let timeout = Duration::from_secs(3);
    setup.send(foreplan_protocol::StepRequest { timeout, ..request }).await.unwrap();
    setup.reply().await;
    assert_eq!(began.elapsed().as_secs(), 3);
}
