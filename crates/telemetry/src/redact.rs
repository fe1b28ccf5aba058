//! Patterns that users want to see nowhere outside the journal.

use regex::Regex;

/// What stands in the place of a text that a pattern matches.
const REDACTED: &str = "[redacted]";

/// Patterns that are replaced on export and on display, never in the journal: replaced there, they
/// could corrupt the inputs of later steps.
#[derive(Clone, Debug, Default)]
pub struct Redact(Vec<Regex>);

impl Redact {
    /// Reads patterns.
    ///
    /// # Errors
    ///
    /// The first that is no regular expression, and why.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let compile = |pattern: S| Regex::new(pattern.as_ref()).map_err(|e| e.to_string());
        patterns.into_iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Replaces what the patterns match.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, pattern| pattern.replace_all(&text, REDACTED).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pattern_matches_is_replaced_everywhere() {
        let redact = Redact::new([r"\b\d{4}-\d{4}\b", "ann"]).unwrap();
        assert_eq!(
            redact.apply("ann paid with 1234-5678, says ann"),
            "[redacted] paid with [redacted], says [redacted]"
        );
        assert!(Redact::new(["("]).is_err());
    }
}
