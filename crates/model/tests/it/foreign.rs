//! The client against a server that is not ours: `llmock` from PyPI, which speaks as the providers do
//! and judges its clients. It is installed once under the target folder.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use foreplan_model::{
    Api, Config, ErrorKind, Key, Model, Models, OutputSchema, Request, ToolSpec, structured,
};
use serde_json::{Value, json};

use crate::common::{client, request};

/// The version that these tests were written against.
const PACKAGE: &str = "llmock==0.2.2";

struct Foreign {
    process: Child,
    address: String,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the program, or why it cannot be had. Tests run side by side, and one installs.
fn installed() -> Result<PathBuf, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(install).clone()
}

fn install() -> Result<PathBuf, String> {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(PACKAGE);
    let program = place.join("bin/llmock");
    if program.exists() {
        return Ok(program);
    }
    let run = |program: PathBuf, arguments: &[&str]| {
        let output = Command::new(&program).args(arguments).stdin(Stdio::null()).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("{}: {error}", program.display())),
        }
    };
    let text = place.to_str().ok_or("the target folder has no UTF-8 name")?;
    let installed = run("python3".into(), &["-m", "venv", text]).and_then(|()| {
        run(place.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", PACKAGE])
    });
    installed.map(|()| program).inspect_err(|_| {
        let _ = std::fs::remove_dir_all(&place);
    })
}

impl Foreign {
    /// Starts the server; nothing, with the reason printed, where it cannot be installed.
    fn start() -> Option<Self> {
        let program = match installed() {
            Ok(program) => program,
            Err(why) => {
                foreplan_testkit::skipped(format_args!("{PACKAGE} cannot be installed: {why}"));
                return None;
            }
        };
        let mut process = Command::new(program)
            .args(["serve", "--port", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("running on http://")?;
            Some(rest.split(' ').next()?.to_owned())
        });
        // The rest is read too, or the server blocks when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, address: address.expect("the server says where it listens") })
    }

    fn model(&self, api: Api, path: &str, stream: bool) -> Arc<dyn Model> {
        let config = Config {
            api: Some(api),
            base_url: Some(format!("http://{}{path}", self.address)),
            key: Key::Given("any-key".to_owned()),
            timeout: Some(Duration::from_secs(20)),
            stream: Some(stream),
            ..Config::default()
        };
        client([("test/m", config)]).model("test/m").unwrap()
    }

    /// Says what the server does with the next requests.
    fn next(&self, behaviors: &Value) {
        self.http("POST", "/_llmock/reset", "");
        self.http("POST", "/_llmock/scenario", &json!({"behaviors": behaviors}).to_string());
    }

    fn http(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}",
            self.address
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 ") || head.contains(" 201 "), "{method} {path}: {text}");
        body.to_owned()
    }
}

const APIS: [(Api, &str); 3] =
    [(Api::Openai, "/v1"), (Api::Anthropic, "/anthropic/v1"), (Api::Gemini, "/gemini/v1beta")];

#[tokio::test]
async fn a_foreign_server_is_understood_in_every_form_and_judges_the_client() {
    let Some(server) = Foreign::start() else { return };
    for ((api, path), stream) in APIS.into_iter().flat_map(|api| [(api, false), (api, true)]) {
        let model = server.model(api, path, stream);

        server.next(&json!([{"type": "fail", "status": 429, "retry_after": 1, "times": 1}, {"type": "reply", "text": "three"}]));
        let answer =
            model.chat(Arc::new(request("how many?"))).await.unwrap_or_else(|e| panic!("{api:?}: {e}"));
        assert_eq!((answer.text.as_str(), answer.retries), ("three", 1), "{api:?}");
        let verdict: Value = serde_json::from_str(&server.http("GET", "/_llmock/verdict", "")).unwrap();
        assert_eq!(verdict["passed"], true, "{api:?}: {verdict}");

        server
            .next(&json!([{"type": "reply", "tool_calls": [{"name": "read", "arguments": {"path": "a"}}]}]));
        let input =
            json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
        let tool = ToolSpec { name: "read".to_owned(), description: "Reads a file".to_owned(), input };
        let offered = Request { tools: vec![tool], ..request("read a") };
        let answer = model.chat(Arc::new(offered)).await.unwrap_or_else(|e| panic!("{api:?}: {e}"));
        assert_eq!(answer.calls[0].input, json!({"path": "a"}), "{api:?}");

        server.next(&json!([{"type": "fail", "status": 401}]));
        let error = model.chat(Arc::new(request("x"))).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Authentication, "{api:?}: {error}");
    }
}

#[tokio::test]
async fn a_foreign_stream_that_breaks_is_asked_for_again_and_never_used_by_half() {
    let Some(server) = Foreign::start() else { return };
    for (api, path) in APIS {
        let model = server.model(api, path, true);
        for kind in ["disconnect", "truncate"] {
            let place = format!("{api:?}, {kind}");
            let words = "one two three four five six";
            let fault = json!({"type": "stream_fault", "kind": kind, "after_chunks": 2, "times": 1});
            server.next(&json!([fault, {"type": "reply", "text": words, "times": 2}]));
            let answer = model.chat(Arc::new(request("x"))).await.unwrap_or_else(|e| panic!("{place}: {e}"));
            assert_eq!((answer.text.as_str(), answer.retries), (words, 1), "{place}");
            assert!(answer.tokens.output > 0 && answer.finish.is_some(), "{place}: {answer:?}");
        }
        server.next(&json!([{"type": "stream_fault", "kind": "malformed", "after_chunks": 2, "times": 9}]));
        let error = model.chat(Arc::new(request("x"))).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Malformed, "{api:?}: {error}");
    }
}

#[tokio::test]
async fn a_foreign_server_takes_our_schemas() {
    let Some(server) = Foreign::start() else { return };
    let schema = json!({"type": "object", "properties": {"lines": {"type": "integer"}}, "required": ["lines"], "additionalProperties": false});
    let output = Some(OutputSchema { name: "count".to_owned(), schema });
    let model = server.model(Api::Openai, "/v1", false);
    let answer = model.chat(Arc::new(Request { output, ..request("count") })).await.unwrap();
    assert!(structured(&answer).unwrap()["lines"].is_i64(), "{answer:?}");
}
