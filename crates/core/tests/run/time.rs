//! Limits on time.

use std::time::Duration;

use foreplan_core::{
    failure::{EffectState, Failure, FailureKind, UNSERVED},
    goal::ApprovalMode,
    input::{CommandKind, Input},
    run::UNSERVED_WAIT,
    view::Status,
};
use serde_json::json;

use crate::support::{Harness, START, broken, failure, hopeless, spec};

#[test]
fn a_run_that_is_active_for_too_long_fails() {
    let mut limits = spec();
    limits.limits.wall_time = Duration::from_secs(60);
    let (mut h, _) = Harness::started(limits, &json!([{"id": "a", "tool": "read"}]));
    assert_eq!(h.run.next_wake(), Some(START.plus(Duration::from_secs(60))));
    assert_eq!(h.wake(), ["run failed: limit wall_time", "> cancel a#1"]);
}

#[test]
fn wall_time_leaves_out_the_time_in_which_a_person_is_waited_for() {
    let mut limits = spec();
    limits.limits.wall_time = Duration::from_secs(60);
    limits.approval.mode = ApprovalMode::Always;
    let (mut h, _) = Harness::submit(limits);
    h.advance(10);
    h.plan(1, &json!([{"id": "a", "tool": "read"}]));
    assert_eq!(h.status(), Status::Waiting);
    h.advance(3_000);
    h.approve();
    assert_eq!(h.run.next_wake(), Some(h.now.plus(Duration::from_secs(50))));
    h.command(CommandKind::Pause);
    h.advance(100);
    h.command(CommandKind::Resume);
    assert_eq!(h.run.next_wake(), Some(h.now.plus(Duration::from_secs(50))));
    assert_eq!(h.wake()[0], "run failed: limit wall_time");
}

#[test]
fn a_deadline_includes_the_time_in_which_a_person_is_waited_for() {
    let mut limits = spec();
    limits.limits.deadline = Some(Duration::from_secs(60));
    let (mut h, _) = Harness::started(limits, &json!([{"id": "a", "human": {"question": "?"}}]));
    assert_eq!(h.wake(), ["run failed: limit deadline"]);
    assert_eq!(h.now, START.plus(Duration::from_secs(60)));
}

#[test]
fn a_deadline_holds_for_a_run_that_is_retried() {
    let mut limits = spec();
    limits.limits.deadline = Some(Duration::from_secs(60));
    let (mut h, _) = Harness::started(limits, &json!([{"id": "a", "human": {"question": "?"}}]));
    h.cancel();
    h.retry(None);
    assert_eq!(h.run.next_wake(), Some(START.plus(Duration::from_secs(60))));
}

#[test]
fn time_never_runs_backwards() {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "a", "tool": "read"}]));
    h.advance(10);
    h.fails("a", 1, hopeless());
    let then = h.run.at();
    h.now = START;
    h.cancel();
    assert_eq!(h.run.at(), then);
}

fn unserved() -> Failure {
    failure(FailureKind::Unserved, UNSERVED).effect(EffectState::None)
}

#[test]
fn a_step_that_nobody_serves_is_offered_again_until_a_worker_takes_it() {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "a", "tool": "read"}]));
    for attempt in 1..8 {
        assert_eq!(h.fails("a", attempt, unserved())[1], "a backs off");
        assert!(h.run.next_wake().unwrap().since(h.now) <= UNSERVED_WAIT.1);
        h.wake();
    }
    assert_eq!(h.ok("a", 8), ["a#8 succeeded", "run succeeded"]);
}

#[test]
fn a_step_that_nobody_served_for_too_long_goes_to_the_replanner() {
    let mut patient = spec();
    patient.limits.unserved = Duration::from_secs(60);
    let (mut h, _) = Harness::started(patient, &json!([{"id": "a", "tool": "read"}]));
    let mut attempt = 1;
    let said = loop {
        let said = h.fails("a", attempt, unserved());
        if said[1] != "a backs off" {
            break said;
        }
        h.wake();
        attempt += 1;
    };
    assert_eq!(said[1..], ["a failed: unserved", "replan asked about a", "> replan about a"]);
    assert_eq!(h.now, START.plus(Duration::from_secs(60)));
}

#[test]
fn waiting_for_a_worker_uses_up_no_attempt_and_starts_anew_once_it_was_served() {
    let mut patient = spec();
    patient.limits.unserved = Duration::from_secs(60);
    let plan = json!([{"id": "a", "tool": "read", "on_failure": {"attempts": 2, "backoff": "2m"}}]);
    let (mut h, _) = Harness::started(patient, &plan);
    h.fails("a", 1, unserved());
    h.wake();
    assert_eq!(h.fails("a", 2, broken()), ["a#2 failed", "a backs off"]);
    h.wake();
    assert_eq!(h.fails("a", 3, unserved()), ["a#3 failed", "a backs off"]);
    h.wake();
    assert_eq!(h.ok("a", 4), ["a#4 succeeded", "run succeeded"]);
}

#[test]
fn a_step_that_became_ready_on_hold_starts_once_the_run_is_looked_at_again() {
    let plan = json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "read", "needs": ["a"]}]);
    let (mut h, _) = Harness::started(spec(), &plan);
    h.hold(true);
    h.ok("a", 1);
    h.go();
    assert_eq!(h.run.in_flight(), 0, "a run on hold starts nothing");
    h.hold(false);
    assert_eq!(h.handle(Input::Wake)[0], "b#1 started");
}
