//! The audit trail: a run's trace, derived from its journal.
//!
//! No SDK records these spans. Each is a pure function of entries that are durable already: its ids
//! come from the run, its times from the entries, its bytes are the same whenever it is exported. So
//! a collector that was down, a process that was killed and a batch that was sent twice change
//! nothing: the journal is the record, and the trace can be made from it again.
//!
//! ```text
//!  journal ──Record──▶ Trace::feed ──AuditSpan──▶ Exporter ──Batch──▶ Sink: a file, OTLP over HTTP
//!                                                     └── a cursor for each run and sink, in the store
//! ```
//!
//! [`Trace`] is pure. [`Exporter`] runs beside the agents and never in their way: what a sink does
//! not take is a lag, and the journal keeps it.

mod batch;
#[cfg(feature = "otlp")]
mod debug;
#[cfg(not(feature = "otlp"))]
#[path = "no_debug.rs"]
mod debug;
mod exporter;
mod file;
#[cfg(feature = "otlp")]
pub mod jaeger;
pub mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod record;
mod redact;
mod request;
pub mod semconv;
mod sink;
mod span;
mod trace;
mod tree;

pub use batch::{Batch, to_json};
#[cfg(feature = "otlp")]
pub use debug::DebugSpans;
pub use debug::join;
pub use exporter::{Exporter, ExporterStats, Lag, Move, Pace, Source, SourceError};
pub use file::FileSink;
#[cfg(feature = "otlp")]
pub use otlp::{OtlpSink, Settings as OtlpSettings};
pub use record::Record;
pub use redact::Redact;
pub use sink::{SendError, Sink};
pub use span::{AuditSpan, Service};
pub use trace::{Options, Trace, derive};
pub use tree::tree;
