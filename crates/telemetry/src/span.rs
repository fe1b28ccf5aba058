//! One span of the audit trail, while it is made and when it is done.

use foreplan_core::{
    budget::Usage,
    digest::Digest,
    failure::Failure,
    id::{Capability, RunId},
    time::Timestamp,
    trace::SpanId,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value},
    trace::v1::{
        Span, Status,
        span::{Event, Link, SpanKind},
        status::StatusCode,
    },
};

use crate::{Redact, semconv};

/// Links of one span: a step that needs more than this many is read in the plan.
const LINKS_MAX: usize = 32;

/// Events of one span. What is beyond is counted.
pub(crate) const EVENTS_MAX: usize = 512;

/// Attributes that most spans have at most.
const ATTRIBUTES: usize = 24;

/// Nanoseconds of a microsecond.
const NANOS: u64 = 1_000;

/// The low byte says that the span is sampled; the next bits say that its parent is not remote.
const FLAGS: u32 = 0x101;

/// The agent that a span shows at work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// The tracker.
    Tracker,
    /// The planner.
    Planner,
    /// The replanner.
    Replanner,
    /// A reviewer.
    Reviewer,
    /// The executors of a capability.
    Executor(Capability),
}

impl Service {
    /// Returns the service's name: the same for every process that plays the role.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tracker => "foreplan-tracker".to_owned(),
            Self::Planner => "foreplan-planner".to_owned(),
            Self::Replanner => "foreplan-replanner".to_owned(),
            Self::Reviewer => "foreplan-reviewer".to_owned(),
            Self::Executor(capability) => format!("foreplan-executor-{capability}"),
        }
    }
}

/// A span that is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditSpan {
    /// Whose it is.
    pub service: Service,
    /// The entry that completed it.
    pub seq: u64,
    /// What is exported.
    pub span: Span,
}

impl AuditSpan {
    /// Returns the span's id.
    #[must_use]
    pub fn id(&self) -> SpanId {
        let mut id = [0; 8];
        let given = &self.span.span_id;
        id[..given.len().min(8)].copy_from_slice(&given[..given.len().min(8)]);
        SpanId(id)
    }

    /// Returns the text of an attribute.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        let found = self.span.attributes.iter().find(|a| a.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text),
            _ => None,
        }
    }
}

/// A span that is being put together.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    service: Service,
    span: Span,
}

impl Build {
    pub(crate) fn new(run: RunId, id: SpanId, service: Service, name: impl Into<String>) -> Self {
        let span = Span {
            trace_id: run.0.as_bytes().to_vec(),
            span_id: id.0.to_vec(),
            name: name.into(),
            kind: SpanKind::Internal as i32,
            flags: FLAGS,
            attributes: Vec::with_capacity(ATTRIBUTES),
            ..Span::default()
        };
        Self { service, span }.text(semconv::RUN, run.to_string())
    }

    pub(crate) fn kind(mut self, kind: SpanKind) -> Self {
        self.span.kind = kind as i32;
        self
    }

    pub(crate) fn parent(mut self, parent: SpanId) -> Self {
        self.span.parent_span_id = parent.0.to_vec();
        self
    }

    /// Sets the times. A span never ends before it began, whatever the clocks of two machines say; and
    /// not at the same moment, since Jaeger changes spans of no length.
    pub(crate) fn times(mut self, start: Timestamp, end: Timestamp) -> Self {
        self.span.start_time_unix_nano = nanos(start);
        self.span.end_time_unix_nano = nanos(end.max(start)).max(nanos(start) + 1);
        self
    }

    pub(crate) fn text(mut self, key: &str, value: impl Into<String>) -> Self {
        self.span.attributes.push(attribute(key, Value::StringValue(value.into())));
        self
    }

