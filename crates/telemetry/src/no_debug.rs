//! Spans for debugging, where nothing can send them.

use foreplan_core::trace::TraceParent;
use tracing::Span;

/// Puts a span of this process where it belongs in a run's trace: nobody records it.
pub fn join(_: &Span, _: TraceParent) {}
