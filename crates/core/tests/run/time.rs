//! Limits on time.

use std::time::Duration;

use foreplan_core::{goal::ApprovalMode, input::CommandKind, view::Status};
use serde_json::json;

use crate::support::{Harness, START, hopeless, spec};

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
