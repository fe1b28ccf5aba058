//! Tools of MCP servers: one of ours that misbehaves, and one of others from its package.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use foreplan_core::{failure::FailureKind, tool::Effect};
use foreplan_tools::{LogSink, Stream, Toolbox, declare::Listed};
use serde_json::{Value, json};

use crate::common::{TestProject, call, name};

const SERVER: &str = include_str!("mcp_server.py");

fn project() -> TestProject {
    TestProject::new(&[("server.py", SERVER)])
}

/// Declares the server of this folder, with `more` keys.
fn declared(more: &str) -> String {
    format!("[[mcp]]\nname = \"s\"\ncommand = [\"python3\", \"server.py\"]\n{more}")
}

async fn toolbox(project: &TestProject, more: &str) -> Toolbox {
    let loaded = project.connect(&declared(more)).await.unwrap();
    Toolbox::builder().tools(loaded.tools).secrets(&loaded.secrets).build().unwrap()
}

async fn text(toolbox: &Toolbox, tool: &str) -> String {
    let output = toolbox.call(&name(tool), call(json!({}))).await.unwrap();
    output["text"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_tools_of_a_server_are_called_by_its_name_and_theirs() {
    let project = project();
    let tools = toolbox(&project, "").await;
    let echo = tools.get("s__echo").unwrap().descriptor();
    assert_eq!((echo.effect, echo.description.as_str()), (Effect::Irreversible, "Returns its text"));
    let output = tools.call(&name("s__echo"), call(json!({"text": "hi"}))).await;
    assert_eq!(output, Ok(json!({"text": "hi"})));
    let output = tools.call(&name("s__sum"), call(json!({"numbers": [1, 2]}))).await;
    assert_eq!(output, Ok(json!({"sum": 3})));
}

#[tokio::test]
async fn a_hint_decides_only_where_it_is_trusted_and_the_project_says_nothing() {
    let project = project();
    let effect = async |more: &str| toolbox(&project, more).await.get("s__echo").unwrap().descriptor().effect;
    assert_eq!(effect("").await, Effect::Irreversible);
    assert_eq!(effect("annotations = \"trust\"").await, Effect::Read);
    let said = "annotations = \"trust\"\neffects = { echo = \"idempotent\" }";
    assert_eq!(effect(said).await, Effect::Idempotent);
    let listing = project.connect(&declared("tools = [\"echo\"]")).await.unwrap().servers;
    let echo = Listed {
        name: "echo".to_owned(),
        tool: name("s__echo"),
        hint: Some(Effect::Read),
        is_declared: false,
    };
    assert_eq!(listing[0].tools, [echo]);
}

#[tokio::test]
async fn a_failed_call_and_an_image_are_typed_failures() {
    let project = project();
    let tools = toolbox(&project, "").await;
    let failure = tools.call(&name("s__fail"), call(json!({}))).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.message.as_str()), ("mcp_tool_error", "the disk is full"));
    let failure = tools.call(&name("s__image"), call(json!({}))).await.unwrap_err();
    assert_eq!(failure.code, "binary_content");
}

#[tokio::test]
async fn a_server_that_dies_fails_the_call_with_what_it_printed_and_is_started_again() {
    let project = project();
    let tools = toolbox(&project, "").await;
    let first = text(&tools, "s__pid").await;
    let failure = tools.call(&name("s__die"), call(json!({}))).await.unwrap_err();
    assert_eq!(failure.code, "mcp_server_lost");
    assert!(failure.message.contains("`s` was lost"), "{}", failure.message);
    assert_ne!(text(&tools, "s__pid").await, first);
}

#[tokio::test]
async fn a_server_that_dies_every_time_is_left_alone() {
    let project = project();
    let tools = toolbox(&project, "").await;
    let mut codes = Vec::new();
    for _ in 0..7 {
        codes.push(tools.call(&name("s__die"), call(json!({}))).await.unwrap_err().code);
    }
    assert_eq!(codes[0], "mcp_server_lost");
    let failure = tools.call(&name("s__echo"), call(json!({}))).await.unwrap_err();
    assert_eq!(failure.code, "mcp_server_unusable", "{codes:?}");
    assert!(failure.message.contains("left alone") && failure.message.contains("dying now"), "{failure:?}");
}

#[tokio::test]
async fn a_server_that_hangs_is_ended_after_the_timeout_and_started_again() {
    let project = project();
    let tools = toolbox(&project, "").await;
    let first = text(&tools, "s__pid").await;
    let mut hanging = call(json!({}));
    hanging.timeout = Duration::from_millis(200);
    let failure = tools.call(&name("s__hang"), hanging).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert_ne!(text(&tools, "s__pid").await, first);
}

#[tokio::test]
async fn what_is_no_message_is_passed_over() {
    let project = project();
    let tools = toolbox(&project, "").await;
    assert_eq!(text(&tools, "s__garbage").await, "after garbage");
}

#[tokio::test]
async fn a_tool_that_changes_under_way_is_not_called() {
    let project = project();
    let tools = toolbox(&project, "").await;
    assert_eq!(text(&tools, "s__change").await, "changed");
    // The notification comes before the answer, so that the next call knows of it.
    let failure = tools.call(&name("s__echo"), call(json!({}))).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::ToolChanged, "tool_changed"));
    assert_eq!(text(&tools, "s__garbage").await, "after garbage", "the other tools are what they were");
}

