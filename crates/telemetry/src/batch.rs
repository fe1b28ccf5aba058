//! Spans that go to a sink together.

use foreplan_core::id::RunId;
use prost::Message as _;

use crate::{AuditSpan, request::Request};

/// Spans of one batch: what collectors take by default.
pub(crate) const SPANS_MAX: usize = 512;

/// Bytes of one batch: a quarter of what collectors take by default, headers and all.
pub(crate) const BYTES_MAX: usize = 1024 * 1024;

/// Spans that go to a sink together: of one run, in the order of its journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The run.
    pub run: RunId,
    /// The spans; at least one.
    pub spans: Vec<AuditSpan>,
}

impl Batch {
    /// Splits the spans of a run into batches that collectors take.
    pub(crate) fn split(run: RunId, spans: Vec<AuditSpan>) -> Vec<Self> {
        let mut batches: Vec<Self> = Vec::new();
        let mut bytes = 0;
        for span in spans {
            let size = span.span.encoded_len();
            match batches.last_mut() {
                Some(last) if last.spans.len() < SPANS_MAX && bytes + size <= BYTES_MAX => {
                    bytes += size;
                    last.spans.push(span);
                }
                _ => {
                    bytes = size;
                    batches.push(Self { run, spans: vec![span] });
                }
            }
        }
        batches
    }

    /// Returns the two halves; `None` of a batch of one.
    pub(crate) fn halves(&self) -> Option<(Self, Self)> {
        let (first, second) = self.spans.split_at(self.spans.len() / 2);
        let half = |spans: &[AuditSpan]| Self { run: self.run, spans: spans.to_vec() };
        (!first.is_empty()).then(|| (half(first), half(second)))
    }

    /// Returns the bytes of an OTLP request.
    #[must_use]
    pub fn to_protobuf(&self) -> Vec<u8> {
        Request::new(&self.spans).to_protobuf()
    }
}

/// Returns spans as OTLP JSON: one object, which Jaeger's page opens.
///
/// # Errors
///
/// If a span cannot be written as JSON, which none can that this crate makes.
pub fn to_json(spans: &[AuditSpan]) -> serde_json::Result<String> {
    Request::new(spans).to_json()
}
