//! Plan versions side by side.

use std::fmt::Write as _;

use foreplan_core::diff::{Change, FieldDiff, PlanDiff, StepDiff};
use serde_json::Value;

use super::{Look, plan};
use crate::cli::{
    history::Version,
    paint::{Tone, clean, cut, pad, width},
};

/// Longest value of a field that a diff shows.
const VALUE_COLUMNS: usize = 60;

/// Returns what changed from one version to another, and why.
#[must_use]
pub fn versions(look: &Look, old: &Version, new: &Version) -> String {
    let diff = PlanDiff::between(old.plan(), new.plan(), &new.done);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}",
        look.paint.paint(Tone::Strong, &format!("Plan version {} → {}", old.number, new.number))
    );
    let why = if new.why.is_empty() { "planned again" } else { &new.why };
    let _ = writeln!(text, "{} {} ({})", look.paint.paint(Tone::Warn, "!"), clean(why), clean(&new.by));
    text.push('\n');
    text.push_str(&body(look, &diff));
    if !new.findings.is_empty() {
        text.push('\n');
        text.push_str(&plan::findings(look, &new.findings));
    }
    text
}

/// Returns the lines of a diff and its footer.
#[must_use]
pub fn body(look: &Look, diff: &PlanDiff) -> String {
    let widest = |of: fn(&StepDiff) -> &str| diff.steps.iter().map(|s| width(of(s))).max().unwrap_or(0);
    let columns = (widest(|s| s.id.as_str()), widest(|s| &s.what));
    let mut text = String::new();
    for step in &diff.steps {
        line(look, step, columns, &mut text);
    }
    for field in &diff.plan {
        let _ = writeln!(text, "  {} {}", look.paint.paint(Tone::Warn, "~"), changed(field));
    }
    let _ = writeln!(text, "\n{}", footer(diff));
    text
}

/// Returns `2 added, 1 changed, 1 dropped, 3 kept`.
#[must_use]
pub fn footer(diff: &PlanDiff) -> String {
    let mut footer = format!(
        "{} added, {} changed, {} dropped, {} kept",
        diff.count(Change::Added),
        diff.count(Change::Changed),
        diff.count(Change::Dropped),
        diff.count(Change::Kept),
    );
    let unchanged = diff.count(Change::Unchanged);
    if unchanged > 0 {
        let _ = write!(footer, ", {unchanged} unchanged");
    }
    footer
}

fn line(look: &Look, step: &StepDiff, columns: (usize, usize), text: &mut String) {
    let (glyph, tone, word) = match step.change {
        Change::Added => ("+", Tone::Good, "added"),
        Change::Dropped => ("-", Tone::Bad, "dropped"),
        Change::Changed => ("~", Tone::Warn, "changed"),
        Change::Kept => ("=", Tone::Plain, "kept, done"),
        Change::Unchanged => (" ", Tone::Dim, "unchanged"),
    };
    let id = pad(step.id.as_str(), columns.0);
    let title = if step.title.is_empty() { String::new() } else { format!("  {}", clean(&step.title)) };
    let rest = format!("{glyph} {id}  {}  {word}{title}", pad(&clean(&step.what), columns.1));
    let _ = writeln!(text, "  {}", look.paint.paint(tone, &rest));
    for field in &step.fields {
        let _ = writeln!(text, "      {}", changed(field));
    }
    if step.change == Change::Changed && step.done {
        let _ = writeln!(text, "      it was done and is looked at again");
    }
}

fn changed(field: &FieldDiff) -> String {
    let show = |value: &Option<Value>| match value {
        Some(value) => cut(&clean(&value.to_string()), VALUE_COLUMNS),
        None => "(none)".to_owned(),
    };
    format!("{}: {} → {}", clean(&field.field), show(&field.old), show(&field.new))
}
