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
    /// The file; absent where the place is an argument.
    pub file: Option<PathBuf>,
    /// Line and column, counted from 1.
    pub at: Option<(usize, usize)>,
    /// The line as it stands in the file, and how many characters of it are meant.
    pub excerpt: Option<(String, usize)>,
    /// The key, as `tools.command[0].effect`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Problem {
    /// Makes a problem at a key of the project file, or of an argument.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), ..Self::default() }
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
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some((line, column)) = self.at {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let (Some((line, _)), Some((text, width))) = (self.at, &self.excerpt) {
            let number = line.to_string();
            let column = self.at.map_or(1, |(_, column)| column);
            let blank = " ".repeat(number.len());
            let pad: String =
                text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            write!(f, "\n{blank} |\n{number} | {text}\n{blank} | {pad}{}", "^".repeat((*width).max(1)))?;
        }
        Ok(())
    }
}
