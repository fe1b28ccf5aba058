//! Where things stand in a run's trace: ids that follow from the run alone, so that they are known
//! before anything happened and are the same whenever the trace is made.
//!
//! The trace id is the run id. A span id is made of what the span is about, never of chance.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::id::{RunId, StepId};

/// The kind of the span that is the root of a trace.
pub const ROOT: &str = "run";

/// The kind of the span of an attempt on the tracker's side.
pub const ATTEMPT: &str = "attempt";

/// The kind of the span of an attempt on the executor's side.
pub const WORK: &str = "work";

/// Identifies a span within its run's trace; never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

impl SpanId {
    /// Returns the first eight bytes of the SHA-256 over run, kind and key, joined by zero bytes.
    #[must_use]
    pub fn of(run: RunId, kind: &str, key: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(run.0.as_bytes());
        hash.update([0]);
        hash.update(kind.as_bytes());
        hash.update([0]);
        hash.update(key.as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&hash.finalize()[..8]);
        if id == [0; 8] {
            id[7] = 1;
        }
        Self(id)
    }

    /// Returns the id of the root of a run's trace.
    #[must_use]
    pub fn root(run: RunId) -> Self {
        Self::of(run, ROOT, "")
    }

    /// Returns the id of an attempt's span on the tracker's side.
    #[must_use]
    pub fn attempt(run: RunId, step: &StepId, attempt: u32) -> Self {
        Self::of(run, ATTEMPT, &format!("{step}/{attempt}"))
    }

    /// Returns the id of an attempt's span on the executor's side: the parent of what the worker
    /// does.
    #[must_use]
    pub fn work(run: RunId, step: &StepId, attempt: u32) -> Self {
        Self::of(run, WORK, &format!("{step}/{attempt}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

/// A place in a run's trace, as other programs are told it. Its text is a W3C `traceparent`; the
/// trace is always sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The run: the trace.
    pub run: RunId,
    /// The span under which things happen.
    pub span: SpanId,
}

impl TraceParent {
    /// Returns the place of what is about the run as a whole.
    #[must_use]
    pub fn run(run: RunId) -> Self {
        Self { run, span: SpanId::root(run) }
    }

    /// Returns the place of what a worker does in an attempt.
    #[must_use]
    pub fn work(run: RunId, step: &StepId, attempt: u32) -> Self {
        Self { run, span: SpanId::work(run, step, attempt) }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-01", self.run.0.simple(), self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_has_the_form_of_the_standard_and_never_changes() {
        let run: RunId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let step: StepId = "deploy".parse().unwrap();
        let text = TraceParent::work(run, &step, 2).to_string();
        assert_eq!(text, "00-01890a5dac96774bbcceb302099a8057-c8393cad337e9f93-01");
        assert_ne!(SpanId::attempt(run, &step, 2), SpanId::work(run, &step, 2));
        assert_ne!(SpanId::work(run, &step, 1), SpanId::work(run, &step, 2));
    }
}
