//! Projects whose models answer in pieces, through the command line: as if they answered whole, and never
//! from a half.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{path::Path, process::Stdio, time::Duration};

use foreplan_testkit::{Asked, ModelServer, Reply};
use serde_json::{Value, json};
use tokio::process::Command;

const KEY: &str = "sk-very-secret-1234";

/// How long a command may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The names of the forms in the project file.
const APIS: [&str; 2] = ["openai", "anthropic"];

fn project(server: &ModelServer, api: &str, stream: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        r#"
        goal = "Double two numbers and tell what came of it"
        [planner]
        kind = "model"
        model = "test/planner"
        [models.test]
        base_url = "{}"
        api = "{api}"
        api_key = {{ env = "TEST_MODEL_KEY" }}
        price = {{ input = 1.0, output = 2.0, cached = 0.5 }}
        stream = {stream}
        [[tools.jq]]
        name = "double"
        description = "Doubles a number"
        filter = "{{doubled: (.n * 2)}}"
        input = {{ n = "integer" }}
        output = {{ doubled = "integer" }}
        effect = "read"
        [[specialists]]
        capability = "counter"
        tools = ["double"]
        model = "test/actor"
        "#,
        server.base_url()
    );
    std::fs::write(folder.path().join("foreplan.toml"), text).unwrap();
    folder
}

fn plan() -> Reply {
    let agent = json!({"instructions": "Double 21 and 4, then tell.", "tools": ["double"], "output": null});
    let work = json!({"agent": agent, "input": {"json": "{}"}, "capability": "counter"});
    let step = json!({
        "id": "tell", "title": "Double and tell", "do": work, "needs": [], "when": null, "for_each": null,
        "expect": null,
    });
    let plan =
        json!({"kind": "plan", "rationale": "one step", "steps": [step], "result": {"ref": "tell.text"}});
    Reply::json(&json!({"answer": plan})).tokens(900, 80).tokens_apart(300, 0)
}

/// Plans, doubles two numbers at once, and tells what it was told.
fn works(asked: &Asked) -> Option<Reply> {
    Some(match (asked.model(), asked.turns()) {
        ("planner", _) => plan(),
        (_, 0) => Reply::call("double", json!({"n": 21})).and_call("double", json!({"n": 4})).tokens(400, 30),
        _ if asked.says("42") && asked.says("8") => Reply::text("They are 42 and 8.").tokens(500, 9),
        _ => return None,
    })
}

/// Runs a command and returns its exit code and what it printed.
async fn foreplan(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreplan"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env_clear();
    command.env("USER", "ada").env("TEST_MODEL_KEY", KEY).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!text.contains(KEY), "{text}");
    (output.status.code().unwrap(), text)
}

