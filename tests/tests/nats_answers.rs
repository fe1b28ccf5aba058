//! What strangers answer: a specialist of the test, over the bare protocol, says wrong things. Each is
//! refused, counted and kept; none stops the service, and the right answer still counts.

use foreplan_tests::{
    Deployment, Project, Raw, Serving, Taken, serve, wait_until,
    work::{self, POOL},
};
use serde_json::{Value, json};

struct Site {
    _deployment: Deployment,
    raw: Raw,
    client: Project,
    _agents: (Project, Serving),
}

impl Site {
    /// A deployment whose pool is announced; its only worker is the test.
    fn new() -> Self {
        let deployment = Deployment::start();
        let agents = deployment.agents();
        // Killed, it is listed for a while: nobody takes its work back.
        serve(&deployment.of(work::worker("exit 1")), &["--roles", "executor"]).kill();
        let client = deployment.of(work::client());
        let raw = Raw::connect(&deployment.server.url());
        Self { _deployment: deployment, raw, client, _agents: agents }
    }

    fn take(&self) -> Work {
        Work(self.raw.take(POOL))
    }

    fn answer(&self, subject: &str, frame: &Value) {
        self.raw.publish(subject, frame.to_string()).expect("the server takes it");
    }

    /// Returns how many messages are kept as dead for a reason.
    fn dead(&self, why: &str) -> usize {
        let dead = self.client.foreplan(&["dead"]);
        assert_eq!(dead.code, 0, "{dead:?}");
        dead.stdout.lines().filter(|line| line.starts_with(&format!("fp.dead.{why}."))).count()
    }
}

/// A request in the hands of the test.
struct Work(Taken);

impl Work {
    /// Where its answer goes: `fp.rep.{shard}.{run}.{step}.{attempt}`.
    fn subject(&self) -> String {
        let tokens: Vec<&str> = self.0.subject.split('.').rev().take(3).collect();
        subject(&self.0.frame["body"]["run"], tokens[1], tokens[0])
    }

    fn answer(&self, output: Value) -> Value {
        let body = &self.0.frame["body"];
        json!({
            "header": {"v": 1, "id": uuid(), "lease": self.0.frame["header"]["lease"]},
            "body": {"message": "reply", "run": body["run"], "reply": {
                "reply": "step", "step": body["step"], "attempt": body["attempt"], "worker": "a stranger",
                "outcome": {"output": {"inline": output}}, "started_at": 1, "ended_at": 2 }}
        })
    }
}

fn subject(run: &Value, task: &str, number: &str) -> String {
    let run = run.as_str().expect("a run's id");
    let last = u8::from_str_radix(&run[run.len() - 2..], 16).expect("a byte");
    format!("fp.rep.{}.{run}.{task}.{number}", last % 64)
}

/// Any id will do, if each is another one.
fn uuid() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("00000000-0000-4000-8000-{:012x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn wrong_answers_are_refused_and_kept_and_the_right_one_counts() {
    let site = Site::new();
    site.client.submit();
    let work = site.take();
    let (to, right) = (work.subject(), work.answer(json!({"done": true})));
    let changed = |path: &str, value: Value| {
        let mut frame = right.clone();
        *frame.pointer_mut(path).expect("it is there") = value;
        frame["header"]["id"] = json!(uuid());
        frame
    };
    let stranger = json!("01990000-0000-7000-8000-0000000000ff");

    site.raw.publish(&to, "this is no JSON").expect("the server takes it");
    site.answer(&to, &changed("/header/v", json!(99)));
    site.answer(&to, &changed("/body/reply/outcome/output/inline", json!("x".repeat(600 << 10))));
    wait_until("what cannot be read is kept", || site.dead("unreadable") == 3);

    site.answer(&to, &changed("/header/lease", json!("00".repeat(32))));
    site.answer(&to, &changed("/header/lease", Value::Null));
    site.answer(&to, &changed("/body/reply/attempt", json!(2)));
    site.answer(&to, &changed("/body/run", stranger.clone()));
    site.answer(&subject(&stranger, "step-work", "1"), &changed("/body/run", stranger));
    wait_until("what is forged is kept", || site.dead("forged") == 5);

    let run = work.0.frame["body"]["run"].clone();
    let command = json!({"message": "input", "run": run, "input": {"input": "wake"}});
    site.answer(&to, &changed("/body", command));
    wait_until("what is misdirected is kept", || site.dead("misdirected") == 1);

    let refused = site.raw.publish(&to, vec![b' '; 5 << 20]);
    assert!(refused.is_err(), "five megabytes do not travel");

    let view = site.client.show("last");
    assert_eq!((&view["status"], &view["steps"][0]["attempts"]), (&json!("running"), &json!(1)), "{view:#}");
    site.answer(&to, &right);
    site.client.ends(0);
    let view = site.client.show("last");
    assert_eq!(
        (&view["result"], &view["steps"][0]["worker"]),
        (&json!(true), &json!("a stranger")),
        "{view:#}"
    );
    assert_eq!(site.client.foreplan(&["audit", "last", "--verify"]).code, 0);
}

