//! The span tree of each example, as files that a person has read.

use foreplan_testkit::{Normalizer, assert_golden};
use foreplan_tests::{Project, golden, span_tree};
use serde_json::Value;

fn spans(project: &Project) -> String {
    span_tree(project, "last", &mut Normalizer::new())
}

#[test]
fn support_report() {
    let project = Project::example("support-report");
    assert_eq!(project.foreplan(&["run"]).code, 0);
    assert_golden(golden("support-report.txt"), &spans(&project));
}

#[test]
fn release_checklist_with_a_replan() {
    let project = Project::example("release-checklist");
    let done = project.foreplan(&["run", "--param", "version=1.4.3", "--approve", "auto"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_golden(golden("release-checklist.txt"), &spans(&project));
}

#[test]
fn data_pipeline_with_a_retry() {
    let project = Project::example("data-pipeline");
    let done = project.foreplan(&["run", "--approve", "auto"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_golden(golden("data-pipeline.txt"), &spans(&project));
}

#[test]
fn python_rest_api() {
    let project = Project::example("python-rest-api");
    let done = project.foreplan(&["run", "--approve", "auto"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_golden(golden("python-rest-api.txt"), &spans(&project));
}

#[test]
fn adoption_report_by_models() {
    let project = Project::example("adoption-report");
    let done = project.foreplan(&["run", "--replay-models", "session.jsonl"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_golden(golden("adoption-report.txt"), &spans(&project));
}

const GOALS: &str = r#"
goal = "Print the map"
[project]
name = "maps"
[planner]
kind = "runbook"
plan = "plan.json"
[[tools.command]]
name = "draw"
description = "Draw the map of a city"
command = ["sh", "-c", "[ -e city ] || exit 1; printf '{\"map\": \"a map\"}'"]
input = { city = "string" }
output = { map = "string" }
effect = "read"
env = ["PATH"]
[[tools.command]]
name = "print"
description = "Print a map"
command = ["sh", "-c", "printf '{\"printed\": true}'"]
input = { map = "string" }
output = { printed = "boolean" }
effect = "irreversible"
env = ["PATH"]
"#;

const GOALS_PLAN: &str = r#"{ "format": 1, "steps": [
  { "id": "sub", "title": "Get the map printed", "input": { "city": "Bern" },
    "goal": { "text": "Print the map of the city", "produce": ["printed"] }, "on_failure": { "attempts": 1, "then": "fail" } } ],
  "result": { "$ref": "sub" } }"#;

#[test]
fn a_child_run_has_a_trace_of_its_own_and_both_lead_to_each_other() {
    let project = Project::empty();
    project.write("foreplan.toml", GOALS);
    project.write("plan.json", GOALS_PLAN);
    project.write("city", "");
    let done = project.foreplan(&["run", "--approve", "auto"]);
    assert_eq!(done.code, 0, "{done:?}");
    let listed = project.foreplan(&["runs", "--json"]).stdout;
    let lines = listed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let runs: Vec<String> = lines.filter_map(|line| Some(line["run"].as_str()?.to_owned())).collect();
    let id = |is_child: bool| {
        let found = runs.iter().find(|run| project.show(run)["parent"].is_null() != is_child);
        found.unwrap_or_else(|| panic!("{listed}")).clone()
    };
    let (parent, child) = (id(false), id(true));
    let mut normalizer = Normalizer::new();
    let trees = [parent, child].map(|run| span_tree(&project, &run, &mut normalizer));
    assert_golden(golden("goal.txt"), &trees.join("\n"));
}

#[test]
fn a_run_leaves_a_file_that_holds_its_whole_trace() {
    let project = Project::example("support-report");
    assert_eq!(project.foreplan(&["run"]).code, 0);
    let run = project.show("last")["run"].as_str().expect("a run").to_owned();
    let ids = |text: &str| {
        let mut ids: Vec<String> = text
            .match_indices("\"spanId\":\"")
            .map(|(at, key)| text[at + key.len()..][..16].to_owned())
            .collect();
        ids.sort();
        ids.dedup();
        ids
    };
    let written = ids(&project.read(&format!(".foreplan/traces/{run}.jsonl")));
    assert_eq!(project.foreplan(&["audit", "last", "-o", "trace.json"]).code, 0);
    let exported = ids(&project.read("trace.json"));
    assert!(!exported.is_empty());
    assert_eq!(written, exported);
}

#[test]
fn a_run_is_decided_again_as_it_is_on_record_and_otherwise_by_another_policy() {
    let project = Project::example("release-checklist");
    let done = project.foreplan(&["run", "--param", "version=1.4.3", "--approve", "auto"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let same = project.foreplan(&["replay", "last"]);
    assert_eq!(same.code, 0, "{}{}", same.stdout, same.stderr);
    assert!(same.stdout.contains("as they are on record"), "{}", same.stdout);
    let otherwise = project.foreplan(&["replay", "last", "--policy", "--json"]);
    assert_eq!(otherwise.code, 0, "{}", otherwise.stderr);
    // The file asks where the run was told not to.
    assert!(otherwise.stdout.contains("approval requested"), "{}", otherwise.stdout);
}

#[test]
fn a_model_that_was_asked_with_another_prompt_might_answer_otherwise_now() {
    let project = Project::example("adoption-report");
    let done = project.foreplan(&["run", "--replay-models", "session.jsonl"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let same = project.foreplan(&["replay", "last"]);
    assert_eq!((same.code, same.stdout.lines().count()), (0, 1), "{same:?}");
}

#[test]
fn what_a_project_redacts_is_shown_and_exported_nowhere() {
    let project = Project::example("support-report");
    let text = project.read("foreplan.toml") + "\n[telemetry]\ncontent = true\nredact = [\"refund\"]\n";
    project.write("foreplan.toml", &text);
    let done = project.foreplan(&["run"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("[redacted]") && !done.stdout.contains("refund"), "{}", done.stdout);
    let shown = project.show("last");
    assert!(!shown.to_string().contains("refund"), "{shown}");
    let run = shown["run"].as_str().expect("a run").to_owned();
    let exported = project.read(&format!(".foreplan/traces/{run}.jsonl"));
    assert!(exported.contains("[redacted]") && !exported.contains("refund"));
    assert_eq!(project.foreplan(&["audit", "last", "--verify"]).code, 0);
}

#[test]
fn json_logs_name_the_run_the_step_the_attempt_and_the_trace() {
    let project = Project::example("support-report")
        .with_env("FOREPLAN_LOG", "foreplan_executor=info")
        .with_env("FOREPLAN_LOG_FORMAT", "json");
    let done = project.foreplan(&["run"]);
    assert_eq!(done.code, 0, "{done:?}");
    let lines = done.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = { lines }.find(|line| line["span"]["step"] == "load_tickets");
    let line = line.unwrap_or_else(|| panic!("no line is about the step: {done:?}"));
    let run = project.show("last")["run"].as_str().expect("a run").to_owned();
    assert_eq!(line["span"]["run"], run.as_str(), "{line}");
    assert_eq!(line["span"]["trace_id"], run.replace('-', ""), "{line}");
    assert_eq!((&line["span"]["attempt"], &line["level"]), (&Value::from(1), &Value::from("INFO")), "{line}");
}
