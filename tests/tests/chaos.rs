//! Runs by the dozen while trackers, planners, executors and the server are killed and stopped, and
//! connections are cut: no run is lost, no effect happens twice, every journal verifies.
//!
//! `FOREPLAN_CHAOS_FAULTS` says how many faults there are, `FOREPLAN_CHAOS_SEED` which.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use foreplan_tests::{Deployment, Project, Proxy, Raw, Serving, serve, wait_until};
use serde_json::{Value, json};

/// Faults of the short version.
const FAULTS: usize = 30;

/// Between two faults, on average.
const PAUSE: Duration = Duration::from_millis(900);

/// Who submit runs at once: one whose command came to a tracker that died waits for the next.
const SUBMITTERS: usize = 6;

/// Between two runs of one of them.
const SUBMIT_PAUSE: Duration = Duration::from_millis(1_200);

/// How long a fault waits for an executor to have work in hand.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// How long runs may take to end once nothing goes wrong any more: a step that was lost without
/// anybody noticing is noticed by its own timer, half a minute after its timeout.
const SETTLE_MAX: Duration = Duration::from_secs(90);

/// Longest stop of a process: longer than the wait after which it counts as lost, and than a permit
/// counts.
const STOP_MAX: u64 = 5_000;

/// What goes wrong, as often as it stands here in each round.
const KINDS: &[Fault] = &[
    Fault::Kill(Role::Executor),
    Fault::Kill(Role::Executor),
    Fault::Kill(Role::Tracker),
    Fault::Kill(Role::Planner),
    Fault::Stop(Role::Executor),
    Fault::Stop(Role::Tracker),
    Fault::KillServer,
    Fault::Cut,
    Fault::HoldUp,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Executor,
    Planner,
    Tracker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill(Role),
    Stop(Role),
    KillServer,
    Cut,
    HoldUp,
}

const PROJECT: &str = r#"
goal = "Pay what is due"
[project]
name = "chaos"
[planner]
kind = "runbook"
plan = "plan.json"
[replan]
strategy = "fail-fast"
[params.bill]
type = "string"
[[tools.command]]
name = "look"
command = ["sh", "-c", "sleep 0.8; printf '{\"due\": true}'"]
input = {}
output = { due = "boolean" }
effect = "read"
env = ["PATH"]
timeout = "20s"
[[tools.command]]
name = "pay"
command = ["sh", "-c", "echo \"$1\" >> PAID; sleep 0.6; printf '{\"paid\": true}'", "pay", "{bill}"]
input = { bill = "string" }
output = { paid = "boolean" }
effect = "irreversible"
verify = "is_paid"
env = ["PATH"]
timeout = "20s"
[[tools.command]]
name = "is_paid"
command = ["sh", "-c", "grep -qx \"$1\" PAID && printf '{\"happened\": true, \"output\": {\"paid\": true}}' || printf '{\"happened\": false}'", "is_paid", "{bill}"]
input = { bill = "string" }
output = { happened = "boolean", output = "object?" }
effect = "read"
env = ["PATH"]
timeout = "20s"
[[tools.command]]
name = "file"
command = ["sh", "-c", "sleep 0.2; printf '{\"filed\": true}'"]
input = {}
output = { filed = "boolean" }
effect = "idempotent"
env = ["PATH"]
timeout = "20s"
[[specialists]]
capability = "bills"
concurrency = 4
"#;

/// The same numbers from the same seed (Marsaglia's xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Processes of the deployment, each started again when it dies.
struct Fleet {
    url: String,
    paid: String,
    members: Vec<(Role, Project, Serving)>,
}

impl Fleet {
    fn start(url: &str, paid: &Path) -> Self {
        let mut fleet = Self { url: url.to_owned(), paid: paid.display().to_string(), members: Vec::new() };
        for role in
            [Role::Tracker, Role::Tracker, Role::Planner, Role::Planner, Role::Executor, Role::Executor]
        {
            let folder = fleet.folder();
            let serving = begin(&folder, role);
            fleet.members.push((role, folder, serving));
        }
        fleet
    }

    fn folder(&self) -> Project {
        let folder = Project::empty().on(&self.url);
        folder.write("foreplan.toml", &PROJECT.replace("PAID", &self.paid));
        folder
    }

