//! Assumptions: what is looked at before a plan is approved.

use foreplan_core::{goal::ApprovalMode, view::Status};
use serde_json::{Value, json};

use crate::support::{Harness, broken, hopeless, spec};

const NOTHING: [&str; 0] = [];

fn assuming(tool: &str) -> Value {
    json!({
        "assumptions": [
            {"text": "it is there", "tool": tool, "expect": "output.exists"},
            {"text": "it is new", "tool": tool, "expect": "output.new"},
        ],
        "steps": [{"id": "a", "tool": "read"}],
    })
}

#[test]
fn assumptions_are_looked_at_before_anything_else() {
    let mut always = spec();
    always.approval.mode = ApprovalMode::Always;
    let (mut h, said) = Harness::planned(always, &assuming("read"));
    assert_eq!(
        said,
        [
            "v1 proposed",
            "assumption~0#1 started",
            "assumption~1#1 started",
            "> run assumption~0#1 read",
            "> run assumption~1#1 read"
        ]
    );
    assert_eq!(h.status(), Status::Planning);
    assert_eq!(h.ok("assumption~1", 1), ["assumption~1#1 succeeded"]);
    assert_eq!(h.ok("assumption~0", 1), ["assumption~0#1 succeeded", "plan to be approved"]);
}

#[test]
fn an_assumption_that_does_not_hold_keeps_the_plan_from_being_adopted() {
    let (mut h, _) = Harness::planned(spec(), &assuming("read"));
    let said = h.refused("assumption~0", 1, broken());
    assert_eq!(
        said,
        [
            "assumption~0#1 failed",
            "plan refused: the plan assumes that it is there; that does not hold: it broke",
            "run failed: no plan, assumption_failed",
            "> cancel assumption~1#1"
        ]
    );
}

#[test]
fn an_assumption_that_nobody_can_look_at_does_not_hold() {
    let (_, said) = Harness::planned(spec(), &assuming("unheard_of"));
    assert_eq!(said.last().map(String::as_str), Some("run failed: no plan, assumption_failed"));
}

#[test]
fn an_assumption_whose_worker_is_lost_is_looked_at_again_by_a_new_owner() {
    let (mut h, _) = Harness::planned(spec(), &assuming("read"));
    h.ok("assumption~1", 1);
    assert_eq!(
        h.takeover(),
        [
            "owned by p2",
            "assumption~0#1 failed: worker_lost",
            "assumption~0#2 started",
            "> run assumption~0#2 read"
        ]
    );
    assert_eq!(h.ok("assumption~0", 1), NOTHING);
    assert_eq!(h.ok("assumption~0", 2)[1], "v1 adopted");
}

#[test]
fn a_patch_whose_assumption_does_not_hold_is_asked_for_again() {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "a", "tool": "read"}]));
    h.fails("a", 1, hopeless());
    let mut patched = assuming("read");
    patched["assumptions"].as_array_mut().unwrap().truncate(1);
    h.patch(&patched);
    let said = h.refused("assumption~0", 1, broken());
    assert_eq!(said[2..], ["replan asked about a", "> replan about a"]);
}

#[test]
fn a_revision_withdraws_the_plan_that_waits_and_stops_its_checks() {
    let (mut h, _) = Harness::planned(spec(), &assuming("read"));
    assert_eq!(
        h.revise("x", json!(1)),
        [
            "goal revised by ann",
            "plan 2 asked",
            "> cancel assumption~0#1",
            "> cancel assumption~1#1",
            "> plan 2 because goal_revised"
        ]
    );
    assert_eq!(h.ok("assumption~0", 1), NOTHING);
}

#[test]
fn the_check_of_a_plan_that_was_withdrawn_says_nothing_about_the_next() {
    let (mut h, _) = Harness::planned(spec(), &assuming("read"));
    h.revise("x", json!(1));
    let said = h.plan(2, &assuming("read"));
    assert_eq!(said[1..3], ["assumption~0#2 started", "assumption~1#2 started"]);
    assert_eq!(h.ok("assumption~0", 1), NOTHING);
}