    pub(crate) fn text_if(self, key: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.text(key, value),
            None => self,
        }
    }

    pub(crate) fn digest(self, key: &str, value: Option<Digest>) -> Self {
        self.text_if(key, value)
    }

    pub(crate) fn int(mut self, key: &str, value: u64) -> Self {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.span.attributes.push(attribute(key, Value::IntValue(value)));
        self
    }

    pub(crate) fn flag(mut self, key: &str) -> Self {
        self.span.attributes.push(attribute(key, Value::BoolValue(true)));
        self
    }

    pub(crate) fn list(mut self, key: &str, values: impl IntoIterator<Item = String>) -> Self {
        let values = values.into_iter().map(|v| AnyValue { value: Some(Value::StringValue(v)) }).collect();
        self.span.attributes.push(attribute(key, Value::ArrayValue(ArrayValue { values })));
        self
    }

    pub(crate) fn usage(self, usage: &Usage) -> Self {
        if usage.is_zero() {
            return self;
        }
        self.int(semconv::MODEL_CALLS, u64::from(usage.model_calls))
            .int(semconv::TOOL_CALLS, u64::from(usage.tool_calls))
            .int(semconv::INPUT_TOKENS, usage.input_tokens)
            .int(semconv::OUTPUT_TOKENS, usage.output_tokens)
            .int(semconv::COST, usage.cost_microusd)
    }

    /// Marks the span as failed. The message is content.
    pub(crate) fn failed(self, failure: &Failure, content: bool) -> Self {
        self.text(semconv::FAILURE_CODE, failure.code.clone())
            .error(failure.kind.as_str(), content.then_some(failure.message.as_str()))
    }

    /// Marks the span as failed for a reason that has a stable word.
    pub(crate) fn error(mut self, kind: &str, message: Option<&str>) -> Self {
        let message = message.unwrap_or(kind).to_owned();
        self.span.status = Some(Status { message, code: StatusCode::Error as i32 });
        self.text(semconv::ERROR_TYPE, kind)
    }

    /// Links to another span of the trace.
    pub(crate) fn link(mut self, to: SpanId, what: &str) -> Self {
        let trace_id = self.span.trace_id.clone();
        self.push_link(trace_id, to, what);
        self
    }

    /// Links to the root of another run's trace.
    pub(crate) fn link_to_run(mut self, run: RunId, what: &str) -> Self {
        self.push_link(run.0.as_bytes().to_vec(), SpanId::root(run), what);
        self
    }

    /// Links to a span of another run's trace.
    pub(crate) fn link_to(mut self, run: RunId, to: SpanId, what: &str) -> Self {
        self.push_link(run.0.as_bytes().to_vec(), to, what);
        self
    }

    fn push_link(&mut self, trace_id: Vec<u8>, to: SpanId, what: &str) {
        if self.span.links.len() >= LINKS_MAX {
            self.span.dropped_links_count += 1;
            return;
        }
        self.span.links.push(Link {
            trace_id,
            span_id: to.0.to_vec(),
            attributes: vec![attribute(semconv::LINK, Value::StringValue(what.to_owned()))],
            flags: FLAGS,
            ..Link::default()
        });
    }

    pub(crate) fn event(mut self, note: Note) -> Self {
        if self.span.events.len() >= EVENTS_MAX {
            self.span.dropped_events_count += 1;
        } else {
            self.span.events.push(note.0);
        }
        self
    }

    pub(crate) fn events_dropped(mut self, count: u32) -> Self {
        self.span.dropped_events_count += count;
        self
    }

    /// Completes the span with its place in the journal.
    pub(crate) fn done(self, first: u64, closing: Closing, redact: &Redact) -> AuditSpan {
        let built = self
            .int(semconv::SEQ_FIRST, first)
            .int(semconv::SEQ_LAST, closing.seq)
            .text(semconv::HASH, closing.hash);
        let Self { service, mut span } = built;
        if !redact.is_empty() {
            clean(&mut span, redact);
        }
        AuditSpan { service, seq: closing.seq, span }
    }
}

/// The entry that completes a span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing {
    pub(crate) seq: u64,
    pub(crate) hash: Digest,
}

/// Something that happened during a span.
#[derive(Clone, Debug)]
pub(crate) struct Note(Event);

impl Note {
    pub(crate) fn new(at: Timestamp, name: &str, seq: u64) -> Self {
        let seq = Value::IntValue(i64::try_from(seq).unwrap_or(i64::MAX));
        Self(Event {
            time_unix_nano: nanos(at),
            name: name.to_owned(),
            attributes: vec![attribute(semconv::SEQ_LAST, seq)],
            dropped_attributes_count: 0,
        })
    }

    pub(crate) fn text(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.attributes.push(attribute(key, Value::StringValue(value.into())));
        self
    }

    pub(crate) fn text_if(self, key: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.text(key, value),
            None => self,
        }
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(NANOS)
}

fn clean(span: &mut Span, redact: &Redact) {
    span.name = redact.apply(&span.name);
    if let Some(status) = &mut span.status {
        status.message = redact.apply(&status.message);
    }
    let own = span.attributes.iter_mut();
    for attribute in own.chain(span.events.iter_mut().flat_map(|event| &mut event.attributes)) {
        let is_identity = matches!(
            attribute.key.as_str(),
            semconv::RUN | semconv::HASH | semconv::ORIGIN_RUN | semconv::FORK_RUN
        );
        if let Some(value) = attribute.value.as_mut().filter(|_| !is_identity) {
            clean_value(value, redact);
        }
    }
}

fn clean_value(value: &mut AnyValue, redact: &Redact) {
    match &mut value.value {
        Some(Value::StringValue(text)) => *text = redact.apply(text),
        Some(Value::ArrayValue(list)) => list.values.iter_mut().for_each(|v| clean_value(v, redact)),
        _ => {}
    }
}
