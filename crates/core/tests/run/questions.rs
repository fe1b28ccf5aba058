//! Questions of planners: what a run does when the goal is not clear.

use foreplan_core::{
    input::{CommandKind, Proposal},
    policy::ReplanDecision,
    run::{QUESTIONS_MAX, Rejection},
    view::{Status, WaitKind},
};
use serde_json::{Value, json};

use crate::support::{Harness, hopeless, spec};

fn question(text: &str) -> Proposal {
    Proposal::Question { question: text.to_owned() }
}

fn one() -> Value {
    json!([{"id": "a", "tool": "read"}])
}

#[test]
fn a_planner_that_asks_makes_the_run_wait_and_its_answer_goes_into_the_next_request() {
    let (mut h, _) = Harness::submit(spec());
    assert_eq!(h.planner(1, question("which city?")), ["plan asks: which city?"]);
    assert_eq!(h.status(), Status::Waiting);
    assert_eq!(h.run.waiting(), Some(WaitKind::Question));
    assert!(h.run.is_idle() && h.run.outstanding().is_empty());
    assert_eq!(h.answer("plan", json!("Rome")), ["plan answered by ann", "plan 2 asked", "> plan 2"]);
    assert_eq!(h.status(), Status::Planning);
    let [answer] = h.run.plan_answers() else { panic!("one answer") };
    assert_eq!((answer.question.as_str(), answer.by.as_str()), ("which city?", "ann"));
    assert_eq!(*answer.answer, json!("Rome"));
    h.plan(2, &one());
    assert_eq!(h.go(), ["a#1 started", "> run a#1 read"]);
}

#[test]
fn the_view_names_the_question_and_the_pseudo_step_that_answers_it() {
    let (mut h, _) = Harness::submit(spec());
    h.planner(1, question("which city?"));
    let wait =
        h.run.view(None, foreplan_core::view::JournalView { entries: 2, head: None }).waiting_for.unwrap();
    assert_eq!((wait.kind, wait.step.unwrap().as_str()), (WaitKind::Question, "plan"));
    assert_eq!(wait.question.as_deref(), Some("which city?"));
}

#[test]
fn only_a_question_that_is_open_can_be_answered() {
    let (mut h, _) = Harness::submit(spec());
    let answer = || CommandKind::Answer {
        step: "plan".parse().unwrap(),
        value: json!("Rome").into(),
        verdicts: foreplan_core::input::Verdicts::default(),
    };
    assert!(matches!(h.try_command(answer()), Err(Rejection::NotWaiting(_))));
    h.planner(1, question("which city?"));
    h.answer("plan", json!("Rome"));
    assert!(matches!(h.try_command(answer()), Err(Rejection::NotWaiting(_))));
}

#[test]
fn a_planner_that_asks_too_often_has_no_plan() {
    let (mut h, _) = Harness::submit(spec());
    for request in 1..=QUESTIONS_MAX as u32 {
        h.planner(request, question("again?"));
        h.answer("plan", json!("yes"));
    }
    let said = h.planner(QUESTIONS_MAX as u32 + 1, question("and again?"));
    assert_eq!(said.last().map(String::as_str), Some("run failed: no plan, questions"));
}

#[test]
fn a_question_that_nobody_answers_in_time_ends_the_run() {
    let (mut h, _) = Harness::submit(spec());
    h.planner(1, question("which city?"));
    assert_eq!(h.wake(), ["run failed: nobody answered"]);
}

#[test]
fn a_revised_goal_takes_the_question_back() {
    let (mut h, _) = Harness::submit(spec());
    h.planner(1, question("which city?"));
    h.command(CommandKind::Revise {
        goal: Some("Rome".to_owned()),
        produce: None,
        params: Default::default(),
    });
    assert_eq!(h.status(), Status::Planning);
    assert_eq!(h.run.waiting(), None);
    h.plan(2, &one());
    assert_eq!(h.go(), ["a#1 started", "> run a#1 read"]);
}

#[test]
fn a_planner_that_is_asked_about_a_failed_step_may_ask_too_and_nothing_starts_meanwhile() {
    let plan = json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "read"}, {"id": "c", "tool": "put", "needs": ["b"]}]);
    let (mut h, _) = Harness::started(spec(), &plan);
    h.fails("a", 1, hopeless());
    h.decide(ReplanDecision::FullReplan, None);
    h.planner(2, question("which other file?"));
    assert_eq!(h.status(), Status::Replanning, "b still runs");
    h.ok("b", 1);
    assert_eq!(h.status(), Status::Waiting);
    let said = h.answer("plan", json!("x.json"));
    assert_eq!(said.last().map(String::as_str), Some("> plan 3 because step_failed"), "{said:?}");
}
