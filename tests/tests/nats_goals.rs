//! Goal steps of a deployment: a child run and its parent may be with different trackers, and any of
//! these may die. What a person sees of them is among the `cases`.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use foreplan_tests::{Alter, Altering, Deployment, Message, Project, Raw, Serving, serve, wait_until};
use serde_json::Value;

const TOOLS: &str = r#"
[project]
name = "prints"
[[tools.command]]
name = "print"
description = "Print a picture"
command = ["sh", "print.sh", "{picture}"]
input = { picture = "string" }
output = { copies = "integer" }
effect = "irreversible"
env = ["PATH"]
[[specialists]]
capability = "print"
concurrency = 64
"#;

const PRINT: &str = r#"
echo "$1" >> started
while [ ! -e go ]; do sleep 0.05; done
echo "$1" >> printed
printf '{"copies": 1}'
"#;

const CLIENT: &str = r#"
goal = "Have a picture printed"
[project]
name = "prints"
[planner]
kind = "runbook"
plan = "plan.json"
"#;

const PLAN: &str = r#"{ "format": 1, "steps": [
  { "id": "publish", "title": "Have it printed", "goal": { "text": "Print the picture", "produce": ["copies"] },
    "input": { "picture": "a hare" } } ],
  "result": { "$ref": "publish" } }"#;

/// Runs that are begun at most until they are spread over two trackers as a test wants them: each is
/// with a chance of a quarter.
const RUNS_MAX: usize = 60;

/// A deployment with an executor that prints once the test lets it, and no tracker yet.
struct Site {
    deployment: Deployment,
    raw: Raw,
    client: Project,
    printer: Project,
    _agents: (Project, Serving),
    _executor: Serving,
}

impl Site {
    fn new() -> Self {
        let deployment = Deployment::start();
        let client = deployment.of(Project::empty());
        client.write("foreplan.toml", CLIENT);
        client.write("plan.json", PLAN);
        let printer = deployment.of(Project::empty());
        printer.write("foreplan.toml", TOOLS);
        printer.write("print.sh", PRINT);
        let executor = serve(&printer, &["--roles", "executor"]);
        let agents = deployment.of(Project::empty());
        let serving = serve(&agents, &["--roles", "planner,replanner"]);
        let raw = Raw::connect(&deployment.server.url());
        Self { deployment, raw, client, printer, _agents: (agents, serving), _executor: executor }
    }

    fn tracker(&self) -> (Project, Serving) {
        tracker(&self.deployment.server.url())
    }

    /// Waits until two trackers share the queues.
    fn is_shared(&self) {
        wait_until("each tracker has its share", || {
            let owners = self.raw.owners();
            owners.len() == 2 && owners.values().sum::<usize>() == 16
        });
    }

    /// Begins a run that asks nobody, and returns it once its child run is begun.
    fn begin(&self) -> Begun {
        let done = self.client.foreplan(&["run", "--detach", "--approve", "auto"]);
        assert_eq!(done.code, 0, "{done:?}");
        let run = done.stdout.trim().to_owned();
        let mut child = None;
        wait_until("the child run is begun", || {
            child = child_of(&self.client.show(&run));
            child.is_some()
        });
        Begun { run, child: child.expect("it is begun") }
    }

    /// Returns who has a run and who has its child run.
    fn owners(&self, begun: &Begun) -> (Option<String>, Option<String>) {
        (self.raw.owner_of(&begun.run), self.raw.owner_of(&begun.child))
    }

    /// Waits until all that was begun is being printed.
    fn prints(&self, runs: &[Begun]) {
        wait_until("everything is being printed", || {
            self.printer.read("started").lines().count() == runs.len()
        });
    }

    /// Lets the printer go on, and waits until every run has its copy, and no second one.
    fn ends(&self, runs: &[Begun]) {
        self.printer.write("go", "");
        for Begun { run, child } in runs {
            wait_until("the run succeeds", || self.client.show(run)["status"] == "succeeded");
            let view = self.client.show(run);
            assert_eq!((&view["result"], &view["steps"][0]["attempts"]), (&1.into(), &1.into()), "{view:#}");
            assert_eq!(child_of(&view).as_ref(), Some(child));
            for run in [run, child] {
                let verified = self.client.foreplan(&["audit", run, "--verify"]);
                assert_eq!(verified.code, 0, "{verified:?}");
            }
        }
        assert_eq!(self.printer.read("printed").lines().count(), runs.len(), "one print for each run");
        let listed = self.client.foreplan(&["runs", "--json", "--limit", "1000"]).stdout;
        assert_eq!(listed.matches("\"succeeded\"").count(), 2 * runs.len(), "{listed}");
    }
}

fn tracker(url: &str) -> (Project, Serving) {
    let folder = Project::empty().on(url);
    let serving = serve(&folder, &["--roles", "tracker"]);
    (folder, serving)
}

