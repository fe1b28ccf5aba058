//! Requests as tools, against a server in this process.

use foreplan_core::{
    digest::Digest,
    failure::{EffectState, FailureKind},
};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_json, header, method, path, query_param},
};

use crate::common::{TestProject, call, name};

async fn server(mocks: impl IntoIterator<Item = Mock>) -> MockServer {
    let server = MockServer::start().await;
    for mock in mocks {
        server.register(mock).await;
    }
    server
}

fn http(server: &MockServer, path: &str, more: &str) -> String {
    format!("[[http]]\nname = \"t\"\nurl = \"{}{path}\"\n{more}\n", server.uri())
}

fn answering(status: u16, body: &str) -> Mock {
    Mock::given(wiremock::matchers::any()).respond_with(ResponseTemplate::new(status).set_body_string(body))
}

#[tokio::test]
async fn a_request_takes_its_parts_from_the_input() {
    let server = server([Mock::given(method("POST"))
        .and(path("/items/a%20b%2F..%2Fc"))
        .and(query_param("q", "1&x=2"))
        .and(header("x-mode", "fast"))
        .and(header("content-type", "application/json"))
        .and(body_json(json!({"name": "n a b/../c", "count": 3, "rest": {"fixed": true}})))
        .respond_with(ResponseTemplate::new(201).set_body_json(json!({"id": 7})))])
    .await;
    let tool = http(
        &server,
        "/items/{id}?q={q}",
        r#"method = "POST"
           headers = { X-Mode = "{mode}" }
           body = { name = "n {id}", count = "{count}", rest = { fixed = true } }"#,
    );
    let input = json!({"id": "a b/../c", "q": "1&x=2", "mode": "fast", "count": 3});
    assert_eq!(TestProject::new(&[]).call(&tool, input).await, Ok(json!({"id": 7})));
}

#[tokio::test]
async fn a_post_without_a_body_sends_the_input_and_the_key() {
    let key = Digest::of_bytes(b"key");
    let server = server([Mock::given(method("POST"))
        .and(header("idempotency-key", key.to_string()))
        .and(body_json(json!({"a": 1})))
        .respond_with(ResponseTemplate::new(200).set_body_string("done\n"))])
    .await;
    let mut keyed = call(json!({"a": 1}));
    keyed.idempotency_key = Some(key);
    let tools = TestProject::new(&[]).toolbox(&http(&server, "/", "method = \"POST\""));
    assert_eq!(tools.call(&name("t"), keyed).await, Ok(json!({"text": "done"})));
}

#[tokio::test]
async fn a_server_is_told_where_in_the_trace_it_works() {
    let call = call(json!({}));
    let place = call.trace().to_string();
    let server = server([Mock::given(header("traceparent", place.as_str()))
        .respond_with(ResponseTemplate::new(200).set_body_string("ok"))])
    .await;
    let tools = TestProject::new(&[]).toolbox(&http(&server, "/", ""));
    assert_eq!(tools.call(&name("t"), call).await, Ok(json!({"text": "ok"})));
}

