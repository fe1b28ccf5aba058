//! What people are asked and what they command: approval, questions, pause, cancel, retry.

use std::time::Duration;

use foreplan_core::{
    digest::Digest,
    goal::ApprovalMode,
    input::{CommandKind, Input, Verdicts},
    payload::Output,
    policy::ReplanDecision,
    run::{Rejection, StepState},
    view::{Status, WaitKind},
};
use serde_json::{Value, json};

use crate::support::{Harness, compiled, envelope, hopeless, id, spec};

const NOTHING: [&str; 0] = [];

fn approval(mode: ApprovalMode) -> foreplan_core::goal::RunSpec {
    let mut spec = spec();
    spec.approval.mode = mode;
    spec
}

fn one(tool: &str) -> Value {
    json!([{"id": "a", "tool": tool}])
}

#[test]
fn a_human_step_asks_and_its_answer_is_its_output() {
    let plan = json!([
        {"id": "a", "human": {"question": "which?"}},
        {"id": "b", "tool": "read", "input": {"x": {"$ref": "a"}}},
    ]);
    let (mut h, said) = Harness::started(spec(), &plan);
    assert_eq!(said, ["a asks"]);
    assert_eq!(h.run.waiting(), Some(WaitKind::Question));
    assert!(h.run.is_idle());
    assert_eq!(
        h.answer("a", json!("this")),
        ["a answered by ann", "a done", "b#1 started", "> run b#1 read"]
    );
    assert_eq!(h.output("a"), Some(json!("this")));
}

#[test]
fn an_answer_that_does_not_fit_is_sent_back() {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "a", "human": {"question": "?"}}]));
    let gate = Some(foreplan_core::failure::Failure::new(
        foreplan_core::failure::FailureKind::OutputSchema,
        "schema",
        "not a number",
    ));
    let verdicts = Verdicts { gate, ..Verdicts::default() };
    let kind = CommandKind::Answer { step: id("a"), value: json!("x").into(), verdicts };
    assert_eq!(h.try_command(kind), Err(Rejection::Answer("not a number".to_owned())));
    assert_eq!(h.status(), Status::Waiting);
}

#[test]
fn an_answer_that_nobody_asked_for_is_sent_back() {
    let (mut h, _) = Harness::started(spec(), &one("read"));
    let answer = |step: &str| CommandKind::Answer {
        step: id(step),
        value: json!(1).into(),
        verdicts: Verdicts::default(),
    };
    assert!(matches!(h.try_command(answer("a")), Err(Rejection::NotWaiting(_))));
    assert_eq!(h.try_command(answer("b")), Err(Rejection::UnknownStep(id("b"))));
}

#[test]
fn a_step_that_wants_approval_waits_for_it() {
    let (mut h, said) = Harness::started(spec(), &json!([{"id": "a", "tool": "read", "approval": true}]));
    assert_eq!(said, ["a to be approved"]);
    assert_eq!(h.run.waiting(), Some(WaitKind::StepApproval));
    let expected = Digest::of(h.run.definition("a").unwrap());
    let stale = CommandKind::Approve { step: Some(id("a")), digest: Digest([0; 32]) };
    assert_eq!(h.try_command(stale), Err(Rejection::StaleDigest { expected }));
    let good = CommandKind::Approve { step: Some(id("a")), digest: expected };
    assert_eq!(h.command(good.clone()), ["a approved by ann", "> evaluate a"]);
    assert_eq!(h.go(), ["a#1 started", "> run a#1 read"]);
    assert!(matches!(h.try_command(good), Err(Rejection::NotWaiting(_))));
}

#[test]
fn mode_auto_asks_nobody() {
    let (_, said) = Harness::planned(approval(ApprovalMode::Auto), &one("send"));
    assert_eq!(said, ["v1 proposed", "v1 adopted", "> evaluate a"]);
}

#[test]
fn mode_risky_asks_about_irreversible_steps_only() {
    let (_, said) = Harness::planned(approval(ApprovalMode::Risky), &one("put"));
    assert_eq!(said, ["v1 proposed", "v1 adopted", "> evaluate a"]);
    let (_, said) = Harness::planned(approval(ApprovalMode::Risky), &one("send"));
    assert_eq!(said, ["v1 proposed", "plan to be approved"]);
}

#[test]
fn mode_always_asks_about_every_plan() {
    let (mut h, said) = Harness::planned(approval(ApprovalMode::Always), &one("read"));
    assert_eq!(said, ["v1 proposed", "plan to be approved"]);
    assert_eq!(h.run.waiting(), Some(WaitKind::PlanApproval));
    let expected = h.run.proposed().unwrap().envelope_digest;
    let stale = CommandKind::Approve { step: None, digest: Digest([0; 32]) };
    assert_eq!(h.try_command(stale), Err(Rejection::StaleDigest { expected }));
    assert_eq!(h.approve(), ["plan approved by ann", "v1 adopted", "> evaluate a"]);
    assert_eq!(h.run.current().unwrap().approved_by.as_deref(), Some("ann"));
}

