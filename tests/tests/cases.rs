//! What a person can do with runs: one list of cases, for one process and for a deployment.

use std::{
    process::Child,
    sync::atomic::{AtomicUsize, Ordering},
};

use foreplan_tests::{Deployment, Done, Project, Serving, done, serve, wait_until};
use serde_json::{Value, json};

/// A plan that `check` has something against.
const BROKEN: &str = r#"{ "format": 1, "steps": [
    { "id": "build", "title": "Build the release", "tool": "biuld" },
    { "id": "deploy", "title": "Make it live", "tool": "deploy", "input": { "artifact": "a" } } ] }"#;

type Case = (&'static str, fn(&Place));

const CASES: &[Case] = &[
    ("a plan is approved by the digest that was shown, and questions are answered", approve_and_answer),
    ("an approval of a plan that has moved is refused", moved_plan),
    ("a plan that cannot be adopted says why, and is rejected", edit_and_reject),
    ("a rule mends a plan", replan),
    ("an unknown outcome is resolved by a person", resolve),
    ("a retry keeps what was done before", retry),
    ("a revised goal keeps what still serves it", revise),
    ("a run is paused in the middle of a step and resumed", pause_and_resume),
    ("a cancelled run ends its step, and makes room for the next", cancel),
    ("a key names one run", key),
    ("the release ends as reality says", release_paths),
    ("a child run asks for itself, and its result goes into the step of its parent", approve_child),
    ("a child run that is rejected fails its step, and a rule mends the plan", reject_child),
    ("pause and resume go down to a child run", pause_child),
    ("a cancelled run cancels its child run", cancel_child),
];

#[test]
fn every_case_holds_in_one_process() {
    hold_all(&Place { deployment: None });
}

#[test]
fn every_case_holds_over_a_deployment() {
    let deployment = Deployment::start();
    let _agents = deployment.agents();
    hold_all(&Place { deployment: Some(deployment) });
}

fn hold_all(place: &Place) {
    let mut broken = Vec::new();
    for (rule, case) in CASES {
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(place)));
        if held.is_err() {
            broken.push(*rule);
        }
    }
    assert!(broken.is_empty(), "these do not hold: {broken:#?}");
}

/// Where runs are carried on.
struct Place {
    deployment: Option<Deployment>,
}

/// A project, with its executor if there is a deployment.
struct Site {
    project: Project,
    _executor: Option<Serving>,
}

impl Place {
    /// Copies a project of the transcripts.
    fn copy(&self, name: &str) -> Project {
        let projects = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/foreplan/tests/projects/");
        self.place(Project::copy(&format!("{projects}{name}")))
    }

    /// Gives a project a name of its own, since cases share the deployment.
    fn place(&self, project: Project) -> Project {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let text = project.read("foreplan.toml");
        let named = text.replacen("[project]\nname = \"", &format!("[project]\nname = \"case-{number}-"), 1);
        assert_ne!(text, named, "the project has a name");
        project.write("foreplan.toml", &named);
        match &self.deployment {
            Some(deployment) => project.on(&deployment.server.url()),
            None => project,
        }
    }

    /// Lets a project's steps be carried out.
    fn begin(&self, project: Project) -> Site {
        let serving = || serve(&project, &["--roles", "executor"]);
        let executor = self.deployment.as_ref().map(|_| serving());
        Site { project, _executor: executor }
    }

    fn site(&self, name: &str) -> Site {
        self.begin(self.copy(name))
    }
}

impl Site {
    /// Runs a command, and expects this exit code.
    fn exits(&self, code: i32, args: &[&str]) -> Done {
        let done = self.project.foreplan(args);
        assert_eq!(done.code, code, "{args:?}: {done:?}");
        done
    }

    fn show(&self) -> Value {
        self.project.show("last")
    }

    fn digest(&self) -> String {
        let view = self.show();
        view["waiting_for"]["digest"].as_str().unwrap_or_else(|| panic!("no digest: {view:#}")).to_owned()
    }

    /// Starts a run, and returns once its first slow step has begun.
    fn start(&self) -> Child {
        let running = self.project.start(&["run"]);
        wait_until("the step begins", || self.project.path().join("started").exists());
        running
    }

    /// Lets the slow step end.
    fn go(&self) {
        self.project.write("go", "");
    }
}

fn ends(running: Child, code: i32) -> Done {
    let done = done(&running.wait_with_output().expect("it ends"));
    assert_eq!(done.code, code, "{done:?}");
    done
}

