//! Irreversible calls: permits, unknown outcomes, and a process that is gone.

use foreplan_core::{
    failure::{EffectState, FailureKind},
    id::ClaimId,
    input::{Asker, AttemptOutcome, AttemptReply, CommandKind, Input, Resolution},
    payload::Output,
    policy::ReplanDecision,
    run::{PERMIT_DENIED, PERMITS_LATE_MAX, StepState},
    view::{Status, WaitKind},
};
use serde_json::{Value, json};

use crate::support::{Harness, broken, failure, happened, hopeless, spec, with_effect};

const NOTHING: [&str; 0] = [];

fn one(tool: &str) -> Value {
    json!([{"id": "a", "tool": tool, "on_failure": {"attempts": 3}}])
}

fn two() -> Value {
    json!([{"id": "a", "tool": "send"}, {"id": "b", "tool": "read"}])
}

#[test]
fn a_permit_is_recorded_before_it_is_granted() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    assert_eq!(h.permit("a", 1), ["a#1 permitted", "> permit a#1 granted"]);
}

#[test]
fn a_permit_that_is_asked_for_twice_is_answered_again_and_recorded_once() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.permit("a", 1);
    assert_eq!(h.permit("a", 1), ["> permit a#1 granted"]);
}

#[test]
fn an_attempt_that_is_not_awaited_gets_no_permit() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    assert_eq!(h.permit("a", 2), ["> permit a#2 denied"]);
    assert_eq!(h.permit("nobody", 1), ["> permit nobody#1 denied"]);
    h.fails("a", 1, broken());
    assert_eq!(h.permit("a", 1), ["> permit a#1 denied"]);
}

#[test]
fn no_permit_is_granted_while_the_run_is_paused() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.command(CommandKind::Pause);
    assert_eq!(h.permit("a", 1), ["> permit a#1 denied"]);
    let denied = failure(FailureKind::Cancelled, PERMIT_DENIED);
    assert_eq!(h.fails("a", 1, denied), ["a#1 failed", "a queued"]);
    assert_eq!(h.command(CommandKind::Resume), ["resumed by ann", "a#2 started", "> run a#2 send"]);
    assert_eq!(h.permit("a", 2), ["a#2 permitted", "> permit a#2 granted"]);
}

#[test]
fn a_permit_that_was_not_used_in_time_is_given_back_and_the_attempt_does_not_count() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    for attempt in 1..6 {
        let granted = [format!("a#{attempt} permitted"), format!("> permit a#{attempt} granted")];
        assert_eq!(h.permit("a", attempt), granted);
        let late = failure(FailureKind::Cancelled, PERMIT_DENIED).effect(EffectState::None);
        let next = attempt + 1;
        assert_eq!(
            h.fails("a", attempt, late),
            [
                format!("a#{attempt} failed"),
                "a queued".to_owned(),
                format!("a#{next} started"),
                format!("> run a#{next} send"),
            ]
        );
        assert_eq!(h.permit("a", attempt), [format!("> permit a#{attempt} denied")], "it is spent");
    }
}

#[test]
fn a_step_whose_permits_are_late_again_and_again_fails() {
    let (mut h, _) =
        Harness::started(spec(), &json!([{"id": "a", "tool": "send", "on_failure": {"then": "fail"}}]));
    let late = || failure(FailureKind::Cancelled, PERMIT_DENIED).effect(EffectState::None);
    for attempt in 1..PERMITS_LATE_MAX {
        h.permit("a", attempt);
        assert_eq!(h.fails("a", attempt, late())[1], "a queued");
    }
    // Nobody was late here: a pause is no fault of the permits.
    h.command(CommandKind::Pause);
    assert_eq!(h.fails("a", PERMITS_LATE_MAX, late())[1], "a queued");
    h.command(CommandKind::Resume);
    h.permit("a", PERMITS_LATE_MAX + 1);
    assert_eq!(
        h.fails("a", PERMITS_LATE_MAX + 1, late()),
        [&format!("a#{} failed", PERMITS_LATE_MAX + 1), "a failed: permits_late", "run failed: step a"]
    );
}

