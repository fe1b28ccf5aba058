//! Plans that change: patches, new plans, edits, revised goals, assumptions.

use foreplan_core::{
    finding::Finding,
    goal::ApprovalMode,
    input::{CommandKind, Input, Proposal},
    policy::{Patch, ReplanDecision, Strategy},
    run::{Rejection, StepState},
    view::{Status, WaitKind},
};
use serde_json::{Value, json};

use crate::support::{Harness, broken, compiled, envelope, hopeless, spec};

const NOTHING: [&str; 0] = [];

/// `a`, then `b` with this tool, and whatever else.
fn plan(b: &str, more: &[Value]) -> Value {
    let mut steps = vec![
        json!({"id": "a", "tool": "read"}),
        json!({"id": "b", "tool": b, "input": {"x": {"$ref": "a"}}}),
    ];
    steps.extend_from_slice(more);
    json!(steps)
}

/// A run whose step `b` has failed for good.
fn failing() -> Harness {
    failing_with(spec())
}

fn failing_with(spec: foreplan_core::goal::RunSpec) -> Harness {
    let (mut h, _) = Harness::started(spec, &plan("read", &[]));
    h.ok("a", 1);
    let said = h.fails("b", 1, hopeless());
    assert_eq!(said, ["b#1 failed", "b failed: broken", "replan asked about b", "> replan about b"]);
    h
}

fn fixed() -> Value {
    json!([
        {"id": "a", "tool": "read"},
        {"id": "fix", "tool": "put"},
        {"id": "b", "tool": "read", "needs": ["fix"], "input": {"x": {"$ref": "a"}}},
    ])
}

#[test]
fn a_patch_keeps_what_is_done_and_tries_the_failed_step_again_behind_what_it_inserts() {
    let mut h = failing();
    assert_eq!(h.patch(&fixed()), ["decided: patch", "v2 proposed for v1", "v2 adopted", "> evaluate fix"]);
    assert!(h.is_done("a"));
    h.go();
    assert_eq!(h.ok("fix", 1), ["fix#1 succeeded", "b#2 started", "> run b#2 read"]);
    assert_eq!(h.ok("b", 2), ["b#2 succeeded", "run succeeded"]);
    assert_eq!(h.run.versions()[1].trigger, "step_failed");
    assert_eq!(h.run.versions()[1].decision, "patch");
}

#[test]
fn an_answer_to_another_request_is_ignored() {
    let mut h = failing();
    let basis = h.basis().unwrap() + 1;
    let reply = foreplan_core::input::ReplanReply {
        basis,
        by: "test".to_owned(),
        reason: String::new(),
        decision: ReplanDecision::Retry,
        proposal: None,
        rule: None,
        usage: foreplan_core::budget::Usage::default(),
        calls: Vec::new(),
    };
    assert_eq!(h.handle(Input::Replanned(reply)), NOTHING);
    assert_eq!(h.plan(1, &fixed()), NOTHING, "the first plan was answered");
}

#[test]
fn a_decision_to_retry_grants_a_new_allowance() {
    let mut h = failing();
    assert_eq!(h.decide(ReplanDecision::Retry, None), ["decided: retry", "b retried", "> evaluate b"]);
    assert_eq!(h.go(), ["b#2 started", "> run b#2 read"]);
}

#[test]
fn decisions_to_retry_are_bounded() {
    let mut limits = spec();
    limits.limits.attempts = 2;
    let mut h = failing_with(limits);
    for attempt in 2..4 {
        h.decide(ReplanDecision::Retry, None);
        h.go();
        h.fails("b", attempt, hopeless());
    }
    assert_eq!(h.decide(ReplanDecision::Retry, None), ["run failed: step b"]);
}

#[test]
fn a_decision_to_skip_lets_the_run_go_on() {
    let mut h = failing();
    assert_eq!(
        h.decide(ReplanDecision::Skip, None),
        ["decided: skip", "b skipped: why not", "run succeeded"]
    );
}

#[test]
fn a_decision_to_finish_ends_the_run_as_succeeded() {
    let mut h = failing();
    assert_eq!(h.decide(ReplanDecision::Finish, None), ["decided: finish", "run succeeded"]);
}

#[test]
fn a_decision_to_fail_ends_the_run() {
    let mut h = failing();
    let said = h.decide(ReplanDecision::Fail { reason: "no".to_owned() }, None);
    assert_eq!(said, ["decided: fail", "run failed: decided, no"]);
}

#[test]
fn a_replanner_without_an_answer_fails_the_run() {
    let mut h = failing();
    assert_eq!(h.decide(ReplanDecision::Pass, None), ["run failed: step b"]);
}

