//! Exporting to sinks that are down, refuse, forget, or are killed.

#![allow(clippy::unwrap_used, reason = "tests may")]
#![cfg(feature = "otlp")]

#[path = "../../core/tests/run/support/mod.rs"]
mod support;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use foreplan_core::{digest::Digest, id::RunId};
use foreplan_telemetry::{
    AuditSpan, Exporter, FileSink, Lag, Options, OtlpSettings, OtlpSink, Pace, Record, Sink, Source,
    SourceError, derive,
    metrics::{Counter, Metrics, RUNS},
};
use futures::future::BoxFuture;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::json;
use support::{Harness, run_id, spec};
use wiremock::{
    Mock, MockServer, Request, Respond, ResponseTemplate,
    matchers::{any, path},
};

/// Long enough on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

const PACE: Pace = Pace {
    gather: Duration::from_millis(1),
    rest: 0,
    pause_min: Duration::from_millis(5),
    pause_max: Duration::from_millis(50),
    refused: Duration::from_millis(50),
};

/// A store with one run.
#[derive(Default)]
struct Store {
    records: Vec<Record>,
    cursors: Mutex<HashMap<String, u64>>,
    /// Cursors that are not moved although they should be: a process that was killed before it could.
    lost: Mutex<u32>,
}

impl Store {
    fn new(steps: usize) -> Arc<Self> {
        let plan: Vec<_> = (0..steps).map(|at| json!({"id": format!("s{at}"), "tool": "read"})).collect();
        let (mut h, _) = Harness::started(spec(), &json!(plan));
        for at in 0..steps {
            h.ok(&format!("s{at}"), 1);
        }
        assert!(h.run.status().is_ended());
        let record = |entry: &foreplan_core::event::Entry| Record {
            entry: Arc::new(entry.clone()),
            hash: Digest::of(entry),
        };
        Arc::new(Self { records: h.entries.iter().map(record).collect(), ..Self::default() })
    }

    fn expected(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        of(derive(run_id(), &self.records, &Options::default()).iter())
    }
}

/// Returns the bytes of spans by their ids.
fn of<'a>(spans: impl Iterator<Item = &'a AuditSpan>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    spans.map(|s| (s.span.span_id.clone(), s.span.encode_to_vec())).collect()
}

impl Source for Store {
    fn is_local(&self) -> bool {
        true
    }

    fn records(&self, _: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Record>, SourceError>> {
        let records = self.records[usize::try_from(from).unwrap()..].to_vec();
        Box::pin(async move { Ok(records) })
    }

    fn cursor<'a>(&'a self, sink: &'a str, _: RunId) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async move { Ok(self.cursors.lock().get(sink).copied().unwrap_or(0)) })
    }

    fn advance<'a>(
        &'a self,
        sink: &'a str,
        _: RunId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let mut lost = self.lost.lock();
            if *lost > 0 {
                *lost -= 1;
                return Err(SourceError::Unavailable("killed".to_owned()));
            }
            let mut cursors = self.cursors.lock();
            let cursor = cursors.entry(sink.to_owned()).or_default();
            if *cursor == from {
                *cursor = to;
            }
            Ok(())
        })
    }

    fn behind<'a>(&'a self, sink: &'a str, _: usize) -> BoxFuture<'a, Result<Vec<Lag>, SourceError>> {
        Box::pin(async move {
            let (sent, entries) = (self.cursor(sink, run_id()).await?, self.records.len() as u64);
            Ok((sent < entries).then_some(Lag { run: run_id(), sent, entries }).into_iter().collect())
        })
    }
}

/// Spans by their ids, as bytes.
type Kept = Vec<(Vec<u8>, Vec<u8>)>;

/// A collector that does as it is told, one answer after the other, and then takes everything.
#[derive(Clone, Default)]
struct Collector {
    answers: Arc<Mutex<Vec<Answer>>>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Clone, Copy)]
