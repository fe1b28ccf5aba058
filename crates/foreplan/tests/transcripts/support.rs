//! Runs the program and writes down what it shows.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be set up is a failed test")]

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use foreplan_testkit::{Normalizer, assert_golden, copy_project};
use serde_json::Value;
use tempfile::{TempDir, TempPath};

/// Longer than any command of these tests takes, even on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A copy of a project, and what was done to it so far.
pub(crate) struct Transcript {
    folder: TempDir,
    text: String,
}

impl Transcript {
    /// Begins on a copy of a project: one of `tests/projects`, or an example of the documentation.
    pub(crate) fn of(project: &str) -> Self {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let own = crate_folder.join("tests/projects").join(project);
        let example = crate_folder.join("../../docs/examples").join(project);
        let folder = copy_project(if own.is_dir() { own } else { example });
        Self { folder, text: String::new() }
    }

    /// Begins in an empty folder.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), text: String::new() }
    }

    /// Returns where a file of the project is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Changes a file of the project.
    pub(crate) fn replace(&mut self, name: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(old), "`{name}` does not hold `{old}`");
        self.write(name, &text.replace(old, new));
        self.say(&format!("in {name}: {old} becomes {new}"));
    }

    /// Adds a line for the reader.
    pub(crate) fn say(&mut self, what: &str) {
        self.text.push_str(&format!("# {what}\n"));
    }

    /// Runs a command to its end and writes down what it shows.
    pub(crate) fn foreplan(&mut self, arguments: &str) {
        self.text.push_str(&format!("$ foreplan {arguments}\n"));
        let running = self.start(arguments);
        self.ended(running);
    }

    /// Starts a command that goes on while others run.
    pub(crate) fn start_in_background(&mut self, arguments: &str) -> Running {
        self.text.push_str(&format!("$ foreplan {arguments} &\n"));
        self.start(arguments)
    }

    /// Waits for a command that goes on, and writes down what it shows.
    pub(crate) fn ended(&mut self, mut running: Running) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = running.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it does not end:\n{}{}", self.text, running.shown());
            thread::sleep(Duration::from_millis(5));
        };
        self.text.push_str(&running.shown());
        let code = status.code().map_or_else(|| "by a signal".to_owned(), |code| code.to_string());
        self.text.push_str(&format!("exit {code}\n\n"));
    }

    /// Runs a command to its end, apart from the transcript.
    pub(crate) fn shown(&self, arguments: &str) -> Shown {
        self.shown_by(Command::new(env!("CARGO_BIN_EXE_foreplan")), arguments)
    }

    /// The same, by a copy of the program.
    pub(crate) fn shown_by(&self, program: Command, arguments: &str) -> Shown {
        let mut running = self.spawn(program, arguments);
        let status = running.child.wait().unwrap();
        Shown { code: status.code().unwrap_or(-1), text: running.shown() }
    }

    fn start(&self, arguments: &str) -> Running {
        self.spawn(Command::new(env!("CARGO_BIN_EXE_foreplan")), arguments)
    }

    fn spawn(&self, mut program: Command, arguments: &str) -> Running {
        let shown = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let open = || -> Stdio { OpenOptions::new().append(true).create(true).open(&shown).unwrap().into() };
        let child = program
            .args(words(arguments))
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("USER", "ada")
            .stdin(File::open("/dev/null").unwrap())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        Running { child, shown }
    }

    /// Waits until the project has a file.
    pub(crate) fn wait_for(&self, name: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.path(name).exists() {
            assert!(Instant::now() < until, "`{name}` does not come");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the newest run as programs see it.
    pub(crate) fn view(&self) -> Value {
        self.view_of("last")
    }

    /// Returns a run as programs see it.
    pub(crate) fn view_of(&self, run: &str) -> Value {
        let shown = Command::new(env!("CARGO_BIN_EXE_foreplan"))
            .args(["show", run, "--json"])
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        serde_json::from_slice(&shown.stdout).unwrap()
    }

    /// Returns the digest of what the newest run waits with.
    pub(crate) fn digest(&self) -> String {
        self.view()["waiting_for"]["digest"].as_str().unwrap().to_owned()
    }

    /// Compares what was shown with what a person has read.
    pub(crate) fn golden(self, name: &str) {
        let mut normalizer = Normalizer::new().path(self.folder.path(), "[project]");
        let text = without_workers(&normalizer.apply(&self.text));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        assert_golden(folder.join(format!("{name}.txt")), &text);
    }
}

/// What a command showed, and what it exited with.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) code: i32,
    pub(crate) text: String,
}

/// A command that goes on.
pub(crate) struct Running {
    child: Child,
    shown: TempPath,
}

impl Running {
    /// Sends what Ctrl-C sends.
    pub(crate) fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }

    /// Waits until the command has shown a text.
    pub(crate) fn wait_for(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.shown().contains(text) {
            assert!(Instant::now() < until, "`{text}` is not shown:\n{}", self.shown());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn shown(&self) -> String {
        fs::read_to_string(&self.shown).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Which worker of a pool takes a step differs from run to run.
fn without_workers(text: &str) -> String {
    let mut parts = text.split("worker default/");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        format!("{text}worker default/N{}", part.trim_start_matches(|c: char| c.is_ascii_digit()))
    })
}

/// Splits a command line; single quotes hold words together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty())),
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|w| !w.is_empty()));
    words
}
