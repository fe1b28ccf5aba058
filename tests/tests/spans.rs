//! The span tree of each example, as files that a person has read.

use std::path::Path;

use foreplan_testkit::{Normalizer, assert_golden};
use foreplan_tests::Project;
use serde_json::Value;

/// Returns the trace of the newest run without what differs from run to run. Steps that run side by
/// side may end in any order, so branches are ordered by their text.
fn spans(project: &Project) -> String {
    let shown = project.foreplan(&["audit", "last", "--spans"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let text = Normalizer::new().apply(&shown.stdout);
    let (mut blocks, mut root): (Vec<String>, _) = (Vec::new(), String::new());
    for line in text.lines() {
        let line = without_worker(line);
        let inner = line.strip_prefix("├─ ").or_else(|| line.strip_prefix("└─ "));
        let below = line.strip_prefix("│  ").or_else(|| line.strip_prefix("   "));
        match (inner, below, blocks.last_mut()) {
            (Some(inner), _, _) => blocks.push(format!("- {inner}\n")),
            (None, Some(below), Some(block)) => block.push_str(&format!("  {below}\n")),
            _ => root.push_str(&format!("{line}\n")),
        }
    }
    blocks.sort();
    root + &blocks.concat()
}

fn without_worker(line: &str) -> String {
    let words = line.split("  ").map(|word| match word.split_once("worker=") {
        Some((before, name)) => format!("{before}worker={}/N", name.split('/').next().unwrap_or_default()),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join("  ")
}

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
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
