//! Reviews: a model's opinion of plans before approval, and of outputs before their steps are done.

use foreplan_core::{
    budget::Limits,
    failure::{Failure, FailureKind},
    goal::{ApprovalMode, Review, RunSpec},
    policy::ReplanDecision,
    review::ReviewOutcome,
    run::REVIEW_TIME_MAX,
    view::Status,
};
use serde_json::{Value, json};

use crate::support::{Harness, run_id, spec};

const NOTHING: [&str; 0] = [];

fn reviewed(plans: bool, results: bool) -> RunSpec {
    RunSpec { review: Some(Review { model: "judge".to_owned(), plans, results }), ..spec() }
}

/// Two steps of which the first is reviewed.
fn steps(more: &Value) -> Value {
    let mut first = json!({"id": "a", "tool": "read", "review": true});
    for (key, value) in more.as_object().into_iter().flatten() {
        first[key] = value.clone();
    }
    json!([first, {"id": "b", "tool": "read", "needs": ["a"]}])
}

fn silent() -> ReviewOutcome {
    ReviewOutcome::Failed(Failure::new(FailureKind::Model, "unreachable", "nobody there"))
}

#[test]
fn a_plan_that_the_reviewer_accepts_is_adopted_without_a_person() {
    let (mut h, said) = Harness::planned(reviewed(true, false), &json!([{"id": "a", "tool": "read"}]));
    assert_eq!(said, ["v1 proposed", "review 1 of v1 asked", "> review 1"]);
    assert_eq!(h.status(), Status::Planning);
    assert_eq!(h.review(1, &[]), ["review 1 passed", "v1 adopted", "> evaluate a"]);
}

#[test]
fn a_plan_that_the_reviewer_refuses_needs_a_person_whatever_the_mode() {
    let (mut h, _) = Harness::planned(reviewed(true, false), &json!([{"id": "a", "tool": "read"}]));
    assert_eq!(h.review(1, &["no test"]), ["review 1 not passed", "plan to be approved"]);
    let view = h.run.view(None, foreplan_core::view::JournalView { entries: 0, head: None });
    assert_eq!(view.reviews[0].reasons, ["no test"]);
    assert_eq!((view.reviews[0].version, view.reviews[0].accepts), (Some(1), false));
    assert_eq!(h.approve(), ["plan approved by ann", "v1 adopted", "> evaluate a"]);
}

#[test]
fn a_plan_without_a_judgement_needs_a_person() {
    let (mut h, _) = Harness::planned(reviewed(true, false), &json!([{"id": "a", "tool": "read"}]));
    assert_eq!(h.reviewer(1, silent()), ["review 1 not passed", "plan to be approved"]);
    let (mut h, _) = Harness::planned(reviewed(true, false), &json!([{"id": "a", "tool": "read"}]));
    h.advance(REVIEW_TIME_MAX.as_secs());
    assert_eq!(h.wake(), ["review 1 not passed", "plan to be approved"], "nor with a reviewer that is lost");
    assert_eq!(h.review(1, &[]), NOTHING, "what comes later changes nothing");
}

#[test]
fn an_approval_is_asked_for_after_the_review_and_not_before() {
    let mut always = reviewed(true, false);
    always.approval.mode = ApprovalMode::Always;
    let (mut h, said) = Harness::planned(always, &json!([{"id": "a", "tool": "read"}]));
    assert_eq!(said.last().map(String::as_str), Some("> review 1"));
    assert_eq!(h.review(1, &[]), ["review 1 passed", "plan to be approved"]);
}

#[test]
fn a_plan_that_a_person_edits_is_not_reviewed() {
    let mut always = reviewed(true, false);
    always.approval.mode = ApprovalMode::Always;
    let (mut h, _) = Harness::planned(always, &json!([{"id": "a", "tool": "read"}]));
    let said = h.edit(1, &json!([{"id": "b", "tool": "read"}]));
    assert_eq!(said, ["v2 proposed for v0", "plan to be approved"].map(|line| line.replace(" for v0", "")));
    assert_eq!(h.review(1, &[]), NOTHING, "the review of the plan before it is not wanted any more");
}

#[test]
fn a_replan_is_reviewed_too() {
    let (mut h, _) = Harness::planned(reviewed(true, false), &json!([{"id": "a", "tool": "read"}]));
    h.review(1, &[]);
    h.go();
    h.fails("a", 1, crate::support::hopeless());
    let said = h.patch(&json!([{"id": "c", "tool": "read"}]));
    assert_eq!(said, ["decided: patch", "v2 proposed for v1", "review 2 of v2 asked", "> review 2"]);
    assert_eq!(h.review(2, &["worse"]), ["review 2 not passed", "replan to be approved"]);
}