#[test]
fn fail_fast_asks_no_replanner() {
    let mut fast = spec();
    fast.replan.strategy = Strategy::FailFast;
    let (mut h, _) = Harness::started(fast, &plan("read", &[]));
    assert_eq!(h.fails("a", 1, hopeless()), ["a#1 failed", "a failed: broken", "run failed: step a"]);
}

#[test]
fn failed_steps_are_decided_about_one_after_the_other() {
    let (mut h, _) =
        Harness::started(spec(), &json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "read"}]));
    h.fails("a", 1, hopeless());
    assert_eq!(h.fails("b", 1, hopeless()), ["b#1 failed", "b failed: broken"]);
    assert_eq!(
        h.decide(ReplanDecision::Skip, None),
        ["decided: skip", "a skipped: why not", "replan asked about b", "> replan about b"]
    );
}

#[test]
fn a_refused_patch_is_asked_for_again_and_counts() {
    let mut h = failing();
    let invalid = || Proposal::Invalid {
        plan: compiled(&fixed()).plan().clone(),
        findings: vec![Finding::error("x", "no good")],
    };
    let patch = || ReplanDecision::Patch(Patch::default());
    assert_eq!(
        h.replanner(patch(), Some(invalid())),
        ["replan refused: no good", "replan asked about b", "> replan about b"]
    );
    assert_eq!(h.replanner(patch(), Some(invalid())), ["replan refused: no good", "run failed: step b"]);
}

#[test]
fn a_refused_patch_escalates_to_a_full_replan_where_the_policy_says_so() {
    let mut policy = spec();
    policy.replan.escalate = Some(Strategy::FullReplan);
    let mut h = failing_with(policy);
    assert_eq!(
        h.replanner(ReplanDecision::Patch(Patch::default()), None),
        ["replan refused: the decision brought no plan", "plan 2 asked", "> plan 2 because step_failed"]
    );
    assert_eq!(h.plan(2, &fixed()), ["v2 proposed for v1", "v2 adopted", "> evaluate fix"]);
    let version = &h.run.versions()[1];
    assert_eq!(version.decision, "full_replan");
    assert_eq!(version.reason, "a patch was refused: the decision brought no plan");
}

#[test]
fn replans_are_bounded() {
    let mut limits = spec();
    limits.limits.replans = 1;
    let mut h = failing_with(limits);
    h.patch(&fixed());
    h.go();
    h.ok("fix", 1);
    h.fails("b", 2, hopeless());
    assert_eq!(h.patch(&plan("put", &[])), ["run failed: step b"]);
}

#[test]
fn a_full_replan_asks_the_planner_and_fails_the_run_if_there_is_no_plan() {
    let mut h = failing();
    assert_eq!(
        h.decide(ReplanDecision::FullReplan, None),
        ["decided: full_replan", "plan 2 asked", "> plan 2 because step_failed"]
    );
    let none = Proposal::None { code: "no_producer".to_owned(), message: "m".to_owned() };
    assert_eq!(h.planner(2, none), ["plan refused: m", "run failed: step b"]);
}

#[test]
fn a_patch_that_drops_a_running_step_cancels_it() {
    let extra = json!({"id": "c", "tool": "read"});
    let (mut h, _) = Harness::started(spec(), &plan("read", &[extra]));
    h.fails("a", 1, hopeless());
    assert_eq!(
        h.patch(&plan("read", &[])),
        ["decided: patch", "v2 proposed for v1", "v2 adopted", "> cancel c#1", "> evaluate a"]
    );
    assert_eq!(h.ok("c", 1), NOTHING);
}

#[test]
fn a_running_step_that_a_patch_keeps_goes_on() {
    let extra = json!({"id": "c", "tool": "read"});
    let (mut h, _) = Harness::started(spec(), &plan("read", std::slice::from_ref(&extra)));
    h.fails("a", 1, hopeless());
    h.patch(&plan("put", &[extra]));
    assert_eq!(h.ok("c", 1), ["c#1 succeeded"]);
}

#[test]
fn a_running_or_waiting_step_that_a_patch_puts_behind_another_waits_for_it() {
    let c = |needs: Value| json!({"id": "c", "tool": "read", "needs": needs, "on_failure": {"attempts": 2}});
    let d = |needs: Value| json!({"id": "d", "tool": "read", "needs": needs});
    let (mut h, _) = Harness::started(spec(), &plan("read", &[c(json!([])), d(json!([]))]));
    h.fails("c", 1, broken());
    h.fails("a", 1, hopeless());
    let said = h.patch(&plan("read", &[c(json!(["a"])), d(json!(["a"]))]));
    assert_eq!(said[3..], ["> cancel d#1", "> evaluate a"]);
    assert_eq!(*h.state("c"), StepState::Blocked { missing: 1 });
    h.go();
    assert_eq!(h.ok("a", 2)[1..4], ["b#1 started", "c#2 started", "d#2 started"]);
}

