//! Runs by the dozen, some with child runs, while trackers, planners, executors and the server are killed
//! and stopped, connections are cut and held up, and messages come twice and late: no run is lost, no
//! effect happens twice, every journal verifies.
//!
//! `FOREPLAN_CHAOS_KILLS` and `FOREPLAN_CHAOS_RUNS` say how many there are at least,
//! `FOREPLAN_CHAOS_SECONDS` for how long that is tried, and `FOREPLAN_CHAOS_SEED` which faults.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use foreplan_tests::{Deployment, Echo, Project, Proxy, Raw, Serving, serve, wait_until};
use serde_json::{Value, json};

/// Kills and runs of the short version, and the seconds that it may go on.
const KILLS: u64 = 12;
const RUNS: u64 = 60;
const SECONDS: u64 = 60;

/// Between two faults, on average.
const PAUSE: Duration = Duration::from_millis(900);

/// Every so many runs have a child run pay.
const CHILD_EVERY: usize = 4;

/// What child runs are to do.
const CHILD_GOAL: &str = "Pay a bill";

/// Who submit runs at once: one whose command came to a tracker that died waits for the next.
const SUBMITTERS: usize = 5;

/// Between two runs of one of them.
const SUBMIT_PAUSE: Duration = Duration::from_millis(1_200);

/// How long a fault waits for its victim to be in the middle of what it is to be interrupted in.
const BUSY_WAIT: Duration = Duration::from_secs(4);

/// How long runs may take to end once nothing goes wrong any more: a step that was lost without
/// anybody noticing is noticed by its own timer, half a minute after its timeout.
const SETTLE_MAX: Duration = Duration::from_secs(90);

/// Longest stop of a process: longer than the wait after which it counts as lost, and than a permit
/// counts.
const STOP_MAX: u64 = 5_000;

/// Runs that are looked at side by side in the end.
const LOOKERS: usize = 4;

/// What goes wrong, as often as it stands here in each round.
const KINDS: &[Fault] = &[
    Fault::Kill(Role::Executor, "look"),
    Fault::Kill(Role::Executor, "pay"),
    Fault::Kill(Role::Executor, "file"),
    Fault::Kill(Role::Tracker, SHARDS),
    Fault::Kill(Role::Planner, ""),
    Fault::Stop(Role::Executor, "pay"),
    Fault::Stop(Role::Executor, "look"),
    Fault::Stop(Role::Tracker, SHARDS),
    Fault::KillServer,
    Fault::Cut,
    Fault::HoldUp,
];

/// What every report must have.
const CERTAIN: &[&str] = &[
    "killed executor in `look`",
    "killed executor in `pay`",
    "killed executor in `file`",
    "killed tracker with shards",
    "killed planner",
    "stopped executor in `",
    "stopped tracker with shards",
    "killed server",
    "cut connections",
    "held connections up",
    "repeated requests",
    "repeated answers",
    "repeated commands",
];

/// What a tracker is interrupted in.
const SHARDS: &str = "shards";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Executor,
    Planner,
    Tracker,
}

