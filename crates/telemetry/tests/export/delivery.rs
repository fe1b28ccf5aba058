//! Every span arrives in the end, the same at each repetition, and none keeps anybody waiting.

use std::{sync::Arc, time::Duration};

use foreplan_telemetry::{Exporter, FileSink, Options, OtlpSettings, OtlpSink, Pace, Sink, Source};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use parking_lot::Mutex;
use prost::Message as _;

use crate::{
    PACE, PATIENCE,
    collector::{Answer, Collector, otlp},
    store::{DAMAGED, Damaged, Growing, Store},
    support::run_id,
};

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
