//! Many runs: those that wait for a person first.

use std::fmt::Write as _;

use foreplan_core::{
    id::RunId,
    time::Timestamp,
    view::{Status, WaitKind},
};

use super::{Cell, Look, table};
use crate::cli::paint::{STATUS_COLUMNS, Tone, clean, count, cut, pad, span};

/// How many characters of a run's id a list shows: enough to be unique, and RUN takes them.
const SUFFIX: usize = 8;

/// The widest age below a hundred days, so that a list does not jitter while it is watched.
const AGE_COLUMNS: usize = 7;

/// A run as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The run.
    pub run: RunId,
    /// Its project.
    pub project: String,
    /// What it is for.
    pub goal: String,
    /// Where it stands.
    pub status: Status,
    /// What it waits for.
    pub waiting: Option<WaitKind>,
    /// Since when it stands there.
    pub since: Timestamp,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Steps done, and steps.
    pub steps: (u32, u32),
    /// Adopted plan versions after the first.
    pub replans: u32,
    /// Whether no process carries it on although it could go on.
    pub interrupted: bool,
}

/// Figures over many runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Stats {
    /// Runs.
    pub runs: u32,
    /// Of them, succeeded.
    pub succeeded: u32,
    /// Of them, failed, cancelled or rejected.
    pub ended_otherwise: u32,
    /// Runs with at least one replan.
    pub replanned: u32,
    /// Adopted plan versions after the first.
    pub replans: u32,
    /// Plans that a person edited.
    pub edited: u32,
    /// Calls to models.
    pub model_calls: u64,
    /// What step-by-step agents would have needed at least.
    pub react_calls_at_least: u64,
}

/// Returns the order of a list: waiting for a person, then active, then ended; newest first.
pub fn sort(rows: &mut [Row]) {
    rows.sort_by_key(|row| (rank(row), std::cmp::Reverse(row.created_at)));
}

fn rank(row: &Row) -> u8 {
    match row.status {
        Status::Waiting => 0,
        Status::Paused => 1,
        Status::Planning | Status::Running | Status::Replanning => 2,
        Status::Succeeded | Status::Failed | Status::Cancelled | Status::Rejected => 3,
    }
}

/// Returns the short form of a run's id that lists show.
#[must_use]
pub fn short(run: RunId) -> String {
    let id = run.to_string();
    id[id.len() - SUFFIX..].to_owned()
}

/// Returns the runs as a table.
#[must_use]
pub fn runs(look: &Look, rows: &[Row]) -> String {
    if rows.is_empty() {
        return format!("No runs yet. Start one: {}\n", look.hints.command("run", &[]));
    }
    let mut table_rows = vec![
        ["RUN", "STATUS", "STEPS", "AGE", "PROJECT", "GOAL"]
            .map(|title| Cell::toned(look.paint, Tone::Dim, title))
            .to_vec(),
    ];
    for row in rows {
        table_rows.push(vec![
            Cell::toned(look.paint, Tone::Strong, &short(row.run)),
            Cell::painted(look.paint.status(row.status), STATUS_COLUMNS),
            Cell::new(&steps(row)),
            Cell::painted(pad(&span(look.now.since(row.created_at)), AGE_COLUMNS), AGE_COLUMNS),
            Cell::new(&cut(&clean(&row.project), 24)),
            Cell::new(&cut(&clean(&row.goal), 48)),
        ]);
    }
    let mut text = table(&table_rows);
    let waiting = rows.iter().filter(|r| r.status == Status::Waiting).count();
    let interrupted: Vec<&Row> = rows.iter().filter(|r| r.interrupted).collect();
    if waiting > 0 {
        let first =
            rows.iter().find(|r| r.status == Status::Waiting).map(|r| short(r.run)).unwrap_or_default();
        let _ = writeln!(
            text,
            "\n{} for you: {}",
            verb(waiting, "waits", "wait"),
            look.hints.command("show", &[&first])
        );
    }
    if let Some(hint) = interrupted_hint(look, &interrupted) {
        let _ = writeln!(text, "\n{hint}");
    }
    text
}

fn verb(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(n, "run"), if n == 1 { one } else { many })
}

/// Returns `1 interrupted run: foreplan resume …`.
#[must_use]
pub fn interrupted_hint(look: &Look, rows: &[&Row]) -> Option<String> {
    let command = match rows {
        [] => return None,
        [row] => look.hints.command("resume", &[&short(row.run)]),
        _ => look.hints.command("resume", &["--all"]),
    };
    Some(format!("{}: {command}", count(rows.len(), "interrupted run")))
}

fn steps(row: &Row) -> String {
    match row.steps {
        (_, 0) => "-".to_owned(),
        (done, all) => format!("{done}/{all}"),
    }
}

/// Returns the runs that do not go on by themselves, each with the reason and since when.
#[must_use]
pub fn stuck(look: &Look, rows: &[Row]) -> String {
    let mut table_rows = Vec::new();
    for row in rows {
        let Some((reason, verb)) = reason(row) else { continue };
        let id = short(row.run);
        table_rows.push(vec![
            Cell::toned(look.paint, Tone::Strong, &id),
            Cell::painted(look.paint.status(row.status), STATUS_COLUMNS),
            Cell::new(&format!("for {}", span(look.now.since(row.since)))),
            Cell::new(reason),
            Cell::new(&look.hints.command(verb, &[&id])),
        ]);
    }
    if table_rows.is_empty() {
        return format!("{}\n", look.paint.paint(Tone::Good, "✓ no run is stuck"));
    }
    table(&table_rows)
}

/// Returns why a run does not go on by itself, and the verb that helps.
#[must_use]
pub fn reason(row: &Row) -> Option<(&'static str, &'static str)> {
    if row.status.is_ended() {
        return None;
    }
    if let Some(kind) = row.waiting {
        return Some((
            match kind {
                WaitKind::PlanApproval => "the plan waits for approval",
                WaitKind::StepApproval => "a step waits for approval",
                WaitKind::ReplanApproval => "the changed plan waits for approval",
                WaitKind::Question => "a question waits for an answer",
                WaitKind::ChildRun => "a run that carries out one of its steps waits",
                WaitKind::UnknownOutcome => "nobody knows whether an irreversible call happened",
            },
            "show",
        ));
    }
    match row.status {
        Status::Paused => Some(("paused", "resume")),
        _ if row.interrupted => Some(("interrupted: no process carries it on", "resume")),
        _ => None,
    }
}

/// Returns figures over many runs.
#[must_use]
pub fn stats(stats: &Stats) -> String {
    let row = |name: &str, value: String| vec![Cell::new(name), Cell::new(&value)];
    let rate = |part: u32| match stats.runs {
        0 => String::new(),
        runs => format!(" ({} %)", u64::from(part) * 100 / u64::from(runs)),
    };
    table(&[
        row("runs", stats.runs.to_string()),
        row("succeeded", format!("{}{}", stats.succeeded, rate(stats.succeeded))),
        row("failed, cancelled or rejected", stats.ended_otherwise.to_string()),
        row("runs with a replan", format!("{}{}", stats.replanned, rate(stats.replanned))),
        row("replans", stats.replans.to_string()),
        row("plans edited by a person", stats.edited.to_string()),
        row("model calls", stats.model_calls.to_string()),
        row("a step-by-step agent: at least", stats.react_calls_at_least.to_string()),
    ])
}