/// What goes wrong, and in the middle of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill(Role, &'static str),
    Stop(Role, &'static str),
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
command = ["sh", "pay.sh", "{bill}"]
input = { bill = "string" }
output = { paid = "boolean" }
effect = "irreversible"
verify = "is_paid"
env = ["PATH"]
timeout = "20s"
[[tools.command]]
name = "is_paid"
command = ["sh", "is_paid.sh", "{bill}"]
input = { bill = "string" }
output = { happened = "boolean", output = "object?" }
effect = "read"
env = ["PATH"]
timeout = "20s"
[[tools.command]]
name = "file"
command = ["sh", "-c", "sleep 0.7; printf '{\"filed\": true}'"]
input = {}
output = { filed = "boolean" }
effect = "idempotent"
env = ["PATH"]
timeout = "20s"
[[specialists]]
capability = "bills"
concurrency = 4
"#;

/// Pays, unless `is_paid` has said to a later attempt that it is not paid. Without this fence a process
/// that is stopped between its permit and its call pays after that no.
const PAY: &str = r#"exec 9>> PAID.lock
flock 9
fence=$(cat "PAID.fence.$1" 2> /dev/null || echo 0)
test "$FOREPLAN_ATTEMPT" -ge "$fence" || exit 1
echo "$1" >> PAID
flock -u 9
sleep 0.6
printf '{"paid": true}'
"#;

/// Says whether it is paid; a no is final for the attempts before, also if one that asked before them
/// says it last.
const IS_PAID: &str = r#"exec 9>> PAID.lock
flock 9
if grep -qx "$1" PAID; then
    printf '{"happened": true, "output": {"paid": true}}'
else
    fence=$(cat "PAID.fence.$1" 2> /dev/null || echo 0)
    test "$FOREPLAN_ATTEMPT" -le "$fence" || echo "$FOREPLAN_ATTEMPT" > "PAID.fence.$1"
    printf '{"happened": false}'
fi
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
        folder.write("foreplan.toml", PROJECT);
        folder.write("pay.sh", &PAY.replace("PAID", &self.paid));
        folder.write("is_paid.sh", &IS_PAID.replace("PAID", &self.paid));
        folder
    }

    /// Waits for a process of a role that does this, and returns it with what it does. After a while,
    /// any will do.
    fn pick(&mut self, raw: &Raw, role: Role, doing: &str, dice: &mut Dice) -> (usize, String) {
        let of_role = self.members.iter().enumerate().filter(|(_, member)| member.0 == role);
        let mut candidates: Vec<usize> = of_role.map(|(index, _)| index).collect();
        let turn = usize::try_from(dice.below(candidates.len() as u64)).expect("a small number");
        candidates.rotate_left(turn);
        let end = Instant::now() + BUSY_WAIT;
        loop {
            for index in &candidates {
                let doings = occupations(raw, role, &self.members[*index].2.name);
                if doings.iter().any(|one| one == doing) {
                    return (*index, said(role, doing));
                }
            }
            if Instant::now() > end {
                return (candidates[0], format!("{} otherwise", said(role, "")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Returns what a process does that can be interrupted.
fn occupations(raw: &Raw, role: Role, name: &str) -> Vec<String> {
    match role {
        Role::Executor => raw.in_hand(name),
        Role::Tracker => raw.owners().contains_key(name).then(|| SHARDS.to_owned()).into_iter().collect(),
        Role::Planner => vec![String::new()],
    }
}

fn said(role: Role, doing: &str) -> String {
    match (role, doing) {
        (Role::Planner, _) => "planner".to_owned(),
        (Role::Tracker, SHARDS) => "tracker with shards".to_owned(),
        (Role::Tracker, _) => "tracker".to_owned(),
        (Role::Executor, "") => "executor".to_owned(),
        (Role::Executor, step) => format!("executor in `{step}`"),
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

/// Returns the folder of who submits runs that pay by this step.
fn client(url: &str, pay: &Value) -> Project {
    let client = Project::empty().on(url);
    client.write("foreplan.toml", PROJECT);
    let plan = json!({"format": 1, "steps": [
        {"id": "look", "title": "Look what is due", "tool": "look", "on_failure": {"attempts": 5}},
        pay,
        {"id": "file", "title": "File it", "tool": "file", "needs": ["pay"], "on_failure": {"attempts": 5}}
    ]});
    client.write("plan.json", &plan.to_string());
    client
}

/// Returns the folders of who pays in a step, and of who has a child run do it.
fn clients(url: &str) -> [Project; 2] {
    let mut step = json!({"id": "pay", "title": "Pay the bill", "tool": "pay", "needs": ["look"],
        "input": {"bill": {"$ref": "params.bill"}}, "on_failure": {"attempts": 5}});
    let own = client(url, &step);
    step["tool"].take();
    step["goal"] = json!({"text": CHILD_GOAL, "produce": ["paid"]});
    [own, client(url, &step)]
}

/// Submits runs one after another until told to stop. Whoever gets no answer asks again, with the same
/// key.
fn submit(clients: &[Project; 2], submitter: usize, accepted: &AtomicUsize, is_over: &AtomicBool) {
    for number in 0.. {
        let client = &clients[usize::from(number % CHILD_EVERY == CHILD_EVERY - 1)];
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let bill = format!("bill={submitter}-{number}");
        let key = format!("bill-{submitter}-{number}");
        let args = ["run", "--detach", "--approve", "auto", "--param", &bill, "--key", &key];
        wait_until("a run is accepted", || client.foreplan(&args).code == 0);
        accepted.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(SUBMIT_PAUSE);
    }
}

/// Where things go wrong.
struct Site<'a> {
    deployment: &'a mut Deployment,
    proxy: &'a Proxy,
    fleet: &'a mut Fleet,
}

impl Site<'_> {
    /// Makes things go wrong until there were enough kills and runs, and counts them by what the victim
    /// did.
    fn wreck(&mut self, accepted: &AtomicUsize) -> BTreeMap<String, usize> {
        let kills = setting("FOREPLAN_CHAOS_KILLS", KILLS);
        let runs = setting("FOREPLAN_CHAOS_RUNS", RUNS);
        let end = Instant::now() + Duration::from_secs(setting("FOREPLAN_CHAOS_SECONDS", SECONDS));
        let seed = setting("FOREPLAN_CHAOS_SEED", 20_260_801).max(1);
        println!("{kills} kills, {runs} runs, seed {seed}");
        let mut dice = Dice(seed);
        let mut raw = Raw::connect(&self.deployment.server.url());
        let mut round: Vec<Fault> = Vec::new();
        let mut counts = BTreeMap::new();
        let (mut faults, mut killed) = (0, 0);
        while killed < kills || (accepted.load(Ordering::Relaxed) as u64) < runs {
            // The first rounds are whole, however slow the machine is.
            if Instant::now() > end && faults >= KINDS.len() {
                println!("the time is up after {faults} faults, {killed} of them kills");
                break;
            }
            if round.is_empty() {
                round = KINDS.to_vec();
            }
            let next = usize::try_from(dice.below(round.len() as u64)).expect("a small number");
            let what = self.fault(round.swap_remove(next), &mut raw, &mut dice);
            faults += 1;
            killed += u64::from(what.starts_with("killed"));
            *counts.entry(what).or_default() += 1;
            std::thread::sleep(PAUSE.mul_f64(0.5 + dice.below(100) as f64 / 100.0));
        }
        counts
    }

    fn fault(&mut self, fault: Fault, raw: &mut Raw, dice: &mut Dice) -> String {
        match fault {
            Fault::Kill(role, doing) => {
                let (victim, what) = self.fleet.pick(raw, role, doing, dice);
                let (_, folder, serving) = &mut self.fleet.members[victim];
                serving.kill();
                *serving = begin(folder, role);
                format!("killed {what}")
            }
            Fault::Stop(role, doing) => {
                let (victim, what) = self.fleet.pick(raw, role, doing, dice);
                let (_, _, serving) = &mut self.fleet.members[victim];
                serving.signal("STOP");
                std::thread::sleep(Duration::from_millis(500 + dice.below(STOP_MAX)));
                serving.signal("CONT");
                format!("stopped {what}")
            }
            Fault::KillServer => {
                self.deployment.server.restart();
                *raw = Raw::connect(&self.deployment.server.url());
                "killed server".to_owned()
            }
            Fault::Cut => {
                self.proxy.cut();
                "cut connections".to_owned()
            }
            Fault::HoldUp => {
                self.proxy.hold_up(Duration::from_millis(500 + dice.below(2_000)));
                "held connections up".to_owned()
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
    let clients = clients(&deployment.server.url());
    let client = &clients[0];

    let echo = Echo::of(&deployment.server.url());
    let (is_over, accepted, begun) = (AtomicBool::new(false), AtomicUsize::new(0), Instant::now());
    let mut counts = std::thread::scope(|scope| {
        let (clients, accepted, is_over) = (&clients, &accepted, &is_over);
        for number in 0..SUBMITTERS {
            scope.spawn(move || submit(clients, number, accepted, is_over));
        }
        let mut site = Site { deployment: &mut deployment, proxy: &proxy, fleet: &mut fleet };
        let counts = site.wreck(accepted);
        is_over.store(true, Ordering::Relaxed);
        counts
    });
    let accepted = accepted.into_inner();
    let (children, runs): (Vec<_>, Vec<_>) =
        settled(client).into_iter().partition(|run| run["goal"] == CHILD_GOAL);
    counts.extend(echo.counts().into_iter().map(|(kind, count)| (kind.to_owned(), count)));
    println!(
        "{accepted} runs and {} child runs, all at rest after {:?}: {counts:#?}",
        children.len(),
        begun.elapsed()
    );
    assert_eq!(runs.len(), accepted, "no accepted run is lost, none is there twice");
    let succeeded = runs.iter().filter(|run| status(run) == "succeeded").count();
    assert!(succeeded * 100 >= accepted * 95, "{succeeded} of {accepted} succeeded: {runs:#?}");
    assert!(!children.is_empty(), "some runs have child runs");
    views(client, &children);
    check_effects(&paid, &views(client, &runs));
    for what in CERTAIN {
        let count: usize = counts.iter().filter(|(key, _)| key.starts_with(what)).map(|(_, n)| n).sum();
        assert!(count > 0, "nothing was {what}: {counts:#?}");
    }
}

/// Waits until every run has ended, or waits for a person, and returns them all.
fn settled(client: &Project) -> Vec<Value> {
    let rests = |run: &Value| {
        ["succeeded", "failed", "cancelled", "rejected", "waiting", "paused"].contains(&status(run))
    };
    let end = Instant::now() + SETTLE_MAX;
    loop {
        let listed = client.foreplan(&["runs", "--json", "--limit", "100000"]).stdout;
        let lines = listed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let runs: Vec<Value> = lines.filter(|line| line["run"].is_string()).collect();
        let Some(stuck) = runs.iter().find(|run| !rests(run)) else { return runs };
        let audit = client.foreplan(&["audit", stuck["run"].as_str().unwrap_or_default()]);
        assert!(Instant::now() < end, "a run neither ends nor waits: {stuck:#}\n{}", audit.stdout);
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Verifies the chain of every run, folds it twice, and returns what it says.
fn views(client: &Project, runs: &[Value]) -> Vec<Value> {
    let (next, views) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..LOOKERS {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let id = run["run"].as_str().expect("an id");
                    let verified = client.foreplan(&["audit", id, "--verify"]);
                    assert_eq!(verified.code, 0, "{verified:?}");
                    let view = client.show(id);
                    assert_eq!(view, client.show(id), "two folds agree");
                    views.lock().expect("no looker panicked").push(view);
                }
            });
        }
    });
    views.into_inner().expect("no looker panicked")
}

fn status(run: &Value) -> &str {
    run["status"].as_str().unwrap_or_default()
}

fn check_effects(paid: &Path, views: &[Value]) {
    let mut bills: HashMap<String, usize> = HashMap::new();
    for bill in std::fs::read_to_string(paid).expect("the file").lines() {
        *bills.entry(bill.to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = bills.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "paid more than once: {twice:?}");
    for view in views.iter().filter(|view| status(view) == "succeeded") {
        let bill = view["params"]["bill"].as_str().expect("a bill");
        assert_eq!(bills.get(bill), Some(&1), "a run that succeeded has paid: {view:#}");
    }
}
