//! What servers do that one would not expect, each shown to do no harm. A proxy makes the server behave
//! as others do. Elsewhere stand the tests of traps 1 (`nats_faults`), 7 (`nats`) and 8 (`permissions`).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use foreplan_tests::{
    Alter, Altering, Deployment, Message, Project, Raw, Serving, serve, wait_until,
    work::{self, POOL, WORKER},
};
use serde_json::{Value, json};

/// Leaves a trace of each time that it works.
const NOTED: &str = "echo done >> done\nprintf '{\"done\": true}'\n";

/// Everything of a deployment connects through a proxy, but for who looks in the end.
struct Site {
    deployment: Deployment,
    worker: Project,
    client: Project,
    onlooker: Project,
    _agents: (Project, Serving),
    _proxy: Altering,
}

impl Site {
    fn new(alter: Arc<impl Alter>) -> Self {
        let deployment = Deployment::start();
        let proxy = Altering::to(&deployment.server.url(), alter);
        let worker = work::worker(NOTED).on(&proxy.url());
        // What nobody answers is soon over.
        worker.write("foreplan.toml", &WORKER.replace("effect = ", "timeout = \"2s\"\neffect = "));
        let (client, onlooker) = (work::client().on(&proxy.url()), deployment.of(work::client()));
        let agents = Project::empty().on(&proxy.url());
        let serving = serve(&agents, &["--roles", "planner,replanner,tracker"]);
        Self { deployment, worker, client, onlooker, _agents: (agents, serving), _proxy: proxy }
    }

    fn executor(&self) -> Serving {
        serve(&self.worker, &["--roles", "executor"])
    }

    fn succeeds(&self) {
        self.onlooker.ends(0);
        self.onlooker.foreplan(&["audit", "last", "--verify"]).succeeded();
    }

    fn attempts(&self) -> Value {
        self.onlooker.show("last")["steps"][0]["attempts"].clone()
    }
}

/// Requests by where their answers go.
#[derive(Default)]
struct Asked(Mutex<HashMap<String, String>>);

impl Asked {
    fn note(&self, message: &Message) {
        if let Some(reply) = &message.reply {
            let mut asked = self.0.lock().expect("no other panics");
            asked.insert(reply.clone(), message.subject.clone());
        }
    }

    /// Returns what a message answers, once.
    fn by(&self, answer: &Message) -> Option<String> {
        self.0.lock().expect("no other panics").remove(&answer.subject)
    }
}

fn is_append(subject: &str) -> bool {
    subject.starts_with("fp.run.")
}

fn error(code: u16, number: u32, what: &str) -> Vec<u8> {
    let error = json!({"code": code, "err_code": number, "description": what});
    json!({"error": error, "stream": "fp_RUNS", "seq": 0}).to_string().into_bytes()
}

/// Loses the first confirmation of every kind of message, and that of each third entry; who looks whether
/// an entry was taken is put off once.
#[derive(Default)]
struct Lossy {
    asked: Asked,
    /// Confirmations so far, by kind of message.
    counts: Mutex<HashMap<String, usize>>,
    /// An entry is in doubt, and nobody has looked yet.
    in_doubt: Mutex<bool>,
}

impl Alter for Lossy {
    fn sent(&self, message: &mut Message) -> bool {
        self.asked.note(message);
        true
    }

    fn received(&self, message: &mut Message) -> bool {
        let Some(asked) = self.asked.by(message) else { return true };
        if asked == "$JS.API.STREAM.MSG.GET.fp_RUNS"
            && std::mem::take(&mut *self.in_doubt.lock().expect("fine"))
        {
            message.headers.clear();
            message.payload = error(503, 10008, "JetStream system temporarily unavailable");
            return true;
        }
        let Some(kind) = ["fp.run", "fp.work", "fp.rep", "fp.cmd"].into_iter().find(|k| asked.starts_with(k))
        else {
            return true;
        };
        let mut counts = self.counts.lock().expect("no other panics");
        let count = counts.entry(kind.to_owned()).or_default();
        *count += 1;
        let is_lost = *count == 1 || (kind == "fp.run" && count.is_multiple_of(3));
        if is_lost && kind == "fp.run" {
            *self.in_doubt.lock().expect("no other panics") = true;
        }
        !is_lost
    }
}

/// Trap 2: what is sent again because its confirmation was lost is answered as a duplicate, or, an entry,
/// with 10071.
#[test]
fn a_lost_confirmation_neither_loses_nor_repeats_anything() {
    let lossy = Arc::new(Lossy::default());
    let site = Site::new(Arc::clone(&lossy));
    let _executor = site.executor();
    site.client.submit();
    site.succeeds();
    assert_eq!(site.attempts(), 1);
    assert_eq!(site.worker.read("done").lines().count(), 1, "the step was executed once");
    assert_eq!(site.onlooker.foreplan(&["runs", "--json"]).stdout.matches("\"succeeded\"").count(), 1);
    let counts = lossy.counts.lock().expect("no other panics").clone();
    assert!(
        ["fp.run", "fp.work", "fp.rep", "fp.cmd"].iter().all(|kind| counts.contains_key(*kind)),
        "{counts:?}"
    );
}

/// Refuses every second entry with 10164: one that it has not taken, then one that it has.
#[derive(Default)]
struct Spurious {
    asked: Asked,
    entries: AtomicUsize,
    refused: AtomicUsize,
}