#[test]
fn an_answer_to_a_superseded_plan_changes_nothing() {
    let site = Site::new();
    site.client.submit();
    let old = site.take();
    let revised = site.client.foreplan(&["revise", "last", "--produce", "other", "--detach"]);
    assert_eq!(revised.code, 0, "{revised:?}");
    let new = site.take();
    assert_eq!(new.0.frame["body"]["step"], "other");
    site.answer(&old.subject(), &old.answer(json!({"done": true})));
    site.answer(&new.subject(), &new.answer(json!({"other": true})));
    // A second answer comes too late.
    site.answer(&new.subject(), &new.answer(json!({"other": false})));
    site.client.ends(0);
    let view = site.client.show("last");
    assert_eq!((&view["plan"]["version"], &view["result"]), (&json!(2), &json!(true)), "{view:#}");
    assert_eq!(site.dead("forged"), 0);
}

#[test]
fn a_tool_that_is_announced_with_a_schema_that_is_none_is_left_out_and_kept() {
    let site = Site::new();
    let mut pool: Value =
        serde_json::from_slice(&site.raw.get("fp_CAPABILITIES", "work.work")).expect("JSON");
    pool["capability"] = json!("strange");
    pool["tools"][0]["name"] = json!("strange");
    pool["tools"][0]["output"] = json!({"type": "sometimes"});
    pool["tools"].as_array_mut().expect("tools").truncate(1);
    site.raw.put("fp_CAPABILITIES", "work.strange", pool.to_string().into_bytes());
    site.raw.put("fp_CAPABILITIES", "work.garbage", b"this is no JSON".to_vec());
    wait_until("the tool is kept", || site.dead("invalid_tool") == 1);
    site.client.submit();
    let work = site.take();
    assert_eq!(work.0.frame["body"]["step"], "work", "the others are planned with");
    site.answer(&work.subject(), &work.answer(json!({"done": true})));
    site.client.ends(0);
}

#[test]
fn what_comes_on_an_unknown_subject_or_is_of_an_unknown_kind_is_kept() {
    let site = Site::new();
    let run = json!("01990000-0000-7000-8000-000000000005");
    let to = |kind: &str| format!("fp.cmd.somebody.5.{}", kind.trim_matches('"'));
    let header = json!({"v": 1, "id": uuid()});
    site.answer(&to(&run.to_string()), &json!({"header": header, "body": {"message": "sing", "run": run}}));
    let elsewhere = json!({"message": "input", "run": run, "input": {"input": "wake"}});
    site.answer(&to("no-run"), &json!({"header": header, "body": elsewhere}));
    wait_until("both are kept", || site.dead("unreadable") == 1 && site.dead("misdirected") == 1);
    assert!(site.raw.publish("fp.nonsense", "x").is_err(), "nothing takes what has no place");
    site.client.submit();
    let work = site.take();
    site.answer(&work.subject(), &work.answer(json!({"done": true})));
    site.client.ends(0);
}

#[test]
fn nobody_but_a_tracker_begins_a_child_run_or_speaks_for_one() {
    let site = Site::new();
    site.client.submit();
    let work = site.take();
    let (run, lease) = (&work.0.frame["body"]["run"], &work.0.frame["header"]["lease"]);
    let says = |input: Value| {
        json!({"header": {"v": 1, "id": uuid(), "lease": lease},
            "body": {"message": "input", "run": run, "input": input}})
    };
    let spec = json!({"project": "work", "goal": "g", "planner": {"kind": "derive", "produce": ["done"]},
        "parent": {"run": run, "step": "work", "attempt": 1}});
    let begin = json!({"input": "submit", "by": "a stranger", "spec": spec});
    let cancel = json!({"input": "command", "id": uuid(), "by": "a stranger", "command": "cancel"});
    let child = json!({"input": "child", "step": "work", "attempt": 1, "waits": true});
    for (task, number, input) in
        [("begin", "0", begin.clone()), ("command", "0", cancel), ("child-work", "1", child)]
    {
        site.answer(&subject(run, task, number), &says(input));
    }
    wait_until("what has no tracker's lease is kept", || site.dead("forged") == 3);
    let commands = subject(run, "x", "x").replace("fp.rep.", "fp.cmd.somebody.").replace(".x.x", "");
    site.answer(&commands, &says(begin));
    wait_until("a client's child run is kept", || site.dead("misdirected") == 1);

    assert_eq!(site.client.show("last")["status"], "running");
    site.answer(&work.subject(), &work.answer(json!({"done": true})));
    site.client.ends(0);
}
