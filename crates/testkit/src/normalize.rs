//! Transcripts without what differs from run to run.

use std::{path::Path, sync::LazyLock};

use foreplan_core::id::RunId;
use regex::{Captures, Regex};

/// The shortest part of a run's id that is taken for one: what the command line accepts.
const RUN_SUFFIX_MIN: usize = 6;

/// Replaces what differs from run to run by placeholders that do not: `RUN-1`, `DIGEST-1`, `TIME`,
/// `DURATION`, and names for paths. Ids and digests are numbered in the order in which they appear,
/// over all texts that one normalizer sees, so that a transcript still shows which are the same.
#[derive(Debug, Default)]
pub struct Normalizer {
    paths: Vec<(String, String)>,
    runs: Vec<String>,
    digests: Vec<String>,
}

static UUID: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"));
static DIGEST: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bsha256:([0-9a-f]{6,64})\b"));
static HEX_WORD: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[0-9a-f]{6,64}\b"));
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\b\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?)?\b|\b\d{2}:\d{2}:\d{2}(\.\d+)?\b|\b1[5-9]\d{14}\b",
    )
});
static DURATION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b\d+(\.\d+)?(ns|us|µs|ms|s|m|h|d)\b( \d+(\.\d+)?(ns|us|µs|ms|s|m|h|d)\b)*"));
static DURATION_PADDING: LazyLock<Regex> = LazyLock::new(|| pattern(r"( {2,})?DURATION( {2,})?"));
static WORKER: LazyLock<Regex> = LazyLock::new(|| pattern(r#"("worker": ?"[^"/]+/)\d+""#));

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| panic!("`{text}` is no pattern: {error}"))
}

impl Normalizer {
    /// Makes a normalizer that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces a path by a name: `[project]`.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>, name: &str) -> Self {
        let path = path.as_ref();
        // A temporary folder may be reached through a link.
        for path in [Some(path.to_owned()), path.canonicalize().ok()].into_iter().flatten() {
            self.paths.push((path.display().to_string(), name.to_owned()));
        }
        // The longest first, so that a folder inside another keeps its own name.
        self.paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        self
    }

    /// Numbers a run before it appears: for texts that show only the end of its id.
    #[must_use]
    pub fn run(mut self, run: RunId) -> Self {
        number(&mut self.runs, &run.to_string());
        self
    }

    /// Returns the text with its placeholders, without spaces at the ends of lines.
    pub fn apply(&mut self, text: &str) -> String {
        let mut text = self.paths.iter().fold(text.to_owned(), |text, (path, name)| text.replace(path, name));
        text = replace(&UUID, &text, |found| Some(format!("RUN-{}", number(&mut self.runs, &found[0]))));
        text = replace(&DIGEST, &text, |found| Some(format!("DIGEST-{}", self.digest(&found[1]))));
        text = replace(&HEX_WORD, &text, |found| self.hex_word(&found[0]));
        text = TIME.replace_all(&text, "TIME").into_owned();
        text = DURATION.replace_all(&text, "DURATION").into_owned();
        text = DURATION_PADDING
            .replace_all(&text, |found: &Captures<'_>| {
                let padding = |side| if found.get(side).is_some() { "  " } else { "" };
                format!("{}DURATION{}", padding(1), padding(2))
            })
            .into_owned();
        text = WORKER.replace_all(&text, r#"${1}N""#).into_owned();
        let lines: Vec<&str> = text.split('\n').map(str::trim_end).collect();
        lines.join("\n")
    }

    /// Returns the placeholder of the end of a known run's id, or of the beginning of a known
    /// digest; any other word is left as it is.
    fn hex_word(&self, word: &str) -> Option<String> {
        if word.len() >= RUN_SUFFIX_MIN
            && let Some(at) = self.runs.iter().position(|run| run.replace('-', "").ends_with(word))
        {
            return Some(format!("RUN-{}", at + 1));
        }
        let at = self.digests.iter().position(|digest| digest.starts_with(word))?;
        Some(format!("DIGEST-{}", at + 1))
    }

    /// Returns the number of a digest that may be shortened.
    fn digest(&mut self, digits: &str) -> usize {
        let known = self.digests.iter().position(|d| d.starts_with(digits) || digits.starts_with(d.as_str()));
        match known {
            Some(at) => {
                if self.digests[at].len() < digits.len() {
                    digits.clone_into(&mut self.digests[at]);
                }
                at + 1
            }
            None => number(&mut self.digests, digits),
        }
    }
}

/// Returns the position of `what`, from 1, adding it if it is new.
fn number(known: &mut Vec<String>, what: &str) -> usize {
    let at = known.iter().position(|k| k == what).unwrap_or_else(|| {
        known.push(what.to_owned());
        known.len() - 1
    });
    at + 1
}

fn replace(pattern: &Regex, text: &str, mut by: impl FnMut(&Captures<'_>) -> Option<String>) -> String {
    pattern
        .replace_all(text, |found: &Captures<'_>| by(found).unwrap_or_else(|| found[0].to_owned()))
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_digests_are_numbered_as_they_appear() {
        let digest = foreplan_core::digest::Digest::of_bytes(b"x");
        let mut normalizer = Normalizer::new();
        let text = format!(
            "Run 019b76da-a800-7bad-8ab1-abc26b5bb1ff of {digest}\nsee 6b5bb1ff, {}, not 123456\n",
            digest.short()
        );
        assert_eq!(normalizer.apply(&text), "Run RUN-1 of DIGEST-1\nsee RUN-1, DIGEST-1, not 123456\n");
        let later = "019b76da-a800-7bad-8ab1-abc26b5bb200 after 019b76da-a800-7bad-8ab1-abc26b5bb1ff";
        assert_eq!(normalizer.apply(later), "RUN-2 after RUN-1");
    }

    #[test]
    fn times_and_durations_have_no_value_and_no_width() {
        let mut normalizer = Normalizer::new();
        let text = "at 2026-11-20T13:12:00.000123Z  build    1.2s     ok\n{\"at\":1763640000000000, \"steps\": 12}   \n";
        let normal = "at TIME  build  DURATION  ok\n{\"at\":TIME, \"steps\": 12}\n";
        assert_eq!(normalizer.apply(text), normal);
        assert_eq!(normalizer.apply("took 1m 30s, waited 12ms"), "took DURATION, waited DURATION");
    }

    #[test]
    fn paths_and_workers_have_names() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("project");
        let mut normalizer = Normalizer::new().path(folder.path(), "[tmp]").path(&inner, "[project]");
        let text =
            format!("{}/plan.json {}/x \"worker\": \"default/3\"", inner.display(), folder.path().display());
        assert_eq!(normalizer.apply(&text), "[project]/plan.json [tmp]/x \"worker\": \"default/N\"");
    }
}
