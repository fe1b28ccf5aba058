//! Helpers of the tests of tools.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use foreplan_core::{failure::Failure, id::ToolName};
use foreplan_tools::{
    Call, LogSink, Project, Stream, Toolbox,
    declare::{Declarations, Error, Loaded},
};
use serde_json::Value;

/// How long a call may take in a test that does not ask for a timeout: far longer than any takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a call with this input.
pub(crate) fn call(input: Value) -> Call {
    Call {
        input: Arc::new(input),
        run: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        step: "step".parse().unwrap(),
        attempt: 1,
        idempotency_key: None,
        timeout: TIMEOUT,
        permit_until: None,
        cancel: tokio_util::sync::CancellationToken::new(),
        log: None,
    }
}

/// Returns the name of a tool.
pub(crate) fn name(text: &str) -> ToolName {
    text.into()
}

/// A project in a temporary folder.
pub(crate) struct TestProject {
    pub(crate) dir: tempfile::TempDir,
    env: BTreeMap<String, String>,
}

impl TestProject {
    /// Makes a project with these files. Its environment has this process's `PATH` only.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let project = Self {
            dir: tempfile::tempdir().unwrap(),
            env: BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]),
        };
        files.iter().for_each(|(path, content)| project.write(path, content));
        project
    }

    /// Sets a variable of the project's environment.
    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Returns what a file holds, if it exists.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.dir.path().join(path)).ok()
    }

    /// Loads declarations, the `[tools]` of a project file.
    pub(crate) fn load(&self, declarations: &str) -> Result<Loaded, Error> {
        let declarations: Declarations = toml::from_str(declarations).unwrap();
        declarations.load(&Project::new(self.dir.path()).env(self.env.clone()))
    }

    /// Loads declarations and reaches their MCP servers.
    #[cfg(feature = "mcp")]
    pub(crate) async fn connect(&self, declarations: &str) -> Result<Loaded, Error> {
        let declarations: Declarations = toml::from_str(declarations).unwrap();
        declarations.connect(&Project::new(self.dir.path()).env(self.env.clone())).await
    }

    /// Makes the toolbox of declarations.
    pub(crate) fn toolbox(&self, declarations: &str) -> Toolbox {
        let loaded = self.load(declarations).unwrap();
        Toolbox::builder().tools(loaded.tools).secrets(&loaded.secrets).build().unwrap()
    }

    /// Calls the tool `t` of declarations.
    pub(crate) async fn call(&self, declarations: &str, input: Value) -> Result<Value, Failure> {
        self.toolbox(declarations).call(&name("t"), call(input)).await
    }

    /// Returns what calling the tool `t` fails with, as code and message.
    pub(crate) async fn failure(&self, declarations: &str, input: Value) -> Failure {
        self.call(declarations, input).await.unwrap_err()
    }
}

/// Keeps log lines.
#[derive(Default)]
pub(crate) struct Lines(pub(crate) Mutex<Vec<(Stream, String)>>);

impl LogSink for Lines {
    fn line(&self, stream: Stream, text: &str) {
        self.0.lock().unwrap().push((stream, text.to_owned()));
    }
}
