//! Collectors that are not there, refuse, forget to answer, or are none: runs go on, a person reads what
//! is wrong, and nothing is lost.

use std::collections::BTreeMap;

use foreplan_tests::{Answer, Collector, Deployment, Done, Project, page, serve, wait_until};
use prost::Message as _;
use serde_json::{Value, json};

/// Says where spans go.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

fn project(endpoint: &str) -> Project {
    Project::example("support-report").with_env(ENDPOINT, endpoint)
}

/// Runs the example, which a collector never changes, and returns what the command said on the way.
fn runs(project: &Project) -> String {
    let done = project.foreplan(&["run"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("The most frequent issue was refund"), "{done:?}");
    done.stderr
}

/// Returns the spans that the journal of the newest run makes, by their ids.
fn expected(project: &Project) -> Vec<String> {
    let exported = project.foreplan(&["audit", "last", "-o", "trace.json"]);
    assert_eq!(exported.code, 0, "{exported:?}");
    let trace: Value = serde_json::from_str(&project.read("trace.json")).expect("a trace");
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let scopes = list(&trace, "resourceSpans").into_iter().flat_map(|r| list(&r, "scopeSpans"));
    let spans = scopes.flat_map(|scope| list(&scope, "spans"));
    let mut ids: Vec<String> = spans.map(|s| s["spanId"].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

/// Returns the ids of what a collector was sent, after checking that a repetition has the same bytes.
fn sent(collector: &Collector) -> Vec<String> {
    let mut spans = BTreeMap::new();
    for span in collector.spans() {
        let id: String = span.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let bytes = span.encode_to_vec();
        let known = spans.insert(id, bytes.clone());
        assert!(known.is_none_or(|known| known == bytes), "a repetition has other bytes: {span:?}");
    }
    spans.into_keys().collect()
}

fn resumed(project: &Project) -> Done {
    let done = project.foreplan(&["resume", "--all"]);
    assert_eq!(done.code, 0, "{done:?}");
    done
}

#[test]
fn a_collector_that_takes_nothing_is_named_with_its_reason_and_gets_everything_later() {
    let status = |status, headers, body: &str| Answer::Status(status, headers, body.to_owned());
    for (answer, reason) in [
        (status(400, "", "this is no span"), "refused spans: it answered 400"),
        (status(401, "", ""), "it answered 401"),
        (status(404, "", "no such path"), "it answered 404"),
        (status(302, "Location: http://127.0.0.1:1/\r\n", ""), "it answered 302"),
        (status(413, "", ""), "refused spans: one span alone is too large"),
        (status(429, "Retry-After: 3600\r\n", "slow down"), "it answered 429"),
        (status(500, "", "out of order"), "it answered 500"),
        (status(200, "", "<html>a page</html>"), "which is no answer of a collector"),
        (Answer::Rejected(2, "no room"), "refused spans: 2 spans were rejected: no room"),
        (Answer::Noise, "the trace was not exported to otlp"),
        (Answer::Silence, "did not take everything in time"),
    ] {
        let collector = Collector::start(answer.clone());
        let project = project(&collector.url());
        let said = runs(&project);
        assert!(said.contains(reason), "{answer:?}, `{reason}`:\n{said}");
        assert!(said.contains("the journal keeps"), "{answer:?}:\n{said}");
        assert!(collector.requests() > 0, "{answer:?}");

        collector.answer(Answer::Taken);
        let later = resumed(&project);
        assert!(!later.stderr.contains("the journal keeps"), "{answer:?}: {later:?}");
        assert_eq!(sent(&collector), expected(&project), "{answer:?}");
    }
}

#[test]
fn a_collector_that_is_not_there_or_cannot_be_is_named() {
    let absent = runs(&project("http://127.0.0.1:1"));
    assert!(absent.contains("not exported to otlp 127.0.0.1:1") && absent.contains("refused"), "{absent}");
    for nonsense in ["collector:4318", "ftp://127.0.0.1", "not a url"] {
        let done = project(nonsense).foreplan(&["run"]);
        assert_eq!(done.code, 2, "a place that cannot be is said before anything happens: {done:?}");
        assert!(done.stderr.contains("cannot be exported"), "{done:?}");
    }
}

#[test]
fn a_process_that_is_killed_before_the_answer_comes_loses_nothing() {
    let collector = Collector::start(Answer::Silence);
    let project = project(&collector.url());
    let mut doomed = project.start(&["run"]);
    wait_until("spans are on their way", || collector.requests() > 0);
    doomed.kill().expect("it is killed");
    doomed.wait().expect("it ends");
    let before = collector.spans().len();

    collector.answer(Answer::Taken);
    resumed(&project);
    let all = expected(&project);
    assert_eq!(sent(&collector), all);
    assert!(before > 0 && collector.spans().len() >= before + all.len(), "what was sent is sent again");
}

#[test]
fn an_outage_of_a_deployments_collector_is_a_lag_that_ends() {
    let collector = Collector::start(Answer::Status(503, "", "later".to_owned()));
    let deployment = Deployment::start();
    let agents = deployment.of(Project::empty()).with_env(ENDPOINT, &collector.url());
    let tracker = serve(&agents, &["--roles", "planner,replanner,tracker", "--listen", "127.0.0.1:0"]);
    let project = deployment.of(Project::example("support-report"));
    let _pool = serve(&project, &["--roles", "executor"]);
    runs(&project);
    let metric = |name: &str| -> u64 {
        let metrics = page(&tracker.address(), "/metrics");
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    };
    let entries = project.show("last")["journal"]["entries"].as_u64().expect("a number");
    wait_until("the lag is all of the run", || {
        metric("foreplan_trace_entries_behind{") == entries && metric("foreplan_trace_failures_total{") > 1
    });
    collector.answer(Answer::Taken);
    wait_until("the collector has everything", || metric("foreplan_trace_entries_behind{") == 0);
    assert_eq!(sent(&collector), expected(&project));
}

#[test]
fn a_jaeger_without_half_of_the_trace_is_told_what_it_lacks() {
    let project = Project::example("support-report");
    runs(&project);
    expected(&project);
    let mut trace: Value = serde_json::from_str(&project.read("trace.json")).expect("a trace");
    let jaeger = Collector::start(Answer::Silence);
    let compared = |trace: &Value| {
        jaeger.answer(Answer::Status(200, "", json!({ "result": trace }).to_string()));
        project.foreplan(&["audit", "last", "--verify", "--jaeger", &jaeger.url()])
    };
    let whole = compared(&trace);
    assert_eq!(whole.code, 0, "{whole:?}");

    let spans = trace["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().expect("spans");
    let lost: Vec<Value> = spans.drain(spans.len() / 2..).collect();
    assert!(lost.len() > 1);
    let halved = compared(&trace);
    assert_eq!(halved.code, 7, "{halved:?}");
    assert!(halved.stdout.contains(&format!("do not agree: {} differences", lost.len())), "{halved:?}");
    for span in &lost {
        let (id, name) = (span["spanId"].as_str().expect("an id"), span["name"].as_str().expect("a name"));
        let named = format!("{id} {name}, entry ");
        assert!(halved.stdout.contains(&named), "no `{named}` in {halved:?}");
    }
    assert!(halved.stdout.contains("verifies"), "the journal itself is whole: {halved:?}");

    jaeger.answer(Answer::Status(500, "", String::new()));
    let broken = project.foreplan(&["audit", "last", "--jaeger", &jaeger.url()]);
    assert!(broken.code != 0 && broken.stderr.contains("Jaeger answers 500"), "{broken:?}");
}
