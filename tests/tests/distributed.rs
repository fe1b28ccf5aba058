//! The trace of a run that several processes carried out: read back from a real Jaeger, and compared
//! with the journal span by span.

use std::time::{Duration, Instant};

use foreplan_tests::{Deployment, Jaeger, Project, Serving, page, serve, wait_until};
use serde_json::Value;

/// Longer than a step takes to be in hand, even on a machine that is busy; then the record is shown.
const PATIENCE: Duration = Duration::from_secs(100);

/// Says where spans go.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

const TOOLS: &str = r#"
[project]
name = "site"
[[tools.command]]
name = "gather"
description = "Gather the figures"
command = ["sh", "gather.sh"]
input = {}
output = { figures = "integer" }
effect = "read"
env = ["PATH"]
[[tools.command]]
name = "ask"
description = "Ask a service that is not always there"
command = ["sh", "ask.sh"]
input = {}
output = { price = "integer" }
effect = "read"
env = ["PATH"]
[[tools.command]]
name = "check"
description = "Check that the table is there"
command = ["sh", "check.sh"]
input = {}
output = { checked = "boolean" }
effect = "read"
env = ["PATH"]
[[tools.command]]
name = "mend"
description = "Make the table"
command = ["touch", "table"]
input = {}
effect = "idempotent"
env = ["PATH"]
[[tools.command]]
name = "publish"
description = "Publish the figures"
command = ["sh", "publish.sh", "{figures}"]
input = { figures = "integer" }
output = { published = "integer" }
effect = "irreversible"
env = ["PATH"]
[[specialists]]
capability = "site"
concurrency = 1
"#;

const CLIENT: &str = r#"
goal = "Publish the figures"
[project]
name = "site"
[planner]
kind = "runbook"
plan = "plan.json"
[[replan.rules]]
when = 'failure.code == "no_table"'
insert = { id = "mend-{step}", title = "Make the table", tool = "mend", input = {} }
times = 1
"#;

const PLAN: &str = r#"{ "format": 1, "steps": [
  { "id": "gather", "title": "Gather the figures", "tool": "gather", "on_failure": { "attempts": 3, "backoff": "100ms" } },
  { "id": "ask", "title": "Ask for the price", "tool": "ask", "needs": ["gather"], "on_failure": { "attempts": 3, "backoff": "100ms" } },
  { "id": "check", "title": "Check the table", "tool": "check", "needs": ["ask"] },
  { "id": "publish", "title": "Publish the figures", "tool": "publish", "needs": ["check"],
    "input": { "figures": { "$ref": "gather.figures" } } } ],
  "result": { "$ref": "publish.published" } }"#;

/// Makes a folder in which the tools are. What they do depends on it.
fn site(deployment: &Deployment) -> Project {
    let project = deployment.of(Project::empty());
    project.write("foreplan.toml", TOOLS);
    project.write("gather.sh", "[ -e slow ] && touch started && exec sleep 600\nprintf '{\"figures\": 7}'\n");
    project.write("ask.sh", "[ -e asked ] || { touch asked; exit 1; }\nprintf '{\"price\": 3}'\n");
    let missing = r#"{"error": {"code": "no_table", "message": "there is no table", "retryable": false, "effect": "none"}}"#;
    project.write(
        "check.sh",
        &format!("[ -e table ] || {{ printf '%s' '{missing}'; exit 1; }}\nprintf '{{\"checked\": true}}'\n"),
    );
    project.write("publish.sh", "echo \"$1\" >> published\nprintf '{\"published\": %s}' \"$1\"\n");
    project
}

fn agents(deployment: &Deployment, jaeger: &str) -> (Project, Serving) {
    let folder = deployment.of(Project::empty()).with_env(ENDPOINT, jaeger);
    let args = ["--roles", "planner,replanner,tracker", "--listen", "127.0.0.1:0"];
    let serving = serve(&folder, &args);
    (folder, serving)
}

/// Waits until Jaeger holds a run as its journal has it.
fn agrees(client: &Project, jaeger: &Jaeger, run: &str) -> Value {
    let mut last = Value::Null;
    wait_until("Jaeger holds what the journal has", || {
        let done = client.foreplan(&["audit", run, "--jaeger", &jaeger.query(), "--json"]);
        last =
            done.stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        println!("{last}");
        last["agrees"] == Value::Bool(true)
    });
    last
}

