//! Commands whose plans come from a model server, and from a session that was recorded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use foreplan_testkit::{ModelServer, Reply, copy_project};
use serde_json::{Value, json};
use tokio::process::Command;

const KEY: &str = "sk-very-secret-1234";

/// How long a command may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

fn project(server: &ModelServer) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        r#"
        goal = "Double the number"
        [planner]
        kind = "model"
        model = "test/planner"
        [models.test]
        base_url = "{}"
        api_key = {{ env = "TEST_MODEL_KEY" }}
        price = {{ input = 1.0, output = 2.0 }}
        [[tools.jq]]
        name = "double"
        description = "Doubles a number"
        filter = "{{doubled: (.n * 2)}}"
        input = {{ n = "integer" }}
        output = {{ doubled = "integer" }}
        "#,
        server.base_url()
    );
    std::fs::write(folder.path().join("foreplan.toml"), text).unwrap();
    folder
}

fn plan() -> Value {
    let step = json!({
        "id": "double", "title": "Double it", "do": {"tool": "double", "input": {"n": {"value": 21}}},
        "needs": [], "when": null, "for_each": null, "expect": null,
    });
    json!({"answer": {"kind": "plan", "rationale": "one step does it", "steps": [step], "result": {"ref": "double.doubled"}}})
}

async fn foreplan(folder: &Path, key: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreplan"));
    command.args(arguments).current_dir(folder).env_clear().env("USER", "ada").stdin(Stdio::null());
    if let Some(key) = key {
        command.env("TEST_MODEL_KEY", key);
    }
    tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await.unwrap().unwrap()
}

fn shown(output: &Output) -> String {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains(KEY), "{text}");
    text
}

/// Returns everything that the project's store holds, as text.
fn kept(folder: &Path) -> String {
    let mut text = String::new();
    let mut folders = vec![folder.join(".foreplan")];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => text += &String::from_utf8_lossy(&std::fs::read(path).unwrap()),
            }
        }
    }
    text
}

#[tokio::test]
async fn a_recorded_session_needs_neither_server_nor_key() {
    let server = ModelServer::start().await;
    server.script([Reply::json(&plan())]);
    let folder = project(&server);

    let first =
        foreplan(folder.path(), Some(KEY), &["run", "--json", "--record-models", "session.jsonl"]).await;
    assert!(first.status.success(), "{}", shown(&first));
    assert_eq!(server.asked().len(), 1);
    assert_eq!(server.asked()[0].key.as_deref(), Some(KEY));
    drop(server);

    let session = std::fs::read_to_string(folder.path().join("session.jsonl")).unwrap();
    assert_eq!(session.lines().count(), 1);
    assert!(!session.contains(KEY) && !kept(folder.path()).contains(KEY));

    let again = foreplan(folder.path(), None, &["run", "--replay-models", "session.jsonl"]).await;
    let text = shown(&again);
    assert!(again.status.success() && text.contains("42"), "{text}");

    let other =
        foreplan(folder.path(), None, &["run", "--goal", "Halve it", "--replay-models", "session.jsonl"])
            .await;
    let text = shown(&other);
    assert!(!other.status.success() && text.contains("--record-models"), "{text}");
}

#[tokio::test]
async fn a_missing_key_is_named_by_the_run_and_by_doctor() {
    let server = ModelServer::start().await;
    let folder = project(&server);
    let run = foreplan(folder.path(), None, &["run"]).await;
    assert!(!run.status.success());
    assert!(shown(&run).contains("TEST_MODEL_KEY"), "{}", shown(&run));
    let doctor = foreplan(folder.path(), None, &["doctor"]).await;
    assert!(!doctor.status.success() && shown(&doctor).contains("TEST_MODEL_KEY"), "{}", shown(&doctor));
    assert!(server.asked().is_empty());

    let doctor = foreplan(folder.path(), Some(KEY), &["doctor"]).await;
    assert!(doctor.status.success() && shown(&doctor).contains("test/planner"), "{}", shown(&doctor));
    assert!(server.asked().is_empty(), "doctor sends nothing");
    drop(server);
}

#[tokio::test]
async fn a_key_that_the_server_repeats_is_nowhere_on_record() {
    let server = ModelServer::start().await;
    server.always(|_| true, Reply::status(401, &format!("wrong key {KEY}")));
    let folder = project(&server);
    let run = foreplan(folder.path(), Some(KEY), &["run"]).await;
    assert!(!run.status.success());
    assert!(shown(&run).contains("refuses the key"), "{}", shown(&run));
    assert!(!kept(folder.path()).contains(KEY));
}

#[tokio::test]
async fn a_session_file_that_is_not_there_is_a_usage_error() {
    let server = ModelServer::start().await;
    let folder = project(&server);
    let run = foreplan(folder.path(), None, &["run", "--replay-models", "none.jsonl"]).await;
    assert_eq!(run.status.code(), Some(2));
    assert!(shown(&run).contains("none.jsonl"), "{}", shown(&run));
    let both = ["run", "--replay-models", "a", "--record-models", "b"];
    assert_eq!(foreplan(folder.path(), None, &both).await.status.code(), Some(2));
}

