//! Goal steps: an attempt that is a run of its own.

use foreplan_core::{
    action::Action,
    budget::{Limits, StepMax},
    goal::{Parent, PlannerSpec, RunSpec},
    id::RunId,
    input::CommandKind,
    policy::ReplanDecision,
    run::Run,
    view::{JournalView, Status, WaitKind},
};
use serde_json::{Value, json};

use crate::support::{Harness, broken, hopeless, id, run_id, spec};

const NOTHING: [&str; 0] = [];

/// A goal, and a step behind it.
fn goal(more: &Value) -> Value {
    let mut first = json!({"id": "a", "goal": {"text": "find it"}});
    for (key, value) in more.as_object().into_iter().flatten() {
        first[key] = value.clone();
    }
    json!([first, {"id": "b", "tool": "read", "needs": ["a"]}])
}

fn started(more: &Value) -> Harness {
    Harness::started(spec(), &goal(more)).0
}

#[test]
fn a_goal_is_a_run_with_a_share_of_the_budget_and_its_result_is_the_output() {
    let (mut h, said) = Harness::started(spec(), &goal(&json!({"budget": {"tokens": 500, "iterations": 3}})));
    assert_eq!(said, ["a#1 started", "> goal a#1, 3 calls, 500 tokens"]);
    assert_eq!((h.status(), h.run.in_flight()), (Status::Running, 0), "no worker has it");
    assert_eq!(h.ok_with("a", 1, json!(7)), ["a#1 succeeded", "b#1 started", "> run b#1 read"]);
    assert_eq!(h.output("a"), Some(json!(7)));
}

#[test]
fn a_child_run_is_asked_for_what_its_step_says_and_no_more_than_its_share() {
    let timeout =
        json!({"timeout": "10m", "input": {"city": "Bern"}, "goal": {"text": "t", "produce": ["map"]}});
    let h = started(&timeout);
    let max = StepMax { model_calls: 3, tokens: 500, cost_microusd: 9 };
    let child = h.run.child_spec(&id("a"), 1, max, &json!({"city": "Bern"})).unwrap();
    assert_eq!(child.planner, PlannerSpec::Derive { produce: vec!["map".to_owned()] });
    assert_eq!(child.params["city"], "Bern");
    let limits = &child.limits;
    assert_eq!((limits.model_calls, limits.tokens, limits.cost_microusd), (3, 500, 9));
    assert_eq!((limits.depth, limits.deadline), (1, Some(std::time::Duration::from_secs(600))));
    let parent = child.parent.unwrap();
    assert_eq!((parent.run, parent.step, parent.attempt), (run_id(), id("a"), 1));
}

#[test]
fn a_child_run_that_waits_makes_its_parent_wait_for_it() {
    let mut h = started(&json!({}));
    assert_eq!(h.child("a", 1, false), NOTHING, "what is known is not recorded");
    assert_eq!(h.child("a", 1, true), ["child a#1 waits"]);
    assert_eq!((h.status(), h.run.waiting()), (Status::Waiting, Some(WaitKind::ChildRun)));
    assert!(h.run.is_idle());
    let view = h.run.view(None, JournalView { entries: 0, head: None });
    assert_eq!(view.child_that_waits(), Some(run_id().child(&id("a"), 1)));
    assert_eq!(h.child("a", 1, true), NOTHING);
    assert_eq!(h.child("a", 1, false), ["child a#1 goes on"]);
    assert_eq!(h.status(), Status::Running);
    h.child("a", 1, true);
    assert_eq!(h.ok("a", 1)[0], "a#1 succeeded");
}

#[test]
fn a_child_run_that_fails_fails_its_step() {
    let mut h = started(&json!({"on_failure": {"attempts": 2}}));
    assert_eq!(h.fails("a", 1, broken()), ["a#1 failed", "a backs off"]);
    assert_eq!(h.wake(), ["a#2 started", "> goal a#2, 10 calls, 100000 tokens"]);
    let said = h.fails("a", 2, hopeless());
    assert_eq!(said[1..], ["a failed: broken", "replan asked about a", "> replan about a"]);
    let said = h.patch(&json!([{"id": "c", "tool": "read"}]));
    assert_eq!(said[..3], ["decided: patch", "v2 proposed for v1", "v2 adopted"]);
}

#[test]
fn a_cancelled_run_and_a_plan_without_the_step_end_the_child_run() {
    let mut h = started(&json!({}));
    assert_eq!(h.cancel(), ["run cancelled by ann", "> cancel child a#1"]);
    assert_eq!(h.child("a", 1, false), ["> cancel child a#1"], "as often as it says that it goes on");
    assert_eq!(h.ok("a", 1), NOTHING);
    let mut h = started(&json!({}));
    let said = h.edit(1, &json!([{"id": "c", "tool": "read"}]));
    assert!(said.contains(&"> cancel child a#1".to_owned()), "{said:?}");
}

