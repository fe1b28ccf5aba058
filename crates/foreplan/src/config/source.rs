//! The text of a project file, and where in it a key stands.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::{Problem, error::Place, nearest};

/// The text of a project file, kept so that every later complaint can point at its line.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Keeps the text of a file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// Returns where the file lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the text into a type that refuses unknown keys.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its line, its key, and for an unknown key the nearest
    /// valid one.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let document = toml::Deserializer::parse(&self.text).map_err(|e| self.syntax(&e))?;
        serde_path_to_error::deserialize(document).map_err(|e| {
            let path = e.path().to_string();
            self.shape(if path == "." { "" } else { &path }, e.inner())
        })
    }

    /// Adds to a problem with a key where that key stands; of keys that are not there, the nearest
    /// enclosing one that is.
    #[must_use]
    pub fn place(&self, problem: Problem) -> Problem {
        match self.span_of(&problem.key) {
            Some(span) => self.point(problem, span),
            None => {
                let place = Place { file: self.path.clone(), ..Place::default() };
                Problem { place: Some(Box::new(place)), ..problem }
            }
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let problem = Problem::new("", format!("this is not TOML: {}", one_line(error.message())));
        self.point(problem, error.span().unwrap_or(0..0))
    }

    fn shape(&self, path: &str, error: &toml::de::Error) -> Problem {
        let message = one_line(error.message());
        let problem = match unknown_key(&message) {
            Some((name, known)) => {
                let parent = path.strip_suffix(name).map_or(path, |p| p.trim_end_matches('.'));
                let place = if parent.is_empty() { "here".to_owned() } else { format!("in `{parent}`") };
                let fix = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("keys known {place}: {}", known.join(", ")),
                };
                let key = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
                Problem::new(key, format!("unknown key `{name}`")).fix(fix)
            }
            None => match unknown_variant(&message) {
                Some((name, known)) => {
                    let fix = match nearest(name, known.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`? One of: {}", known.join(", ")),
                        None => format!("one of: {}", known.join(", ")),
                    };
                    Problem::new(path, format!("`{name}` is not possible here")).fix(fix)
                }
                None => Problem::new(path, message.clone()),
            },
        };
        let span = error.span().filter(|s| !s.is_empty()).or_else(|| self.span_of(&problem.key));
        self.point(problem, span.unwrap_or(0..0))
    }

    fn point(&self, problem: Problem, span: Range<usize>) -> Problem {
        let start = floor(&self.text, span.start);
        let before = &self.text[..start];
        let line = before.matches('\n').count();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let text = self.text.lines().nth(line).unwrap_or_default();
        let column = self.text[line_start..start].chars().count();
        let end = floor(&self.text, span.end).clamp(start, line_start + text.len().max(start - line_start));
        let width = self.text[start..end.max(start)].chars().count();
        let place =
            Place { file: self.path.clone(), at: Some((line + 1, column + 1)), text: text.to_owned(), width };
        Problem { place: Some(Box::new(place)), ..problem }
    }

    fn span_of(&self, key: &str) -> Option<Range<usize>> {
        let document = DeTable::parse(&self.text).ok()?;
        let mut span = None;
        let mut table = Some(document.get_ref());
        let mut rest = key;
        while let Some(now) = table {
            let entries = now.iter().filter_map(|(k, v)| Some((k, v, after(rest, k.get_ref())?)));
            let Some((found, value, behind)) = entries.min_by_key(|(_, _, behind)| behind.len()) else {
                break;
            };
            let (index, next) = indexed(behind);
            rest = next;
            span = Some(found.span());
            let mut value = value;
            if let (Some(index), DeValue::Array(items)) = (index, value.get_ref()) {
                let Some(item) = items.get(index) else { break };
                // The span of an item of an array of tables is its header.
                span = Some(item.span());
                value = item;
            }
            table = match value.get_ref() {
                DeValue::Table(inner) => Some(inner),
                _ => None,
            };
        }
        span
    }
}

fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns what follows `name` at the start of a key; a name may hold dots itself.
fn after<'a>(key: &'a str, name: &str) -> Option<&'a str> {
    key.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Splits `[0].effect` into the index and the rest of the key.
fn indexed(behind: &str) -> (Option<usize>, &str) {
    let indexed = behind.strip_prefix('[').and_then(|text| text.split_once(']'));
    let (index, rest) = match indexed {
        Some((index, rest)) => (index.parse().ok(), rest),
        None => (None, behind),
    };
    (index, rest.strip_prefix('.').unwrap_or(rest))
}

/// serde says which fields it knows in words only.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    quoted(message.strip_prefix("unknown field ")?)
}

fn unknown_variant(message: &str) -> Option<(&str, Vec<&str>)> {
    quoted(message.strip_prefix("unknown variant ")?)
}

fn quoted(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut names = message.split('`').skip(1).step_by(2);
    Some((names.next()?, names.collect()))
}