#[test]
fn a_tool_that_fails_with_the_code_of_a_denied_permit_fails_like_any_other() {
    let (mut h, _) = Harness::started(spec(), &one("read"));
    let own = || failure(FailureKind::Tool, PERMIT_DENIED).effect(EffectState::None);
    for attempt in 1..3 {
        let said = h.fails("a", attempt, own());
        assert_eq!(said, [format!("a#{attempt} failed"), "a backs off".to_owned()]);
        h.wake();
    }
    assert_eq!(h.fails("a", 3, own())[1], "a failed: permit_denied");
}

#[test]
fn no_permit_is_granted_while_the_replanner_is_asked() {
    let (mut h, _) = Harness::started(spec(), &two());
    h.fails("b", 1, hopeless());
    assert_eq!(h.permit("a", 1), ["> permit a#1 denied"]);
    h.decide(ReplanDecision::Skip, None);
    assert_eq!(h.permit("a", 1), ["a#1 permitted", "> permit a#1 granted"]);
}

#[test]
fn no_permit_is_granted_while_the_goal_is_revised_or_after_the_end() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.revise("x", json!(1));
    assert_eq!(h.permit("a", 1), ["> permit a#1 denied"]);
    h.cancel();
    assert_eq!(h.permit("a", 1), ["> permit a#1 denied"]);
}

#[test]
fn an_irreversible_call_that_failed_is_never_repeated_blindly() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.permit("a", 1);
    assert_eq!(h.fails("a", 1, broken()), ["a#1 failed", "a unknown"]);
    assert_eq!(h.run.waiting(), Some(WaitKind::UnknownOutcome));
    assert_eq!(h.status(), Status::Waiting);
}

#[test]
fn an_irreversible_call_that_was_not_permitted_did_not_happen() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    assert_eq!(h.fails("a", 1, broken()), ["a#1 failed", "a backs off"]);
}

#[test]
fn a_call_that_says_that_nothing_happened_is_tried_again_with_a_new_permit() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.permit("a", 1);
    assert_eq!(h.fails("a", 1, with_effect(EffectState::None)), ["a#1 failed", "a backs off"]);
    h.wake();
    assert_eq!(h.permit("a", 2), ["a#2 permitted", "> permit a#2 granted"]);
}

#[test]
fn a_call_that_happened_and_failed_is_not_tried_again() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.permit("a", 1);
    assert_eq!(
        h.fails("a", 1, with_effect(EffectState::Done)),
        ["a#1 failed", "a failed: broken", "replan asked about a", "> replan about a"]
    );
}

#[test]
fn a_decision_to_retry_a_call_that_may_have_happened_asks_first() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.permit("a", 1);
    h.fails("a", 1, with_effect(EffectState::Done));
    h.decide(ReplanDecision::Retry, None);
    assert_eq!(h.go(), ["a unknown"]);
    assert_eq!(
        h.resolve("a", Resolution::NotHappened),
        ["a did not happen, says ann", "a retried", "> evaluate a"]
    );
    assert_eq!(h.go(), ["a#2 started", "> run a#2 send"]);
}

#[test]
fn a_patch_that_keeps_a_failed_call_that_may_have_happened_keeps_its_permit() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.permit("a", 1);
    h.fails("a", 1, with_effect(EffectState::Done));
    let mut plan = one("send");
    plan[0]["needs"] = json!(["fix"]);
    plan.as_array_mut().unwrap().push(json!({"id": "fix", "tool": "read"}));
    h.patch(&plan);
    h.go();
    assert_eq!(h.ok("fix", 1), ["fix#1 succeeded", "a unknown"]);
}

#[test]
fn a_person_says_that_a_call_happened() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.permit("a", 1);
    h.fails("a", 1, broken());
    let output = Output::inline(json!("sent"));
    assert_eq!(
        h.resolve("a", Resolution::Happened(output)),
        ["a happened, says ann", "a done", "run succeeded"]
    );
    assert_eq!(h.output("a"), Some(json!("sent")));
}

#[test]
fn a_person_gives_a_call_up() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.permit("a", 1);
    h.fails("a", 1, broken());
    assert_eq!(
        h.resolve("a", Resolution::Fail),
        ["a given up by ann", "a failed: broken", "replan asked about a", "> replan about a"]
    );
}

#[test]
fn only_an_unknown_outcome_can_be_resolved() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    let kind = CommandKind::Resolve {
        step: crate::support::id("a"),
        resolution: Resolution::NotHappened,
        verdicts: foreplan_core::input::Verdicts::default(),
    };
    assert!(matches!(h.try_command(kind), Err(foreplan_core::run::Rejection::NotWaiting(_))));
}

