//! What a worker's reply means, and what becomes of a step that failed.

use std::time::Duration;

use foreplan_core::{
    action::{Action, Work},
    failure::FailureKind,
    input::{AttemptOutcome, CommandKind, Input, Readiness},
    payload::Output,
    run::{StepState, WORKERS_LOST_MAX},
    view::Status,
};
use serde_json::{Value, json};

use crate::support::{Harness, broken, failure, hopeless, spec};

const NOTHING: [&str; 0] = [];

fn step(on_failure: Value) -> Value {
    json!([{"id": "a", "tool": "read", "on_failure": on_failure}])
}

#[test]
fn a_second_result_of_an_attempt_is_ignored() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "read", "needs": ["a"]}]),
    );
    h.ok_with("a", 1, json!("first"));
    assert_eq!(h.ok_with("a", 1, json!("second")), NOTHING);
    assert_eq!(h.output("a"), Some(json!("first")));
}

#[test]
fn the_result_of_an_attempt_that_is_not_the_newest_is_ignored() {
    let (mut h, _) = Harness::started(spec(), &step(json!({"attempts": 2})));
    h.fails("a", 1, broken());
    h.wake();
    assert_eq!(h.ok("a", 1), NOTHING);
    assert_eq!(h.ok("a", 3), NOTHING);
    assert_eq!(h.ok("a", 2), ["a#2 succeeded", "run succeeded"]);
}

#[test]
fn the_result_of_a_step_that_the_plan_does_not_have_is_ignored() {
    let (mut h, _) = Harness::started(spec(), &step(json!({})));
    let mut reply = h.reply("a", 1, AttemptOutcome::Output(Output::inline(json!(1))));
    reply.step = crate::support::id("other");
    assert_eq!(h.handle(Input::Result(reply)), NOTHING);
}

#[test]
fn a_failed_attempt_is_tried_again_after_a_growing_wait_until_none_is_left() {
    let (mut h, _) = Harness::started(spec(), &step(json!({"attempts": 3, "backoff": "10s"})));
    assert_eq!(h.fails("a", 1, broken()), ["a#1 failed", "a backs off"]);
    let first = h.run.next_wake().unwrap().since(h.now).as_secs_f64();
    assert!((5.0..=10.0).contains(&first), "{first}");
    assert_eq!(h.handle(Input::Wake), NOTHING, "waking early does nothing");
    assert_eq!(h.wake(), ["a#2 started", "> run a#2 read"]);
    assert_eq!(h.fails("a", 2, broken()), ["a#2 failed", "a backs off"]);
    let second = h.run.next_wake().unwrap().since(h.now).as_secs_f64();
    assert!((10.0..=20.0).contains(&second), "{second}");
    h.wake();
    assert_eq!(
        h.fails("a", 3, broken()),
        ["a#3 failed", "a failed: broken", "replan asked about a", "> replan about a"]
    );
    assert_eq!(h.status(), Status::Replanning);
}

#[test]
fn a_retry_that_succeeds_is_like_a_first_success() {
    let (mut h, _) = Harness::started(spec(), &step(json!({"attempts": 2})));
    h.fails("a", 1, broken());
    h.wake();
    assert_eq!(h.ok("a", 2), ["a#2 succeeded", "run succeeded"]);
    assert_eq!(h.run.step("a").unwrap().failure, None);
}

#[test]
fn a_failure_that_cannot_pass_is_not_tried_again() {
    let (mut h, _) = Harness::started(spec(), &step(json!({"attempts": 3})));
    assert_eq!(
        h.fails("a", 1, hopeless()),
        ["a#1 failed", "a failed: broken", "replan asked about a", "> replan about a"]
    );
}

#[test]
fn an_output_that_the_expect_refuses_is_not_tried_again() {
    let (mut h, _) = Harness::started(spec(), &step(json!({"attempts": 3})));
    let said = h.refused("a", 1, failure(FailureKind::ExpectFailed, "expect"));
    assert_eq!(said, ["a#1 failed", "a failed: expect", "replan asked about a", "> replan about a"]);
}

