//! What a real Jaeger holds of real runs.

use foreplan_tests::{Jaeger, Project};
use serde_json::Value;

/// The release that needs a migration: an approval, a failed smoke test, a replan, a second attempt.
const RUN: [&str; 3] = ["run", "--param", "version=1.4.3"];

/// Says where spans go.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

fn compared(project: &Project, jaeger: &Jaeger) -> (i32, Value) {
    let done = project.foreplan(&["audit", "last", "--jaeger", &jaeger.query(), "--json"]);
    let line = done.stdout.lines().last().unwrap_or_default();
    (done.code, serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {done:?}")))
}

#[test]
fn jaeger_holds_what_the_journal_says_while_a_run_waits_and_after_it_ended() {
    let Some(jaeger) = Jaeger::start() else { return };
    let project = Project::example("release-checklist").with_env(ENDPOINT, &jaeger.otlp("127.0.0.1"));

    let waiting = project.foreplan(&RUN);
    assert_eq!(waiting.code, 3, "{}", waiting.stderr);
    let (code, line) = compared(&project, &jaeger);
    assert_eq!((code, &line["agrees"]), (0, &Value::Bool(true)), "{line}");
    assert_eq!(line["held"], line["spans"], "{line}");

    project.approve();
    let verified = project.foreplan(&["audit", "last", "--verify", "--jaeger", &jaeger.query()]);
    assert_eq!(verified.code, 0, "{}{}", verified.stdout, verified.stderr);
    assert!(verified.stdout.contains("Jaeger holds the trace"), "{}", verified.stdout);

    // Another name of the same place has a cursor of its own: everything is sent again.
    let again = project.with_env(ENDPOINT, &jaeger.otlp("localhost"));
    let resumed = again.foreplan(&["resume", "--all"]);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    let (code, line) = compared(&again, &jaeger);
    assert_eq!((code, &line["agrees"]), (0, &Value::Bool(true)), "{line}");
    let run = again.show("last")["run"].clone();
    let held = jaeger.shown(run.as_str().expect("a run"));
    assert_eq!(line["spans"], held, "a span that is sent twice is shown once: {line}");
}

#[test]
fn a_jaeger_that_lost_its_traces_is_told_of_and_filled_again() {
    let Some(first) = Jaeger::start() else { return };
    let project = Project::example("support-report").with_env(ENDPOINT, &first.otlp("127.0.0.1"));
    assert_eq!(project.foreplan(&["run"]).code, 0);
    assert_eq!(compared(&project, &first).0, 0);
    drop(first);

    let Some(second) = Jaeger::start() else { return };
    let (code, line) = compared(&project, &second);
    assert_eq!((code, &line["held"]), (7, &Value::from(0)), "{line}");
    let project = project.with_env(ENDPOINT, &second.otlp("127.0.0.1"));
    assert_eq!(project.foreplan(&["resume", "--all"]).code, 0);
    assert_eq!(compared(&project, &second).0, 0);
}
