//! Forks: what a new run takes over from a point of another, and where none may begin.

use std::sync::Arc;

use foreplan_core::{
    event::Entry,
    failure::EffectState,
    fork::{Kept, Origin, Refusal},
    goal::RunSpec,
    id::RunId,
    input::{CommandKind, Resolution},
    payload::Output,
    policy::ReplanDecision,
    run::Fork,
    view::Status,
};
use serde_json::{Value, json};

use crate::support::{Harness, hopeless, id, run_id, spec, with_effect};

fn entries(h: &Harness) -> Vec<Arc<Entry>> {
    h.entries.iter().cloned().map(Arc::new).collect()
}

fn fork(h: &Harness, seq: u64) -> Result<Fork, Refusal> {
    Fork::at(run_id(), &entries(h), seq)
}

fn last(h: &Harness) -> u64 {
    h.run.seq() - 1
}

/// Begins a run from a fork, up to its first attempts.
fn begin(fork: &Fork, spec: RunSpec, plan: &Value) -> (Harness, Vec<String>) {
    let kept = fork.kept(&spec.params);
    let (mut h, _) = Harness::submit_with(RunSpec { origin: Some(fork.origin), ..spec }, kept);
    let said = h.plan(1, plan);
    (h, said)
}

fn names(kept: &[Kept]) -> Vec<&str> {
    kept.iter().map(|kept| kept.step.as_str()).collect()
}

fn build_and_send() -> Value {
    json!([
        {"id": "build", "tool": "read"},
        {"id": "smoke", "tool": "read", "needs": ["build"]},
        {"id": "ship", "tool": "send", "input": {"what": {"$ref": "build.of"}}, "needs": ["smoke"]},
    ])
}

#[test]
fn a_fork_keeps_the_results_that_were_there_and_goes_on() {
    let (mut h, _) = Harness::started(spec(), &build_and_send());
    h.ok("build", 1);
    let point = last(&h);
    h.fails("smoke", 1, hopeless());
    let fork = fork(&h, point).unwrap();
    assert_eq!(fork.origin, Origin { run: run_id(), seq: point, keeps_plan: true });
    assert_eq!(names(&fork.kept(&spec().params)), ["build"]);

    let (mut h, said) = begin(&fork, spec(), &build_and_send());
    assert_eq!(said, ["v1 proposed", "v1 adopted", "build reused", "> evaluate smoke"]);
    assert_eq!(h.output("build"), Some(json!({"of": "build"})));
    assert_eq!(h.go(), ["smoke#1 started", "> run smoke#1 read"]);
    h.ok("smoke", 1);
    h.permit("ship", 1);
    h.ok("ship", 1);
    assert_eq!(h.status(), Status::Succeeded);
}

#[test]
fn a_result_stands_only_while_its_step_and_what_it_refers_to_are_the_same() {
    let (mut h, _) = Harness::started(spec(), &build_and_send());
    h.ok("build", 1);
    h.ok("smoke", 1);
    let fork = fork(&h, last(&h));
    // The shipment is being made: there is no point with both results but nothing in hand.
    assert!(matches!(fork, Err(Refusal::InHand { .. })), "{fork:?}");

    let plan = json!([
        {"id": "build", "tool": "read"},
        {"id": "report", "tool": "read", "input": {"x": {"$ref": "build.of"}}},
    ]);
    let (mut h, _) = Harness::started(spec(), &plan);
    h.ok("build", 1);
    h.ok("report", 1);
    let fork = self::fork(&h, last(&h)).unwrap();
    assert_eq!(names(&fork.kept(&spec().params)), ["build", "report"]);
    let other = json!([
        {"id": "build", "tool": "read", "input": {"clean": true}},
        {"id": "report", "tool": "read", "input": {"x": {"$ref": "build.of"}}},
    ]);
    let (mut h, _) = begin(&fork, spec(), &other);
    h.go();
    assert!(!h.is_done("build") && !h.is_done("report"));
    h.ok_with("build", 1, json!({"of": "another build"}));
    h.go();
    assert!(!h.is_done("report"), "it was made from another value");
}

