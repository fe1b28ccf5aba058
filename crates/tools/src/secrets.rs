//! Known secret values, and their replacement in everything that leaves the worker.

use foreplan_core::failure::Failure;
use serde_json::Value;

/// What stands where a secret stood.
pub(crate) const REDACTED: &str = "[redacted]";

/// Shorter values are not replaced: they would be found by chance in what is no secret.
pub(crate) const SECRET_BYTES_MIN: usize = 4;

/// A line of a secret with several lines (a private key) is a secret by itself from this length on,
/// since logs are cut into lines.
const SECRET_LINE_BYTES_MIN: usize = 12;

/// The secret values that this process knows.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Invariant: longest first, so that a secret inside another leaves no rest; no duplicates.
    values: Vec<String>,
}

impl Secrets {
    /// Adds a value. One of fewer than four bytes is ignored.
    pub fn add(&mut self, value: &str) {
        let value = value.trim();
        self.insert(value, SECRET_BYTES_MIN);
        if value.contains('\n') {
            for line in value.lines() {
                self.insert(line.trim(), SECRET_LINE_BYTES_MIN);
            }
        }
        self.values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    }

    /// Adds all values of `other`.
    pub fn extend(&mut self, other: &Self) {
        other.values.iter().for_each(|value| self.add(value));
    }

    /// Returns whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns `text` without secrets, or nothing if it holds none.
    #[must_use]
    pub fn redact_text(&self, text: &str) -> Option<String> {
        let mut redacted: Option<String> = None;
        for secret in &self.values {
            let current = redacted.as_deref().unwrap_or(text);
            if current.contains(secret.as_str()) {
                redacted = Some(current.replace(secret.as_str(), REDACTED));
            }
        }
        redacted
    }

    /// Replaces secrets in every text and every key of `value`.
    pub fn redact(&self, value: &mut Value) {
        if self.is_empty() {
            return;
        }
        match value {
            Value::String(text) => self.redact_string(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact(item)),
            Value::Object(fields) => {
                if fields.keys().any(|key| self.redact_text(key).is_some()) {
                    *fields = std::mem::take(fields)
                        .into_iter()
                        .map(|(key, value)| (self.redact_text(&key).unwrap_or(key), value))
                        .collect();
                }
                fields.values_mut().for_each(|field| self.redact(field));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Replaces secrets in what a failure says.
    #[must_use]
    pub fn redact_failure(&self, mut failure: Failure) -> Failure {
        self.redact_string(&mut failure.code);
        self.redact_string(&mut failure.message);
        self.redact_cut(&mut failure.message);
        failure
    }

    /// Replaces the start of a secret at the end of a message that was cut.
    fn redact_cut(&self, message: &mut String) {
        let Some(kept) = message.strip_suffix('…') else { return };
        let starts_at = |secret: &str| {
            let lengths = (SECRET_BYTES_MIN..secret.len()).rev().filter(|at| secret.is_char_boundary(*at));
            lengths.map(|at| &secret[..at]).find(|start| kept.ends_with(start)).map(|s| kept.len() - s.len())
        };
        if let Some(at) = self.values.iter().find_map(|secret| starts_at(secret)) {
            message.truncate(at);
            message.push_str(REDACTED);
            message.push('…');
        }
    }

    /// Returns the length of the longest, in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.values.first().map_or(0, String::len)
    }

    fn redact_string(&self, text: &mut String) {
        if let Some(redacted) = self.redact_text(text) {
            *text = redacted;
        }
    }

    fn insert(&mut self, value: &str, bytes_min: usize) {
        if value.len() >= bytes_min && !self.values.iter().any(|known| known == value) {
            self.values.push(value.to_owned());
        }
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.values.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreplan_core::failure::FailureKind;
    use serde_json::json;

    fn secrets(values: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        values.iter().for_each(|value| secrets.add(value));
        secrets
    }

    #[test]
    fn secrets_are_replaced_in_keys_and_texts_at_any_depth() {
        let mut value = json!({"a": ["x hunter2 y", {"hunter2": 1}], "n": 3});
        secrets(&["hunter2"]).redact(&mut value);
        assert_eq!(value, json!({"a": ["x [redacted] y", {"[redacted]": 1}], "n": 3}));
    }

    #[test]
    fn a_secret_inside_another_leaves_no_rest() {
        assert_eq!(
            secrets(&["key1", "key1-and-more"]).redact_text("=key1-and-more=").as_deref(),
            Some("=[redacted]=")
        );
    }

    #[test]
    fn short_values_are_no_secrets() {
        assert!(secrets(&["", "abc", " x "]).is_empty());
    }

    #[test]
    fn every_line_of_a_key_is_a_secret() {
        let known = secrets(&["-----BEGIN KEY-----\nMIIEvQIBADANBg\nend\n"]);
        assert_eq!(known.redact_text("log: MIIEvQIBADANBg").as_deref(), Some("log: [redacted]"));
        assert_eq!(known.redact_text("the end"), None);
    }

    #[test]
    fn failures_say_no_secret() {
        let failure = Failure::new(FailureKind::Tool, "hunter2", "no hunter2 here");
        let clean = secrets(&["hunter2"]).redact_failure(failure);
        assert_eq!((clean.code.as_str(), clean.message.as_str()), ("[redacted]", "no [redacted] here"));
    }

    #[test]
    fn a_secret_that_a_long_message_cut_leaves_no_start() {
        let text = format!("{}hunter2", "x".repeat(foreplan_core::failure::MESSAGE_BYTES_MAX - 5));
        let clean = secrets(&["hunter2"]).redact_failure(Failure::new(FailureKind::Tool, "x", text));
        assert!(clean.message.ends_with("x[redacted]…"), "{}", &clean.message[4000..]);
    }

    #[test]
    fn what_is_known_is_not_shown() {
        assert_eq!(format!("{:?}", secrets(&["hunter2"])), "Secrets(1)");
    }
}