enum Answer {
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
    async fn start(mut answers: Vec<Answer>) -> (Self, MockServer) {
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
    fn kept(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
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

fn otlp(server: &MockServer) -> Arc<dyn Sink> {
    let url = format!("{}/v1/traces", server.uri());
    let settings = OtlpSettings { url, headers: Vec::new(), certificate: None };
    Arc::new(OtlpSink::with_timeout(&settings, Duration::from_millis(300)).unwrap())
}

fn exporter(store: &Arc<Store>, sink: &Arc<dyn Sink>) -> Exporter {
    Exporter::spawn(Arc::clone(store) as Arc<dyn Source>, vec![Arc::clone(sink)], Options::default(), PACE)
}

/// Waits until the store says that the sink has everything.
async fn until_all(store: &Store, sink: &dyn Sink) {
    let all = async {
        while store.cursor(sink.name(), run_id()).await.unwrap() < store.records.len() as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the sink gets everything in the end");
}

#[tokio::test]
async fn whatever_a_collector_answers_it_has_every_span_in_the_end() {
    use Answer::{AtMost, Hangs, LostAck, Nonsense, Rejected, Status};
    for answers in [
        vec![],
        vec![Status(503), Status(429), Status(500)],
        vec![Status(404), Status(401), Status(302)],
        vec![Status(400), Status(422)],
        vec![LostAck, LostAck],
        vec![Rejected, Rejected],
        vec![Hangs],
        vec![Nonsense],
        vec![AtMost(3)],
    ] {
        let store = Store::new(8);
        let (collector, server) = Collector::start(answers).await;
        let sink = otlp(&server);
        let exporter = exporter(&store, &sink);
        exporter.notify(&[run_id()]);
        until_all(&store, sink.as_ref()).await;
        assert_eq!(collector.kept(), store.expected());
        assert!(exporter.flush(PATIENCE).await);
        assert_eq!(exporter.stats()[0].failing, None);
    }
}

#[tokio::test]
async fn a_process_that_dies_between_the_answer_and_the_cursor_sends_the_same_bytes_again() {
    let store = Store::new(5);
    *store.lost.lock() = 2;
    let (collector, server) = Collector::start(vec![]).await;
    let sink = otlp(&server);
    for _ in 0..2 {
        // The next process finds by itself what the one before it left.
        let exporter = exporter(&store, &sink);
        if *store.lost.lock() < 2 {
            until_all(&store, sink.as_ref()).await;
        } else {
            exporter.notify(&[run_id()]);
            exporter.flush(PATIENCE).await;
        }
    }
    assert_eq!(collector.kept(), store.expected());
    assert!(collector.kept.lock().len() > store.expected().len(), "something was sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_exporters_of_one_place_send_the_same_bytes() {
    let store = Store::new(40);
    let (collector, server) = Collector::start(vec![]).await;
    let sink = otlp(&server);
    let both = [exporter(&store, &sink), exporter(&store, &sink)];
    both.iter().for_each(|one| one.notify(&[run_id()]));
    for one in &both {
        assert!(one.flush(PATIENCE).await);
    }
    assert_eq!(store.cursor(sink.name(), run_id()).await.unwrap(), store.records.len() as u64);
    assert_eq!(collector.kept(), store.expected());
}

#[tokio::test]
async fn a_store_without_cursors_has_each_span_sent_once_by_a_process() {
    let whole = Store::new(5);
    let growing = Arc::new(Growing { whole, visible: Mutex::new(0) });
    let (collector, server) = Collector::start(vec![]).await;
    let sink = otlp(&server);
    let exporter =
        Exporter::spawn(Arc::clone(&growing) as Arc<dyn Source>, vec![sink], Options::default(), PACE);
    // The last entry ends the run, and its trace is not kept any longer.
    for visible in 1..=growing.whole.records.len() {
        *growing.visible.lock() = visible;
        exporter.notify(&[run_id()]);
        assert!(exporter.flush(PATIENCE).await);
    }
    assert_eq!(collector.kept(), growing.whole.expected());
    assert_eq!(collector.kept.lock().len(), growing.whole.expected().len(), "each was sent once");
}

#[tokio::test]
async fn spans_that_are_refused_are_a_lag_with_a_reason_until_they_are_taken() {
    let store = Store::new(2);
    let (collector, server) = Collector::start(vec![Answer::Status(400); 3]).await;
    let sink = otlp(&server);
    let exporter = exporter(&store, &sink);
    exporter.notify(&[run_id()]);
    assert!(!exporter.flush(PATIENCE).await);
    let stats = exporter.stats();
    assert!(stats[0].refused.as_ref().is_some_and(|why| why.contains("400")), "{stats:?}");
    until_all(&store, sink.as_ref()).await;
    assert!(exporter.flush(PATIENCE).await);
    assert_eq!(collector.kept(), store.expected());
    assert_eq!(exporter.stats()[0].refused, None);
}

/// A store in which one journal is damaged, beside a whole one.
struct Damaged(Arc<Store>);

/// The run whose journal is damaged.
const DAMAGED: RunId = RunId(uuid::Uuid::from_u128(7));

impl Source for Damaged {
    fn is_local(&self) -> bool {
        true
    }

    fn records(&self, run: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Record>, SourceError>> {
        if run == DAMAGED {
            return Box::pin(async { Err(SourceError::Unreadable("entry 4 is another".to_owned())) });
        }
        self.0.records(run, from)
    }

    fn cursor<'a>(&'a self, sink: &'a str, run: RunId) -> BoxFuture<'a, Result<u64, SourceError>> {
        if run == DAMAGED { Box::pin(async { Ok(0) }) } else { self.0.cursor(sink, run) }
    }

    fn advance<'a>(
        &'a self,
        sink: &'a str,
        run: RunId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        assert_ne!(run, DAMAGED, "nothing of it was sent");
        self.0.advance(sink, run, from, to)
    }

    fn behind<'a>(&'a self, sink: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Lag>, SourceError>> {
        self.0.behind(sink, limit)
    }
}

#[tokio::test]
async fn a_damaged_journal_is_named_and_holds_up_no_other() {
    let store = Store::new(3);
    let (collector, server) = Collector::start(vec![]).await;
    let sink = otlp(&server);
    let damaged = Arc::new(Damaged(Arc::clone(&store)));
    let exporter = Exporter::spawn(damaged, vec![sink], Options::default(), PACE);
    exporter.notify(&[DAMAGED, run_id()]);
    assert!(!exporter.flush(PATIENCE).await);
    assert_eq!(collector.kept(), store.expected());
    let stats = exporter.stats();
    assert_eq!(stats[0].unreadable.as_deref(), Some("entry 4 is another"));
    assert_eq!((&stats[0].failing, &stats[0].refused), (&None, &None), "the sink is fine");
}

/// A store that grows and keeps no cursors.
struct Growing {
    whole: Arc<Store>,
    visible: Mutex<usize>,
}

impl Source for Growing {
    fn is_local(&self) -> bool {
        true
    }

    fn records(&self, _: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Record>, SourceError>> {
        let visible = *self.visible.lock();
        let records = self.whole.records[usize::try_from(from).unwrap()..visible].to_vec();
        Box::pin(async move { Ok(records) })
    }

    fn cursor<'a>(&'a self, _: &'a str, _: RunId) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async { Ok(0) })
    }

    fn advance<'a>(&'a self, _: &'a str, _: RunId, _: u64, _: u64) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    fn behind<'a>(&'a self, _: &'a str, _: usize) -> BoxFuture<'a, Result<Vec<Lag>, SourceError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[tokio::test]
async fn a_batch_has_at_most_512_spans() {
    let store = Store::new(400);
    let (collector, server) = Collector::start(vec![]).await;
    let sink = otlp(&server);
    let exporter = exporter(&store, &sink);
    exporter.notify(&[run_id()]);
    until_all(&store, sink.as_ref()).await;
    assert_eq!(collector.kept(), store.expected());
    for request in server.received_requests().await.unwrap() {
        let request = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
        let count: usize =
            request.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum();
        assert!(count <= 512, "{count}");
    }
}

#[tokio::test]
async fn a_collector_that_is_down_is_a_lag_and_keeps_nobody_waiting() {
    let store = Store::new(3);
    let settings = OtlpSettings {
        url: "http://127.0.0.1:1/v1/traces".to_owned(),
        headers: Vec::new(),
        certificate: None,
    };
    let sink: Arc<dyn Sink> = Arc::new(OtlpSink::new(&settings).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = FileSink::new(folder.path().join("traces"));
    let path = file.path(run_id());
    let sinks: Vec<Arc<dyn Sink>> = vec![sink, Arc::new(file)];
    let exporter =
        Exporter::spawn(Arc::clone(&store) as Arc<dyn Source>, sinks, Options::default(), Pace::default());
    exporter.notify(&[run_id()]);
    assert!(!exporter.flush(PATIENCE).await);
    let stats = exporter.stats();
    assert!(stats[0].failing.is_some() && stats[0].runs_behind == 1, "{stats:?}");
    until_all(&store, &FileSink::new(folder.path().to_owned())).await;
    let text = std::fs::read_to_string(path).unwrap();
    let mut spans = 0;
    for line in text.lines() {
        let request: ExportTraceServiceRequest = serde_json::from_str(line).unwrap();
        spans +=
            request.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum::<usize>();
    }
    assert_eq!(spans, store.expected().len());
}

#[test]
fn the_environment_goes_before_the_project_file() {
    let read = |endpoint: Option<&str>, vars: &[(&str, &str)]| {
        let vars: HashMap<String, String> =
            vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        OtlpSettings::from_env(endpoint, |name| vars.get(name).cloned())
    };
    assert_eq!(read(None, &[]), Ok(None));
    let file = read(Some("http://a:4318/"), &[]).unwrap().unwrap();
    assert_eq!(file.url, "http://a:4318/v1/traces");
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://b"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, k = v"),
    ];
    let env = read(Some("http://a:4318"), &vars).unwrap().unwrap();
    assert_eq!(env.url, "https://b/v1/traces");
    let headers: Vec<_> = env.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(headers, [("authorization", "Bearer x"), ("k", "v")]);
    let whole = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/own")];
    assert_eq!(read(Some("http://a"), &whole).unwrap().unwrap().url, "http://c/own");
    assert!(read(Some("http://a"), &[("OTEL_EXPORTER_OTLP_HEADERS", "nonsense")]).is_err());
}

#[tokio::test]
async fn metrics_are_sent_only_if_they_are_asked_for_and_under_their_own_path() {
    let server = MockServer::start().await;
    Mock::given(path("/v1/metrics")).respond_with(ResponseTemplate::new(200)).expect(1).mount(&server).await;
    let read = |vars: &[(&str, &str)]| {
        let vars: HashMap<String, String> =
            vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        OtlpSettings::of_metrics(Some(&server.uri()), |name| vars.get(name).cloned()).unwrap()
    };
    assert_eq!(read(&[]), None);
    assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://jaeger:4318")]), None);
    let own = read(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://c/own")]).unwrap();
    assert_eq!(own.url, "http://c/own");

    let wanted = read(&[("OTEL_METRICS_EXPORTER", "otlp")]).unwrap();
    let mut metrics = Metrics::default();
    metrics.set(RUNS, "waiting", 2);
    let by = Counter {
        service: "foreplan-tracker".to_owned(),
        instance: "a".to_owned(),
        since: foreplan_core::time::Timestamp(1),
    };
    let request = metrics.to_otlp(&by, foreplan_core::time::Timestamp(2));
    OtlpSink::new(&wanted).unwrap().post(request.clone()).await.unwrap();
    assert_eq!(server.received_requests().await.unwrap()[0].body, request);
}
