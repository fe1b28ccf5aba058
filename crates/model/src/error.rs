//! Why a model did not answer.

use foreplan_core::{
    call::Tokens,
    failure::{EffectState, Failure, FailureKind},
};

/// Why a model did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{model}: {message}")]
pub struct Error {
    /// Which model.
    pub model: String,
    /// What kind of thing went wrong.
    pub kind: ErrorKind,
    /// Why, and what to do.
    pub message: String,
    /// Tokens that the provider has counted all the same, for halves of answers and for refusals.
    pub tokens: Tokens,
    /// What they cost, in micro-dollars.
    pub cost_microusd: u64,
}

/// What kind of thing went wrong with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such provider or model.
    UnknownModel,
    /// No key, or one that the provider refuses.
    Authentication,
    /// The account has no quota left.
    Quota,
    /// The conversation is longer than the model takes.
    ContextTooLong,
    /// The model refused.
    Refused,
    /// The answer is not what the provider's interface promises.
    Malformed,
    /// The request is one that the provider does not take.
    BadRequest,
    /// The server could not be reached, or answered too late, as often as it was tried.
    Unavailable,
}

impl ErrorKind {
    /// Returns the word that rules match.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownModel => "unknown_model",
            Self::Authentication => "authentication",
            Self::Quota => "quota",
            Self::ContextTooLong => "context_too_long",
            Self::Refused => "refused",
            Self::Malformed => "malformed_answer",
            Self::BadRequest => "bad_request",
            Self::Unavailable => "unavailable",
        }
    }

    /// Returns the kind of a word that [`ErrorKind::code`] returned.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        const ALL: [ErrorKind; 8] = [
            ErrorKind::UnknownModel,
            ErrorKind::Authentication,
            ErrorKind::Quota,
            ErrorKind::ContextTooLong,
            ErrorKind::Refused,
            ErrorKind::Malformed,
            ErrorKind::BadRequest,
            ErrorKind::Unavailable,
        ];
        ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl Error {
    /// Makes an error.
    pub fn new(model: impl Into<String>, kind: ErrorKind, message: impl Into<String>) -> Self {
        let (model, message) = (model.into(), message.into());
        Self { model, kind, message, tokens: Tokens::default(), cost_microusd: 0 }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let kind = match error.kind {
            ErrorKind::Refused => FailureKind::ModelRefused,
            _ => FailureKind::Model,
        };
        let retryable = matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Malformed);
        Self::new(kind, error.kind.code(), error.to_string()).retryable(retryable).effect(EffectState::None)
    }
}
