//! How runs, plans and findings look to a person: pure functions from data to text.
//!
//! Everything here takes its time and its colours as arguments and returns text; nothing prints.
//! Text that tools, models or people wrote goes through [`clean`](super::paint::clean) first.

pub mod audit;
pub mod calls;
pub mod diff;
pub mod evidence;
pub mod list;
pub mod plan;
pub mod progress;
pub mod run;
pub mod tools;

#[cfg(test)]
mod tests;

use foreplan_core::time::Timestamp;

use super::{hints::Hints, paint::Paint};

/// What every rendering needs besides its data.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Colours.
    pub paint: Paint,
    /// Commands.
    pub hints: Hints,
    /// The time that ages are measured to.
    pub now: Timestamp,
    /// How wide the terminal is.
    pub columns: usize,
}

impl Look {
    /// The width where there is no terminal: long enough that nothing of use is cut.
    pub const COLUMNS_DEFAULT: usize = 120;

    /// Makes a look without colours, for files and tests.
    #[must_use]
    pub fn plain(now: Timestamp) -> Self {
        Self { now, columns: Self::COLUMNS_DEFAULT, ..Self::default() }
    }
}

/// Returns rows as aligned columns, without trailing space. Cells may be coloured: their widths
/// are given beside them.
#[must_use]
pub fn table(rows: &[Vec<Cell>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.width).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&cell.text);
            line.push_str(&" ".repeat(width - cell.width + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    width: usize,
}

impl Cell {
    /// Makes a cell of text that anybody may have written.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = super::paint::clean(text);
        Self { width: super::paint::width(&text), text }
    }

    /// Makes a cell of such text in colour.
    #[must_use]
    pub fn toned(paint: Paint, tone: super::paint::Tone, text: &str) -> Self {
        let plain = Self::new(text);
        Self { text: paint.paint(tone, &plain.text), width: plain.width }
    }

    /// Makes a cell of text that is coloured already and takes `width` columns.
    #[must_use]
    pub fn painted(text: String, width: usize) -> Self {
        Self { text, width }
    }
}

/// Returns every line of `text` behind `prefix`.
#[must_use]
pub fn indent(text: &str, prefix: &str) -> String {
    let mut indented = String::new();
    for line in text.lines() {
        if !line.is_empty() {
            indented.push_str(prefix);
            indented.push_str(line);
        }
        indented.push('\n');
    }
    indented
}

/// Returns a value as people read it: text as it is, everything else as JSON.
#[must_use]
pub fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => super::paint::clean_lines(text),
        other => super::paint::clean_lines(&serde_json::to_string_pretty(other).unwrap_or_default()),
    }
}
