//! MCP servers of others, from their packages, over stdio and HTTP: listed, and called by whole runs.

use std::{
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use foreplan_testkit::{Normalizer, assert_golden, skipped};
use foreplan_tests::{Project, golden, python::python, span_tree};
use serde_json::{Value, json};

/// How long a server may take to listen: the first time its package is fetched.
const PATIENCE: Duration = Duration::from_secs(120);

/// The reference server for time, beside the library of the example.
const TIME_SERVER: &str = "mcp-server-time==2026.10.19";

const EVERYTHING: &str = "@modelcontextprotocol/server-everything@2026.8.31";

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/mcp-tools")
}

/// Returns the folder of the programs of a Python with the packages; `None` if they cannot be fetched.
fn programs() -> Option<PathBuf> {
    let python = python(&example().join("requirements.txt"), &[TIME_SERVER])?;
    Some(python.parent().expect("a program lies in a folder").to_owned())
}

fn path_with(programs: &Path) -> String {
    format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default())
}

/// A project with one server, and a plan of one step.
fn one_step(server: &str, tool: &str, input: &Value, result: &str) -> Project {
    let project = Project::empty();
    project.write(
        "foreplan.toml",
        &format!(
            "goal = \"Call it\"\n[project]\nname = \"mcp\"\n[planner]\nkind = \"runbook\"\nplan = \"plan.json\"\n\
             [[tools.mcp]]\nname = \"s\"\n{server}\n"
        ),
    );
    let step = json!({"id": "call", "title": "Call it", "tool": tool, "input": input});
    let plan = json!({"format": 1, "steps": [step], "result": {"$ref": result}});
    project.write("plan.json", &plan.to_string());
    project
}

/// A server over HTTP, which ends with the test.
struct Listening {
    child: Child,
    port: u16,
}

impl Listening {
    /// Starts a server that listens on the port of its variable `PORT`.
    fn start(command: &mut Command) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free loopback port").port();
        command.env("PORT", port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut listening =
            Self { child: command.process_group(0).spawn().expect("the server starts"), port };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert_eq!(listening.child.try_wait().expect("a child"), None, "the server ended");
            assert!(began.elapsed() < PATIENCE, "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        listening
    }

    fn declared(&self, more: &str) -> String {
        format!("url = \"http://127.0.0.1:{}/mcp\"\n{more}", self.port)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn a_python_function_is_a_tool_as_the_example_shows() {
    let Some(programs) = programs() else { return };
    let project = Project::example("mcp-tools").with_env("PATH", &path_with(&programs));
    let tools = project.foreplan(&["tools"]);
    assert!(tools.stdout.contains("words__count_words") && tools.stdout.contains("read"), "{tools:?}");
    let run = project.foreplan(&["run"]);
    assert_eq!((run.code, run.stdout.trim()), (0, "4"), "{run:?}");
    assert_golden(golden("mcp-tools.txt"), &span_tree(&project, "last", &mut Normalizer::new()));
}

#[test]
fn a_reference_server_from_pypi_is_called_over_stdio() {
    let Some(programs) = programs() else { return };
    let input = json!({"source_timezone": "Europe/Berlin", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    let declared = "command = [\"mcp-server-time\"]\neffects = { convert_time = \"read\" }\n\
                    outputs = { convert_time = { target = \"object\" } }";
    let project = one_step(declared, "s__convert_time", &input, "call.target");
    let project = project.with_env("PATH", &path_with(&programs));
    let tools = project.foreplan(&["tools"]);
    assert!(tools.stdout.contains("s__get_current_time"), "{tools:?}");
    let run = project.foreplan(&["run"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("Asia/Tokyo"), "{run:?}");
}

#[test]
fn a_server_in_python_is_called_over_http() {
    let Some(programs) = programs() else { return };
    let source = std::fs::read_to_string(example().join("server.py")).expect("the example's server");
    let over_http = source
        .replace("mcp.run()", "import os\nmcp.run(\"streamable-http\", port=int(os.environ[\"PORT\"]))");
    assert_ne!(source, over_http);
    let server = Listening::start(Command::new(programs.join("python")).args(["-c", &over_http]));
    let declared = server.declared("effects = { count_words = \"read\" }");
    let project = one_step(&declared, "s__count_words", &json!({"text": "one two three"}), "call.result");
    let run = project.foreplan(&["run"]);
    assert_eq!((run.code, run.stdout.trim()), (0, "3"), "{run:?}");
}

#[test]
fn a_reference_server_from_npm_is_called_over_http_and_its_undeclared_tool_waits_for_a_person() {
    let ping = Command::new("npm").args(["ping", "--fetch-timeout=10000"]).output();
    if !ping.is_ok_and(|output| output.status.success()) {
        skipped("npm cannot be reached here");
        return;
    }
    let fetched = Command::new("npm").args(["exec", "--yes", "--package", EVERYTHING, "--", "true"]).output();
    assert!(fetched.is_ok_and(|output| output.status.success()), "{EVERYTHING} cannot be fetched");
    let server = Listening::start(Command::new("npx").args(["--yes", EVERYTHING, "streamableHttp"]));
    let outputs = "outputs = { echo = { text = \"string\" } }";
    let project = one_step(&server.declared(outputs), "s__echo", &json!({"message": "hello"}), "call.text");
    let run = project.foreplan(&["run"]);
    assert_eq!(run.code, 3, "what a project does not declare is irreversible: {run:?}");
    let approved = project.foreplan(&["run", "--approve", "auto"]);
    assert_eq!(approved.code, 0, "{approved:?}");
    assert!(approved.stdout.contains("hello"), "{approved:?}");
}