#[test]
fn jaeger_agrees_with_the_journal_of_a_run_with_a_killed_worker_a_retry_an_approval_and_a_replan() {
    let Some(jaeger) = Jaeger::start() else { return };
    let deployment = Deployment::start();
    let client = deployment.of(Project::empty());
    client.write("foreplan.toml", CLIENT);
    client.write("plan.json", PLAN);
    let (_folder, mut first) = agents(&deployment, &jaeger.otlp("127.0.0.1"));
    let doomed_site = site(&deployment);
    doomed_site.write("slow", "");
    let mut doomed = serve(&doomed_site, &["--roles", "executor"]);

    let waiting = client.foreplan(&["run"]);
    assert_eq!(waiting.code, 3, "{waiting:?}");
    agrees(&client, &jaeger, "last");
    // Another tracker goes on where this one was: also with the trace.
    first.kill();
    let (_folder, second) = agents(&deployment, &jaeger.otlp("127.0.0.1"));
    let digest = client.show("last")["waiting_for"]["digest"].as_str().expect("a plan waits").to_owned();
    // The first answer may take longer than a client waits: the other tracker must be missed first.
    wait_until("the approval is taken", || {
        let approved = client.foreplan(&["approve", "last", "--digest", &digest, "--detach"]);
        approved.code == 0 || client.show("last")["status"] != "waiting"
    });

    let approved = Instant::now();
    wait_until("the first step is in hand", || {
        let record = || client.foreplan(&["audit", "last"]).stdout;
        assert!(approved.elapsed() < PATIENCE, "no step is in hand:\n{}", record());
        doomed_site.path().join("started").exists()
    });
    doomed.kill();
    let spare_site =
        site(&deployment).with_env(ENDPOINT, &jaeger.otlp("127.0.0.1")).with_env("FOREPLAN_SPANS", "info");
    let _spare = serve(&spare_site, &["--roles", "executor"]);
    let ended = client.foreplan(&["watch", "last", "--exit-status"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(spare_site.read("published"), "7\n");

    let compared = agrees(&client, &jaeger, "last");
    assert_eq!(compared["held"], compared["spans"], "nothing else is there: {compared}");
    let view = client.show("last");
    let run = view["run"].as_str().expect("a run");
    let audit_spans = compared["spans"].as_u64().expect("a number") as usize;
    wait_until("the worker's own spans are in the trace", || jaeger.shown(run) > audit_spans);
    let verified = client.foreplan(&["audit", "last", "--verify", "--jaeger", &jaeger.query()]);
    assert_eq!(verified.code, 0, "{verified:?}");

    tells_what_happened(&client);
    forks_it(&client, run, view["journal"]["entries"].as_u64().expect("a number") - 1);
    assert_eq!(spare_site.read("published"), "7\n", "it is published once");
    agrees(&client, &jaeger, "last");
    let origin = agrees(&client, &jaeger, run);
    assert_eq!(origin["spans"], audit_spans + 1, "its record got an entry too: {origin}");
    wait_until("the collector has everything", || {
        let metrics = page(&second.address(), "/metrics");
        let mut lines = metrics.lines();
        lines.any(|line| line.starts_with("foreplan_trace_entries_behind{") && line.ends_with(" 0"))
    });
    counts_it(&page(&second.address(), "/metrics"));
}

fn tells_what_happened(client: &Project) {
    let tree = client.foreplan(&["audit", "last", "--spans"]).stdout;
    for happened in [
        "step=gather  attempt=1  outcome=worker_lost",
        "→ previous attempt: gather attempt 1",
        "step=ask  attempt=1  outcome=tool",
        "→ previous attempt: ask attempt 1",
        "outcome=approved  by=tester",
        "failure.code=no_table",
        "replan decision",
        "→ caused by: check attempt 1",
        "execute_tool mend",
        "step=publish  attempt=1  outcome=succeeded",
    ] {
        assert!(tree.contains(happened), "no `{happened}` in:\n{tree}");
    }
}

/// Forks a run after its last entry, and lets the fork end.
fn forks_it(client: &Project, run: &str, last: u64) {
    let forked = client.foreplan(&["fork", run, "--at", &last.to_string()]);
    assert_eq!(forked.code, 3, "a fork asks again: {forked:?}");
    client.approve();
    let tree = client.foreplan(&["audit", "last", "--spans"]).stdout;
    assert!(tree.contains(&format!("→ forked from: run {run}")), "{tree}");
    let tree = client.foreplan(&["audit", run, "--spans"]).stdout;
    assert!(tree.contains("run forked"), "{tree}");
}

fn counts_it(metrics: &str) {
    for line in [
        "foreplan_up{role=\"tracker\"} 1",
        "foreplan_runs{status=\"succeeded\"} 2",
        "foreplan_attempts_total{outcome=\"worker_lost\"} 1",
        "foreplan_replans_total 1",
        "foreplan_journal_lag_entries 0",
    ] {
        assert!(metrics.contains(line), "no `{line}` in:\n{metrics}");
    }
}