#[test]
fn a_skipped_step_that_a_patch_keeps_stays_skipped() {
    let c = json!({"id": "c", "tool": "read", "on_failure": {"then": "skip"}});
    let (mut h, _) = Harness::started(spec(), &plan("read", std::slice::from_ref(&c)));
    h.fails("c", 1, hopeless());
    h.fails("a", 1, hopeless());
    assert_eq!(h.patch(&plan("put", &[c])).last().map(String::as_str), Some("> evaluate a"));
    assert!(matches!(h.state("c"), StepState::Skipped { .. }));
}

#[test]
fn a_patch_that_drops_or_replaces_what_cannot_be_undone_is_refused() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([{"id": "a", "tool": "send"}, {"id": "b", "tool": "read"}, {"id": "c", "tool": "send"}]),
    );
    h.permit("a", 1);
    h.ok("a", 1);
    h.permit("c", 1);
    h.fails("b", 1, hopeless());
    let said = h.patch(&json!([{"id": "c", "tool": "send"}]));
    assert!(said[0].starts_with("replan refused: the plan drops or changes `a`"), "{said:?}");
    let said = h.patch(&json!([{"id": "a", "tool": "send"}, {"id": "c", "tool": "put"}]));
    assert!(said[0].starts_with("replan refused: the plan drops or changes `c`"), "{said:?}");
}

#[test]
fn what_cannot_be_undone_is_kept_although_what_it_was_made_from_changes() {
    let (mut h, _) = Harness::started(spec(), &plan("send", &[json!({"id": "c", "tool": "read"})]));
    h.ok("a", 1);
    h.permit("b", 1);
    h.ok("b", 1);
    h.fails("c", 1, hopeless());
    let mut changed = plan("send", &[]);
    changed[0]["input"] = json!({"more": true});
    h.patch(&changed);
    assert!(h.is_done("b"));
    h.go();
    assert_eq!(h.ok_with("a", 2, json!("other")), ["a#2 succeeded", "run succeeded"]);
}

#[test]
fn an_earlier_result_is_used_again_when_what_it_was_made_from_is_the_same_again() {
    let (mut h, _) = Harness::started(spec(), &plan("read", &[json!({"id": "c", "tool": "read"})]));
    h.ok_with("a", 1, json!(1));
    h.ok_with("b", 1, json!(2));
    h.fails("c", 1, hopeless());
    let mut changed = plan("read", &[]);
    changed[0]["input"] = json!({"more": true});
    assert_eq!(h.patch(&changed)[2..], ["v2 adopted", "> evaluate a"]);
    h.go();
    assert_eq!(h.ok_with("a", 2, json!(1)), ["a#2 succeeded", "b reused", "run succeeded"]);
}

#[test]
fn an_earlier_result_is_not_used_when_what_it_was_made_from_differs() {
    let (mut h, _) = Harness::started(spec(), &plan("read", &[json!({"id": "c", "tool": "read"})]));
    h.ok_with("a", 1, json!(1));
    h.ok_with("b", 1, json!(2));
    h.fails("c", 1, hopeless());
    let mut changed = plan("read", &[]);
    changed[0]["input"] = json!({"more": true});
    h.patch(&changed);
    h.go();
    assert_eq!(h.ok_with("a", 2, json!(9)), ["a#2 succeeded", "> evaluate b"]);
}

#[test]
fn a_revised_goal_keeps_the_steps_that_do_not_mention_what_changed() {
    let steps = json!([
        {"id": "a", "tool": "read"},
        {"id": "p", "tool": "read", "input": {"x": {"$ref": "params.x"}}},
        {"id": "z", "tool": "read", "needs": ["a", "p"]},
    ]);
    let (mut h, _) = Harness::started(spec(), &steps);
    h.ok("a", 1);
    h.ok("p", 1);
    assert_eq!(
        h.revise("x", json!(2)),
        ["goal revised by ann", "plan 2 asked", "> plan 2 because goal_revised"]
    );
    assert_eq!(h.status(), Status::Replanning);
    assert_eq!(h.plan(2, &steps), ["v2 proposed for v1", "v2 adopted", "> cancel z#1", "> evaluate p"]);
    assert!(h.is_done("a"));
    assert_eq!(*h.state("z"), StepState::Blocked { missing: 1 }, "what it needs runs again");
}

#[test]
fn results_made_from_other_params_are_not_used_again_later() {
    let with = json!({"id": "p", "tool": "read", "input": {"x": {"$ref": "params.x"}}});
    let (mut h, _) = Harness::started(spec(), &plan("read", std::slice::from_ref(&with)));
    h.ok("p", 1);
    h.edit(1, &plan("read", &[]));
    h.revise("x", json!(2));
    let said = h.plan(2, &plan("read", &[with]));
    assert_eq!(said.last().map(String::as_str), Some("> evaluate p"));
}

