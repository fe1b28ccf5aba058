//! What `check` has to say about a plan, each with its place.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::StepId;

/// How much a finding matters.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The plan cannot be adopted.
    Error,
    /// The plan may be adopted; a person should know.
    Advice,
}

/// One thing that is wrong with a plan, or could be better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable word: `unknown_tool`, `cycle`.
    pub code: String,
    /// The step; absent: the plan as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// The field, as a path: `input.tickets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What, why, and what to do.
    pub message: String,
}

impl Finding {
    /// Makes a finding that keeps the plan from being adopted.
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: code.to_owned(),
            step: None,
            field: None,
            message: message.into(),
        }
    }

    /// Makes a finding that a person should know.
    pub fn advice(code: &str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Advice, ..Self::error(code, message) }
    }

    /// Names the step.
    #[must_use]
    pub fn at(mut self, step: &StepId) -> Self {
        self.step = Some(step.clone());
        self
    }

    /// Names the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Returns whether it keeps the plan from being adopted.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.step, &self.field) {
            (Some(step), Some(field)) => write!(f, "step `{step}`, {field}: {}", self.message),
            (Some(step), None) => write!(f, "step `{step}`: {}", self.message),
            (None, Some(field)) => write!(f, "{field}: {}", self.message),
            (None, None) => f.write_str(&self.message),
        }
    }
}
