//! `for_each`.

use foreplan_core::{
    failure::FailureKind,
    input::{Readiness, Resolution},
    payload::Output,
    policy::ReplanDecision,
    view::Status,
};
use serde_json::{Value, json};

use crate::support::{Harness, broken, hopeless, spec};

fn each(tool: &str, more: &Value) -> Value {
    let mut for_each = json!({"in": [1, 2, 3]});
    for (name, value) in more.as_object().into_iter().flatten() {
        for_each[name] = value.clone();
    }
    json!([{"id": "a", "tool": tool, "for_each": for_each}])
}

#[test]
fn outputs_stand_in_the_order_of_the_list() {
    let (mut h, said) = Harness::started(spec(), &each("read", &json!({})));
    assert_eq!(
        said,
        [
            "a has 3 items",
            "a~0#1 started",
            "a~1#1 started",
            "a~2#1 started",
            "> run a~0#1 read",
            "> run a~1#1 read",
            "> run a~2#1 read"
        ]
    );
    h.ok_with("a~2", 1, json!("c"));
    h.ok_with("a~0", 1, json!("a"));
    assert_eq!(h.ok_with("a~1", 1, json!("b")), ["a~1#1 succeeded", "a done", "run succeeded"]);
    assert_eq!(h.output("a"), Some(json!(["a", "b", "c"])));
}

#[test]
fn a_list_that_is_too_long_fails_the_step() {
    let (_, said) = Harness::started(spec(), &each("read", &json!({"max": 2})));
    assert_eq!(said, ["a failed: too_many_items", "replan asked about a", "> replan about a"]);
}

#[test]
fn an_empty_list_gives_an_empty_output() {
    let plan = json!([
        {"id": "a", "tool": "read", "for_each": {"in": []}},
        {"id": "b", "tool": "read", "needs": ["a"]},
    ]);
    let (h, said) = Harness::started(spec(), &plan);
    assert_eq!(said, ["a has 0 items", "a done", "> evaluate b"]);
    assert_eq!(h.output("a"), Some(json!([])));
}

#[test]
fn no_more_items_run_at_once_than_max_parallel_allows() {
    let (mut h, said) = Harness::started(spec(), &each("read", &json!({"max_parallel": 1})));
    assert_eq!(said, ["a has 3 items", "a~0#1 started", "> run a~0#1 read"]);
    assert_eq!(h.ok("a~0", 1), ["a~0#1 succeeded", "a~1#1 started", "> run a~1#1 read"]);
    assert_eq!(h.ok("a~1", 1), ["a~1#1 succeeded", "a~2#1 started", "> run a~2#1 read"]);
    assert_eq!(h.ok("a~2", 1), ["a~2#1 succeeded", "a done", "run succeeded"]);
}

#[test]
fn items_wait_for_room_like_steps() {
    let mut spec = spec();
    spec.limits.in_flight = 2;
    let (mut h, said) = Harness::started(spec, &each("read", &json!({})));
    assert_eq!(said[1..4], ["a~0#1 started", "a~1#1 started", "a~2 queued"]);
    assert_eq!(h.ok("a~0", 1), ["a~0#1 succeeded", "a~2#1 started", "> run a~2#1 read"]);
}

#[test]
fn a_failed_item_fails_the_step_and_stops_the_others() {
    let (mut h, _) = Harness::started(spec(), &each("read", &json!({})));
    assert_eq!(
        h.fails("a~1", 1, hopeless()),
        [
            "a~1#1 failed",
            "a~1 failed: broken",
            "a failed: broken",
            "replan asked about a",
            "> cancel a~0#1",
            "> cancel a~2#1",
            "> replan about a",
        ]
    );
    assert_eq!(h.ok("a~0", 1), [] as [&str; 0]);
}

#[test]
fn on_item_failure_skip_leaves_a_null_in_its_place() {
    let (mut h, _) = Harness::started(spec(), &each("read", &json!({"on_item_failure": "skip"})));
    h.ok_with("a~0", 1, json!("x"));
    h.ok_with("a~1", 1, json!("y"));
    assert_eq!(
        h.fails("a~2", 1, broken()),
        ["a~2#1 failed", "a~2 failed: broken", "a done", "run succeeded"]
    );
    assert_eq!(h.output("a"), Some(json!(["x", "y", null])));
}

#[test]
fn an_item_is_tried_again_like_a_step() {
    let mut plan = each("read", &json!({"max_parallel": 1}));
    plan[0]["on_failure"] = json!({"attempts": 2});
    let (mut h, _) = Harness::started(spec(), &plan);
    assert_eq!(h.fails("a~0", 1, broken()), ["a~0#1 failed", "a~0 backs off"]);
    assert_eq!(h.wake(), ["a~0#2 started", "> run a~0#2 read"]);
    assert_eq!(h.ok("a~0", 2), ["a~0#2 succeeded", "a~1#1 started", "> run a~1#1 read"]);
}

#[test]
fn a_step_that_is_tried_again_keeps_the_items_that_are_done_and_counts_attempts_on() {
    let (mut h, _) = Harness::started(spec(), &each("read", &json!({})));
    h.ok_with("a~0", 1, json!("x"));
    h.fails("a~1", 1, hopeless());
    assert_eq!(h.decide(ReplanDecision::Retry, None), ["decided: retry", "a retried", "> evaluate a"]);
    assert_eq!(
        h.go(),
        ["a has 3 items", "a~1#2 started", "a~2#2 started", "> run a~1#2 read", "> run a~2#2 read"]
    );
    assert_eq!(h.ok("a~2", 1), [] as [&str; 0], "the first attempt was given up");
    h.ok_with("a~1", 2, json!("y"));
    h.ok_with("a~2", 2, json!("z"));
    assert_eq!(h.output("a"), Some(json!(["x", "y", "z"])));
}