#[test]
fn an_envelope_that_was_approved_before_is_not_asked_about_again() {
    let mut spec = approval(ApprovalMode::Always);
    let plan = one("send");
    spec.approval.envelope = Some(envelope(&compiled(&plan), &spec).digest());
    let (_, said) = Harness::planned(spec, &plan);
    assert_eq!(said, ["v1 proposed", "v1 adopted", "> evaluate a"]);
}

#[test]
fn a_plan_that_nobody_approves_in_time_fails_the_run() {
    let mut spec = approval(ApprovalMode::Always);
    spec.approval.timeout = Duration::from_secs(60);
    let (mut h, _) = Harness::planned(spec, &one("read"));
    assert_eq!(h.run.next_wake(), Some(h.now.plus(Duration::from_secs(60))));
    assert_eq!(h.wake(), ["run failed: nobody answered"]);
}

#[test]
fn a_question_that_nobody_answers_in_time_fails_the_run() {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "a", "human": {"question": "?"}}]));
    assert_eq!(h.wake(), ["run failed: nobody answered"]);
}

#[test]
fn a_refused_plan_ends_the_run() {
    let (mut h, _) = Harness::planned(approval(ApprovalMode::Always), &one("read"));
    let reject = || CommandKind::Reject { reason: "no".to_owned() };
    assert_eq!(h.command(reject()), ["run rejected by ann: no"]);
    assert_eq!(h.try_command(reject()), Err(Rejection::Ended(Status::Rejected)));
    let (mut h, _) = Harness::started(spec(), &one("read"));
    assert!(matches!(h.try_command(reject()), Err(Rejection::NotWaiting(_))));
}

#[test]
fn a_paused_run_starts_nothing_and_goes_on_where_it_was() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "read", "needs": ["a"]}]),
    );
    assert_eq!(h.command(CommandKind::Pause), ["paused: ann"]);
    assert!(matches!(h.try_command(CommandKind::Pause), Err(Rejection::NotNow(_))));
    assert_eq!(h.ok("a", 1), ["a#1 succeeded", "b queued"]);
    assert_eq!(h.status(), Status::Paused);
    assert_eq!(h.command(CommandKind::Resume), ["resumed by ann", "b#1 started", "> run b#1 read"]);
    assert!(matches!(h.try_command(CommandKind::Resume), Err(Rejection::NotNow(_))));
}

#[test]
fn a_step_that_fails_while_the_run_is_paused_is_replanned_when_it_goes_on() {
    let (mut h, _) = Harness::started(spec(), &one("read"));
    h.command(CommandKind::Pause);
    assert_eq!(h.fails("a", 1, hopeless()), ["a#1 failed", "a failed: broken"]);
    assert_eq!(
        h.command(CommandKind::Resume),
        ["resumed by ann", "replan asked about a", "> replan about a"]
    );
}

#[test]
fn a_run_that_is_done_while_paused_ends_when_it_goes_on() {
    let (mut h, _) = Harness::started(spec(), &one("read"));
    h.command(CommandKind::Pause);
    assert_eq!(h.ok("a", 1), ["a#1 succeeded"]);
    assert_eq!(h.command(CommandKind::Resume), ["resumed by ann", "run succeeded"]);
}

#[test]
fn after_a_cancel_nothing_is_dispatched() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "read", "needs": ["a"]}]),
    );
    assert_eq!(h.cancel(), ["run cancelled by ann", "> cancel a#1"]);
    assert_eq!(h.status(), Status::Cancelled);
    assert_eq!(h.ok("a", 1), NOTHING);
    let ready = vec![(id("b"), foreplan_core::input::Readiness::Go)];
    assert_eq!(h.handle(Input::Evaluated { ready }), NOTHING);
    assert_eq!(h.run.outstanding(), []);
    for kind in [CommandKind::Pause, CommandKind::Resume, CommandKind::Cancel { reason: None }] {
        assert_eq!(h.try_command(kind), Err(Rejection::Ended(Status::Cancelled)));
    }
}

#[test]
fn a_command_that_is_sent_twice_is_one_command() {
    let (mut h, _) = Harness::started(spec(), &one("read"));
    let kind = CommandKind::Pause;
    let command = foreplan_core::input::Command { id: uuid::Uuid::from_u128(99), by: "ann".to_owned(), kind };
    h.handle(Input::Command(command.clone()));
    h.command(CommandKind::Resume);
    assert_eq!(h.try_handle(Input::Command(command)), Err(Rejection::Duplicate));
    assert_eq!(h.status(), Status::Running);
}

