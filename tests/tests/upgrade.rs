//! A rolling upgrade: an earlier version begins a run, today's finishes it, and both serve in between.

use std::path::PathBuf;

use foreplan_testkit::{nats::NatsServer, skipped};
use foreplan_tests::{Project, serve, wait_until};

/// Returns the program of the earlier version; `None`, with the reason printed, if there is none.
fn previous() -> Option<PathBuf> {
    let previous = std::env::var_os("FOREPLAN_PREVIOUS").filter(|path| !path.is_empty());
    if previous.is_none() {
        skipped("FOREPLAN_PREVIOUS names no earlier program; `just previous` builds one");
    }
    previous.map(PathBuf::from)
}

fn set_up(project: &Project) {
    project.foreplan(&["nats", "setup", "--ack-wait", "3s"]).succeeded();
}

#[test]
fn a_run_of_an_earlier_version_is_finished_by_today_s() {
    let Some(previous) = previous() else { return };
    let server = NatsServer::start();
    let earlier = Project::example("release-checklist").on(&server.url()).by(&previous);
    set_up(&earlier);
    let mut old_agents = serve(&earlier, &["--roles", "planner,replanner,tracker"]);
    let mut old_executor = serve(&earlier, &["--roles", "executor"]);
    let waiting = earlier.foreplan(&["run", "--param", "version=1.4.3"]);
    assert_eq!(waiting.code, 3, "a deploy asks first: {waiting:?}");

    // Executors first, trackers last, as the page says; for a while both versions serve.
    let today = Project::empty().on(&server.url());
    set_up(&today);
    let folder = earlier.path().to_string_lossy().into_owned();
    let _executor = serve(&today, &[&folder, "--roles", "executor"]);
    old_executor.stop();
    let _planners = serve(&today, &["--roles", "planner,replanner"]);
    let _tracker = serve(&today, &["--roles", "tracker"]);
    old_agents.stop();

    today.approve();
    today.ends(0);
    assert_eq!(today.show("last")["replans"][0]["decision"], "patch", "the smoke test failed first");
    today.foreplan(&["audit", "last", "--verify"]).succeeded();
}

/// One pool whose steps wait for a file, and do what cannot be undone.
fn pool(name: &str) -> String {
    format!(
        r#"
[project]
name = "upgrade"
[[tools.command]]
name = "{name}"
description = "Act"
command = ["sh", "act.sh", "{{step}}"]
input = {{ step = "string" }}
output = {{ done = "string" }}
effect = "irreversible"
env = ["PATH"]
[[specialists]]
capability = "{name}"
"#
    )
}

const ACT: &str = "echo \"$1\" >> began\nwhile [ ! -e \"go-$1\" ]; do sleep 0.05; done\nprintf '{\"done\": \"%s\"}' \"$1\"\n";

const CLIENT: &str = r#"
goal = "Act four times"
[project]
name = "upgrade"
[planner]
kind = "runbook"
plan = "plan.json"
"#;

/// One after the other, by the pool that is named.
const STEPS: [(&str, &str); 4] =
    [("first", "today"), ("second", "today"), ("third", "earlier"), ("fourth", "earlier")];

fn plan() -> serde_json::Value {
    let steps = STEPS.iter().enumerate().map(|(at, (id, tool))| {
        let needs: Vec<_> = at.checked_sub(1).map(|before| STEPS[before].0).into_iter().collect();
        serde_json::json!({"id": id, "title": "Act", "tool": tool, "input": {"step": id}, "needs": needs})
    });
    serde_json::json!({"format": 1, "steps": steps.collect::<Vec<_>>()})
}

#[test]
fn trackers_and_executors_of_two_versions_carry_one_run_on_together() {
    let Some(previous) = previous() else { return };
    let server = NatsServer::start();
    let pool = |name: &str| Project::of(&pool(name)).with_file("act.sh", ACT).on(&server.url());
    let (newer, older) = (pool("today"), pool("earlier").by(&previous));
    let today = Project::of(CLIENT).with_file("plan.json", &plan().to_string()).on(&server.url());
    let old_folder = Project::empty().on(&server.url()).by(&previous);
    set_up(&old_folder);
    let mut old_agents = serve(&old_folder, &["--roles", "planner,replanner,tracker"]);
    let new_executor = serve(&newer, &["--roles", "executor"]);
    let old_executor = serve(&older, &["--roles", "executor"]);

    // Today's client and executor, and the tracker of the earlier version.
    today.foreplan(&["run", "--detach", "--approve", "auto"]).succeeded();
    newer.write("go-first", "");
    wait_until("the second step begins", || newer.read("began").contains("second"));

    // It dies, and today's takes the run over in the middle of the step that the other asked for.
    old_agents.kill();
    set_up(&today);
    let _agents = serve(&today, &["--roles", "planner,replanner,tracker"]);
    newer.write("go-second", "");

    // Today's tracker, and the executor of the earlier version.
    older.write("go-third", "");
    wait_until("the fourth step begins", || older.read("began").contains("fourth"));
    older.write("go-fourth", "");
    today.ends(0);
    today.foreplan(&["audit", "last", "--verify"]).succeeded();
    assert_eq!(newer.read("began"), "first\nsecond\n", "each call was made once");
    assert_eq!(older.read("began"), "third\nfourth\n", "each call was made once");
    let view = today.show("last");
    for (at, (id, pool)) in STEPS.iter().enumerate() {
        let process = if *pool == "today" { &new_executor.name } else { &old_executor.name };
        let step = &view["steps"][at];
        let worker = step["worker"].as_str().unwrap_or_default();
        assert!(step["id"] == *id && worker.starts_with(&format!("{process}/{pool}/")), "{step:#}");
    }
}
