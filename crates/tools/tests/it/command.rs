//! Commands: what they get, and what becomes of what they answer.

use std::{path::PathBuf, sync::Arc, time::Duration};

use foreplan_core::{
    digest::Digest,
    failure::{EffectState, FailureKind},
};
use foreplan_tools::{Call, Stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::common::{Lines, TestProject, call, name};

/// Returns a command tool `t` that runs `script`, with more keys.
fn script(script: &str, more: &str) -> String {
    format!("[[command]]\nname = \"t\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n{more}\n")
}

#[tokio::test]
async fn input_is_json_on_stdin_and_output_is_json_on_stdout() {
    let project = TestProject::new(&[]);
    let input = json!({"a": [1, "ä"], "b": {"c": null}});
    assert_eq!(project.call(&script("cat", ""), input.clone()).await, Ok(input));
}

#[tokio::test]
async fn plain_text_is_a_text() {
    let project = TestProject::new(&[]);
    let output = project.call(&script("echo hello", ""), json!({})).await;
    assert_eq!(output, Ok(json!({"text": "hello"})));
    assert_eq!(project.call(&script("true", ""), json!({})).await, Ok(json!({"text": ""})));
}

#[tokio::test]
async fn a_placeholder_is_one_argument_whatever_it_holds() {
    let project = TestProject::new(&[]);
    let tool = r#"
        [[command]]
        name = "t"
        command = ["printf", '%s|', "{value}", "v{value}"]
    "#;
    let value = "a b \"c\" 'd' $(touch hacked); *\nnext";
    let output = project.call(tool, json!({"value": value})).await.unwrap();
    assert_eq!(output, json!({"text": format!("{value}|v{value}|")}));
    assert_eq!(project.read("hacked"), None);
}

#[tokio::test]
async fn the_environment_is_what_is_listed() {
    let project = TestProject::new(&[]).var("LISTED", "yes").var("UNLISTED", "no");
    let output = project.call(&script("env", "env = [\"LISTED\"]"), json!({})).await.unwrap();
    let mut lines: Vec<&str> = output["text"].as_str().unwrap().lines().collect();
    lines.retain(|line| !["PWD=", "_=", "SHLVL=", "OLDPWD="].iter().any(|own| line.starts_with(own)));
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "FOREPLAN_ATTEMPT=1",
            "FOREPLAN_RUN=01890a5d-ac96-774b-bcce-b302099a8057",
            "FOREPLAN_STEP=step",
            "LISTED=yes"
        ]
    );
}

#[tokio::test]
async fn a_keyed_call_gets_its_key() {
    let project = TestProject::new(&[]);
    let key = Digest::of_bytes(b"key");
    let mut keyed = call(json!({}));
    keyed.idempotency_key = Some(key);
    let tools = project.toolbox(&script("echo $FOREPLAN_IDEMPOTENCY_KEY", ""));
    assert_eq!(tools.call(&name("t"), keyed).await, Ok(json!({"text": key.to_string()})));
}

#[tokio::test]
async fn a_failing_command_is_typed_by_its_exit_or_by_what_it_says() {
    let project = TestProject::new(&[]);
    let cases = [
        ("echo before >&2; echo at the end >&2; exit 3", "exit_3", "before\nat the end", None, None),
        ("exit 1", "exit_1", "the program ended with 1 and said nothing on stderr", None, None),
        (
            "kill -9 $$",
            "signal_9",
            "the program was ended by signal 9 and said nothing on stderr",
            None,
            None,
        ),
        (
            r#"echo '{"error": {"code": "busy", "message": "later", "retryable": true, "effect": "none"}}'; exit 1"#,
            "busy",
            "later",
            Some(true),
            Some(EffectState::None),
        ),
    ];
    for (command, code, message, retryable, effect) in cases {
        let failure = project.failure(&script(command, ""), json!({})).await;
        assert_eq!(
            (failure.kind, failure.code.as_str(), failure.message.as_str()),
            (FailureKind::Tool, code, message)
        );
        assert_eq!((failure.retryable, failure.effect), (retryable, effect), "{command}");
    }
}

#[tokio::test]
async fn the_message_is_the_end_of_stderr() {
    let project = TestProject::new(&[]);
    let failure = project
        .failure(
            &script("i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1", ""),
            json!({}),
        )
        .await;
    assert!(failure.message.ends_with("line 19999"), "{failure}");
    assert!(failure.message.len() < 3000 && failure.message.starts_with("…\nline "), "{failure}");
}

#[tokio::test]
async fn output_of_the_wrong_shape_is_a_failure_of_its_own() {
    let project = TestProject::new(&[]);
    let declared = "output = { count = \"integer\" }";
    for (command, code, part) in [
        ("echo '{\"count\": \"many\"}'", "output_schema", "at `/count`"),
        ("echo '[1]'", "output_schema", "not of type \"object\""),
        ("true", "output_schema", "\"count\" is a required property"),
        ("echo done", "invalid_json", "begins with: done"),
    ] {
        let failure = project.failure(&script(command, declared), json!({})).await;
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::OutputSchema, code));
        assert!(failure.message.contains(part), "{failure}");
    }
}