#[test]
fn a_failed_run_goes_on_from_what_failed() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([
            {"id": "a", "tool": "read"},
            {"id": "b", "tool": "read", "needs": ["a"], "on_failure": {"then": "fail"}},
            {"id": "c", "tool": "read", "needs": ["b"]},
        ]),
    );
    h.ok("a", 1);
    h.fails("b", 1, hopeless());
    assert_eq!(h.retry(None), ["reopened by ann", "> evaluate b"]);
    assert_eq!(h.go(), ["b#2 started", "> run b#2 read"]);
    assert_eq!(h.ok("b", 2), ["b#2 succeeded", "c#1 started", "> run c#1 read"]);
    assert_eq!(h.ok("c", 1), ["c#1 succeeded", "run succeeded"]);
}

#[test]
fn retry_from_a_step_runs_it_and_all_behind_it_but_what_cannot_be_undone() {
    let (mut h, _) = Harness::started(
        spec(),
        &json!([
            {"id": "a", "tool": "read"},
            {"id": "b", "tool": "send", "input": {"x": {"$ref": "a"}}},
            {"id": "c", "tool": "read", "input": {"x": {"$ref": "a"}}},
            {"id": "d", "tool": "read", "needs": ["b"]},
        ]),
    );
    h.ok("a", 1);
    h.permit("b", 1);
    h.ok("b", 1);
    h.ok("c", 1);
    h.ok("d", 1);
    assert_eq!(h.status(), Status::Succeeded);
    assert!(matches!(h.try_command(CommandKind::Retry { from: None }), Err(Rejection::NotNow(_))));
    let from_b = CommandKind::Retry { from: Some(id("b")) };
    assert!(matches!(h.try_command(from_b), Err(Rejection::NotNow(_))));
    assert_eq!(h.retry(Some("a")), ["reopened by ann", "> evaluate a"]);
    h.go();
    assert_eq!(h.ok("a", 2), ["a#2 succeeded", "c#2 started", "> run c#2 read"]);
    assert!(h.is_done("b") && h.is_done("d"));
    assert_eq!(h.ok("c", 2), ["c#2 succeeded", "run succeeded"]);
}

#[test]
fn retry_names_a_step_of_the_plan_and_a_run_that_has_ended() {
    let (mut h, _) = Harness::started(spec(), &one("read"));
    assert!(matches!(h.try_command(CommandKind::Retry { from: None }), Err(Rejection::NotNow(_))));
    h.cancel();
    let unknown = CommandKind::Retry { from: Some(id("a~0")) };
    assert_eq!(h.try_command(unknown), Err(Rejection::UnknownStep(id("a~0"))));
}

#[test]
fn a_run_without_a_plan_asks_for_one_again_when_it_is_retried() {
    let (mut h, _) = Harness::submit(spec());
    let none =
        foreplan_core::input::Proposal::None { code: "no_producer".to_owned(), message: "m".to_owned() };
    assert_eq!(h.planner(1, none), ["plan refused: m", "run failed: no plan, no_producer"]);
    assert_eq!(h.retry(None), ["reopened by ann", "plan 2 asked", "> plan 2"]);
}

#[test]
fn a_call_that_was_permitted_before_a_cancel_is_asked_about_when_the_run_is_retried() {
    let (mut h, _) = Harness::started(spec(), &one("send"));
    h.permit("a", 1);
    h.cancel();
    assert_eq!(h.ok("a", 1), ["a#1 late"]);
    assert_eq!(h.ok("a", 1), NOTHING, "one late result is recorded");
    h.retry(None);
    assert_eq!(h.go(), ["a unknown"]);
    assert_eq!(
        h.resolve("a", foreplan_core::input::Resolution::Happened(Output::inline(json!(1)))),
        ["a happened, says ann", "a done", "run succeeded"]
    );
}

#[test]
fn a_decision_to_ask_waits_for_a_person() {
    let (mut h, _) = Harness::started(spec(), &one("read"));
    h.fails("a", 1, hopeless());
    let ask = ReplanDecision::Ask { question: "again?".to_owned() };
    assert_eq!(h.decide(ask, None), ["decided: ask", "a asks: again?"]);
    assert_eq!(h.status(), Status::Waiting);
    h.answer("a", json!("retry"));
    assert_eq!(h.go(), ["a#2 started", "> run a#2 read"]);
    assert!(matches!(h.state("a"), StepState::Running { attempt: 2, .. }));
}
