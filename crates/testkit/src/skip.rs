//! Tests that cannot run here say so.

use std::{fmt::Display, io::Write as _};

/// Says that the test which calls it does not run here, and why. Tests that pass are silent about what
/// they print, so it goes around them.
pub fn skipped(why: impl Display) {
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "skipped: {}: {why}", thread.name().unwrap_or("a test"));
}
