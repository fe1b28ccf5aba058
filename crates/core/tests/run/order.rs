//! Which step starts when.

use foreplan_core::{input::Readiness, view::Status};
use serde_json::json;

use crate::support::{Harness, broken, spec};

#[test]
fn a_submitted_run_asks_for_a_plan() {
    let (_, decision) = Harness::submit(spec());
    assert_eq!(crate::support::said(&decision), ["accepted", "plan 1 asked", "> plan 1"]);
}

#[test]
fn a_plan_that_nobody_must_approve_is_adopted_at_once() {
    let (harness, said) = Harness::planned(spec(), &json!([{"id": "a", "tool": "read"}]));
    assert_eq!(said, ["v1 proposed", "v1 adopted", "> evaluate a"]);
    assert_eq!(harness.status(), Status::Running);
}

#[test]
fn a_chain_runs_one_step_after_the_other() {
    let (mut h, said) = Harness::started(
        spec(),
        &json!([
            {"id": "a", "tool": "read"},
            {"id": "b", "tool": "read", "input": {"x": {"$ref": "a.of"}}},
        ]),
    );
    assert_eq!(said, ["a#1 started", "> run a#1 read"]);
    assert_eq!(h.ok("a", 1), ["a#1 succeeded", "b#1 started", "> run b#1 read"]);
    assert_eq!(h.ok("b", 1), ["b#1 succeeded", "run succeeded"]);
    assert_eq!(h.status(), Status::Succeeded);
}

#[test]
fn a_result_without_verdicts_makes_the_run_ask_for_them() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "read", "needs": ["a"]}]),
    );
    let mut reply = h.reply("a", 1, foreplan_core::input::AttemptOutcome::Failure(broken()));
    reply.outcome =
        foreplan_core::input::AttemptOutcome::Output(foreplan_core::payload::Output::inline(json!(1)));
    assert_eq!(h.handle(foreplan_core::input::Input::Result(reply)), ["a#1 succeeded", "> evaluate b"]);
    assert_eq!(h.go(), ["b#1 started", "> run b#1 read"]);
}

#[test]
fn steps_without_an_order_run_side_by_side_and_a_step_waits_for_all_that_it_needs() {
    let (mut h, said) = Harness::started(
        spec(),
        &json!([
            {"id": "a", "tool": "read"},
            {"id": "b", "tool": "read"},
            {"id": "c", "tool": "read", "needs": ["a", "b"]},
        ]),
    );
    assert_eq!(said, ["a#1 started", "b#1 started", "> run a#1 read", "> run b#1 read"]);
    assert_eq!(h.ok("b", 1), ["b#1 succeeded"]);
    assert_eq!(h.ok("a", 1), ["a#1 succeeded", "c#1 started", "> run c#1 read"]);
}

#[test]
fn one_result_unlocks_all_that_wait_for_it() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([
            {"id": "a", "tool": "read"},
            {"id": "b", "tool": "read", "needs": ["a"]},
            {"id": "c", "tool": "read", "needs": ["a"]},
        ]),
    );
    assert_eq!(
        h.ok("a", 1),
        ["a#1 succeeded", "b#1 started", "c#1 started", "> run b#1 read", "> run c#1 read"]
    );
}

#[test]
fn no_more_steps_are_in_flight_than_the_limit_allows() {
    let mut spec = spec();
    spec.limits.in_flight = 2;
    let steps = json!([
        {"id": "a", "tool": "read"}, {"id": "b", "tool": "read"}, {"id": "c", "tool": "read"},
    ]);
    let (mut h, said) = Harness::started(spec, &steps);
    assert_eq!(said, ["a#1 started", "b#1 started", "c queued", "> run a#1 read", "> run b#1 read"]);
    assert_eq!(h.ok("b", 1), ["b#1 succeeded", "c#1 started", "> run c#1 read"]);
}

#[test]
fn a_step_whose_when_is_false_is_skipped_and_satisfies_needs() {
    let (mut h, _) = Harness::planned(
        spec(),
        &json!([
            {"id": "a", "tool": "read", "when": "false"},
            {"id": "b", "tool": "read", "needs": ["a"]},
        ]),
    );
    h.verdicts.insert("a".to_owned(), Readiness::Skip { reason: "when is false".to_owned() });
    assert_eq!(h.go(), ["a skipped: when is false", "> evaluate b"]);
    assert_eq!(h.go(), ["b#1 started", "> run b#1 read"]);
}

#[test]
fn a_skip_goes_on_to_every_step_that_refers_to_it_without_a_default() {
    let (mut h, _) = Harness::planned(
        spec(),
        &json!([
            {"id": "a", "tool": "read", "when": "false"},
            {"id": "b", "tool": "read", "input": {"x": {"$ref": "a"}}},
            {"id": "c", "tool": "read", "input": {"x": {"$ref": "b.of"}}},
            {"id": "d", "tool": "read", "input": {"x": {"$ref": "a.of", "default": 1}}},
        ]),
    );
    h.verdicts.insert("a".to_owned(), Readiness::Skip { reason: "no".to_owned() });
    let said = h.go();
    assert_eq!(
        said,
        [
            "a skipped: no",
            "b skipped: `a`, which it refers to, was skipped",
            "c skipped: `b`, which it refers to, was skipped",
            "> evaluate d",
        ]
    );
}

#[test]
fn a_failed_dependency_never_counts_as_satisfied() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "read", "needs": ["a"]}]),
    );
    let said = h.fails("a", 1, crate::support::hopeless());
    assert_eq!(said, ["a#1 failed", "a failed: broken", "replan asked about a", "> replan about a"]);
    assert_eq!(*h.state("b"), foreplan_core::run::StepState::Blocked { missing: 1 });
}

#[test]
fn verdicts_on_steps_that_do_not_wait_for_one_are_ignored() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "read", "needs": ["a"]}]),
    );
    let ready = ["a", "b", "nobody"].map(|step| (crate::support::id(step), Readiness::Go)).to_vec();
    assert_eq!(h.handle(foreplan_core::input::Input::Evaluated { ready }), [] as [String; 0]);
}

#[test]
fn done_when_ends_the_run_early_and_supersedes_what_is_left() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!({"done_when": "true", "steps": [
            {"id": "a", "tool": "read"},
            {"id": "b", "tool": "read"},
            {"id": "c", "tool": "read", "needs": ["a"]},
        ]}),
    );
    let outcome =
        foreplan_core::input::AttemptOutcome::Output(foreplan_core::payload::Output::inline(json!(1)));
    let mut reply = h.reply("a", 1, outcome);
    reply.verdicts.done = true;
    let said = h.handle(foreplan_core::input::Input::Result(reply));
    assert_eq!(said, ["a#1 succeeded", "run succeeded", "> cancel b#1"]);
    assert_eq!(*h.state("c"), foreplan_core::run::StepState::Superseded);
    assert_eq!(h.ok("b", 1), [] as [String; 0]);
}

#[test]
fn a_plan_without_steps_is_done() {
    let (_, said) = Harness::planned(spec(), &json!([]));
    assert_eq!(said, ["v1 proposed", "v1 adopted", "run succeeded"]);
}