    fn pick(&mut self, role: Role, dice: &mut Dice) -> &mut (Role, Project, Serving) {
        let mut of_role: Vec<_> = self.members.iter_mut().filter(|member| member.0 == role).collect();
        let picked = usize::try_from(dice.below(of_role.len() as u64)).expect("a small number");
        of_role.swap_remove(picked)
    }
}

fn begin(folder: &Project, role: Role) -> Serving {
    let roles = match role {
        Role::Executor => "executor",
        Role::Planner => "planner,replanner",
        Role::Tracker => "tracker",
    };
    serve(folder, &["--roles", roles])
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Submits runs one after another until told to stop; returns how many were accepted. Whoever gets no
/// answer asks again, with the same key.
fn submit(client: &Project, submitter: usize, is_over: &AtomicBool) -> usize {
    let mut accepted = 0;
    while !is_over.load(Ordering::Relaxed) {
        let bill = format!("bill={submitter}-{accepted}");
        let key = format!("bill-{submitter}-{accepted}");
        let args = ["run", "--detach", "--approve", "auto", "--param", &bill, "--key", &key];
        wait_until("a run is accepted", || client.foreplan(&args).code == 0);
        accepted += 1;
        std::thread::sleep(SUBMIT_PAUSE);
    }
    accepted
}

/// Makes things go wrong, and counts them by what the victim did.
fn wreck(deployment: &mut Deployment, proxy: &Proxy, fleet: &mut Fleet) -> BTreeMap<String, usize> {
    let faults = usize::try_from(setting("FOREPLAN_CHAOS_FAULTS", FAULTS as u64)).expect("a small number");
    let seed = setting("FOREPLAN_CHAOS_SEED", 20_260_801).max(1);
    println!("{faults} faults, seed {seed}");
    let mut dice = Dice(seed);
    let mut raw = Raw::connect(&deployment.server.url());
    let mut round: Vec<Fault> = Vec::new();
    let mut counts = BTreeMap::new();
    for _ in 0..faults {
        if round.is_empty() {
            round = KINDS.to_vec();
        }
        let next = usize::try_from(dice.below(round.len() as u64)).expect("a small number");
        let fault = round.swap_remove(next);
        let what = match fault {
            Fault::Kill(role) => {
                let (_, folder, serving) = fleet.pick(role, &mut dice);
                let what = occupation(&raw, role, &serving.name);
                serving.kill();
                *serving = begin(folder, role);
                format!("killed {what}")
            }
            Fault::Stop(role) => {
                let (_, _, serving) = fleet.pick(role, &mut dice);
                let what = occupation(&raw, role, &serving.name);
                serving.signal("STOP");
                std::thread::sleep(Duration::from_millis(500 + dice.below(STOP_MAX)));
                serving.signal("CONT");
                format!("stopped {what}")
            }
            Fault::KillServer => {
                deployment.server.restart();
                raw = Raw::connect(&deployment.server.url());
                "killed server".to_owned()
            }
            Fault::Cut => {
                proxy.cut();
                "cut connections".to_owned()
            }
            Fault::HoldUp => {
                proxy.hold_up(Duration::from_millis(500 + dice.below(2_000)));
                "held connections up".to_owned()
            }
        };
        *counts.entry(what).or_default() += 1;
        std::thread::sleep(PAUSE.mul_f64(0.5 + dice.below(100) as f64 / 100.0));
    }
    counts
}

/// Returns what a process is about to be interrupted in.
fn occupation(raw: &Raw, role: Role, name: &str) -> String {
    match role {
        Role::Planner => "planner".to_owned(),
        Role::Tracker if raw.owners().contains_key(name) => "tracker with shards".to_owned(),
        Role::Tracker => "tracker without shards".to_owned(),
        Role::Executor => {
            let end = Instant::now() + BUSY_WAIT;
            loop {
                match raw.in_hand(name).first() {
                    Some(step) => return format!("executor in `{step}`"),
                    None if Instant::now() > end => return "executor between steps".to_owned(),
                    None => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        }
    }
}

#[test]
fn whatever_dies_no_run_is_lost_and_no_effect_happens_twice() {
    let outside = tempfile::tempdir().expect("a folder outside of the deployment");
    let paid = outside.path().join("paid");
    std::fs::write(&paid, "").expect("a file outside of the deployment");
    let mut deployment = Deployment::start();
    let proxy = Proxy::to(&deployment.server.url());
    let mut fleet = Fleet::start(&proxy.url(), &paid);
    let client = Project::empty().on(&deployment.server.url());
    client.write("foreplan.toml", &PROJECT.replace("PAID", &fleet.paid));
    let plan = json!({"format": 1, "steps": [
        {"id": "look", "title": "Look what is due", "tool": "look", "on_failure": {"attempts": 5}},
        {"id": "pay", "title": "Pay the bill", "tool": "pay", "needs": ["look"],
         "input": {"bill": {"$ref": "params.bill"}}, "on_failure": {"attempts": 5}},
        {"id": "file", "title": "File it", "tool": "file", "needs": ["pay"], "on_failure": {"attempts": 5}}
    ]});
    client.write("plan.json", &plan.to_string());

    let (is_over, begun) = (AtomicBool::new(false), Instant::now());
    let counts = Mutex::new(BTreeMap::new());
    let accepted = std::thread::scope(|scope| {
        let (client, is_over) = (&client, &is_over);
        let submitting: Vec<_> =
            (0..SUBMITTERS).map(|number| scope.spawn(move || submit(client, number, is_over))).collect();
        *counts.lock().expect("one thread") = wreck(&mut deployment, &proxy, &mut fleet);
        is_over.store(true, Ordering::Relaxed);
        submitting.into_iter().map(|one| one.join().expect("its runs are accepted")).sum::<usize>()
    });
    println!("{accepted} runs, {:?}: {:#?}", begun.elapsed(), counts.lock().expect("one thread"));

    let runs = || -> Vec<Value> {
        let listed = client.foreplan(&["runs", "--json", "--limit", "100000"]).stdout;
        let lines = listed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["run"].is_string()).collect()
    };
    let rests = |run: &Value| {
        ["succeeded", "failed", "cancelled", "rejected", "waiting", "paused"].contains(&status(run))
    };
    let end = Instant::now() + SETTLE_MAX;
    while let Some(stuck) = runs().iter().find(|run| !rests(run)) {
        let audit = client.foreplan(&["audit", stuck["run"].as_str().unwrap_or_default()]);
        assert!(Instant::now() < end, "a run neither ends nor waits: {stuck:#}\n{}", audit.stdout);
        std::thread::sleep(Duration::from_millis(500));
    }
    let runs = runs();
    assert_eq!(runs.len(), accepted, "no accepted run is lost, none is there twice");
    let succeeded = runs.iter().filter(|run| status(run) == "succeeded").count();
    assert!(succeeded * 100 >= accepted * 95, "{succeeded} of {accepted} succeeded: {runs:#?}");
    for run in &runs {
        let id = run["run"].as_str().expect("an id");
        let verified = client.foreplan(&["audit", id, "--verify"]);
        assert_eq!(verified.code, 0, "{verified:?}");
        assert_eq!(client.show(id), client.show(id), "two folds agree");
    }
    check_effects(&paid, &runs, &client);
    let counts = counts.into_inner().expect("one thread");
    for what in [
        "killed executor in",
        "killed tracker with shards",
        "killed planner",
        "killed server",
        "cut connections",
    ] {
        let count: usize = counts.iter().filter(|(key, _)| key.starts_with(what)).map(|(_, n)| n).sum();
        assert!(count > 0, "nothing was {what}: {counts:#?}");
    }
}

fn status(run: &Value) -> &str {
    run["status"].as_str().unwrap_or_default()
}

fn check_effects(paid: &Path, runs: &[Value], client: &Project) {
    let mut bills: BTreeMap<String, usize> = BTreeMap::new();
    for bill in std::fs::read_to_string(paid).expect("the file").lines() {
        *bills.entry(bill.to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = bills.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "paid more than once: {twice:?}");
    for run in runs.iter().filter(|run| status(run) == "succeeded") {
        let view = client.show(run["run"].as_str().expect("an id"));
        let bill = view["params"]["bill"].as_str().expect("a bill");
        assert_eq!(bills.get(bill), Some(&1), "a run that succeeded has paid: {view:#}");
    }
}
