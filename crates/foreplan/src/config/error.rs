//! What can be wrong with a project file, always with its place.

use std::{fmt, path::PathBuf};

/// Why a project cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no project file where one was looked for.
    #[error("no `foreplan.toml` in `{}` or a folder above it", from.display())]
    NotFound {
        /// Where the search began.
        from: PathBuf,
    },
    /// A file that the project names cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something in the project file, or in what was given beside it, is wrong.
    #[error("{0}")]
    Invalid(Box<Problem>),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Invalid(Box::new(problem))
    }
}

/// One thing that is wrong: where, what, and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Where in a file; absent where the place is an argument.
    pub place: Option<Box<Place>>,
    /// The key, as `tools.command[0].effect`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// A place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Line and column, counted from 1.
    pub at: Option<(usize, usize)>,
    /// The line as it stands in the file.
    pub text: String,
    /// How many characters of it are meant.
    pub width: usize,
}

impl Problem {
    /// Makes a problem at a key of the project file, or of an argument.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), ..Self::default() }
    }

    /// Returns line and column, where they are known.
    #[must_use]
    pub fn at(&self) -> Option<(usize, usize)> {
        self.place.as_ref()?.at
    }

    /// Says what to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}", place.file.display())?;
            if let Some((line, column)) = place.at {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.message)?;
        let Some(Place { at: Some((line, column)), text, width, .. }) = self.place.as_deref() else {
            return Ok(());
        };
        let number = line.to_string();
        let blank = " ".repeat(number.len());
        let pad: String = text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "\n{blank} |\n{number} | {text}\n{blank} | {pad}{}", "^".repeat((*width).max(1)))
    }
}
