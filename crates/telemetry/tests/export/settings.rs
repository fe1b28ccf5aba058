//! Where spans and metrics go, as the environment and the project file say.

use std::collections::HashMap;

use foreplan_telemetry::{
    OtlpSettings, OtlpSink,
    metrics::{Counter, Metrics, RUNS},
};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

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
