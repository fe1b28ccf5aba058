//! CEL: parsed once, evaluated over JSON values.

use std::{fmt, sync::Arc};

use cel::Program;

/// Longest expression: what a person can still read.
pub const SOURCE_BYTES_MAX: usize = 4 * 1024;

/// A CEL expression that parsed.
#[derive(Clone)]
pub struct Cel {
    source: Arc<str>,
    program: Arc<Program>,
}

/// An expression that does not parse, or that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{source_text}`: {reason}")]
pub struct CelError {
    /// The expression.
    pub source_text: String,
    /// Why.
    pub reason: String,
}

impl Cel {
    /// Parses an expression.
    ///
    /// # Errors
    ///
    /// If it is too long, or is not CEL.
    pub fn parse(source: &str) -> Result<Self, CelError> {
        let error = |reason: String| CelError { source_text: source.to_owned(), reason };
        if source.len() > SOURCE_BYTES_MAX {
            return Err(error(format!("longer than {SOURCE_BYTES_MAX} bytes")));
        }
        let program = Program::compile(source).map_err(|e| error(e.to_string()))?;
        Ok(Self { source: source.into(), program: Arc::new(program) })
    }

    /// Returns the expression as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the names that the expression uses, each once, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.program.references().variables().into_iter().map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl fmt::Debug for Cel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cel({})", self.source)
    }
}
