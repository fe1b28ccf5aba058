//! What a deployment outlives: trackers that go, pools that are empty, steps that kill.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use foreplan_tests::{
    Alter, Altering, Deployment, Message, Project, Raw, Serving, done, serve, wait_until,
    work::{self, CLIENT, DONE, POOL},
};
use serde_json::{Value, json};

/// Within this time another tracker has a dead one's runs.
const TAKEOVER_MAX: Duration = Duration::from_secs(15);

/// Works until the file `go` is there.
const PATIENT: &str =
    "echo began >> began\nwhile [ ! -e go ]; do sleep 0.05; done\nprintf '{\"done\": true}'\n";

struct Site {
    deployment: Deployment,
    raw: Raw,
    worker: Project,
    client: Project,
}

impl Site {
    fn new(script: &str) -> Self {
        let deployment = Deployment::start();
        let raw = Raw::connect(&deployment.server.url());
        let (worker, client) = (deployment.of(work::worker(script)), deployment.of(work::client()));
        Self { deployment, raw, worker, client }
    }

    fn executor(&self) -> Serving {
        serve(&self.worker, &["--roles", "executor"])
    }

    /// Lets the deployment know what the pool can do, and leaves it empty.
    fn announce(&self) {
        assert_eq!(self.executor().stop(), Some(0));
    }

    fn show(&self) -> Value {
        self.client.show("last")
    }

    fn begins(&self) {
        wait_until("the step begins", || self.worker.path().join("began").exists());
    }
}

#[test]
fn a_dead_trackers_runs_go_on_within_fifteen_seconds() {
    let site = Site::new(PATIENT);
    let (_folder, first) = site.deployment.agents();
    let _executor = site.executor();
    site.client.submit();
    site.begins();
    let (_other, second) = site.deployment.agents();
    wait_until("each tracker has half of the queues", || {
        site.raw.owners().values().filter(|queues| **queues == 8).count() == 2
    });
    let owner = site.raw.owner_of(site.show()["run"].as_str().expect("an id"));
    let owns = |tracker: &Serving| Some(&tracker.name) == owner.as_ref();
    let [mut dies, _survives] = if owns(&first) { [first, second] } else { [second, first] };
    assert!(owns(&dies), "{owner:?} has the run");
    dies.kill();
    let died = Instant::now();
    site.worker.write("go", "");
    site.client.ends(0);
    assert!(died.elapsed() < TAKEOVER_MAX, "it took {:?}", died.elapsed());
    assert_eq!(site.show()["steps"][0]["attempts"], 1, "the result was not lost with the tracker");
}

/// Loses what a tracker sends to the pool, as if it had died just before.
#[derive(Default)]
struct Mute(AtomicBool);

impl Alter for Mute {
    fn sent(&self, message: &mut Message) -> bool {
        let is_lost = message.subject.starts_with("fp.work.executor.");
        self.0.fetch_or(is_lost, Ordering::Relaxed);
        !is_lost
    }
}

#[test]
fn a_request_that_a_tracker_did_not_live_to_send_is_sent_by_the_next_one() {
    let site = Site::new(DONE);
    let _executor = site.executor();
    let mute = Arc::new(Mute::default());
    let proxy = Altering::to(&site.deployment.server.url(), Arc::clone(&mute));
    let folder = Project::empty().on(&proxy.url());
    let mut dies = serve(&folder, &["--roles", "planner,replanner,tracker"]);
    site.client.submit();
    wait_until("the request is on its way", || mute.0.load(Ordering::Relaxed));
    assert_eq!(site.show()["steps"][0]["status"], "running", "it is on record");
    dies.kill();
    let died = Instant::now();
    let _agents = site.deployment.agents();
    site.client.ends(0);
    assert!(died.elapsed() < TAKEOVER_MAX, "it took {:?}", died.elapsed());
    assert_eq!(site.show()["steps"][0]["attempts"], 1);
}

#[test]
fn a_paused_tracker_that_wakes_up_late_does_no_harm() {
    let site = Site::new(PATIENT);
    let (_folder, first) = site.deployment.agents();
    let _executor = site.executor();
    site.client.submit();
    site.begins();
    first.signal("STOP");
    let (_other, _second) = site.deployment.agents();
    site.worker.write("go", "");
    site.client.ends(0);
    first.signal("CONT");
    site.client.submit();
    site.client.ends(0);
    let audit = site.client.foreplan(&["audit", "last", "--verify"]);
    assert_eq!(audit.code, 0, "{audit:?}");
    assert_eq!(site.worker.read("began").lines().count(), 2, "each run worked once");
}