/// Returns the last run as `show` prints it.
async fn shown(folder: &Path) -> Value {
    let (code, text) = foreplan(folder, &["show", "last", "--json"]).await;
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

/// What must not depend on how answers come.
fn outcome(view: &Value) -> Value {
    let step = &view["steps"][0];
    json!({
        "status": view["status"], "result": view["result"], "usage": view["usage"],
        "step": [step["status"], step["attempts"], step["output"]],
    })
}

#[tokio::test]
async fn a_project_runs_as_if_its_models_answered_whole_and_at_the_same_cost() {
    for api in APIS {
        let mut outcomes = Vec::new();
        for stream in [false, true] {
            let server = ModelServer::start().await;
            server.answer(works);
            let folder = project(&server, api, stream);
            let (code, text) = foreplan(folder.path(), &["run"]).await;
            assert_eq!(code, 0, "{api}: {text}");
            assert!(text.contains("They are 42 and 8."), "{api}: {text}");
            let asked = server.asked();
            assert!(asked.len() == 3 && asked.iter().all(|asked| asked.streamed() == stream), "{api}");
            outcomes.push(outcome(&shown(folder.path()).await));
        }
        assert_eq!(outcomes[0], outcomes[1], "{api}");
        // 1800 tokens sent, of which 300 cost half, and 119 received.
        let usage = &outcomes[1]["usage"];
        assert_eq!([&usage["input_tokens"], &usage["output_tokens"]], [&json!(1800), &json!(119)], "{api}");
        assert_eq!(usage["cost_microusd"], 1500 + 150 + 238, "{api}");
        assert_eq!(usage["model_calls"], 3, "{api}");
    }
}

#[tokio::test]
async fn a_session_of_streams_is_recorded_whole_and_replayed_without_a_server() {
    for api in APIS {
        let server = ModelServer::start().await;
        server.answer(works);
        let folder = project(&server, api, true);
        let (code, text) = foreplan(folder.path(), &["run", "--record-models", "session.jsonl"]).await;
        assert_eq!(code, 0, "{api}: {text}");
        let recorded = outcome(&shown(folder.path()).await);
        let session = std::fs::read_to_string(folder.path().join("session.jsonl")).unwrap();
        assert_eq!(session.lines().count(), 3, "{api}: {session}");
        assert!(server.asked().iter().all(Asked::streamed), "{api}");
        drop(server);

        let (code, text) = foreplan(folder.path(), &["run", "--replay-models", "session.jsonl"]).await;
        assert_eq!(code, 0, "{api}: {text}");
        assert_eq!(outcome(&shown(folder.path()).await), recorded, "{api}");
    }
}

#[tokio::test]
async fn a_plan_that_breaks_off_every_time_fails_the_run_and_its_record_says_why() {
    let server = ModelServer::start().await;
    server.always(|_| true, plan().cut());
    let folder = project(&server, "anthropic", true);
    let (code, text) = foreplan(folder.path(), &["run"]).await;
    assert_eq!(code, 8, "{text}");
    assert!(text.contains("the answer broke off") && text.contains("tried 5 times"), "{text}");

    let view = shown(folder.path()).await;
    assert_eq!((&view["status"], &view["plan"]), (&json!("failed"), &Value::Null), "{view}");
    assert_eq!(view["usage"]["model_calls"], 1, "{view}");
    assert_eq!(view["usage"]["input_tokens"], 5 * 900, "what the provider counted is not lost: {view}");
    let (_, record) = foreplan(folder.path(), &["audit", "last"]).await;
    assert!(record.contains("the answer broke off") && record.contains("stream = false"), "{record}");
}

#[tokio::test]
async fn a_step_whose_answers_break_off_is_a_typed_failure_that_keeps_what_it_did() {
    let server = ModelServer::start().await;
    server.once(|asked| asked.model() == "planner", plan());
    let fail = json!({"decision": {"kind": "fail", "reason": "the model cannot be had"}});
    server.always(|asked| asked.model() == "planner", Reply::json(&fail));
    server.answer(|asked| match asked.turns() {
        0 => works(asked),
        _ => Some(Reply::text("They are 42 and 8.").unmarked()),
    });
    let folder = project(&server, "openai", true);
    let (code, text) = foreplan(folder.path(), &["run"]).await;
    assert_eq!(code, 10, "{text}");
    let view = shown(folder.path()).await;
    let failure = &view["steps"][0]["failure"];
    assert_eq!((&failure["kind"], &failure["code"]), (&json!("model"), &json!("unavailable")), "{view}");
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("the mark of its end is missing"), "{message}");
    assert_eq!(view["result"], Value::Null, "nothing of the half is used: {view}");
    let (_, record) = foreplan(folder.path(), &["audit", "last"]).await;
    assert!(record.matches("double, read").count() >= 2, "the calls before it are on record: {record}");
}

#[tokio::test]
async fn a_key_that_a_server_repeats_in_a_stream_is_printed_nowhere() {
    for reply in [Reply::status(401, &format!("bad {KEY}")), plan().error("authentication_error", KEY)] {
        let server = ModelServer::start().await;
        server.always(|_| true, reply);
        let folder = project(&server, "openai", true);
        let (code, text) = foreplan(folder.path(), &["run"]).await;
        assert!(code == 4 && text.contains("refuses the key"), "{text}");
        assert!(!text.contains("ERROR"), "the library's own lines are not printed: {text}");
    }
}