#[tokio::test]
async fn a_question_of_the_planner_is_answered_on_the_command_line() {
    let server = ModelServer::start().await;
    let question = json!({"answer": {"kind": "question", "question": "Which number?"}});
    server.script([Reply::json(&question), Reply::json(&plan())]);
    let folder = project(&server);

    let asked = foreplan(folder.path(), Some(KEY), &["run"]).await;
    let text = shown(&asked);
    assert_eq!(asked.status.code(), Some(3), "{text}");
    assert!(text.contains("Which number?") && text.contains("foreplan answer"), "{text}");

    let answered = foreplan(folder.path(), Some(KEY), &["answer", "last", "plan", "twenty-one"]).await;
    let text = shown(&answered);
    assert!(answered.status.success() && text.contains("42"), "{text}");
    assert!(server.asked()[1].says("twenty-one") && server.asked().len() == 2);
}

#[tokio::test]
async fn a_replanning_model_is_asked_once_about_a_failed_step() {
    let server = ModelServer::start().await;
    let mut first = plan();
    first["answer"]["steps"][0]["expect"] = json!("output.doubled > 100");
    let mut step = first["answer"]["steps"][0].clone();
    step["do"]["input"]["n"]["value"] = json!(60);
    let retry = json!({"decision": {"kind": "retry", "reason": "the number was too small", "step": step}});
    server.script([Reply::json(&first), Reply::json(&retry)]);
    let folder = project(&server);

    let run = foreplan(folder.path(), Some(KEY), &["run"]).await;
    let text = shown(&run);
    assert!(run.status.success() && text.contains("120"), "{text}");
    assert!(text.contains("the number was too small"), "{text}");
    assert_eq!(server.asked().len(), 2);
}

/// Copies an example whose models are all this server.
fn example(name: &str, server: &ModelServer) -> tempfile::TempDir {
    let folder = copy_project(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples").join(name));
    let path = folder.path().join("foreplan.toml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text += &format!("\n[models.openai]\nbase_url = \"{}\"\n", server.base_url());
    std::fs::write(path, text).unwrap();
    folder
}

fn step(id: &str, tool: &str, input: Value, needs: &[&str]) -> Value {
    json!({
        "id": id, "title": id, "do": {"tool": tool, "input": input}, "needs": needs, "when": null, "for_each": null,
        "expect": null,
    })
}

fn answer(steps: &[Value], result: &str) -> Reply {
    Reply::json(&json!({"answer": {
        "kind": "plan", "rationale": "", "steps": steps, "result": {"ref": result},
    }}))
}

async fn by_model(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreplan"));
    command.args(["run", "--planner", "model=openai/gpt-4.1", "--approve", "auto"]).args(arguments);
    command.current_dir(folder).env("OPENAI_API_KEY", KEY).stdin(Stdio::null());
    tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_support_report_is_planned_by_a_model_as_its_readme_says() {
    let server = ModelServer::start().await;
    let steps = [
        step("load", "load_tickets", json!({}), &[]),
        step("count", "count_intents", json!({"tickets": {"ref": "load.tickets"}}), &[]),
        step("top", "find_top_intent", json!({"intent_counts": {"ref": "count.intent_counts"}}), &[]),
        step(
            "draft",
            "draft_report",
            json!({
                "tickets": {"ref": "load.tickets"},
                "top_intents": {"ref": "top.top_intents"}, "top_count": {"ref": "top.top_count"},
            }),
            &[],
        ),
    ];
    server.script([answer(&steps, "draft.report")]);
    let folder = example("support-report", &server);
    let run = by_model(folder.path(), &[]).await;
    let text = shown(&run);
    assert!(run.status.success(), "{text}");
    assert!(text.contains("refund") && text.contains("1 model call"), "{text}");
    assert_eq!(server.asked()[0].model(), "gpt-4.1");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn the_release_is_planned_by_a_model_under_the_guidance_of_the_project() {
    let server = ModelServer::start().await;
    let of = |build: &str| json!({"service": {"value": "web"}, "version": {"ref": "params.version"}, "build": {"ref": build}});
    let steps = [
        step(
            "build",
            "build",
            json!({"service": {"value": "web"}, "version": {"ref": "params.version"}}),
            &[],
        ),
        step("smoke", "smoke_test", of("build.build"), &[]),
        step("deploy", "deploy", of("build.build"), &["smoke"]),
        step("verify", "verify_release", of("deploy.build"), &[]),
    ];
    server.script([answer(&steps, "deploy.live")]);
    let folder = example("release-checklist", &server);
    let run = by_model(folder.path(), &["--param", "version=1.4.2"]).await;
    let text = shown(&run);
    assert!(run.status.success() && text.contains("1.4.2"), "{text}");
    assert!(server.asked()[0].says("Nothing goes live that has not been built"));
    let deploys = std::fs::read_to_string(folder.path().join("state/deploy.log")).unwrap();
    assert_eq!(deploys.lines().count(), 1, "{deploys}");
}
