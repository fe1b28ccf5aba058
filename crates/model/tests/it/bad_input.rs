//! Every wrong key, name, server and answer is a typed error that says what to do.

use std::{sync::Arc, time::Duration};

use foreplan_model::{Api, Client, Config, Configs, Error, ErrorKind, Key, Models};
use foreplan_testkit::{ModelServer, Reply};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{KEY, ask, client, config, model, no_variables, request};

/// Checks the kind of an error and what its message holds.
fn check(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind, kind, "{error}");
    for part in parts {
        assert!(error.message.contains(part), "`{part}` is not in: {error}");
    }
    assert!(!format!("{error} {error:?}").contains(KEY), "{error}");
}

fn find(name: &str) -> Error {
    let client = Client::new(Configs::new(), no_variables());
    client.model(name).err().unwrap()
}

async fn fails(reply: Reply) -> Error {
    let server = ModelServer::start().await;
    server.always(|_| true, reply);
    ask(&server).await.unwrap_err()
}

#[test]
fn without_a_key_the_variable_to_set_is_named() {
    check(&find("openai/gpt-4o"), ErrorKind::Authentication, &["OPENAI_API_KEY", "api_key"]);
    check(&find("anthropic/claude"), ErrorKind::Authentication, &["ANTHROPIC_API_KEY"]);
    check(&find("gemini/flash"), ErrorKind::Authentication, &["GEMINI_API_KEY"]);
    let missing =
        Config { key: Key::Missing("the variable MY_KEY is not set".to_owned()), ..Config::default() };
    let error = client([("openai/gpt-4o", missing)]).model("openai/gpt-4o").err().unwrap();
    check(&error, ErrorKind::Authentication, &["MY_KEY"]);
}

#[test]
fn a_local_provider_needs_no_key() {
    let client = Client::new(Configs::new(), no_variables());
    assert_eq!(client.model("ollama/qwen3").unwrap().name(), "ollama/qwen3");
}

#[test]
fn an_unknown_provider_says_which_are_known() {
    check(
        &find("acme/x"),
        ErrorKind::UnknownModel,
        &["acme", "anthropic, gemini, ollama, openai", "base_url"],
    );
    for name in ["gpt-4o", "/x", "openai/", ""] {
        check(&find(name), ErrorKind::UnknownModel, &["provider/name"]);
    }
}

#[tokio::test]
async fn a_key_from_a_variable_goes_only_to_the_providers_own_address() {
    let server = ModelServer::start().await;
    server.script([Reply::text("hi")]);
    let configs = [("openai".to_owned(), Config { base_url: Some(server.base_url()), ..Config::default() })];
    let variables = Arc::new(|_: &str| Some(KEY.to_owned()));
    let client = Client::new(configs.into_iter().collect(), variables);
    client.model("openai/m").unwrap().chat(Arc::new(request("x"))).await.unwrap();
    assert_ne!(server.asked()[0].key.as_deref(), Some(KEY));
}

#[tokio::test]
async fn a_wrong_key_is_not_repeated_in_the_error() {
    let error = fails(Reply::status(401, &format!("Incorrect API key provided: {KEY}"))).await;
    check(&error, ErrorKind::Authentication, &["[redacted]", "check the key"]);
}

#[test]
fn keys_show_in_no_debug_output() {
    let client = client([("test/m", Config { key: Key::Given(KEY.to_owned()), ..Config::default() })]);
    assert!(!format!("{client:?}").contains(KEY), "{client:?}");
}