/// Trap 1: JetStream takes the late worker's acknowledgement, so that only its answer tells it from
/// the worker that has the step now.
#[test]
fn a_stopped_worker_that_answers_late_changes_nothing() {
    let site = Site::new(PATIENT);
    let _agents = site.deployment.agents();
    let stopped = site.executor();
    site.client.submit();
    site.begins();
    stopped.signal("STOP");
    let spare = site.deployment.of(work::worker(PATIENT)).with_file("go", "");
    let _spare = serve(&spare, &["--roles", "executor"]);
    site.client.ends(0);
    let ended = site.show();
    assert_eq!(ended["steps"][0]["attempts"], 2, "{ended:#}");
    assert!(site.client.foreplan(&["audit", "last"]).stdout.contains("worker_lost"));

    stopped.signal("CONT");
    site.worker.write("go", "");
    wait_until("the late worker has answered", || site.raw.in_hand(&stopped.name).is_empty());
    assert_eq!(site.show(), ended);
}

/// Loses the first answer to a client: no server keeps one that nobody receives.
#[derive(Default)]
struct Deaf(AtomicBool);

impl Alter for Deaf {
    fn received(&self, message: &mut Message) -> bool {
        message.payload != b"\"accepted\"" || self.0.swap(true, Ordering::Relaxed)
    }
}

