//! Spans that go to a sink together.

use std::collections::BTreeMap;

use foreplan_core::id::RunId;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans},
};
use prost::Message as _;

use crate::{AuditSpan, Service, semconv};

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
        request(&self.spans).encode_to_vec()
    }
}

/// Returns spans as OTLP JSON: one object, which Jaeger's page opens.
///
/// # Errors
///
/// If a span cannot be written as JSON, which none can that this crate makes.
pub fn to_json(spans: &[AuditSpan]) -> serde_json::Result<String> {
    serde_json::to_string(&request(spans))
}

fn request(spans: &[AuditSpan]) -> ExportTraceServiceRequest {
    let mut services: BTreeMap<&Service, Vec<_>> = BTreeMap::new();
    for span in spans {
        services.entry(&span.service).or_default().push(span.span.clone());
    }
    let resource_spans = services.into_iter().map(|(service, spans)| resource(service, spans)).collect();
    ExportTraceServiceRequest { resource_spans }
}

/// What is said of a resource is the same for every process of a role, so that a span that is sent
/// twice, by whomever, is one span.
fn resource(service: &Service, spans: Vec<opentelemetry_proto::tonic::trace::v1::Span>) -> ResourceSpans {
    let name = KeyValue {
        key: semconv::SERVICE_NAME.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(service.name())) }),
        key_strindex: 0,
    };
    let (scope, version) = semconv::SCOPE;
    ResourceSpans {
        resource: Some(Resource { attributes: vec![name], ..Resource::default() }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: scope.to_owned(),
                version: version.to_owned(),
                ..InstrumentationScope::default()
            }),
            spans,
            schema_url: semconv::SCHEMA_URL.to_owned(),
        }],
        schema_url: String::new(),
    }
}