#[test]
fn the_verify_tool_is_asked_first_and_says_that_the_call_happened() {
    let (mut h, _) = Harness::started(spec(), &one("pay"));
    h.permit("a", 1);
    assert_eq!(h.fails("a", 1, broken()), ["a#1 failed", "a#2 verifies", "> run a#2 check_pay"]);
    assert!(h.run.is_verifying("a"));
    assert_eq!(h.permit("a", 2), ["> permit a#2 denied"]);
    assert_eq!(h.ok_with("a", 2, happened(true)), ["a happened, says verify", "a done", "run succeeded"]);
    assert_eq!(h.output("a"), Some(json!({"by": "verify"})));
}

#[test]
fn the_verify_tool_says_that_the_call_did_not_happen() {
    let (mut h, _) = Harness::started(spec(), &one("pay"));
    h.permit("a", 1);
    h.fails("a", 1, broken());
    assert_eq!(h.ok_with("a", 2, happened(false)), ["a did not happen, says verify", "a backs off"]);
    assert_eq!(h.wake(), ["a#3 started", "> run a#3 pay"]);
    assert_eq!(h.permit("a", 3), ["a#3 permitted", "> permit a#3 granted"]);
}

#[test]
fn a_verify_tool_that_does_not_know_leaves_it_to_a_person() {
    let (mut h, _) = Harness::started(spec(), &one("pay"));
    h.permit("a", 1);
    h.fails("a", 1, broken());
    assert_eq!(h.ok_with("a", 2, json!("?")), ["a#2 failed: verify_unclear", "a unknown"]);
    let (mut h, _) = Harness::started(spec(), &one("pay"));
    h.permit("a", 1);
    h.fails("a", 1, broken());
    assert_eq!(h.fails("a", 2, broken()), ["a#2 failed: verify_unclear", "a unknown"]);
}

#[test]
fn a_verify_tool_whose_workers_are_lost_leaves_it_to_a_person_in_the_end() {
    let (mut h, _) = Harness::started(spec(), &one("pay"));
    h.permit("a", 1);
    h.fails("a", 1, broken());
    for attempt in 2..6 {
        let next = attempt + 1;
        assert_eq!(
            h.takeover(),
            [
                "owned by p2".to_owned(),
                format!("a#{attempt} failed: worker_lost"),
                format!("a#{next} verifies"),
                format!("> run a#{next} check_pay")
            ]
        );
    }
    assert_eq!(h.takeover(), ["owned by p2", "a#6 failed: worker_lost", "a unknown"]);
}

#[test]
fn verifying_waits_while_nothing_may_start() {
    let (mut h, _) = Harness::started(spec(), &one("pay"));
    h.permit("a", 1);
    h.command(CommandKind::Pause);
    assert_eq!(h.fails("a", 1, broken()), ["a#1 failed", "a queued"]);
    assert_eq!(h.command(CommandKind::Resume), ["resumed by ann", "a#2 verifies", "> run a#2 check_pay"]);
}

#[test]
fn a_new_owner_repeats_reads_and_asks_about_permitted_calls() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([
            {"id": "a", "tool": "read"},
            {"id": "b", "tool": "send"},
            {"id": "c", "tool": "send"},
            {"id": "d", "tool": "put"},
        ]),
    );
    h.permit("b", 1);
    assert_eq!(
        h.takeover(),
        [
            "owned by p2",
            "a#1 failed: worker_lost",
            "a backs off",
            "b#1 failed: worker_lost",
            "b unknown",
            "c#1 failed: worker_lost",
            "c backs off",
            "d#1 failed: worker_lost",
            "d backs off",
        ]
    );
    assert_eq!(h.ok("a", 1), NOTHING);
    assert_eq!(h.ok("b", 1), ["b#1 late"]);
}

#[test]
fn a_new_owner_asks_again_what_was_asked() {
    let (mut h, _) = Harness::submit(spec());
    assert_eq!(h.takeover(), ["owned by p2", "> plan 1"]);
    let steps = json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "read"}]);
    h.plan(1, &steps);
    assert_eq!(h.takeover(), ["owned by p2", "> evaluate a b"]);
    h.go();
    h.fails("a", 1, hopeless());
    assert_eq!(h.takeover(), ["owned by p2", "b#1 failed: worker_lost", "b backs off", "> replan about a"]);
}