impl Alter for Spurious {
    fn sent(&self, message: &mut Message) -> bool {
        if !is_append(&message.subject) {
            return true;
        }
        match self.entries.fetch_add(1, Ordering::Relaxed) % 4 {
            1 => {
                // No entry ever had this number, so it is not taken.
                let header = "Nats-Expected-Last-Subject-Sequence: ";
                message.headers = message.headers.replace(header, &format!("{header}99999"));
                self.asked.note(message);
            }
            3 => self.asked.note(message),
            _ => {}
        }
        true
    }

    fn received(&self, message: &mut Message) -> bool {
        if self.asked.by(message).is_some() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            message.payload = error(400, 10164, "wrong last sequence");
        }
        true
    }
}

/// Trap 3: a server says 10164 to the only writer. It is tried again; nobody concludes that there is
/// another owner.
#[test]
fn a_refusal_without_a_reason_is_looked_into_and_the_entry_written_once() {
    let spurious = Arc::new(Spurious::default());
    let site = Site::new(Arc::clone(&spurious));
    let _executor = site.executor();
    site.client.submit();
    site.succeeds();
    assert_eq!(site.attempts(), 1, "nobody took the run over");
    assert!(spurious.refused.load(Ordering::Relaxed) >= 2, "entries were refused");
}

/// Keeps the headers of entries.
#[derive(Default)]
struct Headers(Mutex<Vec<String>>);

impl Alter for Headers {
    fn sent(&self, message: &mut Message) -> bool {
        if is_append(&message.subject) {
            self.0.lock().expect("no other panics").push(message.headers.clone());
        }
        true
    }
}

/// Trap 4: a header that servers before 2.11 do not know switches their check off. The test of two writers
/// (`journal.rs` of `foreplan-nats`) runs on 2.10.26 too.
#[test]
fn an_entry_asks_for_the_check_that_every_server_knows() {
    let headers = Arc::new(Headers::default());
    let site = Site::new(Arc::clone(&headers));
    let _executor = site.executor();
    site.client.submit();
    site.succeeds();
    let headers = headers.0.lock().expect("no other panics");
    assert!(headers.len() > 2);
    for header in headers.iter() {
        assert!(header.contains("Nats-Expected-Last-Subject-Sequence: "), "{header}");
        assert!(!header.contains("Nats-Expected-Last-Subject-Sequence-Subject"), "{header}");
    }
}

/// Does not know one setting, or is of another version.
#[derive(Default)]
struct Old {
    asked: Asked,
    version: Option<&'static str>,
    /// Of what, and the setting.
    ignores: Option<(&'static str, &'static str)>,
}

impl Alter for Old {
    fn info(&self, info: &mut Value) {
        if let Some(version) = self.version {
            info["version"] = json!(version);
        }
    }

    fn sent(&self, message: &mut Message) -> bool {
        self.asked.note(message);
        true
    }

    fn received(&self, message: &mut Message) -> bool {
        let (Some(asked), Some((of, setting))) = (self.asked.by(message), self.ignores) else { return true };
        if asked.contains(of) {
            let mut answer = message.json();
            if let Some(config) = answer["config"].as_object_mut() {
                config.remove(setting);
                message.payload = answer.to_string().into_bytes();
            }
        }
        true
    }
}

/// Trap 5: an old server ignores settings that it does not know, and says so only by what comes back.
#[test]
fn a_setting_that_the_server_does_not_know_is_refused_by_name() {
    let deployment = Deployment::start();
    let refusal = |tenant: &str, old: Old, command: &[&str]| {
        let proxy = Altering::to(&deployment.server.url(), Arc::new(old));
        let folder = Project::empty().on(&proxy.url()).with_env("FOREPLAN_TENANT", tenant);
        let done = folder.foreplan(command);
        assert_eq!(done.code, 8, "{done:?}");
        done.stderr
    };
    let per_subject = || Old { ignores: Some(("fp_WORK", "discard_new_per_subject")), ..Old::default() };
    for command in [&["nats", "setup"][..], &["serve", "--roles", "tracker"]] {
        let said = refusal("fp", per_subject(), command);
        assert!(said.contains("`fp_WORK`") && said.contains("discard_new_per_subject is false"), "{said}");
    }
    let filters = Old { ignores: Some(("CONSUMER.CREATE.new_CMD", "filter_subjects")), ..Old::default() };
    let said = refusal("new", filters, &["nats", "setup"]);
    assert!(said.contains("filter_subjects") && said.contains("one filter only"), "{said}");
    let old = Old { version: Some("2.9.10"), ..Old::default() };
    let said = refusal("fp", old, &["nats", "setup"]);
    assert!(said.contains("2.9.10") && said.contains("2.10.25"), "{said}");
}

/// Changes nothing.
struct Plain;

impl Alter for Plain {}

/// Trap 6: a request that was delivered too often is handed out no more, and no error says so. The
/// step's own timer does, and what nobody could finish is told by `foreplan dead`.
#[test]
fn a_request_that_is_handed_out_no_more_is_noticed_and_kept() {
    let site = Site::new(Arc::new(Plain));
    // Killed, it is listed for a while: nobody takes its work back.
    site.executor().kill();
    let raw = Raw::connect(&site.deployment.server.url());
    site.client.submit();
    for _ in 0..5 {
        raw.leave(POOL);
    }
    let _executor = site.executor();
    wait_until("the server says that it gave up", || {
        site.onlooker.foreplan(&["dead"]).stdout.contains("MAX_DELIVERIES")
    });
    site.succeeds();
    assert_eq!(site.attempts(), 2);
    wait_until("nothing is left in the queue", || raw.messages("fp_WORK") == 0);
}