#[test]
fn a_step_is_done_when_the_reviewer_accepts_what_it_returned() {
    let (mut h, _) = Harness::started(reviewed(false, false), &steps(&json!({})));
    assert_eq!(h.ok("a", 1), ["review 1 of a#1 asked", "> review 1"]);
    assert!(!h.is_done("a"));
    assert_eq!((h.status(), h.run.in_flight()), (Status::Running, 0));
    assert_eq!(
        h.review(1, &[]),
        ["review 1 passed", "a#1 succeeded", "b#1 started", "> run b#1 read"],
        "one judgement is one entry"
    );
    assert_eq!(h.output("a"), Some(json!({"of": "a"})));
    assert_eq!(h.ok("b", 1), ["b#1 succeeded", "run succeeded"], "only the step that says so is reviewed");
}

#[test]
fn all_results_are_reviewed_if_the_project_says_so() {
    let (mut h, _) = Harness::started(reviewed(false, true), &json!([{"id": "a", "tool": "read"}]));
    assert_eq!(h.ok("a", 1), ["review 1 of a#1 asked", "> review 1"]);
}

#[test]
fn an_output_that_the_reviewer_refuses_is_a_failure_of_the_attempt() {
    let (mut h, _) =
        Harness::started(reviewed(false, false), &steps(&json!({"on_failure": {"attempts": 2}})));
    h.ok("a", 1);
    let said = h.review(1, &["too short"]);
    assert_eq!(said[..2], ["review 1 not passed", "a#1 failed: not_accepted"]);
    assert!(said[2] == "a backs off", "{said:?}");
    assert_eq!(h.wake(), ["a#2 started", "> run a#2 read"]);
    h.ok("a", 2);
    let said = h.review(2, &["still too short"]);
    let tail = ["a failed: not_accepted", "replan asked about a", "> replan about a"];
    assert_eq!(said[2..], tail, "and when no attempt is left, of the step");
    let failure = h.run.step("a").unwrap().failure.clone().unwrap();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Review, "still too short"));
    assert_eq!(h.decide(ReplanDecision::Skip, None)[0], "decided: skip");
}

#[test]
fn an_irreversible_step_that_the_reviewer_refuses_is_not_repeated() {
    let step = json!([{"id": "a", "tool": "send", "review": true, "on_failure": {"attempts": 3}}]);
    let (mut h, _) = Harness::started(reviewed(false, false), &step);
    h.permit("a", 1);
    h.ok("a", 1);
    let said = h.review(1, &["wrong"]);
    assert_eq!(said[2], "a failed: not_accepted", "{said:?}");
}

#[test]
fn an_output_without_a_judgement_fails_its_step_and_is_not_made_again() {
    let plan = steps(&json!({"on_failure": {"attempts": 3}}));
    let (mut h, _) = Harness::started(reviewed(false, false), &plan);
    h.ok("a", 1);
    assert_eq!(h.reviewer(1, silent())[2], "a failed: no_judgement");
    let (mut h, _) = Harness::started(reviewed(false, false), &plan);
    h.ok("a", 1);
    h.advance(REVIEW_TIME_MAX.as_secs());
    assert_eq!(h.wake()[2], "a failed: no_judgement");
}

#[test]
fn a_new_owner_asks_for_open_reviews_again_and_loses_no_output() {
    let (mut h, _) = Harness::started(reviewed(false, false), &steps(&json!({})));
    h.ok("a", 1);
    assert_eq!(h.takeover(), ["owned by p2", "> review 1"]);
    assert_eq!(h.review(1, &[])[1], "a#1 succeeded");
}

#[test]
fn items_are_reviewed_one_by_one() {
    let each = json!([{"id": "a", "tool": "read", "review": true, "for_each": {"in": [1, 2]}}]);
    let (mut h, _) = Harness::started(reviewed(false, false), &each);
    assert_eq!(h.ok("a~1", 1), ["review 1 of a~1#1 asked", "> review 1"]);
    assert_eq!(h.ok("a~0", 1), ["review 2 of a~0#1 asked", "> review 2"]);
    h.review(2, &[]);
    assert_eq!(h.review(1, &[]).last().map(String::as_str), Some("run succeeded"));
}

#[test]
fn what_a_review_used_counts() {
    let limits = Limits { model_calls: 0, ..Limits::default() };
    let (mut h, _) = Harness::started(RunSpec { limits, ..reviewed(false, false) }, &steps(&json!({})));
    h.ok("a", 1);
    assert!(h.review(1, &[]).contains(&"run failed: limit model_calls".to_owned()));
}

#[test]
fn a_person_is_not_reviewed_and_after_the_end_no_review_is_awaited() {
    let ask = json!([{"id": "a", "human": {"question": "Well?"}}, {"id": "b", "tool": "read"}]);
    let (mut h, _) = Harness::started(reviewed(false, true), &ask);
    h.ok("b", 1);
    assert_eq!(h.answer("a", json!("yes"))[1], "a done");
    h.cancel();
    assert_eq!(h.review(1, &[]), NOTHING);
    assert!(h.run.outstanding().is_empty());
    let again = foreplan_core::run::Run::replay(run_id(), &h.entries).unwrap();
    assert_eq!(again, h.run);
}
