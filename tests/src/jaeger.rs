//! A real Jaeger on ports of its own.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use foreplan_testkit::skipped;
use serde_json::Value;
use tempfile::TempDir;

/// How long Jaeger may take to begin, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Jaeger that holds its traces in memory and ends with this value.
pub struct Jaeger {
    process: Child,
    folder: TempDir,
    query: u16,
    otlp: u16,
}

impl Jaeger {
    /// Starts Jaeger; `None`, with a printed reason, where there is none.
    ///
    /// # Panics
    ///
    /// If it does not begin to answer.
    #[must_use]
    pub fn start() -> Option<Self> {
        let binary = binary();
        if !binary.exists() {
            let binary = binary.display();
            skipped(format_args!("there is no {binary}; `sh deploy/jaeger.sh` builds it, with Go"));
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [query, grpc, otlp] = ports();
        let config = folder.path().join("jaeger.yaml");
        std::fs::write(&config, text(query, grpc, otlp)).expect("the configuration is written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new(binary);
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().expect("jaeger starts");
        let mut jaeger = Self { process, folder, query, otlp };
        jaeger.until_ready();
        Some(jaeger)
    }

    /// Returns where it is asked.
    #[must_use]
    pub fn query(&self) -> String {
        format!("http://127.0.0.1:{}", self.query)
    }

    /// Returns where it takes spans, under this name of the machine.
    #[must_use]
    pub fn otlp(&self, host: &str) -> String {
        format!("http://{host}:{}", self.otlp)
    }

    /// Returns how many spans of a run its page shows.
    ///
    /// # Panics
    ///
    /// If it answers something else.
    #[must_use]
    pub fn shown(&self, run: &str) -> usize {
        let mut stream = TcpStream::connect(("127.0.0.1", self.query)).expect("jaeger answers");
        let path = format!("/api/v3/traces/{}", run.replace('-', ""));
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("jaeger is asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("jaeger answers");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"));
        let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let resources = list(&body["result"], "resourceSpans");
        let scopes = resources.iter().flat_map(|resource| list(resource, "scopeSpans"));
        scopes.map(|scope| list(&scope, "spans").len()).sum()
    }

    fn until_ready(&mut self) {
        let begun = Instant::now();
        let answers = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        while !(answers(self.query) && answers(self.otlp)) {
            let ended = self.process.try_wait().expect("its state is known");
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "jaeger does not begin: {}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Jaeger {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn binary() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let named = std::env::var_os("FOREPLAN_JAEGER").map(PathBuf::from);
    named.unwrap_or_else(|| home().join(".cache/foreplan/bin/jaeger"))
}

/// Returns ports that nobody uses now.
fn ports() -> [u16; 3] {
    let free = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let all = [free(), free(), free()];
    all.map(|one| one.local_addr().expect("its address").port())
}

fn text(query: u16, grpc: u16, otlp: u16) -> String {
    format!(
        r#"
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{ receivers: [otlp], exporters: [jaeger_storage_exporter] }}
  telemetry:
    metrics: {{ level: none }}
    logs: {{ level: warn }}
extensions:
  jaeger_query:
    storage: {{ traces: memory }}
    http: {{ endpoint: "127.0.0.1:{query}" }}
    grpc: {{ endpoint: "127.0.0.1:{grpc}" }}
  jaeger_storage:
    backends:
      memory: {{ memory: {{ max_traces: 1000 }} }}
receivers:
  otlp:
    protocols:
      http: {{ endpoint: "127.0.0.1:{otlp}" }}
exporters:
  jaeger_storage_exporter: {{ trace_storage: memory }}
"#
    )
}