#[tokio::test]
async fn a_server_whose_file_changed_is_not_started_again() {
    let project = project();
    let tools = toolbox(&project, "").await;
    let digest = tools.get("s__echo").unwrap().descriptor().digest;
    project.write("server.py", format!("{SERVER}\n# another\n"));
    assert_eq!(text(&tools, "s__garbage").await, "after garbage", "what runs is what was approved");
    tools.call(&name("s__die"), call(json!({}))).await.unwrap_err();
    let failure = tools.call(&name("s__echo"), call(json!({}))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::ToolChanged, "{failure:?}");
    let again = toolbox(&project, "").await;
    assert_ne!(again.get("s__echo").unwrap().descriptor().digest, digest);
}

#[tokio::test]
async fn a_server_gets_the_trace_and_the_key_of_a_call() {
    let project = project();
    let tools = toolbox(&project, "").await;
    let mut seen = call(json!({}));
    seen.idempotency_key = Some(foreplan_core::digest::Digest::of_bytes(b"key"));
    let trace = seen.trace().to_string();
    let seen: Value =
        serde_json::from_str(tools.call(&name("s__seen"), seen).await.unwrap()["text"].as_str().unwrap())
            .unwrap();
    let meta = &seen.as_array().unwrap().last().unwrap()["params"]["_meta"];
    assert_eq!(meta["traceparent"], json!(trace));
    assert!(meta["foreplan/idempotencyKey"].is_string(), "{meta}");
}

#[tokio::test]
async fn a_server_gets_no_variable_that_is_not_named() {
    let project = project().var("OTHER", "x").var("WANTED", "y");
    project.write("env.py", "import os, sys; sys.exit('env: ' + ' '.join(sorted(os.environ)))");
    let declared = "[[mcp]]\nname = \"e\"\ncommand = [\"python3\", \"env.py\"]\nenv = [\"WANTED\"]\n";
    let message = project.connect(declared).await.unwrap_err().to_string();
    assert!(
        message.contains("WANTED") && message.contains("PATH") && !message.contains("OTHER"),
        "{message}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_start_is_named_with_what_it_printed() {
    let project = project();
    let refused = async |command: &str| {
        let declared = format!("[[mcp]]\nname = \"s\"\ncommand = {command}\nstart_timeout = \"1s\"\n");
        project.connect(&declared).await.unwrap_err()
    };
    let error = refused(r#"["python3", "server.py", "refuse"]"#).await;
    assert_eq!((error.tool.as_str(), error.field), ("s", "command"));
    assert!(error.message.contains("no licence found"), "{error}");
    assert!(refused(r#"["python3", "server.py", "mute"]"#).await.message.contains("no answer within 1s"));
    assert!(refused(r#"["no-such-program"]"#).await.message.contains("no program `no-such-program`"));
}

#[tokio::test]
async fn mistakes_in_a_declaration_are_named() {
    let project = project();
    for (more, field, part) in [
        ("tools = [\"nope\"]", "tools", "no tool `nope`"),
        ("effects = { nope = \"read\" }", "effects", "no tool `nope`"),
        ("url = \"http://x\"", "url", "keep one"),
        ("headers = { a = \"b\" }", "headers", "with a `url`"),
    ] {
        let error = project.connect(&declared(more)).await.unwrap_err();
        assert!(error.field == field && error.message.contains(part), "{more}: {error}");
    }
}

#[derive(Default)]
struct Kept(Mutex<Vec<(Stream, String)>>);

impl LogSink for Kept {
    fn line(&self, stream: Stream, text: &str) {
        self.0.lock().unwrap().push((stream, text.to_owned()));
    }
}

#[tokio::test]
async fn what_a_server_prints_during_a_call_is_in_its_log() {
    let project = project();
    let tools = toolbox(&project, "").await;
    let kept = Arc::new(Kept::default());
    // Two calls: the pipe of the first may be read after its answer.
    for _ in 0..2 {
        let mut logged = call(json!({"text": "hi"}));
        logged.log = Some(kept.clone());
        tools.call(&name("s__echo"), logged).await.unwrap();
    }
    let mut logged = call(json!({}));
    logged.log = Some(kept.clone());
    tools.call(&name("s__die"), logged).await.unwrap_err();
    assert!(kept.0.lock().unwrap().contains(&(Stream::Stderr, "echoing".to_owned())));
}

/// The filesystem server of the protocol's authors, from npm.
#[tokio::test]
async fn a_server_of_others_from_npm_lists_and_runs_its_tools() {
    const PACKAGE: &str = "@modelcontextprotocol/server-filesystem@2026.8.31";
    let project = TestProject::new(&[("notes/a.txt", "first note")]);
    let home = std::env::var("HOME").unwrap_or_default();
    let project = project.var("HOME", &home);
    let declared = format!(
        "[[mcp]]\nname = \"files\"\ncommand = [\"npx\", \"--yes\", \"{PACKAGE}\", \".\"]\nstart_timeout = \"120s\"\n\
         effects = {{ read_text_file = \"read\" }}\n"
    );
    let loaded = match project.connect(&declared).await {
        Ok(loaded) => loaded,
        Err(error) if !npm_answers() => {
            foreplan_testkit::skipped(format_args!("npm cannot be reached here: {error}"));
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let tools = Toolbox::builder().tools(loaded.tools).build().unwrap();
    let path = project.dir.path().canonicalize().unwrap().join("notes/a.txt");
    let read = tools.call(&name("files__read_text_file"), call(json!({"path": path}))).await.unwrap();
    assert!(read.to_string().contains("first note"), "{read}");
    let write = tools.get("files__write_file").unwrap().descriptor();
    assert_eq!(write.effect, Effect::Irreversible);
    let outside = tools.call(&name("files__read_text_file"), call(json!({"path": "/etc/passwd"}))).await;
    assert_eq!(outside.unwrap_err().code, "mcp_tool_error");
}

fn npm_answers() -> bool {
    let ping = std::process::Command::new("npm").args(["ping", "--fetch-timeout=10000"]).output();
    ping.is_ok_and(|output| output.status.success())
}