fn statuses(view: &Value) -> Vec<&str> {
    let steps = view["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    steps.iter().filter_map(|step| step["status"].as_str()).collect()
}

fn approve_and_answer(place: &Place) {
    let site = place.site("release");
    site.exits(3, &["run", "--param", "version=1.1"]);
    assert_eq!(site.show()["waiting_for"]["kind"], "plan_approval");
    assert_eq!(site.project.read("deployed.log"), "", "nothing happens before");
    let refused = site.exits(2, &["approve", "last"]);
    assert!(refused.stderr.contains("--digest"), "{refused:?}");
    let digest = site.digest();
    site.exits(3, &["approve", "last", "--digest", &digest, "--as", "ada"]);
    assert_eq!(site.show()["waiting_for"]["question"], "Ship app-1.1?");
    let refused = site.exits(2, &["answer", "last", "confirm", "maybe"]);
    assert!(refused.stderr.contains("maybe") || refused.stderr.contains("enum"), "{refused:?}");
    site.exits(0, &["answer", "last", "confirm", "yes"]);
    assert_eq!(site.show()["result"], "app-1.1 is live");
    assert_eq!(site.project.read("deployed.log"), "app-1.1\n");
    site.exits(0, &["audit", "last", "--verify"]);
    assert!(site.exits(0, &["audit", "last"]).stdout.contains("ada"), "the record names who approved");
}

fn moved_plan(place: &Place) {
    let site = place.site("release");
    site.exits(3, &["run"]);
    let seen = site.digest();
    let plan = site.project.read("plan.json").replace("Build the release", "Build it, signed");
    site.project.write("mine.json", &plan);
    site.exits(3, &["edit", "last", "--plan", "mine.json"]);
    let refused = site.exits(4, &["approve", "last", "--digest", &seen]);
    assert!(refused.stderr.contains("the plan has moved"), "{refused:?}");
    assert!(site.exits(0, &["diff", "last"]).stdout.contains("Build it, signed"));
    let digest = site.digest();
    site.exits(3, &["approve", "last", "--digest", &digest]);
    assert_eq!(site.show()["plan"]["steps"][0]["title"], "Build it, signed");
}

fn edit_and_reject(place: &Place) {
    let site = place.site("release");
    site.exits(3, &["run"]);
    site.project.write("mine.json", BROKEN);
    let refused = site.exits(4, &["edit", "last", "--plan", "mine.json"]);
    assert!(refused.stderr.contains("biuld"), "{refused:?}");
    site.exits(0, &["reject", "last", "--reason", "not this week"]);
    let view = site.show();
    assert_eq!((&view["status"], &view["reason"]), (&json!("rejected"), &json!("not this week")));
    site.exits(5, &["watch", "last", "--exit-status"]);
    site.exits(2, &["pause", "last"]);
}

fn replan(place: &Place) {
    let project = place.copy("chain");
    let rule = r#"rules = [{ when = 'failure.code == "mistake"', insert = { id = "correct", tool = "learn", input = {} }, times = 1 }]"#;
    let text = project.read("foreplan.toml").replace("strategy = \"fail-fast\"", rule);
    project.write("foreplan.toml", &text);
    let site = place.begin(project);
    site.exits(0, &["run"]);
    let view = site.show();
    assert_eq!(view["replans"][0]["decision"], "patch", "{view:#}");
    assert_eq!(statuses(&view), ["succeeded"; 4]);
}

fn resolve(place: &Place) {
    for (how, code, deployed) in [
        (vec!["--happened", "--output", r#"{"live": "app-1.0"}"#], 0, "app-1.0\n"),
        (vec!["--not-happened"], 0, "app-1.0\napp-1.0\n"),
        (vec!["--fail"], 10, "app-1.0\n"),
    ] {
        let site = place.site("release");
        site.project.write("outage", "");
        site.exits(3, &["run", "--approve", "auto"]);
        site.exits(3, &["answer", "last", "confirm", "yes"]);
        assert_eq!(site.show()["waiting_for"]["kind"], "unknown_outcome");
        std::fs::remove_file(site.project.path().join("outage")).expect("the outage ends");
        site.exits(code, &[vec!["resolve", "last", "deploy"], how].concat());
        assert_eq!(site.project.read("deployed.log"), deployed);
    }
}

fn retry(place: &Place) {
    let site = place.site("chain");
    site.exits(10, &["run"]);
    assert_eq!(statuses(&site.show())[..2], ["succeeded", "failed"]);
    let text = site.project.read("text.txt").replace("teh", "the");
    site.project.write("text.txt", &text);
    site.exits(0, &["retry", "last", "--from", "draft"]);
    let view = site.show();
    assert_eq!(view["steps"][0]["attempts"], 2, "{view:#}");
    site.exits(2, &["retry", "last"]);
}

fn revise(place: &Place) {
    let site = place.site("report");
    let running = site.start();
    site.exits(0, &["revise", "last", "--produce", "summary", "--goal", "Say it in one line", "--detach"]);
    wait_until("the new version is in force", || site.show()["plan"]["version"] == 2);
    site.go();
    ends(running, 0);
    let view = site.show();
    assert_eq!((&view["goal"], &view["result"]), (&json!("Say it in one line"), &json!("In all: 7.")));
    assert_eq!(view["steps"][0]["attempts"], 1, "what serves the goal still is kept: {view:#}");
}

fn pause_and_resume(place: &Place) {
    let site = place.site("report");
    let running = site.start();
    site.exits(0, &["pause", "last"]);
    site.go();
    ends(running, 3);
    let view = site.show();
    assert_eq!(view["status"], "paused", "{view:#}");
    assert!(statuses(&view).contains(&"pending"), "nothing more is started: {view:#}");
    site.exits(0, &["resume", "last"]);
    assert_eq!(site.show()["result"], "2 orders come to 7.");
}

fn cancel(place: &Place) {
    let site = place.site("report");
    let running = site.start();
    site.exits(0, &["cancel", "last", "--reason", "no longer needed"]);
    ends(running, 5);
    let view = site.show();
    assert_eq!((&view["status"], &view["reason"]), (&json!("cancelled"), &json!("no longer needed")));
    assert!(!statuses(&view).contains(&"running"), "{view:#}");
    site.go();
    site.exits(0, &["run"]);
}

fn key(place: &Place) {
    let site = place.site("chain");
    let text = site.project.read("text.txt").replace("teh", "the");
    site.project.write("text.txt", &text);
    site.exits(0, &["run", "--key", "monday"]);
    let first = site.show()["run"].clone();
    site.exits(0, &["run", "--key", "monday"]);
    assert_eq!(site.show()["run"], first);
    site.exits(0, &["run", "--key", "tuesday"]);
    assert_ne!(site.show()["run"], first);
}

fn release_paths(place: &Place) {
    let site = place.begin(place.place(Project::example("release-checklist")));
    let run = |code: i32, version: &str| {
        let done = site.exits(code, &["run", "--param", &format!("version={version}"), "--approve", "auto"]);
        (done, site.show())
    };
    assert_eq!(run(0, "1.4.2").1["replans"], json!([]));
    let (_, repaired) = run(0, "1.4.3");
    assert_eq!(
        (&repaired["replans"][0]["decision"], &repaired["replans"][0]["by"]),
        (&json!("patch"), &json!("rules"))
    );
    assert_eq!(run(0, "1.4.3").1["replans"], json!([]));
    assert!(statuses(&run(10, "1.5.0").1).contains(&"failed"));
    assert!(run(10, "9.9.9").0.stderr.contains("no such release"));
    site.exits(3, &["run", "--param", "version=1.4.2"]);
    assert_eq!(site.project.read("state/deploy.log").lines().count(), 4, "one line for each deploy");
}

/// Returns the child run of a step.
fn child(view: &Value, step: &str) -> String {
    let steps = view["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = steps.iter().find(|one| one["id"] == step).and_then(|one| one["child"].as_str());
    found.unwrap_or_else(|| panic!("`{step}` has no child run: {view:#}")).to_owned()
}

fn approve_child(place: &Place) {
    let site = place.site("prints");
    site.exits(0, &["check", "plan.json"]);
    site.exits(3, &["run"]);
    let parent = site.show();
    assert_eq!(parent["waiting_for"]["kind"], "child_run", "{parent:#}");
    let child = child(&parent, "publish");
    let waits = site.project.show(&child);
    assert_eq!(
        (&waits["parent"]["run"], &waits["waiting_for"]["kind"]),
        (&parent["run"], &json!("plan_approval"))
    );
    let digest = waits["waiting_for"]["digest"].as_str().expect("it waits for an approval");
    let approved = site.exits(0, &["approve", &child, "--digest", digest, "--as", "ada"]);
    assert!(approved.stderr.contains("It was a step of run"), "{approved:?}");
    let view = site.show();
    assert_eq!(view["result"], "A picture of 1 copy on a wall", "{view:#}");
    assert_eq!(view["steps"][1]["attempts"], 1);
    assert_eq!(
        site.project.read("printed.log"),
        "A picture of a hare\n",
        "nothing was printed before, or twice"
    );
    site.exits(0, &["audit", "last", "--verify"]);
    site.exits(0, &["audit", &child, "--verify"]);
    assert!(site.exits(0, &["watch", &child, "--exit-status"]).stderr.contains("print"));
    let (up, down) =
        (site.exits(0, &["audit", &child, "--spans"]), site.exits(0, &["audit", "last", "--spans"]));
    assert!(up.stdout.contains("→ step of: "), "{up:?}");
    assert!(down.stdout.contains("→ child run: "), "{down:?}");
}

fn reject_child(place: &Place) {
    let project = place.copy("prints");
    let rule = r#"
[[replan.rules]]
when = 'failure.code == "child_rejected"'
insert = { id = "sketch", tool = "draw", input = { what = "a sketch" } }
times = 1
"#;
    project.write("foreplan.toml", &(project.read("foreplan.toml") + rule));
    let site = place.begin(project);
    site.exits(3, &["run"]);
    let first = child(&site.show(), "publish");
    site.exits(0, &["reject", &first, "--reason", "not on a wall"]);
    // In one process, somebody has to carry the parent on; in a deployment it may be over by then.
    let goes_on = || drop(site.project.foreplan(&["resume", "last"]));
    wait_until("the mended plan asks too", || {
        goes_on();
        site.show()["waiting_for"]["child"].as_str().is_some_and(|child| child != first)
    });
    let view = site.show();
    assert_eq!(view["replans"][0]["decision"], "patch", "{view:#}");
    let second = child(&view, "publish");
    site.exits(0, &["reject", &second, "--reason", "nor on a fence"]);
    wait_until("the run fails", || {
        goes_on();
        site.show()["status"] == "failed"
    });
    assert_eq!(site.project.show(&first)["reason"], "not on a wall");
    assert_eq!(site.project.read("printed.log"), "");
}

/// A project whose goal step prints slowly, without asking, and then has one more step.
fn slow_child(place: &Place) -> Site {
    let project = place.copy("prints");
    let more = r#"
[approval]
mode = "auto"

[[tools.template]]
name = "hang"
description = "Hang the pictures up"
input = { copies = "integer" }
as = "wall"
template = "A wall with {{ copies }}"
"#;
    project.write("foreplan.toml", &(project.read("foreplan.toml") + more));
    project.write("plan.json", &project.read("plan.json").replace("[\"copies\"]", "[\"copies\", \"wall\"]"));
    let print = project.read("print.sh");
    project.write("print.sh", &format!("touch started\nwhile [ ! -e go ]; do sleep 0.02; done\n{print}"));
    place.begin(project)
}

fn pause_child(place: &Place) {
    let site = slow_child(place);
    let running = site.start();
    let child = child(&site.show(), "publish");
    site.exits(0, &["pause", "last"]);
    wait_until("the child run is paused", || site.project.show(&child)["status"] == "paused");
    site.go();
    ends(running, 3);
    let paused = site.project.show(&child);
    assert_eq!(statuses(&paused), ["succeeded", "pending"], "it starts nothing more: {paused:#}");
    site.exits(0, &["resume", "last"]);
    let view = site.show();
    assert_eq!(statuses(&view), ["succeeded"; 3], "{view:#}");
    assert_eq!(site.project.read("printed.log").lines().count(), 1);
}

fn cancel_child(place: &Place) {
    let site = slow_child(place);
    let running = site.start();
    let child = child(&site.show(), "publish");
    site.exits(0, &["cancel", "last"]);
    ends(running, 5);
    wait_until("the child run is cancelled", || {
        // In one process, a cancel that came too late takes effect when the child run is carried on.
        let is_alone = place.deployment.is_none();
        assert!(!is_alone || site.project.foreplan(&["resume", "--all"]).code == 0);
        site.project.show(&child)["status"] == "cancelled"
    });
    assert_eq!(site.project.read("printed.log"), "");
}
