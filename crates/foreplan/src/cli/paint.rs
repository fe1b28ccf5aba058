//! Colour, glyphs and widths: how words become terminal text. Untrusted text is made harmless here.

use std::time::Duration;

use anstyle::{AnsiColor, Color, Effects, Style};
use foreplan_core::{
    finding::Severity,
    time::Timestamp,
    tool::Effect,
    view::{Status, StepStatus},
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The widest status of a run: a glyph, a space, `replanning`.
pub const STATUS_COLUMNS: usize = 12;

/// What a piece of text stands for, whatever colour the terminal gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Done and well.
    Good,
    /// Failed or refused.
    Bad,
    /// A person should look.
    Warn,
    /// In progress.
    Busy,
    /// Beside the point.
    Dim,
    /// Headings.
    Strong,
    /// As any text.
    Plain,
}

/// Writes text with or without colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint {
    color: bool,
}

impl Paint {
    /// Makes a painter.
    #[must_use]
    pub fn new(color: bool) -> Self {
        Self { color }
    }

    /// Returns whether there are colours.
    #[must_use]
    pub fn is_colored(self) -> bool {
        self.color
    }

    /// Returns the text in the colour of its tone.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Good => fg(AnsiColor::Green),
            Tone::Bad => fg(AnsiColor::Red),
            Tone::Warn => fg(AnsiColor::Yellow),
            Tone::Busy => fg(AnsiColor::Cyan),
            Tone::Dim => Style::new().effects(Effects::DIMMED),
            Tone::Strong => Style::new().effects(Effects::BOLD),
            Tone::Plain => Style::new(),
        };
        if self.color && tone != Tone::Plain { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// Returns a run's status as glyph, word and colour, padded for a column.
    #[must_use]
    pub fn status(self, status: Status) -> String {
        let columns = width(&Self::default().status_word(status));
        format!("{}{}", self.status_word(status), " ".repeat(STATUS_COLUMNS.saturating_sub(columns)))
    }

    /// Returns a run's status as glyph, word and colour.
    #[must_use]
    pub fn status_word(self, status: Status) -> String {
        let (glyph, tone) = match status {
            Status::Planning => ("◌", Tone::Busy),
            Status::Waiting => ("?", Tone::Warn),
            Status::Running => ("▶", Tone::Busy),
            Status::Replanning => ("↻", Tone::Busy),
            Status::Paused => ("‖", Tone::Warn),
            Status::Succeeded => ("✓", Tone::Good),
            Status::Failed => ("✗", Tone::Bad),
            Status::Cancelled => ("■", Tone::Bad),
            Status::Rejected => ("⊘", Tone::Bad),
        };
        self.paint(tone, &format!("{glyph} {}", status.as_str()))
    }

    /// Returns a step's status as glyph, word and colour, padded for a column.
    #[must_use]
    pub fn step(self, status: StepStatus) -> String {
        let (glyph, tone) = match status {
            StepStatus::Pending => ("·", Tone::Dim),
            StepStatus::Running => ("▶", Tone::Busy),
            StepStatus::Waiting => ("?", Tone::Warn),
            StepStatus::Succeeded => ("✓", Tone::Good),
            StepStatus::Failed => ("✗", Tone::Bad),
            StepStatus::Skipped => ("»", Tone::Dim),
            StepStatus::Superseded => ("⊘", Tone::Dim),
            StepStatus::Cancelled => ("■", Tone::Bad),
        };
        self.paint(tone, &format!("{glyph} {:<10}", status.as_str()))
    }

    /// Returns an effect as glyph, word and colour, padded for a column.
    #[must_use]
    pub fn effect(self, effect: Effect) -> String {
        let (glyph, tone) = match effect {
            Effect::Read => ("○", Tone::Dim),
            Effect::Idempotent => ("◐", Tone::Plain),
            Effect::Irreversible => ("●", Tone::Warn),
        };
        self.paint(tone, &format!("{glyph} {:<12}", effect.as_str()))
    }

    /// Returns a severity as glyph, word and colour.
    #[must_use]
    pub fn severity(self, severity: Severity) -> String {
        match severity {
            Severity::Error => self.paint(Tone::Bad, "✗ error "),
            Severity::Advice => self.paint(Tone::Warn, "! advice"),
        }
    }
}