#[test]
fn a_new_owner_of_a_paused_run_asks_again_what_was_asked() {
    let (mut h, _) = Harness::submit(spec());
    h.command(CommandKind::Pause);
    assert!(!h.run.is_idle());
    assert_eq!(h.takeover(), ["owned by p2", "> plan 1"]);
}

#[test]
fn a_run_that_has_failed_is_not_taken_over() {
    let plan = json!([{
        "id": "a", "tool": "read", "for_each": {"in": [1, 2]}, "on_failure": {"then": "fail"},
    }]);
    let (mut h, _) = Harness::started(spec(), &plan);
    h.fails("a~0", 1, hopeless());
    assert_eq!(h.status(), Status::Failed);
    assert_eq!(h.takeover(), NOTHING);
}

#[test]
fn a_late_result_of_a_permitted_call_is_recorded_after_it_was_resolved() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.permit("a", 1);
    h.fails("a", 1, failure(FailureKind::WorkerLost, "worker_lost"));
    h.resolve("a", Resolution::NotHappened);
    h.go();
    assert_eq!(h.ok("a", 1), NOTHING, "the loss is on record as its result");
    assert!(matches!(h.state("a"), StepState::Running { attempt: 2, .. }));
}

#[test]
fn a_result_that_was_accepted_is_not_recorded_again_as_late() {
    let (mut h, _) = Harness::started(spec(), &two());
    h.permit("a", 1);
    h.ok("a", 1);
    assert_eq!(h.ok("a", 1), NOTHING);
}

#[test]
fn a_permit_is_the_workers_who_asked_first_and_another_says_nothing_of_its_call() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    let granted = ["a#1 permitted", "> permit a#1 granted"];
    assert_eq!(h.permit_of(Some("w1"), "a", 1), granted);
    assert_eq!(h.permit_of(Some("w2"), "a", 1), ["> permit a#1 denied"], "the request is in two hands");
    assert_eq!(h.permit_of(Some("w1"), "a", 1), ["> permit a#1 granted"], "a repetition is no second one");

    let without = failure(FailureKind::Cancelled, PERMIT_DENIED).effect(EffectState::None);
    assert_eq!(h.fails_at("w2", "a", 1, without), [""; 0]);
    let leaving = failure(FailureKind::WorkerLost, "worker_lost").effect(EffectState::None);
    assert_eq!(h.fails_at("w2", "a", 1, leaving), [""; 0]);
    assert_eq!(h.ok("a", 1), ["a#1 succeeded", "run succeeded"]);
}

#[test]
fn a_permit_is_for_one_claim_of_a_worker_and_another_says_nothing_of_its_call() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    let [first, second] = [1, 2].map(|number| {
        let claim = Some(ClaimId(uuid::Uuid::from_u128(number)));
        Asker { worker: Some("w1".to_owned()), claim }
    });
    let reply = |h: &Harness, of: &Asker, outcome| {
        let reply = h.reply("a", 1, outcome);
        let (worker, claim) = (of.worker.clone().expect("its name"), of.claim);
        Input::Result(AttemptReply { worker, claim, ..reply })
    };
    assert_eq!(h.permit_to(&first, "a", 1), ["a#1 permitted", "> permit a#1 granted"]);
    assert_eq!(h.permit_to(&second, "a", 1), ["> permit a#1 denied"], "the request came to it again");
    assert_eq!(h.permit_to(&first, "a", 1), ["> permit a#1 granted"]);

    let without = failure(FailureKind::Cancelled, PERMIT_DENIED).effect(EffectState::None);
    let denied = reply(&h, &second, AttemptOutcome::Failure(without));
    assert_eq!(h.handle(denied), [""; 0]);
    let done = reply(&h, &first, AttemptOutcome::Output(Output::inline(json!({}))));
    assert_eq!(h.handle(done), ["a#1 succeeded", "run succeeded"]);
}

#[test]
fn another_worker_may_say_that_the_one_with_the_permit_is_gone() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.permit_of(Some("w1"), "a", 1);
    let silent = failure(FailureKind::WorkerLost, "worker_lost");
    assert_eq!(h.fails_at("w2", "a", 1, silent), ["a#1 failed", "a unknown"]);
}