#[test]
fn pause_and_resume_are_passed_on() {
    let mut h = started(&json!({}));
    assert_eq!(h.command(CommandKind::Pause), ["paused: ann", "> pause child a#1"]);
    assert_eq!(h.child("a", 1, false), ["> pause child a#1"], "as often as it says that it goes on");
    assert_eq!(h.child("a", 1, true), ["child a#1 waits"]);
    assert!(h.run.is_idle());
    assert_eq!(h.command(CommandKind::Resume), ["resumed by ann", "> resume child a#1"]);
}

#[test]
fn a_parent_takes_back_its_own_pause_and_nobody_else_s() {
    let above = RunId(uuid::Uuid::from_u128(7));
    let parent = Some(Parent { run: above, step: id("a"), attempt: 1 });
    let (mut h, _) = Harness::started(RunSpec { parent, ..spec() }, &json!([{"id": "b", "tool": "read"}]));
    let by_parent = |h: &mut Harness, kind| h.try_command_by(&above.speaks_as(), kind);
    h.command(CommandKind::Pause);
    let refused = by_parent(&mut h, CommandKind::Resume).unwrap_err();
    assert_eq!(refused.to_string(), "the run was paused by another than its parent: ann");
    h.command(CommandKind::Resume);
    by_parent(&mut h, CommandKind::Pause).unwrap();
    by_parent(&mut h, CommandKind::Resume).unwrap();
    assert_eq!(h.run.paused_by(), None);
}

#[test]
fn a_new_owner_asks_for_the_same_child_run_and_never_for_a_second() {
    let mut h = started(&json!({}));
    assert_eq!(h.takeover(), ["owned by p2", "> goal a#1, 10 calls, 100000 tokens"]);
    h.child("a", 1, true);
    assert!(!h.run.outstanding().iter().any(|action| matches!(action, Action::RunGoal { .. })));
    assert_eq!(h.run.children(true).len(), 1, "one that waits is asked where it stands");
}

#[test]
fn the_share_of_a_child_run_is_set_aside_until_it_answers() {
    let limits = Limits { tokens: 1_000, ..Limits::default() };
    let share = json!({"tokens": 700});
    let plan = json!([
        {"id": "a", "goal": {"text": "x"}, "budget": share},
        {"id": "b", "goal": {"text": "y"}, "budget": share},
    ]);
    let (mut h, said) = Harness::started(RunSpec { limits, ..spec() }, &plan);
    assert_eq!(said, ["a#1 started", "b queued", "> goal a#1, 10 calls, 700 tokens"]);
    h.child("a", 1, true);
    h.child("a", 1, false);
    assert_eq!(h.ok("a", 1)[1..], ["b#1 started", "> goal b#1, 10 calls, 700 tokens"]);
}

#[test]
fn items_may_be_goals() {
    let plan = json!([{"id": "a", "goal": {"text": "x"}, "for_each": {"in": [1, 2]}}]);
    let (mut h, _) = Harness::started(spec(), &plan);
    assert_ne!(run_id().child(&id("a~0"), 1), run_id().child(&id("a~1"), 1));
    h.ok("a~1", 1);
    let said = h.fails("a~0", 1, hopeless());
    assert!(said.contains(&"a failed: broken".to_owned()), "{said:?}");
}

#[test]
fn the_failure_of_a_run_is_typed_for_its_parent_and_what_cannot_be_undone_is_not_tried_again() {
    let step = |tool: &str| json!([{"id": "a", "tool": tool}]);
    let failed = |h: &Harness| h.run.failure_of_goal().unwrap();
    let (mut h, _) = Harness::started(spec(), &step("read"));
    h.fails("a", 1, hopeless());
    h.decide(ReplanDecision::Pass, None);
    assert_eq!((failed(&h).code.as_str(), failed(&h).is_retryable()), ("child_failed", true));
    let (mut h, _) = Harness::started(spec(), &step("send"));
    h.permit("a", 1);
    h.cancel();
    assert_eq!((failed(&h).code.as_str(), failed(&h).is_retryable()), ("child_cancelled", false));
    let (mut h, _) = Harness::started(spec(), &step("read"));
    h.ok("a", 1);
    assert_eq!(h.run.failure_of_goal(), None);
    assert!(Run::replay(run_id(), &h.entries).unwrap().failure_of_goal().is_none());
}
