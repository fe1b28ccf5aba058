//! Processes of their own over a real server: clients, trackers, and executors that share no files.

use foreplan_testkit::nats::NatsServer;
use foreplan_tests::{Deployment, Done, Project, serve, wait_until};
use serde_json::Value;

fn project(deployment: &Deployment, toml: &str) -> Project {
    let project = Project::empty().on(&deployment.server.url());
    project.write("foreplan.toml", toml);
    project
}

fn step<'a>(view: &'a Value, id: &str) -> &'a Value {
    let steps = view["steps"].as_array().expect("a run has steps");
    steps.iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("no step `{id}`: {view:#}"))
}

fn succeeded(done: &Done) {
    assert_eq!(done.code, 0, "{done:?}");
}

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
    let collect = project(&deployment, COLLECT);
    collect.write("tickets.json", r#"[{"id": 1}, {"id": 2}, {"id": 3}]"#);
    let publish = project(&deployment, PUBLISH);
    publish.write("publish.sh", "echo \"$1\" >> published\nprintf '{\"report\": \"%s tickets\"}' \"$1\"\n");
    let client = project(&deployment, CLIENT);
    let _agents = deployment.agents();
    let _collecting = serve(&collect, &["--roles", "executor"]);
    let _publishing = serve(&publish, &["--roles", "executor"]);

    let waiting = client.foreplan(&["run"]);
    assert_eq!(waiting.code, 3, "an irreversible step asks first: {waiting:?}");
    let elsewhere = deployment.of(Project::empty());
    let view = elsewhere.show("last");
    let digest = view["waiting_for"]["digest"].as_str().expect("it waits for an approval");
    succeeded(&elsewhere.foreplan(&["approve", "last", "--digest", digest]));
    let begun = elsewhere.foreplan(&["run"]);
    assert_eq!(begun.code, 2, "what begins a run needs a project: {begun:?}");
    assert!(begun.stderr.contains("no `foreplan.toml`"), "{begun:?}");

    let view = client.show("last");
    assert_eq!(view["result"], "3 tickets", "{view:#}");
    assert_eq!(publish.read("published"), "3\n");
    assert!(client.foreplan(&["runs"]).stdout.contains("succeeded"));
    succeeded(&client.foreplan(&["audit", "last", "--verify"]));
    let audit = client.foreplan(&["audit", "last"]);
    assert!(audit.stdout.contains("tester"), "the record names who approved: {audit:?}");
}

const SLOW: &str = r#"
[project]
name = "slow"
[[tools.command]]
name = "work"
description = "Work"
command = ["sh", "work.sh"]
input = {}
output = { done = "boolean" }
effect = "read"
env = ["PATH"]
[[specialists]]
capability = "work"
concurrency = 1
"#;

const SLOW_CLIENT: &str = r#"
goal = "Work"
[project]
name = "slow"
[planner]
kind = "derive"
produce = ["done"]
"#;

/// Trap 7: the request of the first attempt is remembered by its message id when the second is sent.
#[test]
fn a_worker_killed_in_the_middle_of_its_step_is_lost_and_another_repeats_the_step() {
    let deployment = Deployment::start();
    let first = project(&deployment, SLOW);
    // Both have the same tool; what it does depends on the folder.
    let script = "[ -e slow ] && touch started && exec sleep 600\nprintf '{\"done\": true}'\n";
    first.write("work.sh", script);
    first.write("slow", "");
    let second = project(&deployment, SLOW);
    second.write("work.sh", script);
    let client = project(&deployment, SLOW_CLIENT);
    let _agents = deployment.agents();
    let mut doomed = serve(&first, &["--roles", "executor"]);

    succeeded(&client.foreplan(&["run", "--detach"]));
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
    let watched = client.foreplan(&["watch", "last", "--exit-status"]);
    succeeded(&watched);

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
    let worker = project(&deployment, SLOW);
    worker.write(
        "work.sh",
        "touch started\nwhile [ ! -e go ]; do sleep 0.1; done\nprintf '{\"done\": true}'\n",
    );
    let client = project(&deployment, SLOW_CLIENT);
    let (_folder, mut tracker) = deployment.agents();
    let _executor = serve(&worker, &["--roles", "executor"]);

    succeeded(&client.foreplan(&["run", "--detach"]));
    wait_until("the step starts", || worker.path().join("started").exists());
    tracker.kill();
    worker.write("go", "");
    let _next = deployment.agents();
    succeeded(&client.foreplan(&["watch", "last", "--exit-status"]));
    assert_eq!(step(&client.show("last"), "work")["attempts"], 1);
}

#[test]
fn a_capability_without_a_worker_queues_its_work() {
    let deployment = Deployment::start();
    let worker = project(&deployment, SLOW);
    worker.write("work.sh", "printf '{\"done\": true}'\n");
    let client = project(&deployment, SLOW_CLIENT);
    let _agents = deployment.agents();
    // It announces what it can do, and goes.
    let mut announced = serve(&worker, &["--roles", "executor"]);
    announced.kill();

    succeeded(&client.foreplan(&["run", "--detach"]));
    wait_until("the run is under way", || client.show("last")["status"] == "running");
    let _executor = serve(&worker, &["--roles", "executor"]);
    succeeded(&client.foreplan(&["watch", "last", "--exit-status"]));
}

#[test]
fn a_server_without_a_deployment_says_how_to_make_one() {
    let server = NatsServer::start();
    let project = Project::empty().on(&server.url());
    project.write("foreplan.toml", CLIENT);
    let refused = project.foreplan(&["runs"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    assert!(refused.stderr.contains("foreplan nats setup"), "{refused:?}");
    let nobody = project.on("nats://127.0.0.1:1").foreplan(&["runs"]);
    assert_eq!(nobody.code, 8, "{nobody:?}");
}
