//! Spans of the program's own work, for debugging: recorded by `tracing`, sent in batches, lost
//! without harm. They join the traces of runs, beside the audit spans and never in their place.
//!
//! Off, unless a process asks for them. [`join`] does nothing then.

use std::{fmt, time::Duration};

use foreplan_core::trace::TraceParent;
use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _, TraceState, TracerProvider as _},
};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter},
};
use prost::Message as _;
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, registry::LookupSpan};

use crate::{OtlpSettings, OtlpSink, Sink as _, semconv};

/// How long a process that ends waits for the spans that it still has.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The spans of one process.
pub struct DebugSpans {
    provider: SdkTracerProvider,
}

impl DebugSpans {
    /// Begins to send spans to a collector, in the name of a service. They are sent by a thread of
    /// their own; what the queue does not hold is dropped.
    ///
    /// # Errors
    ///
    /// If the settings cannot be used.
    pub fn begin(to: &OtlpSettings, service: &str, instance: &str, runtime: Handle) -> Result<Self, String> {
        let exporter = Exporter { sink: OtlpSink::new(to)?, runtime, resource: Default::default() };
        let resource = Resource::builder_empty()
            .with_service_name(service.to_owned())
            .with_attribute(KeyValue::new(semconv::SERVICE_INSTANCE, instance.to_owned()))
            .build();
        let processor = BatchSpanProcessor::builder(exporter).build();
        let provider =
            SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build();
        Ok(Self { provider })
    }

    /// Returns what hands the spans of `tracing` on.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer().with_tracer(self.provider.tracer(semconv::DEBUG_SCOPE))
    }

    /// Sends what is left.
    pub fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_WAIT) {
            tracing::debug!(%error, "some debug spans were lost");
        }
    }
}

/// Puts a span of this process where it belongs in a run's trace.
pub fn join(span: &Span, place: TraceParent) {
    let context = SpanContext::new(
        TraceId::from_bytes(*place.run.0.as_bytes()),
        SpanId::from_bytes(place.span.0),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    // Nobody records spans, most of the time.
    let _ = span.set_parent(Context::new().with_remote_span_context(context));
}

/// Sends batches by the sink that audit spans take. The thread of the batches has no runtime.
struct Exporter {
    sink: OtlpSink,
    runtime: Handle,
    resource: ResourceAttributesWithSchema,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exporter({})", self.sink.name())
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let request = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let sink = self.sink.clone();
        let sent = self.runtime.spawn(async move { sink.post(request).await });
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(OTelSdkError::InternalFailure(error.to_string())),
            Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}