#[test]
fn an_output_that_does_not_fit_its_schema_is_tried_again() {
    let (mut h, _) = Harness::started(spec(), &step(json!({"attempts": 2})));
    let said = h.refused("a", 1, failure(FailureKind::OutputSchema, "schema"));
    assert_eq!(said, ["a#1 failed", "a backs off"]);
}

#[test]
fn then_skip_lets_the_run_go_on() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([
            {"id": "a", "tool": "read", "on_failure": {"then": "skip"}},
            {"id": "b", "tool": "read", "needs": ["a"]},
        ]),
    );
    assert_eq!(
        h.fails("a", 1, broken()),
        ["a#1 failed", "a failed: broken", "a skipped: broken: it broke", "> evaluate b"]
    );
}

#[test]
fn then_fail_ends_the_run_and_stops_what_runs() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([{"id": "a", "tool": "read", "on_failure": {"then": "fail"}}, {"id": "b", "tool": "read"}]),
    );
    assert_eq!(
        h.fails("a", 1, broken()),
        ["a#1 failed", "a failed: broken", "run failed: step a", "> cancel b#1"]
    );
    assert_eq!(h.status(), Status::Failed);
    assert_eq!(h.run.next_wake(), None);
}

#[test]
fn then_ask_waits_for_a_person_who_says_retry_skip_or_fail() {
    let asked = || {
        let (mut h, _) = Harness::started(spec(), &step(json!({"then": "ask"})));
        let said = h.fails("a", 1, broken());
        assert_eq!(
            said,
            ["a#1 failed", "a failed: broken", "a asks: `a` failed: broken: it broke. Retry, skip or fail?"]
        );
        assert_eq!(h.status(), Status::Waiting);
        h
    };
    let mut h = asked();
    assert_eq!(h.answer("a", json!("retry")), ["a answered by ann", "a retried", "> evaluate a"]);
    assert_eq!(h.go(), ["a#2 started", "> run a#2 read"]);
    let mut h = asked();
    assert_eq!(
        h.answer("a", json!("skip")),
        ["a answered by ann", "a skipped: ann answered: skip", "run succeeded"]
    );
    let mut h = asked();
    h.answer("a", json!("fail"));
    assert_eq!(h.status(), Status::Failed);
    let mut h = asked();
    let verdicts = foreplan_core::input::Verdicts::default();
    let kind = CommandKind::Answer { step: crate::support::id("a"), value: json!("maybe").into(), verdicts };
    assert!(h.try_command(kind).unwrap_err().to_string().contains("\"retry\""));
}

#[test]
fn a_step_that_cannot_be_bound_has_failed() {
    let (mut h, _) = Harness::planned(spec(), &step(json!({"attempts": 3})));
    h.verdicts.insert("a".to_owned(), Readiness::Fail(failure(FailureKind::Plan, "when")));
    assert_eq!(h.go(), ["a failed: when", "replan asked about a", "> replan about a"]);
}

#[test]
fn a_step_whose_tool_the_envelope_does_not_hold_goes_to_the_replanner() {
    let (_, said) = Harness::started(spec(), &json!([{"id": "a", "tool": "unheard_of"}]));
    assert_eq!(said, ["a failed: no_executor", "replan asked about a", "> replan about a"]);
}

#[test]
fn a_worker_that_does_not_answer_in_time_is_lost_and_its_read_is_repeated() {
    let (mut h, _) = Harness::started(spec(), &step(json!({})));
    assert_eq!(h.wake(), ["a#1 failed: worker_lost", "a backs off", "> cancel a#1"]);
    assert_eq!(h.wake(), ["a#2 started", "> run a#2 read"]);
}

#[test]
fn a_lost_worker_takes_nothing_of_the_allowance() {
    let (mut h, _) = Harness::started(spec(), &step(json!({"attempts": 2})));
    h.fails("a", 1, failure(FailureKind::WorkerLost, "worker_lost"));
    h.wake();
    assert_eq!(h.fails("a", 2, broken()), ["a#2 failed", "a backs off"]);
    h.wake();
    assert!(h.fails("a", 3, broken()).contains(&"a failed: broken".to_owned()));
}