#[tokio::test]
async fn output_that_is_not_utf8_is_refused() {
    let project = TestProject::new(&[]);
    let failure = project.failure(&script("printf '\\377\\376'", ""), json!({})).await;
    assert_eq!((failure.code.as_str(), failure.is_retryable()), ("invalid_utf8", false));
}

#[tokio::test]
async fn a_command_that_prints_ten_megabytes_is_ended() {
    let project = TestProject::new(&[]);
    let failure =
        project.failure(&script("head -c 10000000 /dev/zero | tr '\\0' x; echo > done", ""), json!({})).await;
    assert_eq!((failure.code.as_str(), failure.is_retryable()), ("output_too_large", false));
    assert!(failure.message.contains("8 MiB"), "{failure}");
}

#[tokio::test]
async fn a_large_input_that_nobody_reads_does_not_block() {
    let project = TestProject::new(&[]);
    let output = project.call(&script("echo ok", ""), json!({"data": "x".repeat(2_000_000)})).await;
    assert_eq!(output, Ok(json!({"text": "ok"})));
}

#[tokio::test]
async fn a_command_that_does_not_exist_had_no_effect() {
    let project = TestProject::new(&[("not_executable", "")]);
    for program in ["no-such-program", "./missing", "bin/missing"] {
        let tool = format!("[[command]]\nname = \"t\"\ncommand = [\"{program}\"]");
        let failure = project.failure(&tool, json!({})).await;
        assert_eq!(failure.code, "command_not_found");
        assert!(failure.message.contains(program), "{failure}");
        assert_eq!((failure.effect, failure.is_retryable()), (Some(EffectState::None), false));
    }
    let tool = "[[command]]\nname = \"t\"\ncommand = [\"./not_executable\"]";
    let failure = project.failure(tool, json!({})).await;
    assert_eq!((failure.code.as_str(), failure.effect), ("command_not_started", Some(EffectState::None)));
}

#[tokio::test]
async fn a_command_runs_in_its_folder() {
    let project = TestProject::new(&[("sub/here.txt", "found")]);
    let output = project.call(&script("cat here.txt", "cwd = \"sub\""), json!({})).await;
    assert_eq!(output, Ok(json!({"text": "found"})));
}

#[tokio::test]
async fn a_folder_outside_the_project_is_refused() {
    let project = TestProject::new(&[]);
    for cwd in ["..", "/tmp", "a/../../b"] {
        let error = project.load(&script("true", &format!("cwd = \"{cwd}\""))).unwrap_err();
        assert_eq!(error.field, "cwd");
        assert!(error.message.contains("leads out of the project"), "{error}");
    }
    std::os::unix::fs::symlink("/tmp", project.dir.path().join("link")).unwrap();
    let failure = project.failure(&script("true", "cwd = \"link\""), json!({})).await;
    assert_eq!((failure.code.as_str(), failure.effect), ("cwd_outside_project", Some(EffectState::None)));
}

#[tokio::test]
async fn secrets_reach_the_command_and_nobody_else() {
    let project = TestProject::new(&[("key.txt", "file-secret\n")])
        .var("DEPLOY_KEY", "env-secret")
        .var("MY_TOKEN", "listed-secret");
    let keys = "env = [\"MY_TOKEN\"]\nsecrets = { A = { env = \"DEPLOY_KEY\" }, B = { file = \"key.txt\" } }";
    let length = script("echo ${#A} ${#B} ${#MY_TOKEN}", keys);
    assert_eq!(project.call(&length, json!({})).await, Ok(json!({"text": "10 11 13"})));

    let says = "echo $A $B $MY_TOKEN";
    let redacted = "[redacted] [redacted] [redacted]";
    let output = project.call(&script(says, keys), json!({})).await;
    assert_eq!(output, Ok(json!({"text": redacted})));
    let failure = project.failure(&script(&format!("{says} >&2; exit 1"), keys), json!({})).await;
    assert_eq!(failure.message, redacted);

    let lines = Arc::new(Lines::default());
    let mut logged = call(json!({}));
    logged.log = Some(lines.clone());
    project.toolbox(&script(&format!("{says}; {says} >&2"), keys)).call(&name("t"), logged).await.unwrap();
    let mut lines = lines.0.lock().unwrap().clone();
    lines.sort_by_key(|(stream, _)| stream.as_str());
    assert_eq!(lines, [Stream::Stderr, Stream::Stdout].map(|stream| (stream, redacted.to_owned())));

    let digest = |project: &TestProject| digest(project, &script(says, keys));
    let before = digest(&project);
    assert_eq!(digest(&project.var("MY_TOKEN", "another-secret")), before);
}

