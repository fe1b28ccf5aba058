//! How a pool treats many requests.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::support::{POOL, Setup, echo, failure, returned, run_id};
use foreplan_bus::Error;
use foreplan_core::{
    failure::{EffectState, FailureKind},
    input::AttemptOutcome,
    tool::Effect,
};
use foreplan_executor::QUEUE_MAX;
use foreplan_protocol::{Cancel, Message, StepRequest};
use foreplan_testkit::Gate;
use foreplan_tools::Tool;
use serde_json::{Value, json};
use tokio::sync::Barrier;

#[tokio::test]
async fn a_tool_that_panics_fails_its_step_and_the_pool_lives_on() {
    let panics = Tool::function("panics", "Panics", Effect::Read, |_: Value| async move {
        if true {
            panic!("out of cheese");
        }
        Ok(json!(null))
    });
    let mut setup = Setup::new(1, [panics, echo(Effect::Read)]).await;
    let failure = setup.failure("panics", json!({})).await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Tool, "panicked"));
    assert!(failure.message.contains("out of cheese"), "{}", failure.message);
    assert_eq!(setup.answer("echo", json!(1)).await, returned(json!({"got": 1})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_calls_run_at_once_as_the_specialist_allows() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let together = Arc::new(Barrier::new(3));
    let tool = Tool::function("meet", "Waits for two others", Effect::Read, {
        let most = most.clone();
        move |_: Value| {
            let (running, most, together) = (running.clone(), most.clone(), together.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                together.wait().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(json!("met"))
            }
        }
    });
    let mut setup = Setup::new(3, [tool]).await;
    for step in 0..30 {
        setup.send(setup.request(&format!("s{step}"), "meet", json!({}))).await.unwrap();
    }
    for _ in 0..30 {
        assert_eq!(setup.reply().await.outcome, returned(json!("met")));
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_full_pool_says_so_and_loses_nothing() {
    let gate = Gate::new();
    let mut setup = Setup::new(2, [gate.tool("gate", Effect::Read)]).await;
    for step in 0..QUEUE_MAX + 2 {
        setup.send(setup.request(&format!("s{step}"), "gate", json!({}))).await.unwrap();
    }
    let one_more = setup.request("one-more", "gate", json!({}));
    assert_eq!(setup.send(one_more.clone()).await, Err(Error::Busy(POOL.to_owned())));
    gate.let_through(QUEUE_MAX + 3);
    for _ in 0..QUEUE_MAX + 2 {
        assert!(matches!(setup.reply().await.outcome, AttemptOutcome::Output(_)));
    }
    setup.send(one_more).await.unwrap();
    assert_eq!(setup.reply().await.step.as_str(), "one-more");
}

#[tokio::test]
async fn a_request_that_comes_twice_while_in_hand_is_executed_once() {
    let gate = Gate::new();
    let mut setup = Setup::new(2, [gate.tool("gate", Effect::Read)]).await;
    let request = setup.request("a", "gate", json!({}));
    setup.send(request.clone()).await.unwrap();
    gate.began().await;
    setup.send(request.clone()).await.unwrap();
    setup.send(StepRequest { attempt: 2, ..request }).await.unwrap();
    gate.began().await;
    gate.let_through(2);
    let mut attempts = [setup.reply().await.attempt, setup.reply().await.attempt];
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2]);
    assert_eq!(gate.count(), 2);
}

#[tokio::test]
async fn a_waiting_attempt_that_is_cancelled_is_never_called() {
    let gate = Gate::new();
    let mut setup = Setup::new(1, [gate.tool("gate", Effect::Read)]).await;
    setup.send(setup.request("first", "gate", json!({}))).await.unwrap();
    gate.began().await;
    setup.send(setup.request("second", "gate", json!({}))).await.unwrap();
    let cancel = Cancel { run: run_id(), step: "second".parse().unwrap(), attempt: 1 };
    setup.hint(Message::Cancel(cancel)).await;
    gate.let_through(1);
    assert_eq!(setup.reply().await.step.as_str(), "first");
    let second = setup.reply().await;
    assert_eq!(second.usage.tool_calls, 0);
    let failure = failure(second.outcome);
    assert_eq!((failure.kind, failure.effect), (FailureKind::Cancelled, Some(EffectState::None)));
    assert_eq!(gate.count(), 1);
}

#[tokio::test]
async fn stopping_finishes_what_is_in_hand_and_takes_nothing_more() {
    let gate = Gate::new();
    let mut setup = Setup::new(1, [gate.tool("gate", Effect::Read)]).await;
    for step in ["running", "waiting"] {
        setup.send(setup.request(step, "gate", json!({}))).await.unwrap();
    }
    gate.began().await;
    let late = setup.request("late", "gate", json!({}));
    let executor = setup.executor.clone();
    assert_eq!(executor.in_hand(), 2);
    let mut stopping = pin!(executor.stop());
    assert!(futures::poll!(&mut stopping).is_pending());
    assert_eq!(setup.send(late).await, Err(Error::Unserved(format!("executor.{POOL}"))));
    gate.let_through(2);
    stopping.await;
    assert_eq!(setup.reply().await.step.as_str(), "running");
    assert_eq!(setup.reply().await.step.as_str(), "waiting");
    setup.executor.stop().await;
}