#[test]
fn a_param_that_changes_makes_what_mentions_it_worthless() {
    let plan = json!([
        {"id": "a", "tool": "read", "input": {"v": {"$ref": "params.version"}}},
        {"id": "b", "tool": "read"},
    ]);
    let mut before = spec();
    before.params.insert("version".to_owned(), json!("1"));
    let (mut h, _) = Harness::started(before.clone(), &plan);
    h.ok("a", 1);
    h.ok("b", 1);
    let fork = fork(&h, last(&h)).unwrap();
    assert_eq!(names(&fork.kept(&before.params)), ["a", "b"]);
    let mut after = before.clone();
    after.params.insert("version".to_owned(), json!("2"));
    assert_eq!(names(&fork.kept(&after.params)), ["b"]);
    let (h, _) = begin(&fork, after, &plan);
    assert!(!h.is_done("a") && h.is_done("b"));
}

#[test]
fn no_run_begins_where_a_call_that_changes_the_world_is_in_hand() {
    for tool in ["put", "send"] {
        let plan = json!([
            {"id": "a", "tool": "read"},
            {"id": "b", "tool": tool, "needs": ["a"]},
            {"id": "c", "tool": "read", "needs": ["b"]},
        ]);
        let (mut h, _) = Harness::started(spec(), &plan);
        let free = last(&h);
        h.ok("a", 1);
        let in_hand = last(&h);
        if tool == "send" {
            h.permit("b", 1);
        }
        h.ok("b", 1);
        let refused = fork(&h, in_hand).unwrap_err();
        let expected =
            Refusal::InHand { step: id("b"), seq: in_hand, before: Some(free), after: Some(last(&h)) };
        assert_eq!(refused, expected);
        assert!(fork(&h, free).is_ok());
        assert!(fork(&h, last(&h)).is_ok());
    }
}

#[test]
fn no_run_begins_while_a_child_run_is_in_hand() {
    let plan = json!([
        {"id": "a", "tool": "read"},
        {"id": "b", "goal": {"text": "find it"}, "needs": ["a"]},
        {"id": "c", "tool": "read", "needs": ["b"]},
    ]);
    let (mut h, _) = Harness::started(spec(), &plan);
    let free = last(&h);
    h.ok("a", 1);
    let begun = last(&h);
    h.child("b", 1, true);
    let waits = last(&h);
    h.ok("b", 1);
    for seq in [begun, waits] {
        let refused = fork(&h, seq).unwrap_err();
        assert_eq!(
            refused,
            Refusal::InHand { step: id("b"), seq, before: Some(free), after: Some(last(&h)) }
        );
    }
    let kept = fork(&h, last(&h)).unwrap();
    assert_eq!(names(&kept.kept(&spec().params)), ["a", "b"], "the result of a child run is kept");
}

#[test]
fn no_run_begins_while_the_origin_has_a_child_run_now() {
    let plan = json!([{"id": "a", "tool": "read"}, {"id": "b", "goal": {"text": "find it"}, "needs": ["a"]}]);
    let (mut h, _) = Harness::started(spec(), &plan);
    let free = last(&h);
    h.ok("a", 1);
    assert_eq!(fork(&h, free).unwrap_err(), Refusal::Busy { step: id("b") });
    h.fails("b", 1, hopeless());
    assert!(fork(&h, free).is_ok());
}

#[test]
fn no_run_begins_while_nobody_knows_what_became_of_a_call() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([{"id": "ship", "tool": "send"}, {"id": "x", "tool": "read", "needs": ["ship"]}]),
    );
    let before = 1;
    h.permit("ship", 1);
    h.takeover();
    assert_eq!(h.status(), Status::Waiting);
    let lost = last(&h);
    assert!(matches!(fork(&h, lost), Err(Refusal::Unknown { after: None, .. })), "{:?}", fork(&h, lost));
    // Also not before it was made: the fork would make it.
    assert_eq!(fork(&h, before).unwrap_err(), Refusal::Unresolved { step: id("ship") });
    h.resolve("ship", Resolution::Happened(Output::inline(json!({"of": "ship"}))));
    let resolved = last(&h);
    assert!(matches!(fork(&h, lost), Err(Refusal::Unknown { after: Some(seq), .. }) if seq == resolved));
    assert!(fork(&h, resolved).is_ok());
    assert_eq!(fork(&h, 99).unwrap_err(), Refusal::NoEntry { seq: 99, last: resolved });
}