#[tokio::test]
async fn a_secret_that_is_not_set_is_named_before_anything_runs() {
    let project = TestProject::new(&[]);
    let failure =
        project.failure(&script("touch ran", "secrets = { A = { env = \"DEPLOY_KEY\" } }"), json!({})).await;
    assert_eq!((failure.code.as_str(), failure.effect), ("missing_secret", Some(EffectState::None)));
    assert!(failure.message.contains("DEPLOY_KEY is not set"), "{failure}");
    assert_eq!(project.read("ran"), None);
}

fn digest(project: &TestProject, declarations: &str) -> Digest {
    project.load(declarations).unwrap().tools[0].descriptor().digest
}

#[test]
fn a_digest_covers_what_a_command_does() {
    let project = TestProject::new(&[("deploy.sh", "echo 1"), ("other.sh", "echo 1")]);
    let tool = |more: &str| {
        format!("[[command]]\nname = \"t\"\ncommand = [\"sh\", \"deploy.sh\", \"{{version}}\"]\n{more}")
    };
    let before = digest(&project, &tool(""));
    for same in ["cost = 7", "description = \"Deploys\"", "timeout = \"5s\""] {
        assert_eq!(digest(&project, &tool(same)), before, "{same}");
    }
    for other in ["effect = \"idempotent\"", "env = [\"PATH\"]", "verify = \"is_deployed\"", "cwd = \"sub\""]
    {
        assert_ne!(digest(&project, &tool(other)), before, "{other}");
    }
    project.write("other.sh", "echo 2");
    assert_eq!(digest(&project, &tool("")), before);
    project.write("deploy.sh", "echo 2");
    assert_ne!(digest(&project, &tool("")), before);
    let without = tool("files = []");
    let before = digest(&project, &without);
    project.write("deploy.sh", "echo 3");
    assert_eq!(digest(&project, &without), before);
}

#[test]
fn a_named_file_is_found_from_where_the_command_runs() {
    let project = TestProject::new(&[("sub/a.sh", "1"), ("b.sh", "1")]);
    let tool = |argument: &str| {
        format!("[[command]]\nname = \"t\"\ncommand = [\"sh\", \"{argument}\"]\ncwd = \"sub\"")
    };
    let absolute = project.dir.path().canonicalize().unwrap().join("b.sh");
    for (argument, file) in [
        ("a.sh", "sub/a.sh"),
        ("./a.sh", "sub/a.sh"),
        ("../b.sh", "b.sh"),
        (absolute.to_str().unwrap(), "b.sh"),
    ] {
        let before = digest(&project, &tool(argument));
        project.write(file, argument);
        assert_ne!(digest(&project, &tool(argument)), before, "{argument}");
    }
}

#[tokio::test]
async fn a_script_that_changed_since_it_was_loaded_is_not_run() {
    let project = TestProject::new(&[("deploy.sh", "echo 1 >> log")]);
    let tools = project.toolbox("[[command]]\nname = \"t\"\ncommand = [\"sh\", \"deploy.sh\"]");
    tools.call(&name("t"), call(json!({}))).await.unwrap();
    project.write("deploy.sh", "echo 2 >> log");
    let failure = tools.call(&name("t"), call(json!({}))).await.unwrap_err();
    assert_eq!((failure.kind, failure.effect), (FailureKind::ToolChanged, Some(EffectState::None)));
    assert!(failure.message.contains("deploy.sh"), "{failure}");
    assert_eq!(project.read("log").as_deref(), Some("1\n"));
}

#[tokio::test]
async fn a_program_is_found_without_giving_it_the_path() {
    let project = TestProject::new(&[("bin/tool", "#!/bin/sh\necho \"$0 $#\"")]);
    let path = project.dir.path().join("bin/tool");
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&path, permissions).unwrap();
    let bin: PathBuf = project.dir.path().join("bin");
    let project = project.var("PATH", &format!("{}:/usr/bin:/bin", bin.display()));
    let output: Value =
        project.call("[[command]]\nname = \"t\"\ncommand = [\"tool\", \"a b\"]", json!({})).await.unwrap();
    assert_eq!(output, json!({"text": format!("{} 1", path.display())}));
}

#[test]
fn a_permit_that_runs_out_while_a_command_is_prepared_is_not_used() {
    const COUNTS: Duration = Duration::from_secs(10);
    let project = TestProject::new(&[]);
    let tools = project.toolbox(&script("echo done >> log", ""));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).max_blocking_threads(1).build().unwrap();
    let failure = runtime.block_on(async {
        // A command is prepared on the only other thread, which is busy until the permit has run out.
        let (free, is_free) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || is_free.recv());
        let tool = name("t");
        let permitted = Call { permit_until: Some(Instant::now() + COUNTS), ..call(json!({})) };
        let mut calling = std::pin::pin!(tools.call(&tool, permitted));
        assert!(futures::poll!(calling.as_mut()).is_pending());
        tokio::time::advance(COUNTS).await;
        free.send(()).unwrap();
        busy.await.unwrap().unwrap();
        calling.await.unwrap_err()
    });
    assert_eq!((failure.code.as_str(), failure.effect), ("permit_denied", Some(EffectState::None)));
    assert_eq!(project.read("log"), None);
}