#[test]
fn a_step_that_kills_its_workers_pauses_the_run() {
    let (mut h, _) = Harness::started(spec(), &step(json!({})));
    for attempt in 1..WORKERS_LOST_MAX {
        let said = h.fails("a", attempt, failure(FailureKind::WorkerLost, "worker_lost"));
        assert_eq!(said, [format!("a#{attempt} failed"), "a backs off".to_owned()]);
        h.wake();
    }
    let said = h.fails("a", WORKERS_LOST_MAX, failure(FailureKind::WorkerLost, "worker_lost"));
    assert_eq!(said, ["a#5 failed", "paused: 5 workers were lost in `a`", "a queued"]);
    assert_eq!(h.status(), Status::Paused);
    assert_eq!(h.command(CommandKind::Resume), ["resumed by ann", "a#6 started", "> run a#6 read"]);
}

#[test]
fn what_an_attempt_used_counts_and_too_much_ends_the_run() {
    let mut spec = spec();
    spec.limits.tokens = 100;
    let (mut h, _) = Harness::started(
        spec,
        &json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "read", "needs": ["a"]}]),
    );
    let mut reply = h.reply("a", 1, AttemptOutcome::Output(Output::inline(json!(1))));
    reply.usage.input_tokens = 60;
    reply.usage.output_tokens = 41;
    assert_eq!(
        h.handle(Input::Result(reply)),
        ["a#1 succeeded", "b#1 started", "run failed: limit tokens", "> cancel b#1"]
    );
}

#[test]
fn what_planning_used_counts() {
    let mut spec = spec();
    spec.limits.model_calls = 2;
    let (mut h, _) = Harness::submit(spec);
    let proposal = h.proposal(&json!([{"id": "a", "tool": "read"}]));
    let usage = foreplan_core::budget::Usage { model_calls: 3, ..Default::default() };
    let by = "model".to_owned();
    let calls = Vec::new();
    let reply = foreplan_core::input::PlanReply { request: 1, by, proposal, usage, calls };
    let said = h.handle(Input::Planned(reply));
    assert_eq!(said, ["v1 proposed", "v1 adopted", "run failed: limit model_calls"]);
}

#[test]
fn a_run_that_has_ended_ignores_replies_and_time() {
    let (mut h, _) = Harness::started(spec(), &step(json!({})));
    h.cancel();
    assert_eq!(h.ok("a", 1), NOTHING);
    h.advance(1_000_000);
    assert_eq!(h.handle(Input::Wake), NOTHING);
    assert_eq!(h.takeover(), NOTHING);
    assert_eq!(*h.state("a"), StepState::Superseded);
}

#[test]
fn a_request_is_sent_again_only_if_its_attempt_is_young_and_nothing_was_heard_of_it() {
    let steps =
        json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "send"}, {"id": "c", "tool": "read"}]);
    let (mut h, _) = Harness::started(spec(), &steps);
    let asked = |h: &Harness, since| {
        let unheard = h.run.unheard(since);
        let step = |action: &Action| match action {
            Action::RunStep(dispatch) => dispatch.step.to_string(),
            other => panic!("not a request: {other:?}"),
        };
        unheard.iter().map(step).collect::<Vec<_>>()
    };
    let began = h.now;
    assert_eq!(asked(&h, began), ["a", "b", "c"]);
    assert_eq!(asked(&h, began.plus(Duration::from_micros(1))), NOTHING, "they began earlier");
    h.permit("b", 1);
    assert_eq!(asked(&h, began), ["a", "c"], "who asks for a permit has the request");
    h.ok("a", 1);
    assert_eq!(asked(&h, began), ["c"]);
}

#[test]
fn a_request_that_is_sent_again_may_use_what_the_first_one_could() {
    let mut spec = spec();
    spec.limits.model_calls = 3;
    let steps = json!([{"id": "a", "agent": {"instructions": "Write", "tools": ["read"]}}]);
    let (h, _) = Harness::started(spec, &steps);
    let [Action::RunStep(dispatch)] = &h.run.unheard(h.now)[..] else { panic!("one request") };
    let Work::Agent { max, .. } = &dispatch.work else { panic!("of an agent") };
    assert_eq!(max.model_calls, 3);
}
