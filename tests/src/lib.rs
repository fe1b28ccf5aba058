//! What the end-to-end tests share: the real binary on copies of real projects.

mod alter;
mod collector;
mod deployment;
mod echo;
mod jaeger;
pub mod manifests;
mod proxy;
pub mod python;
mod raw;
mod spans;
pub mod work;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

pub use alter::{Alter, Altering, Message};
pub use collector::{Answer, Collector};
pub use deployment::{Deployment, Serving, serve};
pub use echo::Echo;
pub use jaeger::Jaeger;
pub use proxy::Proxy;
pub use raw::{Raw, Taken};
pub use spans::{arranged, golden, span_tree};

/// A copy of an example, with the binary that is under test.
pub struct Project {
    folder: TempDir,
    env: Vec<(String, String)>,
    binary: Option<PathBuf>,
}

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    /// The exit code.
    pub code: i32,
    /// What it printed as a result.
    pub stdout: String,
    /// What it said on the way.
    pub stderr: String,
}

impl Done {
    /// Asserts that it did what it should.
    ///
    /// # Panics
    ///
    /// If it did not.
    #[track_caller]
    pub fn succeeded(&self) {
        assert_eq!(self.code, 0, "{self:?}");
    }
}

impl Project {
    /// Copies an example of `docs/examples`.
    #[must_use]
    pub fn example(name: &str) -> Self {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
        Self { folder: foreplan_testkit::copy_project(examples.join(name)), env: Vec::new(), binary: None }
    }

    /// Copies a project.
    #[must_use]
    pub fn copy(folder: &str) -> Self {
        Self { folder: foreplan_testkit::copy_project(folder), env: Vec::new(), binary: None }
    }

    /// Returns an empty folder.
    ///
    /// # Panics
    ///
    /// If there can be none.
    #[must_use]
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), env: Vec::new(), binary: None }
    }

    /// Returns a folder with this project file.
    #[must_use]
    pub fn of(toml: &str) -> Self {
        Self::empty().with_file("foreplan.toml", toml)
    }

    /// Puts a file into the folder.
    #[must_use]
    pub fn with_file(self, file: &str, text: &str) -> Self {
        self.write(file, text);
        self
    }

    /// Sets a variable of the environment of all commands from now on.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets another program, of an earlier version, carry out all commands from now on.
    #[must_use]
    pub fn by(mut self, binary: &Path) -> Self {
        self.binary = Some(binary.to_owned());
        self
    }

    /// Lets every command use the deployment at a server.
    #[must_use]
    pub fn on(self, url: &str) -> Self {
        self.with_env("NATS_URL", url)
    }

    /// Returns the project's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the text of a file of the project; nothing if it is not there.
    #[must_use]
    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path().join(file)).unwrap_or_default()
    }

    /// Writes a file of the project.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path().join(file), text).expect("a file of the project is written");
    }

    /// Runs a command in the project to its end, without a terminal.
    ///
    /// # Panics
    ///
    /// If the binary cannot be started.
    #[must_use]
    pub fn foreplan(&self, args: &[&str]) -> Done {
        let output = self.command(args).output().expect("the binary starts");
        done(&output)
    }

    /// Begins a run, and leaves it to the deployment.
    ///
    /// # Panics
    ///
    /// If it is not accepted.
    #[track_caller]
    pub fn submit(&self) {
        self.foreplan(&["run", "--detach"]).succeeded();
    }

    /// Approves what the newest run waits for.
    ///
    /// # Panics
    ///
    /// If it waits for no approval, or does not take this one.
    #[track_caller]
    pub fn approve(&self) {
        let view = self.show("last");
        let digest = view["waiting_for"]["digest"].as_str();
        let digest = digest.unwrap_or_else(|| panic!("it waits for no approval: {view:#}"));
        self.foreplan(&["approve", "last", "--digest", digest]).succeeded();
    }

    /// Follows the newest run to its end.
    ///
    /// # Panics
    ///
    /// If it does not end with this exit code.
    #[track_caller]
    pub fn ends(&self, code: i32) {
        let watched = self.foreplan(&["watch", "last", "--exit-status"]);
        assert_eq!(watched.code, code, "{watched:?}");
    }

    /// Starts a command in the project.
    ///
    /// # Panics
    ///
    /// If the binary cannot be started.
    #[must_use]
    pub fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary starts")
    }

    /// Returns what `show RUN --json` says.
    ///
    /// # Panics
    ///
    /// If it says no JSON.
    #[must_use]
    pub fn show(&self, run: &str) -> Value {
        let shown = self.foreplan(&["show", run, "--json"]);
        serde_json::from_str(&shown.stdout).unwrap_or_else(|e| panic!("{e}: {shown:?}"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.binary.clone().unwrap_or_else(binary));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").env_remove("NATS_URL");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env_remove("FOREPLAN_PROJECT").env("NO_COLOR", "1").env("USER", "tester");
        command
    }
}

/// Longer than anything in a test takes, even on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something holds that other processes bring about.
///
/// # Panics
///
/// If it takes too long.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns what a process answers under a path.
///
/// # Panics
///
/// If it does not answer.
#[must_use]
pub fn page(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the process answers");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("it is asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// Returns what a finished command came to.
#[must_use]
pub fn done(output: &Output) -> Done {
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Returns the binary that `cargo test --workspace` built beside this test.
///
/// # Panics
///
/// If it is not built.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let folder = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    let binary = folder.join("foreplan");
    assert!(binary.exists(), "{} is not built: run `cargo test --workspace`", binary.display());
    binary
}
