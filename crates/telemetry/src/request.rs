//! Spans as an OTLP request, in protobuf and in JSON. Spans are borrowed: a batch is written without
//! copying it.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, message, string},
};
use serde::Serialize;

use crate::{AuditSpan, Service, semconv};

/// The fields of `ExportTraceServiceRequest`, `ResourceSpans` and `ScopeSpans`.
const RESOURCE_SPANS: u32 = 1;
const RESOURCE: u32 = 1;
const SCOPE_SPANS: u32 = 2;
const SCOPE: u32 = 1;
const SPANS: u32 = 2;
const SCHEMA_URL: u32 = 3;

/// Bytes of JSON that a span takes at least: what is reserved before it is written.
const JSON_BYTES_OF_SPAN: usize = 1_500;

/// `ExportTraceServiceRequest`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    resource_spans: Vec<ResourceSpans<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource,
    scope_spans: [ScopeSpans<'a>; 1],
    schema_url: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeSpans<'a> {
    scope: InstrumentationScope,
    spans: Vec<&'a Span>,
    schema_url: String,
}

impl<'a> Request<'a> {
    /// Groups spans by the service whose they are.
    pub(crate) fn new(spans: &'a [AuditSpan]) -> Self {
        let mut services: BTreeMap<&Service, Vec<&Span>> = BTreeMap::new();
        for span in spans {
            services.entry(&span.service).or_default().push(&span.span);
        }
        let of_service = |(service, spans)| ResourceSpans::new(service, spans);
        Self { resource_spans: services.into_iter().map(of_service).collect() }
    }

    pub(crate) fn to_protobuf(&self) -> Vec<u8> {
        let lengths: Vec<Lengths> = self.resource_spans.iter().map(Lengths::of).collect();
        let all = lengths.iter().map(|l| delimited(RESOURCE_SPANS, l.resource_spans)).sum();
        let mut out = Vec::with_capacity(all);
        for (resource_spans, lengths) in self.resource_spans.iter().zip(&lengths) {
            resource_spans.encode(lengths, &mut out);
        }
        out
    }

    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        let spans: usize = self.resource_spans.iter().map(|r| r.scope_spans[0].spans.len()).sum();
        let mut out = Vec::with_capacity(spans * JSON_BYTES_OF_SPAN);
        serde_json::to_writer(&mut out, self)?;
        String::from_utf8(out).map_err(serde::ser::Error::custom)
    }
}

impl<'a> ResourceSpans<'a> {
    /// What is said of a resource is the same for every process of a role, so that a span that is sent
    /// twice, by whomever, is one span.
    fn new(service: &Service, spans: Vec<&'a Span>) -> Self {
        let name = KeyValue {
            key: semconv::SERVICE_NAME.to_owned(),
            value: Some(AnyValue { value: Some(Value::StringValue(service.name())) }),
            key_strindex: 0,
        };
        let (scope, version) = semconv::SCOPE;
        let scope = InstrumentationScope {
            name: scope.to_owned(),
            version: version.to_owned(),
            ..InstrumentationScope::default()
        };
        Self {
            resource: Resource { attributes: vec![name], ..Resource::default() },
            scope_spans: [ScopeSpans { scope, spans, schema_url: semconv::SCHEMA_URL.to_owned() }],
            schema_url: "",
        }
    }

    fn encode(&self, lengths: &Lengths, out: &mut Vec<u8>) {
        let [scope_spans] = &self.scope_spans;
        begin(RESOURCE_SPANS, lengths.resource_spans, out);
        message::encode(RESOURCE, &self.resource, out);
        begin(SCOPE_SPANS, lengths.scope_spans, out);
        message::encode(SCOPE, &scope_spans.scope, out);
        for (span, length) in scope_spans.spans.iter().zip(&lengths.spans) {
            begin(SPANS, *length, out);
            span.encode_raw(out);
        }
        string::encode(SCHEMA_URL, &scope_spans.schema_url, out);
    }
}

/// How many bytes the messages of one resource take, so that each span is measured once.
struct Lengths {
    resource_spans: usize,
    scope_spans: usize,
    spans: Vec<usize>,
}

impl Lengths {
    fn of(of: &ResourceSpans<'_>) -> Self {
        let [ScopeSpans { scope, spans, schema_url }] = &of.scope_spans;
        let spans: Vec<usize> = spans.iter().map(|span| span.encoded_len()).collect();
        let scope_spans = message::encoded_len(SCOPE, scope)
            + spans.iter().map(|length| delimited(SPANS, *length)).sum::<usize>()
            + string::encoded_len(SCHEMA_URL, schema_url);
        let resource_spans =
            message::encoded_len(RESOURCE, &of.resource) + delimited(SCOPE_SPANS, scope_spans);
        Self { resource_spans, scope_spans, spans }
    }
}

/// Returns how many bytes a field takes whose message has `length`.
fn delimited(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

fn begin(tag: u32, length: usize, out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

#[cfg(test)]
mod tests {
    use foreplan_core::id::RunId;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

    use super::*;
    use crate::{
        Redact,
        span::{Build, Closing},
    };

    fn spans() -> Vec<AuditSpan> {
        let run = RunId(uuid::Uuid::from_u128(7));
        let services =
            [Service::Tracker, Service::Executor("web".into()), Service::Tracker, Service::Planner];
        let span = |(at, service): (usize, Service)| {
            let id = foreplan_core::trace::SpanId::of(run, "test", &at.to_string());
            let closing = Closing { seq: at as u64, hash: foreplan_core::digest::Digest([7; 32]) };
            let text = "ä\"\n".repeat(at * 100);
            Build::new(run, id, service, format!("span {at}")).text("text", text).done(
                0,
                closing,
                &Redact::default(),
            )
        };
        services.into_iter().enumerate().map(span).collect()
    }

    #[test]
    fn both_encodings_are_those_of_the_otlp_messages() {
        let spans = spans();
        let bytes = Request::new(&spans).to_protobuf();
        let decoded = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!(decoded.encode_to_vec(), bytes);
        assert_eq!(Request::new(&spans).to_json().unwrap(), serde_json::to_string(&decoded).unwrap());
        let services: Vec<usize> =
            decoded.resource_spans.iter().map(|r| r.scope_spans[0].spans.len()).collect();
        assert_eq!(services, [2, 1, 1]);
        assert_eq!(decoded.resource_spans[0].scope_spans[0].spans[1], spans[2].span);
    }
}