#[test]
fn an_answer_that_was_lost_with_the_server_is_asked_for_again() {
    let mut site = Site::new(PATIENT);
    let _agents = site.deployment.agents();
    let _executor = site.executor();
    site.client.submit();
    site.begins();
    let deaf = Arc::new(Deaf::default());
    let proxy = Altering::to(&site.deployment.server.url(), Arc::clone(&deaf));
    let folder = Project::empty().on(&proxy.url());
    let pausing = folder.start(&["pause", "last"]);
    wait_until("the tracker has answered", || deaf.0.load(Ordering::Relaxed));
    site.deployment.server.restart();
    let paused = done(&pausing.wait_with_output().expect("it ends"));
    assert_eq!(paused.code, 0, "it is paused already, and by this command: {paused:?}");

    site.worker.write("go", "");
    let resumed = site.client.foreplan(&["resume", "last", "--detach"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    site.client.ends(0);
    let record = site.client.foreplan(&["audit", "last"]).stdout;
    assert_eq!(record.matches("paused: ").count(), 1, "{record}");
}

#[test]
fn queues_that_the_server_forgot_are_made_again_and_nothing_in_them_is_lost() {
    let mut site = Site::new(PATIENT);
    let _agents = site.deployment.agents();
    let _executor = site.executor();
    site.client.submit();
    site.begins();
    assert_eq!(site.raw.forget_queues(), 16);
    let paused = site.client.foreplan(&["pause", "last"]);
    assert_eq!(paused.code, 0, "{paused:?}");

    site.deployment.server.restart();
    site.worker.write("go", "");
    let resumed = site.client.foreplan(&["resume", "last", "--detach"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    site.client.ends(0);
    assert_eq!(site.show()["steps"][0]["attempts"], 1);
}

#[test]
fn queues_are_divided_anew_while_no_tracker_runs_and_nothing_in_them_is_lost() {
    let site = Site::new(PATIENT);
    let (_folder, mut agents) = site.deployment.agents();
    let _executor = site.executor();
    site.client.submit();
    site.begins();
    let divide = |more: &[&str]| site.client.foreplan(&[&["nats", "setup", "--queues", "4"], more].concat());
    let refused = divide(&[]);
    assert_eq!(refused.code, 8, "{refused:?}");
    assert!(refused.stderr.contains(&agents.name) && refused.stderr.contains("stop them"), "{refused:?}");
    assert_eq!(agents.stop(), Some(0));
    site.worker.write("go", "");
    wait_until("the answer waits for a tracker", || site.raw.messages("fp_CMD") > 0);

    let dry = divide(&["--dry-run"]);
    assert_eq!(dry.code, 8, "{dry:?}");
    assert!(dry.stderr.contains("16") && dry.stderr.contains("4"), "{dry:?}");
    divide(&[]).succeeded();
    let _agents = site.deployment.agents();
    site.client.ends(0);
    assert_eq!(site.show()["steps"][0]["attempts"], 1);
    assert_eq!(site.raw.forget_queues(), 4);
}

#[test]
fn a_timer_fires_after_its_tracker_has_died() {
    let site = Site::new("exec sleep 600\n");
    let plan = json!({"format": 1, "steps": [
        {"id": "work", "title": "Work", "tool": "work", "timeout": "3s", "on_failure": {"attempts": 1, "then": "fail"}}
    ]});
    site.client.write("plan.json", &plan.to_string());
    let toml = CLIENT
        .replace("kind = \"derive\"\nproduce = [\"done\"]", "kind = \"runbook\"\nplan = \"plan.json\"")
        + "[limits]\nwall_time = \"8s\"\n[replan]\nstrategy = \"fail-fast\"\n";
    site.client.write("foreplan.toml", &toml);
    let (_folder, mut first) = site.deployment.agents();
    let mut executor = site.executor();
    site.client.submit();
    wait_until("the step is under way", || site.show()["steps"][0]["status"] == "running");
    // Nobody is left who could answer: only the run's own timer can end it.
    executor.kill();
    first.kill();
    let (_other, _second) = site.deployment.agents();
    site.client.ends(6);
}

#[test]
fn a_worker_told_to_stop_finishes_its_step_and_takes_no_other() {
    let site = Site::new(PATIENT);
    let _agents = site.deployment.agents();
    let mut executor = site.executor();
    site.client.submit();
    site.begins();
    executor.signal("TERM");
    site.client.submit();
    wait_until("the second run's step is in the queue", || site.raw.pending(POOL) == 1);
    site.worker.write("go", "");
    assert_eq!(executor.wait(), Some(0), "it ends in order");
    assert_eq!(site.worker.read("began").lines().count(), 1);
    let _next = site.executor();
    site.client.ends(0);
    let runs = site.client.foreplan(&["runs", "--json"]).stdout;
    assert_eq!(runs.matches("\"succeeded\"").count(), 2, "{runs}");
    assert!(!site.client.foreplan(&["audit", "last"]).stdout.contains("worker_lost"));
}

#[test]
fn a_pool_that_stays_empty_fails_the_step_after_the_patience_of_the_run() {
    let site = Site::new(PATIENT);
    let _agents = site.deployment.agents();
    site.announce();
    let toml = format!("{CLIENT}[limits]\nunserved = \"2s\"\n[replan]\nstrategy = \"fail-fast\"\n");
    site.client.write("foreplan.toml", &toml);
    site.client.submit();
    site.client.ends(10);
    let view = site.show();
    assert_eq!(view["steps"][0]["failure"]["kind"], "unserved", "{view:#}");
}

#[test]
fn a_pool_scaled_to_zero_is_woken_by_what_its_consumer_has_pending() {
    let site = Site::new(DONE);
    let _agents = site.deployment.agents();
    site.announce();
    assert_eq!(site.raw.pending(POOL), 0);
    site.client.submit();
    // A scaler, as KEDA is one: it looks at the lag and at nothing else.
    wait_until("work waits", || site.raw.pending(POOL) > 0);
    let _woken = site.executor();
    site.client.ends(0);
}

#[test]
fn cancelled_work_leaves_the_queue() {
    let site = Site::new(PATIENT);
    let _agents = site.deployment.agents();
    site.announce();
    site.client.submit();
    wait_until("work waits", || site.raw.pending(POOL) == 1);
    assert_eq!(site.client.foreplan(&["cancel", "last"]).code, 0);
    wait_until("the queue is empty", || site.raw.pending(POOL) == 0);
}

#[test]
fn a_step_that_kills_its_workers_pauses_the_run_and_is_kept_as_dead() {
    // The tool's parent is its worker.
    let site = Site::new("[ -e harmless ] || kill -9 $PPID\nprintf '{\"done\": true}'\n");
    let _agents = site.deployment.agents();
    let mut executor = site.executor();
    site.client.submit();
    wait_until("the run is paused", || {
        if executor.has_ended() {
            executor = site.executor();
        }
        site.show()["status"] == "paused"
    });
    let view = site.show();
    assert!(view["reason"].as_str().is_some_and(|why| why.contains("5 workers were lost")), "{view:#}");
    let dead = site.client.foreplan(&["dead"]);
    assert!(
        dead.stdout.contains("fp.dead.workers_lost") && dead.stdout.contains("\"step\":\"work\""),
        "{dead:?}"
    );

    site.worker.write("harmless", "");
    if executor.has_ended() {
        executor = site.executor();
    }
    let resumed = site.client.foreplan(&["resume", "last"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    drop(executor);
}
