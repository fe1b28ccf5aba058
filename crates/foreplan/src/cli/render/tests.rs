//! What each rendering looks like, whole.

use std::collections::BTreeSet;

use foreplan_core::{diff::PlanDiff, finding::Finding, plan::Plan, time::Timestamp, view::RunView};
use serde_json::json;

use super::{Look, diff, list, plan, run};

/// 2023-11-14 22:13:20 UTC.
const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

fn release() -> Plan {
    serde_json::from_value(json!({
        "format": 1, "goal": "Release the web service",
        "steps": [
            {"id": "build", "tool": "build", "title": "Build the release"},
            {"id": "smoke", "tool": "smoke", "input": {"build": {"$ref": "build.id"}},
             "on_failure": {"attempts": 3}},
            {"id": "confirm", "human": {"question": "Ship it?"}, "needs": ["smoke"]},
            {"id": "deploy", "tool": "deploy", "needs": ["confirm"], "approval": true,
             "title": "Make it live\u{1b}[2K"},
        ],
    }))
    .unwrap()
}

fn envelope(plan: &Plan) -> foreplan_core::envelope::Envelope {
    let digest = foreplan_core::digest::Digest::of_bytes(b"tool");
    let tool = |effect: &str| json!({"digest": digest, "effect": effect, "capabilities": ["ci"]});
    let limits = foreplan_core::budget::Limits::default();
    serde_json::from_value(json!({
        "plan": plan.digest(), "limits": limits,
        "tools": {"build": tool("idempotent"), "smoke": tool("read"), "deploy": tool("irreversible")},
    }))
    .unwrap()
}

fn view() -> RunView {
    let step = |id: &str, status: &str| {
        json!({"id": id, "status": status, "attempts": 1, "plan_version": 1, "worker": "ci-1",
               "started_at": "2023-11-14T22:13:10Z", "ended_at": "2023-11-14T22:13:12.5Z",
               "verified": true, "output": null, "failure": null, "reason": null})
    };
    let wait = json!({"kind": "question", "step": "confirm", "digest": null, "question": "Ship it?",
                      "schema": {"enum": ["yes", "no"]}, "since": "2023-11-14T22:13:15Z", "commands": []});
    let mut smoke = step("smoke", "succeeded");
    smoke["attempts"] = json!(2);
    smoke["verified"] = json!(false);
    smoke["output"] = json!({"passed": true});
    let mut confirm = step("confirm", "waiting");
    confirm["started_at"] = json!(null);
    let planned = |id: &str, title: &str, tool: Option<&str>| json!({"id": id, "title": title, "tool": tool, "capability": null, "effect": null, "needs": []});
    serde_json::from_value(json!({
        "run": "0193c2e0-0000-7000-8000-000000000001", "project": "release", "goal": "Release the web service",
        "params": {"version": "1.4.3"}, "status": "waiting",
        "created_at": "2023-11-14T22:13:05Z", "ended_at": null, "reason": null,
        "waiting": [wait], "waiting_for": wait,
        "plan": {"version": 2, "digest": release().digest(), "steps": [
            planned("build", "Build the release", Some("build")),
            planned("smoke", "Start it once", Some("smoke")),
            planned("confirm", "Ask whether to ship it", None)]},
        "steps": [step("build", "succeeded"), smoke, confirm],
        "replans": [{"version": 2, "trigger": "step_failed", "step": "smoke", "decision": "patch",
                     "by": "rules", "reason": "missing_migration"}],
        "result": null,
        "usage": {"model_calls": 0, "react_calls_at_least": 4, "input_tokens": 0, "output_tokens": 0,
                  "cost_microusd": 0},
        "journal": {"entries": 14, "head": null},
    }))
    .unwrap()
}

#[test]
fn a_plan_under_review() {
    let plan = release();
    let envelope = envelope(&plan);
    let findings = [
        Finding::advice("vague_title", "say what it shows").at(&"build".parse().unwrap()).field("title"),
        Finding::error("unknown_tool", "there is no tool `x`").at(&"smoke".parse().unwrap()),
    ];
    let review = plan::Review {
        goal: &plan.goal,
        plan: &plan,
        envelope: Some(&envelope),
        by: "runbook",
        reviewer: None,
        findings: &findings,
    };
    insta::assert_snapshot!(plan::review(&Look::plain(NOW), &review));
}

#[test]
fn a_run_that_waits() {
    insta::assert_snapshot!(run::show(&Look::plain(NOW), &view(), true));
}

#[test]
fn a_run_whose_plan_waits_shows_its_steps() {
    let view = RunView { steps: Vec::new(), replans: Vec::new(), ..view() };
    let text = run::show(&Look::plain(NOW), &view, false);
    for step in &view.plan.as_ref().unwrap().steps {
        let line = text.lines().find(|line| line.contains(step.id.as_str())).expect("each step has a line");
        assert!(!step.title.is_empty() && line.contains(&step.title), "{line}");
    }
}

#[test]
fn a_diff_of_two_versions() {
    let old = release();
    let mut new = release();
    let fix = json!({"id": "fix", "tool": "apply_migration", "title": "Apply pending migration"});
    new.steps.insert(1, serde_json::from_value(fix).unwrap());
    new.steps[2].needs.push("fix".parse().unwrap());
    new.steps.remove(3);
    new.goal = "Release it".into();
    let done = BTreeSet::from(["build".parse().unwrap()]);
    insta::assert_snapshot!(diff::body(&Look::plain(NOW), &PlanDiff::between(&old, &new, &done)));
}

#[test]
fn runs_that_wait_for_a_person_come_first() {
    let row = |n: u8, status, waiting, interrupted| list::Row {
        run: format!("0193c2e0-0000-7000-8000-0000000000{n:02}").parse().unwrap(),
        project: "release".into(),
        goal: "Release the web service".into(),
        status,
        waiting,
        since: Timestamp(NOW.0 - 90_000_000),
        created_at: Timestamp(NOW.0 - 200_000_000),
        steps: (2, 5),
        replans: 0,
        interrupted,
    };
    use foreplan_core::view::{Status, WaitKind};
    let mut rows = vec![
        row(1, Status::Succeeded, None, false),
        row(2, Status::Running, None, true),
        row(3, Status::Waiting, Some(WaitKind::PlanApproval), false),
    ];
    list::sort(&mut rows);
    let look = Look::plain(NOW);
    insta::assert_snapshot!(format!("{}---\n{}", list::runs(&look, &rows), list::stuck(&look, &rows)));
}
