//! A collector that answers as it is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use foreplan_telemetry::{OtlpSettings, OtlpSink, Sink};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use parking_lot::Mutex;
use prost::Message as _;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

/// Spans by their ids, as bytes.
type Kept = Vec<(Vec<u8>, Vec<u8>)>;

/// A collector that does as it is told, one answer after the other, and then takes everything.
#[derive(Clone, Default)]
pub(crate) struct Collector {
    answers: Arc<Mutex<Vec<Answer>>>,
    pub(crate) kept: Arc<Mutex<Kept>>,
}

#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Status(u16),
    /// Keeps the spans and says that it did not.
    LostAck,
    Rejected,
    /// Answers too late.
    Hangs,
    /// Answers what no collector answers.
    Nonsense,
    /// Takes no batch of more spans than this.
    AtMost(usize),
}

impl Collector {
    pub(crate) async fn start(mut answers: Vec<Answer>) -> (Self, MockServer) {
        answers.reverse();
        let collector = Self { answers: Arc::new(Mutex::new(answers)), kept: Arc::default() };
        let server = MockServer::start().await;
        server.register(Mock::given(any()).respond_with(collector.clone())).await;
        (collector, server)
    }

    fn keep(&self, request: &Request) -> usize {
        let request = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
        let scopes = request.resource_spans.iter().flat_map(|r| &r.scope_spans);
        let spans: Vec<_> =
            scopes.flat_map(|s| &s.spans).map(|s| (s.span_id.clone(), s.encode_to_vec())).collect();
        let count = spans.len();
        self.kept.lock().extend(spans);
        count
    }

    /// Returns what is kept, after checking that repetitions are the same.
    pub(crate) fn kept(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut kept = BTreeMap::new();
        for (id, bytes) in self.kept.lock().iter() {
            let known = kept.insert(id.clone(), bytes.clone());
            assert!(known.is_none_or(|known| known == *bytes), "a repetition has other bytes");
        }
        kept
    }
}

impl Respond for Collector {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let taken = || {
            ResponseTemplate::new(200).set_body_bytes(ExportTraceServiceResponse::default().encode_to_vec())
        };
        let mut answers = self.answers.lock();
        if let Some(Answer::AtMost(most)) = answers.last().copied() {
            let request_spans = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
            let count: usize =
                request_spans.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum();
            if count > most {
                return ResponseTemplate::new(413);
            }
            self.keep(request);
            return taken();
        }
        match answers.pop() {
            None | Some(Answer::AtMost(_)) => {
                self.keep(request);
                taken()
            }
            Some(Answer::Status(status)) => ResponseTemplate::new(status).insert_header("retry-after", "0"),
            Some(Answer::LostAck) => {
                self.keep(request);
                ResponseTemplate::new(503)
            }
            Some(Answer::Rejected) => {
                let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "no".to_owned() };
                let answer = ExportTraceServiceResponse { partial_success: Some(partial) };
                ResponseTemplate::new(200).set_body_bytes(answer.encode_to_vec())
            }
            Some(Answer::Hangs) => taken().set_delay(Duration::from_secs(5)),
            Some(Answer::Nonsense) => ResponseTemplate::new(200).set_body_string("<html>"),
        }
    }
}

/// Returns a sink that sends to the collector.
pub(crate) fn otlp(server: &MockServer) -> Arc<dyn Sink> {
    let url = format!("{}/v1/traces", server.uri());
    let settings = OtlpSettings { url, headers: Vec::new(), certificate: None };
    Arc::new(OtlpSink::with_timeout(&settings, Duration::from_millis(300)).unwrap())
}