#[tokio::test]
async fn what_the_server_refuses_is_told_apart() {
    let cases = [
        (Reply::status(404, "The model `m` does not exist"), ErrorKind::UnknownModel, "does not exist"),
        (
            Reply::status(400, "This model's maximum context length is 8192 tokens"),
            ErrorKind::ContextTooLong,
            "shorten",
        ),
        (Reply::status(429, "insufficient_quota: check your plan"), ErrorKind::Quota, "billing"),
        (Reply::status(400, "unsupported parameter"), ErrorKind::BadRequest, "unsupported parameter"),
        (Reply::refusal("I cannot help with that."), ErrorKind::Refused, "I cannot help"),
        (Reply::text("").finish("content_filter"), ErrorKind::Refused, "refuses"),
        (Reply::text(""), ErrorKind::Malformed, "empty"),
        (Reply::text("").finish("length"), ErrorKind::Malformed, "tokens ran out"),
        (Reply::raw("{\"choices\": [{\"mess"), ErrorKind::Malformed, "check that base_url"),
        (Reply::raw("{}"), ErrorKind::Malformed, "empty"),
        (Reply::raw("[1, 2]"), ErrorKind::Malformed, ""),
    ];
    for (reply, kind, part) in cases {
        check(&fails(reply).await, kind, &[part]);
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_every_time_is_a_typed_failure() {
    for api in [Api::Openai, Api::Anthropic] {
        let server = ModelServer::start().await;
        server.always(|_| true, Reply::text("an answer that never comes to its end").cut());
        let error = model(config(&server, api)).chat(Arc::new(request("x"))).await.unwrap_err();
        check(&error, ErrorKind::Unavailable, &["tried 4 times"]);
        assert!(server.asked().iter().all(|asked| asked.body["stream"] != true), "answers come whole");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_asked_for_is_a_typed_failure() {
    let events = "data: {\"choices\": [{\"delta\": {\"content\": \"hal\"}}]}\n\ndata: {\"choi";
    check(&fails(Reply::raw(events)).await, ErrorKind::Malformed, &["check that base_url"]);
}

#[tokio::test]
async fn a_refusal_of_anthropic_is_a_refusal() {
    let server = ModelServer::start().await;
    server.script([Reply::refusal("I cannot help with that.")]);
    let error = model(config(&server, Api::Anthropic)).chat(Arc::new(request("x"))).await.unwrap_err();
    check(&error, ErrorKind::Refused, &["I cannot help"]);
}

#[tokio::test]
async fn an_unreachable_server_is_named_as_such() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = Config { base_url: Some(format!("http://127.0.0.1:{port}/v1")), ..Config::default() };
    let error = model(nowhere).chat(Arc::new(request("x"))).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, &["cannot be reached", "base_url", "tried 4 times"]);
}

#[tokio::test]
async fn an_address_that_is_none_is_a_bad_request() {
    for url in ["not a url", "localhost:80"] {
        let wrong = Config { base_url: Some(url.to_owned()), ..Config::default() };
        let error = model(wrong).chat(Arc::new(request("x"))).await.unwrap_err();
        check(&error, ErrorKind::BadRequest, &["base_url"]);
    }
}

#[tokio::test]
async fn an_answer_that_is_late_is_given_up() {
    let server = ModelServer::start().await;
    server.always(|_| true, Reply::text("late").after(Duration::from_secs(30)));
    let timeout = Some(Duration::from_millis(50));
    let slow = model(Config { timeout, ..config(&server, Api::Openai) });
    let error = slow.chat(Arc::new(request("x"))).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, &["50ms", "timeout"]);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed_so_that_no_key_goes_to_another_server() {
    let other = ModelServer::start().await;
    other.always(|_| true, Reply::text("hello"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let location = format!("{}/messages", other.base_url());
    let redirecting = tokio::spawn(async move {
        let answer = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = vec![0; 64 * 1024];
            let _ = stream.read(&mut read).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let config = Config {
        api: Some(Api::Anthropic),
        base_url: Some(format!("http://{address}/v1")),
        key: Key::Given(KEY.to_owned()),
        ..Config::default()
    };
    let error = model(config).chat(Arc::new(request("how many?"))).await.unwrap_err();
    assert!(error.message.contains("307"), "{error}");
    assert!(other.asked().is_empty(), "the other server saw the request");
    redirecting.abort();
}
