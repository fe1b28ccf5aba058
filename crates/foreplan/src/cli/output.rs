//! Where text goes: results to stdout, everything else to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use foreplan_core::time::Timestamp;
use foreplan_telemetry::Redact;
use serde::Serialize;
use serde_json::Value;

use super::{
    args::{ColorWhen, Global},
    error::Failure,
    exit::Exit,
    hints::Hints,
    paint::{Paint, Tone},
    render::{Look, plan},
};

/// The version of the machine-readable output.
pub const SCHEMA: &str = "1";

/// The first line of machine-readable output.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
#[serde(tag = "type", rename = "version")]
pub struct VersionLine {
    /// Which form the lines that follow have.
    pub schema: &'static str,
}

/// Writes results to stdout and everything else to stderr.
#[derive(Debug)]
pub struct Output {
    json: bool,
    stdout: Paint,
    stderr: Paint,
    /// Commands that work where they are printed.
    pub hints: Hints,
    /// What is shown to nobody.
    pub redact: Redact,
    began: bool,
}

impl Output {
    /// Decides about colours and form.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        Self {
            json: global.json,
            stdout: Paint::new(!global.json && colored(global.color, io::stdout().is_terminal())),
            stderr: Paint::new(colored(global.color, io::stderr().is_terminal())),
            hints: Hints::default(),
            redact: Redact::default(),
            began: false,
        }
    }

    /// Returns whether output is for programs.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Returns whether somebody can be asked.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        !self.json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Returns whether progress can be drawn in place: a terminal that does not say what it is cannot
    /// move its cursor.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let can_draw = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        !self.json && io::stderr().is_terminal() && can_draw && std::env::var_os("CI").is_none()
    }

    /// Returns how text on stdout looks.
    #[must_use]
    pub fn look(&self) -> Look {
        self.look_of(self.stdout)
    }

    /// Returns how text on stderr looks.
    #[must_use]
    pub fn look_stderr(&self) -> Look {
        self.look_of(self.stderr)
    }

    fn look_of(&self, paint: Paint) -> Look {
        Look { paint, hints: self.hints.clone(), now: now(), columns: columns() }
    }

    /// Prints a result.
    pub fn result(&mut self, text: &str) {
        let text = &self.redact.apply(text);
        let mut out = io::stdout().lock();
        // A reader that went away has seen all that it wants.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Prints one line for programs, behind the line that says which form the lines have.
    pub fn line(&mut self, value: &impl Serialize) {
        if !self.began {
            self.began = true;
            self.object(&VersionLine { schema: SCHEMA });
        }
        self.object(value);
    }

    /// Prints one object for programs, and no line before it.
    pub fn object(&mut self, value: &impl Serialize) {
        let mut value = serde_json::to_value(value).unwrap_or_default();
        if !self.redact.is_empty() {
            redact(&mut value, &self.redact);
        }
        let mut out = io::stdout().lock();
        let _ = out.write_all(format!("{value}\n").as_bytes()).and_then(|()| out.flush());
    }

    /// Prints something that is no result.
    pub fn note(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", self.redact.apply(text.trim_end_matches('\n')));
    }

    /// Prints why a command did not do its work, and returns what to exit with.
    pub fn failure(&self, failure: &Failure) -> Exit {
        let look = self.look_stderr();
        let mut text = format!("{} {}\n", look.paint.paint(Tone::Bad, "error:"), failure.what);
        text.push_str(&plan::findings(&look, &failure.findings));
        if let Some(next) = &failure.next {
            text.push_str(&format!("{} {next}\n", look.paint.paint(Tone::Warn, "fix:")));
        }
        self.note(&text);
        failure.exit
    }
}

/// Replaces texts inside a document, so that it stays one.
fn redact(value: &mut Value, patterns: &Redact) {
    match value {
        Value::String(text) => *text = patterns.apply(text),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, patterns)),
        Value::Object(fields) => {
            let cleaned = std::mem::take(fields).into_iter().map(|(name, mut field)| {
                redact(&mut field, patterns);
                (patterns.apply(&name), field)
            });
            *fields = cleaned.collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the time of day.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_microsecond())
}

/// `--color`, then NO_COLOR and CLICOLOR_FORCE, then whether it is a terminal.
fn colored(when: ColorWhen, terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    match when {
        ColorWhen::Always => true,
        ColorWhen::Never => false,
        ColorWhen::Auto if std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) => false,
        ColorWhen::Auto if set("CLICOLOR_FORCE") => true,
        ColorWhen::Auto => terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
    }
}

fn columns() -> usize {
    let (_, columns) = console::Term::stderr().size_checked().unwrap_or((0, 0));
    if columns == 0 { Look::COLUMNS_DEFAULT } else { columns.into() }
}