#[tokio::test]
async fn what_a_server_refuses_is_typed() {
    for (status, retryable, effect) in [
        (400, false, Some(EffectState::None)),
        (404, false, Some(EffectState::None)),
        (408, true, None),
        (409, false, None),
        (429, true, Some(EffectState::None)),
        (500, true, None),
        (503, true, None),
    ] {
        let server = server([answering(status, "no luck")]).await;
        let failure = TestProject::new(&[]).failure(&http(&server, "/", ""), json!({})).await;
        assert_eq!((failure.kind, failure.code), (FailureKind::Tool, format!("http_{status}")));
        assert_eq!((failure.retryable, failure.effect), (Some(retryable), effect), "{status}");
        assert!(failure.message.contains("no luck"), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_had_no_effect() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let tool = format!("[[http]]\nname = \"t\"\nurl = \"{url}\"");
    let failure = TestProject::new(&[]).failure(&tool, json!({})).await;
    assert_eq!(failure.code, "http_connect");
    assert_eq!((failure.retryable, failure.effect), (Some(true), Some(EffectState::None)));
}

#[tokio::test]
async fn a_secret_header_reaches_the_server_and_nobody_else() {
    let server = server([Mock::given(header("authorization", "Bearer hunter2"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"you": "sent hunter2"})))])
    .await;
    let tool =
        http(&server, "/", "headers = { Authorization = { env = \"API_TOKEN\", prefix = \"Bearer \" } }");
    let project = TestProject::new(&[]).var("API_TOKEN", "hunter2");
    assert_eq!(project.call(&tool, json!({})).await, Ok(json!({"you": "sent [redacted]"})));

    let digest = |project: &TestProject| project.load(&tool).unwrap().tools[0].descriptor().digest;
    let before = digest(&project);
    let project = project.var("API_TOKEN", "other-secret");
    assert_eq!(digest(&project), before);
    let failure = project.failure(&tool, json!({})).await;
    assert_eq!(failure.code, "http_404");

    let failure = project.var("API_TOKEN", "").failure(&tool, json!({})).await;
    assert_eq!((failure.code.as_str(), failure.effect), ("missing_secret", Some(EffectState::None)));
}

#[tokio::test]
async fn a_refusal_that_repeats_a_secret_is_redacted() {
    let server = server([answering(401, "bad token hunter2")]).await;
    let tool = http(&server, "/", "headers = { Authorization = { env = \"API_TOKEN\" } }");
    let failure = TestProject::new(&[]).var("API_TOKEN", "hunter2").failure(&tool, json!({})).await;
    assert!(failure.message.ends_with("bad token [redacted]"), "{failure}");
}

#[tokio::test]
async fn no_header_follows_a_redirect_to_another_server() {
    let other = server([answering(200, "{}")]).await;
    let redirect = ResponseTemplate::new(302).insert_header("location", other.uri().as_str());
    let first = server([Mock::given(path("/")).respond_with(redirect)]).await;
    let tool = http(&first, "/", "headers = { X-Key = { env = \"API_TOKEN\" } }");
    let failure = TestProject::new(&[]).var("API_TOKEN", "hunter2").failure(&tool, json!({})).await;
    assert_eq!(failure.code, "http_302");
    assert_eq!(other.received_requests().await.map(|requests| requests.len()), Some(0));

    let stays = ResponseTemplate::new(302).insert_header("location", "/there");
    let here = server([
        Mock::given(path("/")).respond_with(stays),
        Mock::given(path("/there")).respond_with(ResponseTemplate::new(200).set_body_string("here")),
    ])
    .await;
    let output: Value = TestProject::new(&[]).call(&http(&here, "/", ""), json!({})).await.unwrap();
    assert_eq!(output, json!({"text": "here"}));
}

#[tokio::test]
async fn an_answer_is_bounded_and_checked() {
    let large = server([answering(200, &"x".repeat(9 * 1024 * 1024))]).await;
    assert_eq!(
        TestProject::new(&[]).failure(&http(&large, "/", ""), json!({})).await.code,
        "output_too_large"
    );
    let wrong = server([answering(200, "{\"count\": \"many\"}")]).await;
    let failure = TestProject::new(&[])
        .failure(&http(&wrong, "/", "output = { count = \"integer\" }"), json!({}))
        .await;
    assert_eq!(failure.kind, FailureKind::OutputSchema);
}

#[tokio::test]
async fn a_server_that_never_answers_is_timed_out() {
    let slow = ResponseTemplate::new(200).set_delay(std::time::Duration::from_secs(600));
    let server = server([Mock::given(path("/")).respond_with(slow)]).await;
    let mut short = call(json!({}));
    short.timeout = std::time::Duration::from_millis(50);
    let tools = TestProject::new(&[]).toolbox(&http(&server, "/", ""));
    let failure = tools.call(&name("t"), short).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Timeout, "timeout"));
}