/// A run, and the child run of its step.
struct Begun {
    run: String,
    child: String,
}

fn child_of(view: &Value) -> Option<String> {
    view["steps"][0]["child"].as_str().map(str::to_owned)
}

#[test]
fn whichever_tracker_dies_while_child_runs_are_in_hand_each_parent_gets_one_result() {
    let site = Site::new();
    let ((_folder, mut doomed), _other) = (site.tracker(), site.tracker());
    site.is_shared();
    let mut runs = Vec::new();
    let mut ways = BTreeSet::new();
    while ways.len() < 4 {
        assert!(runs.len() < RUNS_MAX, "every way to share two runs comes up: {ways:?}");
        let begun = site.begin();
        ways.insert(site.owners(&begun));
        runs.push(begun);
    }
    site.prints(&runs);
    doomed.kill();
    site.ends(&runs);
}

/// Loses what a tracker says of child runs that have ended.
#[derive(Default)]
struct Mute {
    is_on: AtomicBool,
    lost: AtomicUsize,
}

impl Alter for Mute {
    fn sent(&self, message: &mut Message) -> bool {
        let is_end =
            message.subject.starts_with("fp.rep.") && message.json()["body"]["reply"]["reply"] == "step";
        let is_lost = is_end && self.is_on.load(Ordering::Relaxed);
        if is_lost {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        !is_lost
    }
}

#[test]
fn an_end_that_a_tracker_took_with_it_is_told_by_the_next_one() {
    let site = Site::new();
    let mute = Arc::new(Mute::default());
    let proxy = Altering::to(&site.deployment.server.url(), Arc::clone(&mute));
    let ((_folder, mut doomed), (_elsewhere, other)) = (tracker(&proxy.url()), site.tracker());
    site.is_shared();
    let mut runs = Vec::new();
    // The tracker of the parent goes on, so that nobody carries the parent on anew.
    let is_apart =
        |begun: &Begun| site.owners(begun) == (Some(other.name.clone()), Some(doomed.name.clone()));
    while !runs.last().is_some_and(is_apart) {
        assert!(runs.len() < RUNS_MAX, "some child run is with the other tracker than its parent");
        runs.push(site.begin());
    }
    site.prints(&runs);
    mute.is_on.store(true, Ordering::Relaxed);
    site.printer.write("go", "");
    let apart = runs.last().expect("there is one");
    wait_until("the child run has ended", || site.client.show(&apart.child)["status"] == "succeeded");
    wait_until("its end was to be told", || mute.lost.load(Ordering::Relaxed) > 0);
    assert_eq!(site.client.show(&apart.run)["status"], "running");
    doomed.kill();
    site.ends(&runs);
}

#[test]
fn an_end_that_was_told_and_lost_is_told_again_by_the_same_tracker() {
    let site = Site::new();
    let ((_folder, stays), (_elsewhere, mut goes)) = (site.tracker(), site.tracker());
    site.is_shared();
    let mut runs = Vec::new();
    let is_apart = |begun: &Begun| site.owners(begun) == (Some(goes.name.clone()), Some(stays.name.clone()));
    while !runs.last().is_some_and(is_apart) {
        assert!(runs.len() < RUNS_MAX, "some child run is with the other tracker than its parent");
        runs.push(site.begin());
    }
    site.prints(&runs);
    goes.signal("STOP");
    site.printer.write("go", "");
    let apart = runs.last().expect("there is one");
    let mut lost = 0;
    // As if a tracker had taken it that did not know yet that the step had begun.
    wait_until("the child run's end is told", || {
        lost += site.raw.lose(&apart.run);
        lost > 0
    });
    assert_eq!(site.client.show(&apart.run)["status"], "running");
    goes.kill();
    site.ends(&runs);
}

#[test]
fn a_child_run_that_waits_is_approved_when_its_tracker_is_another_one() {
    let site = Site::new();
    site.printer.write("go", "");
    let (_folder, mut doomed) = site.tracker();
    let waiting = site.client.foreplan(&["run"]);
    assert_eq!(waiting.code, 3, "{waiting:?}");
    doomed.kill();
    let _next = site.tracker();
    let child = child_of(&site.client.show("last")).expect("it is begun");
    let view = site.client.show(&child);
    let digest = view["waiting_for"]["digest"].as_str().expect("it waits for an approval");
    // The first answer may take longer than a client waits: the other tracker must be missed first.
    wait_until("the approval is taken", || {
        let approved = site.client.foreplan(&["approve", &child, "--digest", digest, "--detach"]);
        approved.code == 0 || site.client.show(&child)["status"] != "waiting"
    });
    wait_until("the run succeeds", || site.client.show("last")["status"] == "succeeded");
    assert_eq!(site.printer.read("printed"), "a hare\n");
}
