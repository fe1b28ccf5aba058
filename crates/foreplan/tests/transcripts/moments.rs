//! The moments in which a person decides.

use crate::support::Transcript;

/// A plan that `check` has something against.
const BROKEN: &str = r#"{
  "format": 1,
  "steps": [
    { "id": "build", "title": "Build the release", "tool": "biuld" },
    { "id": "deploy", "title": "Make it live", "tool": "deploy",
      "input": { "artifact": { "$ref": "build.artefact" } } }
  ]
}"#;

#[test]
fn a_plan_is_reviewed_before_anything_happens() {
    let mut t = Transcript::of("release");
    t.foreplan("run --param version=1.1");
    assert!(!t.path("deployed.log").exists());
    t.foreplan("runs");
    t.foreplan("approve last");
    let digest = t.digest();
    t.foreplan(&format!("approve last --digest {digest}"));
    t.golden("review");
}

#[test]
fn an_approval_is_refused_when_the_plan_has_moved() {
    let mut t = Transcript::of("release");
    t.foreplan("run");
    let seen = t.digest();
    let plan = std::fs::read_to_string(t.path("plan.json")).unwrap();
    t.write("mine.json", &plan.replace("Build the release", "Build it, signed"));
    t.foreplan("edit last --plan mine.json");
    t.foreplan(&format!("approve last --digest {seen}"));
    t.foreplan("diff last");
    t.golden("refused-approval");
}

#[test]
fn a_person_is_asked_and_answers() {
    let mut t = Transcript::of("release");
    t.foreplan("run --approve auto");
    t.foreplan("answer last confirm maybe");
    t.foreplan("answer last confirm yes");
    t.golden("question");
}

#[test]
fn an_edit_that_cannot_be_adopted_says_why() {
    let mut t = Transcript::of("release");
    t.foreplan("run");
    t.write("mine.json", BROKEN);
    t.foreplan("edit last --plan mine.json");
    t.foreplan("reject last --reason 'not this week'");
    t.foreplan("show last");
    t.golden("edit-with-finding");
}

#[test]
fn a_replan_shows_what_changed() {
    let mut t = Transcript::of("chain");
    let rule = "rules = [{ when = 'failure.code == \"mistake\"', \
                insert = { id = \"correct\", title = \"Learn the word\", tool = \"learn\", input = {} }, times = 1 }]";
    t.replace("foreplan.toml", "strategy = \"fail-fast\"", rule);
    t.foreplan("run");
    t.foreplan("diff last");
    t.foreplan("audit last");
    t.foreplan("audit last --verify");
    t.golden("replan");
}

#[test]
fn an_unknown_outcome_is_resolved_by_a_person() {
    let mut t = Transcript::of("release");
    t.write("outage", "");
    t.say("deploy.sh loses its connection after it has acted");
    t.foreplan("run --approve auto");
    t.foreplan("answer last confirm yes");
    t.foreplan("runs --stuck");
    t.foreplan("resolve last deploy --happened --output '{\"live\": \"app-1.0\"}'");
    assert_eq!(std::fs::read_to_string(t.path("deployed.log")).unwrap(), "app-1.0\n");
    t.golden("unknown-outcome");
}

#[test]
fn a_retry_from_a_step_keeps_what_was_done_before_it() {
    let mut t = Transcript::of("chain");
    t.foreplan("run");
    t.replace("text.txt", "teh", "the");
    t.foreplan("retry last --from draft");
    t.foreplan("retry last");
    t.golden("retry");
}

#[test]
fn a_fork_begins_where_a_run_was_and_ships_nothing_twice() {
    let mut t = Transcript::of("release");
    t.foreplan("run --approve auto");
    t.foreplan("answer last confirm yes");
    let origin = t.view()["run"].as_str().unwrap().to_owned();
    t.foreplan("fork last --at 5");
    t.foreplan("fork last --at 99");
    t.foreplan("fork last --at 3 --approve risky");
    let digest = t.digest();
    t.foreplan(&format!("approve last --digest {digest}"));
    t.foreplan("answer last confirm yes");
    assert_eq!(std::fs::read_to_string(t.path("deployed.log")).unwrap(), "app-1.0\n");
    t.foreplan("show last");
    t.foreplan("audit last --spans");
    t.foreplan(&format!("audit {origin}"));
    t.foreplan(&format!("fork {origin} --at 3 --goal 'Release it quietly' --planner derive"));
    t.golden("fork");
}

#[test]
fn a_revised_goal_keeps_what_still_serves_it() {
    let mut t = Transcript::of("report");
    let running = t.start_in_background("run");
    t.wait_for("started");
    t.foreplan("revise last --produce summary --goal 'Say it in one line'");
    running.wait_for("version 2 adopted");
    t.write("go", "");
    t.ended(running);
    t.foreplan("diff last");
    t.golden("revise");
}

#[test]
fn a_second_terminal_pauses_a_run_and_resumes_it() {
    let mut t = Transcript::of("report");
    let running = t.start_in_background("run");
    t.wait_for("started");
    t.foreplan("pause last");
    t.write("go", "");
    t.ended(running);
    t.foreplan("resume last");
    t.golden("pause");
}

#[test]
fn ctrl_c_lets_the_step_end_and_resume_goes_on() {
    let mut t = Transcript::of("report");
    let running = t.start_in_background("run");
    t.wait_for("started");
    running.interrupt();
    running.wait_for("Stopping");
    t.write("go", "");
    t.ended(running);
    t.foreplan("show last");
    t.foreplan("resume last");
    t.golden("ctrl-c");
}

#[test]
fn a_second_ctrl_c_ends_the_step_and_resume_runs_it_again() {
    let mut t = Transcript::of("report");
    let running = t.start_in_background("run");
    t.wait_for("started");
    running.interrupt();
    running.wait_for("Stopping");
    running.interrupt();
    t.ended(running);
    t.write("go", "");
    t.foreplan("resume --all");
    t.golden("ctrl-c-twice");
}

#[test]
fn a_plan_is_stale_once_a_tool_has_changed() {
    let mut t = Transcript::of("release");
    t.foreplan("plan -o approved.json --param version=2.0");
    t.foreplan("check approved.json --param version=2.0");
    t.replace("deploy.sh", "deployed.log", "live.log");
    t.foreplan("apply approved.json --param version=2.0");
    t.golden("stale-apply");
}

#[test]
fn programs_read_json_lines_and_exit_codes() {
    let mut t = Transcript::of("chain");
    t.foreplan("run --json");
    t.foreplan("runs --json");
    t.foreplan("check plan.json --json");
    t.golden("json");
}

#[test]
fn a_goal_step_is_a_run_of_its_own_that_asks_for_itself() {
    let mut t = Transcript::of("prints");
    t.foreplan("run");
    assert!(!t.path("printed.log").exists());
    // `last` is the run that a person began, not the one that it began.
    let show = t.view()["waiting_for"]["commands"][0].as_str().unwrap().to_owned();
    let child = show.rsplit(' ').next().unwrap();
    let digest = t.view_of(child)["waiting_for"]["digest"].as_str().unwrap().to_owned();
    // How much of the parent is shown depends on how far it is by then.
    let approved = t.shown(&format!("approve {child} --digest {digest}"));
    assert_eq!(approved.code, 0, "{approved:?}");
    assert!(approved.text.contains("It was a step of run") && approved.text.contains("1 copy on a wall"));
    t.say("the child run is approved, and its parent goes on");
    t.foreplan("show last");
    t.foreplan("runs");
    assert_eq!(std::fs::read_to_string(t.path("printed.log")).unwrap(), "A picture of a hare\n");
    t.golden("goal-step");
}