fn fg(color: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(color)))
}

/// Returns the text on one line, with control characters made visible: what tools and models wrote
/// must not move the cursor or hide text in a review.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' | '\t' => line.push(' '),
            c if is_hidden(c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    line
}

/// Returns the text with its lines, and control characters made visible.
#[must_use]
pub fn clean_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(clean).collect();
    lines.join("\n")
}

/// Control characters, and those that reorder text around them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Returns how many columns the text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// Returns the text filled with spaces up to a number of columns.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Returns the text cut to a number of columns, with `…` where something is missing.
#[must_use]
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > columns {
            break;
        }
        cut.push(c);
    }
    cut.push('…');
    cut
}

/// Returns a span of time as people say it: `40ms`, `1.5s`, `12s`, `3m 20s`, `2h 5m`, `4d 1h`.
#[must_use]
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..10 => format!("{:.1}s", span.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Returns a point in time in UTC to the second: `2026-11-20 13:15:24Z`.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    let text = foreplan_core::time::rfc3339::format(at);
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {}Z", time.get(..8).unwrap_or(time.trim_end_matches('Z')))
}

/// Returns the time of day in UTC to the millisecond: `13:15:24.120`.
#[must_use]
pub fn clock(at: Timestamp) -> String {
    let text = foreplan_core::time::rfc3339::format(at);
    let time = text.split_once('T').map_or("", |(_, time)| time).trim_end_matches('Z');
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{:0<3}", fraction.get(..3).unwrap_or(fraction))
}

/// Returns `n` and the noun, in the plural where it belongs.
#[must_use]
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Returns micro-dollars as `$1.50`, with as many digits as it takes to show something.
#[must_use]
pub fn dollars(microusd: u64) -> String {
    let digits = match microusd {
        0 | 10_000.. => 2,
        100.. => 4,
        _ => 6,
    };
    let text = format!("${}.{:06}", microusd / 1_000_000, microusd % 1_000_000);
    text[..text.len() - (6 - digits)].to_owned()
}

/// Returns the text as one argument of a POSIX shell.
#[must_use]
pub fn shell(text: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&b);
    if !text.is_empty() && text.bytes().all(safe) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_cannot_move_the_cursor_or_reorder_a_review() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb c\\u{202e}d");
    }

    #[test]
    fn text_is_cut_and_padded_by_columns() {
        assert_eq!(cut("日本語テキスト", 7), "日本語…");
        assert_eq!(pad("日本", 6), "日本  ");
        assert_eq!(cut("short", 5), "short");
    }

    #[test]
    fn amounts_show_the_digits_that_say_something() {
        let shown = [0, 99, 150, 10_000, 1_500_000, 12_345_678].map(dollars);
        assert_eq!(shown, ["$0.00", "$0.000099", "$0.0001", "$0.01", "$1.50", "$12.34"]);
    }

    #[test]
    fn spans_and_moments_read_like_people_say_them() {
        assert_eq!(span(Duration::from_millis(420)), "420ms");
        assert_eq!(span(Duration::from_millis(1_480)), "1.5s");
        assert_eq!(span(Duration::from_secs(200)), "3m 20s");
        assert_eq!(span(Duration::from_secs(90_000)), "1d 1h");
        assert_eq!(moment(Timestamp(1_700_000_000_000_000)), "2023-11-14 22:13:20Z");
        assert_eq!(clock(Timestamp(1_700_000_000_120_000)), "22:13:20.120");
    }

    #[test]
    fn without_colour_there_is_no_escape() {
        assert_eq!(Paint::new(false).status(Status::Failed), "✗ failed    ");
        assert!(Paint::new(true).status(Status::Failed).starts_with("\u{1b}["));
    }

    #[test]
    fn arguments_survive_a_shell() {
        assert_eq!(shell("docs/examples"), "docs/examples");
        assert_eq!(shell("it's"), r"'it'\''s'");
    }
}