#[test]
fn an_irreversible_item_that_is_done_is_not_done_again_when_the_run_is_retried() {
    let (mut h, _) = Harness::started(spec(), &each("send", &json!({"max_parallel": 1})));
    h.permit("a~0", 1);
    h.ok("a~0", 1);
    h.fails("a~1", 1, hopeless());
    h.decide(ReplanDecision::Fail { reason: "enough".to_owned() }, None);
    assert_eq!(h.retry(None), ["reopened by ann", "> evaluate a"]);
    assert_eq!(h.go(), ["a has 3 items", "a~1#2 started", "> run a~1#2 send"]);
}

#[test]
fn an_item_whose_call_may_have_happened_is_asked_about_before_it_is_called_again() {
    let (mut h, _) = Harness::started(spec(), &each("send", &json!({"max_parallel": 2})));
    h.permit("a~0", 1);
    h.fails("a~1", 1, hopeless());
    h.decide(ReplanDecision::Retry, None);
    assert_eq!(h.go(), ["a has 3 items", "a~0 unknown", "a~1#2 started", "> run a~1#2 send"]);
    assert_eq!(
        h.resolve("a~0", Resolution::Happened(Output::inline(json!("x")))),
        ["a~0 happened, says ann", "a~0 done", "a~2#1 started", "> run a~2#1 send"]
    );
}

#[test]
fn an_item_that_did_not_happen_is_tried_again() {
    let (mut h, _) = Harness::started(spec(), &each("send", &json!({"max_parallel": 1})));
    h.permit("a~0", 1);
    assert_eq!(h.fails("a~0", 1, broken()), ["a~0#1 failed", "a~0 unknown"]);
    assert_eq!(
        h.resolve("a~0", Resolution::NotHappened),
        ["a~0 did not happen, says ann", "a~0 retried", "a~0#2 started", "> run a~0#2 send"]
    );
    assert_eq!(h.ok("a~0", 2), ["a~0#2 succeeded", "a~1#1 started", "> run a~1#1 send"]);
}

#[test]
fn an_item_without_an_executor_fails_its_step() {
    let (_, said) = Harness::started(spec(), &each("unheard_of", &json!({})));
    assert_eq!(
        said,
        [
            "a has 3 items",
            "a~0 failed: no_executor",
            "a failed: no_executor",
            "replan asked about a",
            "> replan about a"
        ]
    );
}

#[test]
fn a_question_can_be_asked_for_each_item() {
    let plan =
        json!([{"id": "a", "human": {"question": "?"}, "for_each": {"in": [1, 2], "max_parallel": 1}}]);
    let (mut h, said) = Harness::started(spec(), &plan);
    assert_eq!(said, ["a has 2 items", "a~0 asks"]);
    assert_eq!(h.status(), Status::Waiting);
    assert_eq!(h.answer("a~0", json!("x")), ["a~0 answered by ann", "a~0 done", "a~1 asks"]);
    h.answer("a~1", json!("y"));
    assert_eq!(h.output("a"), Some(json!(["x", "y"])));
}

#[test]
fn a_running_expansion_goes_on_when_the_plan_changes_around_it() {
    let plan = |then: &str| {
        json!([
            {"id": "r", "tool": "read"},
            {"id": "a", "tool": "read", "needs": ["r"], "for_each": {"in": [1, 2], "max_parallel": 1}},
            {"id": "b", "tool": then},
        ])
    };
    let (mut h, _) = Harness::started(spec(), &plan("read"));
    h.ok("r", 1);
    h.fails("b", 1, hopeless());
    assert_eq!(h.patch(&plan("put")), ["decided: patch", "v2 proposed for v1", "v2 adopted", "> evaluate b"]);
    assert_eq!(h.run.outstanding().len(), 1, "only b waits for a verdict");
    h.go();
    assert_eq!(h.ok("a~0", 1), ["a~0#1 succeeded", "a~1#1 started", "> run a~1#1 read"]);
    assert_eq!(h.ok("a~1", 1), ["a~1#1 succeeded", "a done"]);
}

#[test]
fn a_plan_that_changes_a_for_each_with_an_irreversible_item_done_is_refused() {
    let (mut h, _) = Harness::started(spec(), &each("send", &json!({"max_parallel": 1})));
    h.permit("a~0", 1);
    h.ok("a~0", 1);
    h.fails("a~1", 1, hopeless());
    let said = h.patch(&each("put", &json!({})));
    assert!(said[0].starts_with("replan refused: the plan drops or changes `a`"), "{said:?}");
}

#[test]
fn an_item_list_that_grew_too_long_counts_as_a_plan_error() {
    let (mut h, _) = Harness::planned(spec(), &each("read", &json!({"max": 5})));
    h.verdicts.insert("a".to_owned(), Readiness::Items(6));
    h.go();
    assert_eq!(h.run.step("a").unwrap().failure.as_ref().unwrap().kind, FailureKind::Plan);
}

#[test]
fn a_skipped_for_each_remembers_over_versions_what_may_have_happened() {
    let plan = |tool: &str| {
        json!([
            {"id": "a", "tool": "send", "for_each": {"in": [1]}, "on_failure": {"then": "skip"}},
            {"id": "b", "tool": tool},
        ])
    };
    let (mut h, _) = Harness::started(spec(), &plan("read"));
    h.permit("a~0", 1);
    h.fails("a~0", 1, broken());
    h.resolve("a~0", Resolution::Fail);
    h.edit(1, &plan("put"));
    h.go();
    h.ok("b", 2);
    h.retry(Some("a"));
    assert_eq!(h.go(), ["a has 1 items", "a~0 unknown"]);
}
