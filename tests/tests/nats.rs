//! Processes of their own over a real server: clients, trackers, and executors that share no files.

use foreplan_testkit::nats::NatsServer;
use foreplan_tests::{
    Deployment, Project, serve, wait_until,
    work::{self, DONE},
};
use serde_json::Value;

const COLLECT: &str = r#"
[project]
name = "two-sites"
[[tools.file]]
name = "load_tickets"
description = "Load the tickets"
path = "tickets.json"
as = "tickets"
[[tools.jq]]
name = "count"
description = "Count the tickets"
input = { tickets = "array" }
output = { total = "integer" }
effect = "read"
filter = "{ total: (.tickets | length) }"
[[specialists]]
capability = "collect"
concurrency = 2
"#;

const PUBLISH: &str = r#"
[project]
name = "two-sites"
[[tools.command]]
name = "publish"
description = "Publish the figure"
command = ["sh", "publish.sh", "{total}"]
input = { total = "integer" }
output = { report = "string" }
effect = "irreversible"
env = ["PATH"]
[[specialists]]
capability = "publish"
"#;

const CLIENT: &str = r#"
goal = "Publish how many tickets there are"
[project]
name = "two-sites"
[planner]
kind = "derive"
produce = ["report"]
"#;

#[test]
fn a_run_uses_two_executors_that_share_no_files() {
    let deployment = Deployment::start();
    let collect = deployment.of(Project::of(COLLECT));
    collect.write("tickets.json", r#"[{"id": 1}, {"id": 2}, {"id": 3}]"#);
    let publish = deployment.of(Project::of(PUBLISH));
    publish.write("publish.sh", "echo \"$1\" >> published\nprintf '{\"report\": \"%s tickets\"}' \"$1\"\n");
    let client = deployment.of(Project::of(CLIENT));
    let _agents = deployment.agents();
    let _collecting = serve(&collect, &["--roles", "executor"]);
    let _publishing = serve(&publish, &["--roles", "executor"]);

    let waiting = client.foreplan(&["run"]);
    assert_eq!(waiting.code, 3, "an irreversible step asks first: {waiting:?}");
    let elsewhere = deployment.of(Project::empty());
    elsewhere.approve();
    let begun = elsewhere.foreplan(&["run"]);
    assert_eq!(begun.code, 2, "what begins a run needs a project: {begun:?}");
    assert!(begun.stderr.contains("no `foreplan.toml`"), "{begun:?}");

    let view = client.show("last");
    assert_eq!(view["result"], "3 tickets", "{view:#}");
    assert_eq!(publish.read("published"), "3\n");
    assert!(client.foreplan(&["runs"]).stdout.contains("succeeded"));
    client.foreplan(&["audit", "last", "--verify"]).succeeded();
    let audit = client.foreplan(&["audit", "last"]);
    assert!(audit.stdout.contains("tester"), "the record names who approved: {audit:?}");
}

/// Trap 7: the request of the first attempt is remembered by its message id when the second is sent.
#[test]
fn a_worker_killed_in_the_middle_of_its_step_is_lost_and_another_repeats_the_step() {
    let deployment = Deployment::start();
    // Both have the same tool; what it does depends on the folder.
    let script = "[ -e slow ] && touch started && exec sleep 600\nprintf '{\"done\": true}'\n";
    let first = deployment.of(work::worker(script)).with_file("slow", "");
    let second = deployment.of(work::worker(script));
    let client = deployment.of(work::client());
    let _agents = deployment.agents();
    let mut doomed = serve(&first, &["--roles", "executor"]);

    client.submit();
    let mut named = None;
    wait_until("`show` names the worker", || {
        named = client.show("last")["steps"][0]["worker"].as_str().map(str::to_owned);
        named.is_some()
    });
    let named = named.unwrap_or_default();
    assert_eq!(named, doomed.name, "the worker that has the step");
    assert!(first.path().join("started").exists(), "it is in the middle of its step");
    assert!(client.foreplan(&["show", "last"]).stdout.contains(&format!("at {named}")));
    doomed.kill();
    let _spare = serve(&second, &["--roles", "executor"]);
    client.ends(0);

    let view = client.show("last");
    let work = view["steps"].as_array().and_then(|steps| steps.first()).expect("one step");
    assert_eq!(
        (&work["attempts"], &work["status"]),
        (&Value::from(2), &Value::from("succeeded")),
        "{view:#}"
    );
    let audit = client.foreplan(&["audit", "last"]);
    assert!(audit.stdout.contains("worker_lost"), "{audit:?}");
}

#[test]
fn a_run_outlives_the_tracker_that_began_it() {
    let deployment = Deployment::start();
    let script = format!("touch started\nwhile [ ! -e go ]; do sleep 0.1; done\n{DONE}");
    let worker = deployment.of(work::worker(&script));
    let client = deployment.of(work::client());
    let (_folder, mut tracker) = deployment.agents();
    let _executor = serve(&worker, &["--roles", "executor"]);

    client.submit();
    wait_until("the step starts", || worker.path().join("started").exists());
    tracker.kill();
    worker.write("go", "");
    let _next = deployment.agents();
    client.ends(0);
    assert_eq!(client.show("last")["steps"][0]["attempts"], 1);
}

#[test]
fn a_capability_without_a_worker_queues_its_work() {
    let deployment = Deployment::start();
    let worker = deployment.of(work::worker(DONE));
    let client = deployment.of(work::client());
    let _agents = deployment.agents();
    // It announces what it can do, and goes.
    let mut announced = serve(&worker, &["--roles", "executor"]);
    announced.kill();

    client.submit();
    wait_until("the run is under way", || client.show("last")["status"] == "running");
    let _executor = serve(&worker, &["--roles", "executor"]);
    client.ends(0);
}

#[test]
fn a_server_without_a_deployment_says_how_to_make_one() {
    let server = NatsServer::start();
    let project = Project::of(CLIENT).on(&server.url());
    let refused = project.foreplan(&["runs"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    assert!(refused.stderr.contains("foreplan nats setup"), "{refused:?}");
    let nobody = project.on("nats://127.0.0.1:1").foreplan(&["runs"]);
    assert_eq!(nobody.code, 8, "{nobody:?}");
}