#[test]
fn a_call_that_is_known_not_to_have_happened_may_be_made_by_a_fork() {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "ship", "tool": "send"}]));
    h.permit("ship", 1);
    let mut failed = with_effect(EffectState::None);
    failed.retryable = Some(false);
    h.fails("ship", 1, failed);
    let fork = fork(&h, last(&h)).unwrap();
    assert_eq!(fork.kept(&spec().params), []);
}

#[test]
fn an_irreversible_call_that_was_made_after_the_point_is_kept_too() {
    let (mut h, _) = Harness::started(spec(), &build_and_send());
    let point = last(&h);
    h.ok("build", 1);
    h.ok("smoke", 1);
    h.permit("ship", 1);
    h.ok("ship", 1);
    assert_eq!(h.status(), Status::Succeeded);
    let fork = fork(&h, point).unwrap();
    let kept = fork.kept(&spec().params);
    assert_eq!(names(&kept), ["ship"], "reads that came later are made again");
    assert!(kept[0].call.is_some());

    let (mut h, _) = begin(&fork, spec(), &build_and_send());
    h.go();
    h.ok("build", 1);
    assert_eq!(
        h.ok("smoke", 1),
        ["smoke#1 succeeded", "ship reused", "run succeeded"],
        "the same step with the same input is not made again"
    );
}

#[test]
fn the_items_that_were_done_are_kept() {
    let plan = json!([
        {"id": "each", "tool": "read", "for_each": {"in": [1, 2, 3], "max_parallel": 1}, "input": {"x": {"$ref": "item"}}},
    ]);
    let (mut h, _) = Harness::started(spec(), &plan);
    h.ok("each~0", 1);
    let fork = fork(&h, last(&h)).unwrap();
    assert_eq!(names(&fork.kept(&spec().params)), ["each~0"]);
    let (mut h, _) = begin(&fork, spec(), &plan);
    assert_eq!(h.go(), ["each has 3 items", "each~1#1 started", "> run each~1#1 read"]);
    h.ok("each~1", 1);
    h.ok("each~2", 1);
    assert_eq!(h.output("each"), Some(json!([{"of": "each~0"}, {"of": "each~1"}, {"of": "each~2"}])));
}

#[test]
fn a_fork_of_a_fork_knows_what_both_have_done() {
    let (mut h, _) = Harness::started(spec(), &build_and_send());
    h.ok("build", 1);
    h.ok("smoke", 1);
    h.permit("ship", 1);
    h.ok("ship", 1);
    let first = fork(&h, last(&h)).unwrap();
    let renamed =
        json!([{"id": "build", "tool": "read"}, {"id": "other", "tool": "read", "needs": ["build"]}]);
    let (h, _) = begin(&first, spec(), &renamed);
    let second = Fork::at(run_id(), &entries(&h), last(&h)).unwrap();
    let kept = second.kept(&spec().params);
    assert_eq!(names(&kept), ["build", "ship", "smoke"]);
    let ship = kept.iter().find(|kept| kept.step == id("ship")).unwrap();
    assert!(ship.call.is_some(), "its call is never made again");
    let (h, _) = begin(&second, spec(), &build_and_send());
    assert_eq!(h.status(), Status::Succeeded);
    assert_eq!(h.run.done_calls().len(), 1);
}

#[test]
fn the_origin_puts_its_fork_on_record_also_after_its_end() {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "a", "tool": "read"}]));
    h.fails("a", 1, hopeless());
    h.decide(ReplanDecision::Fail { reason: "no".to_owned() }, None);
    assert_eq!(h.status(), Status::Failed);
    let (other, ended) = (RunId(uuid::Uuid::from_u128(7)), h.run.ended_at());
    let said = h.command(CommandKind::Fork { run: other, seq: 2 });
    assert_eq!(said, [format!("forked at 2 as {other} by ann")]);
    assert_eq!((h.status(), h.run.ended_at()), (Status::Failed, ended));
}
