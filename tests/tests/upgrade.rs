//! A rolling upgrade: an earlier version begins a run, and today's finishes it.

use std::path::PathBuf;

use foreplan_testkit::nats::NatsServer;
use foreplan_tests::{Done, Project, serve};

fn succeeded(done: &Done) {
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn a_run_of_an_earlier_version_is_finished_by_today_s() {
    let Some(previous) = std::env::var_os("FOREPLAN_PREVIOUS").map(PathBuf::from) else {
        println!("skipped: FOREPLAN_PREVIOUS names no earlier program; `just previous` builds one");
        return;
    };
    let server = NatsServer::start();
    let earlier = Project::example("release-checklist").on(&server.url()).by(&previous);
    succeeded(&earlier.foreplan(&["nats", "setup", "--ack-wait", "3s"]));
    let mut old_agents = serve(&earlier, &["--roles", "planner,replanner,tracker"]);
    let mut old_executor = serve(&earlier, &["--roles", "executor"]);
    let waiting = earlier.foreplan(&["run", "--param", "version=1.4.3"]);
    assert_eq!(waiting.code, 3, "a deploy asks first: {waiting:?}");

    // Executors first, trackers last, as the page says; for a while both versions serve.
    let folder = earlier.path().to_owned();
    let today = Project::empty().on(&server.url());
    succeeded(&today.foreplan(&["nats", "setup", "--ack-wait", "3s"]));
    let project = folder.to_string_lossy().into_owned();
    let _executor = serve(&today, &[&project, "--roles", "executor"]);
    old_executor.stop();
    let _planners = serve(&today, &["--roles", "planner,replanner"]);
    let _tracker = serve(&today, &["--roles", "tracker"]);
    old_agents.stop();

    let show = |args: &[&str]| today.foreplan(&[args, &["-C", &project]].concat());
    let view: serde_json::Value =
        serde_json::from_str(&show(&["show", "last", "--json"]).stdout).expect("it is shown");
    let digest = view["waiting_for"]["digest"].as_str().expect("it still waits");
    succeeded(&show(&["approve", "last", "--digest", digest]));
    succeeded(&show(&["watch", "last", "--exit-status"]));
    succeeded(&show(&["audit", "last", "--verify"]));
}
