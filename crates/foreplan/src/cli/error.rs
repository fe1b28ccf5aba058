//! What ends a command early: what, why, and the next command.

use std::fmt::Display;

use foreplan_core::{failure::chain, finding::Finding};

use super::exit::Exit;
use crate::config;

/// Why a command did not do its work.
#[derive(Debug)]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// What could not be done, and why.
    pub what: String,
    /// Details, each with its place.
    pub findings: Vec<Finding>,
    /// What to do next.
    pub next: Option<String>,
}

impl Failure {
    /// Makes a failure.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), findings: Vec::new(), next: None }
    }

    /// Makes a failure of usage or configuration.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Makes a failure of an error and all that led to it.
    pub fn chain(exit: Exit, what: &str, error: &dyn std::error::Error) -> Self {
        let text = chain(error);
        Self::new(exit, if what.is_empty() { text } else { format!("{what}: {text}") })
    }

    /// Says what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Display) -> Self {
        self.next = Some(next.to_string());
        self
    }

    /// Adds details.
    #[must_use]
    pub fn findings(mut self, findings: Vec<Finding>) -> Self {
        self.findings = findings;
        self
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        match error {
            config::Error::Invalid(problem) => {
                Self { next: problem.fix.clone(), ..Self::usage(problem.to_string()) }
            }
            config::Error::NotFound { .. } => Self::usage(error.to_string())
                .next("start a project with `foreplan init DIR`, or name one with -C DIR"),
            config::Error::Read { .. } => Self::chain(Exit::Usage, "", &error),
        }
    }
}

impl From<config::Problem> for Failure {
    fn from(problem: config::Problem) -> Self {
        config::Error::from(problem).into()
    }
}