#[test]
fn a_revised_goal_without_a_plan_pauses_the_run() {
    let (mut h, _) = Harness::started(spec(), &plan("read", &[]));
    h.revise("x", json!(2));
    let none = Proposal::None { code: "x".to_owned(), message: "m".to_owned() };
    assert_eq!(h.planner(2, none), ["plan refused: m", "paused: no plan for the revised goal: m"]);
}

#[test]
fn a_step_that_failed_before_a_revision_came_to_nothing_is_replanned_after_it() {
    let mut h = failing();
    h.revise("x", json!(2));
    h.planner(2, Proposal::None { code: "x".to_owned(), message: "m".to_owned() });
    assert_eq!(
        h.command(CommandKind::Resume),
        ["resumed by ann", "replan asked about b", "> replan about b"]
    );
}

#[test]
fn a_person_edits_the_plan() {
    let (mut h, _) = Harness::started(spec(), &plan("read", &[]));
    h.ok("a", 1);
    assert_eq!(
        h.edit(1, &plan("put", &[])),
        ["v2 proposed for v1", "v2 adopted", "> cancel b#1", "> evaluate b"]
    );
    assert_eq!(h.run.versions()[1].trigger, "edited");
    let proposal = h.proposal(&plan("read", &[]));
    let stale = CommandKind::Edit { parent: 1, proposal };
    assert_eq!(h.try_command(stale), Err(Rejection::StalePlan { current: 2 }));
}

#[test]
fn an_edit_takes_the_place_of_a_replan() {
    let mut h = failing();
    h.edit(1, &fixed());
    assert_eq!(h.run.versions()[1].trigger, "edited");
    assert_eq!(h.basis(), None);
    assert_eq!(h.status(), Status::Running);
}

#[test]
fn an_edit_that_drops_what_cannot_be_undone_is_sent_back() {
    let (mut h, _) =
        Harness::started(spec(), &json!([{"id": "a", "tool": "send"}, {"id": "b", "tool": "read"}]));
    h.permit("a", 1);
    h.ok("a", 1);
    let proposal = h.proposal(&json!([{"id": "b", "tool": "read"}]));
    assert!(matches!(h.try_command(CommandKind::Edit { parent: 1, proposal }), Err(Rejection::Plan(_))));
}

#[test]
fn a_replan_inside_the_envelope_keeps_the_approval_and_one_outside_asks_again() {
    let mut always = spec();
    always.approval.mode = ApprovalMode::Always;
    let (mut h, _) = Harness::planned(always, &plan("read", &[]));
    h.approve();
    h.go();
    h.fails("a", 1, hopeless());
    assert_eq!(h.patch(&plan("put", &[]))[2], "v2 adopted", "every tool of it is in the envelope");
    h.go();
    h.fails("a", 2, hopeless());
    let said = h.patch(&plan("send", &[]));
    assert_eq!(said, ["decided: patch", "v3 proposed for v2", "replan to be approved"]);
    assert_eq!(h.run.waiting(), Some(WaitKind::ReplanApproval));
    assert_eq!(h.approve()[..2], ["replan approved by ann", "v3 adopted"]);
}

#[test]
fn a_replan_with_another_tool_asks_again() {
    let mut always = spec();
    always.approval.mode = ApprovalMode::Always;
    let (mut h, _) = Harness::planned(always, &plan("read", &[]));
    h.approve();
    h.go();
    h.fails("a", 1, hopeless());
    let plan = compiled(&plan("put", &[]));
    let mut envelope = envelope(&plan, h.run.spec());
    let sealed = envelope.tools["put"].clone();
    envelope.tools.insert("other".into(), sealed);
    let proposal =
        Proposal::Valid { plan, envelope: std::sync::Arc::new(envelope.into()), findings: Vec::new() };
    let said = h.replanner(ReplanDecision::Patch(Patch::default()), Some(proposal));
    assert_eq!(said[2], "replan to be approved");
}

#[test]
fn a_call_that_did_not_happen_waits_for_what_a_later_version_put_before_it() {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "a", "tool": "send"}]));
    h.permit("a", 1);
    h.fails("a", 1, broken());
    h.edit(1, &json!([{"id": "fix", "tool": "read"}, {"id": "a", "tool": "send", "needs": ["fix"]}]));
    h.resolve("a", foreplan_core::input::Resolution::NotHappened);
    assert_eq!(*h.state("a"), StepState::Blocked { missing: 1 });
    h.go();
    assert_eq!(h.ok("fix", 1), ["fix#1 succeeded", "a#2 started", "> run a#2 send"]);
}
