//! Streams that do not come to their end are typed failures, and nothing of them is used.

use std::{sync::Arc, time::Duration};

use foreplan_model::{Answer, Api, Client, Config, Error, ErrorKind, Models, Price, Retries};
use foreplan_testkit::{ModelServer, Reply};
use serde_json::{Value, json};

use crate::common::{KEY, config, model, no_variables, request};

const APIS: [Api; 2] = [Api::Openai, Api::Anthropic];

/// Far longer than a loaded machine holds a piece up, and than any test waits.
const LONG: Duration = Duration::from_secs(60);

fn streamed(server: &ModelServer, api: Api) -> Config {
    let price = Some(Price { input: 1.0, output: 1.0, cached: None });
    Config { stream: Some(true), timeout: Some(LONG), price, ..config(server, api) }
}

async fn ask(config: Config) -> Result<Answer, Error> {
    model(config).chat(Arc::new(request("how many?"))).await
}

fn check(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind, kind, "{error}");
    for part in parts {
        assert!(error.message.contains(part), "`{part}` is not in: {error}");
    }
    assert!(!format!("{error} {error:?}").contains(KEY), "{error}");
}

/// The ways in which a stream stops half way.
fn halves() -> [(&'static str, Reply); 4] {
    let answer = || Reply::text("an answer of which a half is no answer").tokens(100, 10);
    [
        ("the connection breaks", answer().cut()),
        ("it ends in the middle", answer().early()),
        ("its end has no mark", answer().unmarked()),
        ("an error comes", answer().error("overloaded_error", "Overloaded")),
    ]
}

#[tokio::test]
async fn a_stream_that_stops_half_way_is_asked_for_again() {
    for api in APIS {
        for (name, half) in halves() {
            let server = ModelServer::start().await;
            server.script([half.clone(), half, Reply::text("at last")]);
            let answer = ask(streamed(&server, api)).await.unwrap_or_else(|e| panic!("{api:?}, {name}: {e}"));
            assert_eq!((answer.text.as_str(), answer.retries), ("at last", 2), "{api:?}, {name}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_always_stops_half_way_is_a_typed_failure_that_says_what_to_do() {
    for api in APIS {
        for (name, half) in halves() {
            let server = ModelServer::start().await;
            server.always(|_| true, half);
            let error = ask(streamed(&server, api)).await.unwrap_err();
            let advice = if name == "an error comes" { "overloaded_error" } else { "stream = false" };
            check(&error, ErrorKind::Unavailable, &["the answer broke off", advice, "tried 4 times"]);
            assert_eq!(server.asked().len(), 4, "{api:?}, {name}");
        }
    }
}

#[tokio::test]
async fn what_the_provider_counted_for_halves_is_counted() {
    let server = ModelServer::start().await;
    let half = Reply::text("an answer of which a half is no answer").tokens(100, 10).early();
    server.script([half.clone(), Reply::text("at last").tokens(100, 10)]);
    let answer = ask(streamed(&server, Api::Anthropic)).await.unwrap();
    assert_eq!((answer.tokens.input, answer.tokens.output, answer.cost_microusd), (200, 11, 211));

    server.always(|_| true, half);
    let error = ask(streamed(&server, Api::Anthropic)).await.unwrap_err();
    assert_eq!((error.tokens.input, error.tokens.output, error.cost_microusd), (400, 4, 404));
}

#[tokio::test]
async fn what_an_answer_used_that_is_none_is_counted() {
    for stream in [false, true] {
        let server = ModelServer::start().await;
        server.script([Reply::refusal("No.").tokens(100, 10)]);
        let error = ask(Config { stream: Some(stream), ..streamed(&server, Api::Openai) }).await.unwrap_err();
        check(&error, ErrorKind::Refused, &["No."]);
        assert_eq!((error.tokens.input, error.tokens.output, error.cost_microusd), (100, 10, 110));
    }
}

fn openai_events() -> String {
    let piece = |delta: Value, finish: Value| {
        format!("data: {}\n\n", json!({"model": "m", "choices": [{"delta": delta, "finish_reason": finish}]}))
    };
    let call =
        json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "read", "arguments": "{}"}}]});
    [
        piece(json!({"role": "assistant", "content": "one"}), Value::Null),
        piece(json!({"content": " two"}), Value::Null),
        piece(call, Value::Null),
        piece(json!({}), "tool_calls".into()),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat()
}

fn anthropic_events() -> String {
    let event = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    let block = |at: u32, block: Value, delta: Value| {
        event(json!({"type": "content_block_start", "index": at, "content_block": block}))
            + &event(json!({"type": "content_block_delta", "index": at, "delta": delta}))
            + &event(json!({"type": "content_block_stop", "index": at}))
    };
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let tool = json!({"type": "tool_use", "id": "c", "name": "read", "input": {}});
    [
        event(json!({"type": "message_start", "message": {"model": "m", "usage": usage}})),
        block(0, json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": "one two"})),
        block(1, tool, json!({"type": "input_json_delta", "partial_json": "{}"})),
        event(json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}})),
        event(json!({"type": "message_stop"})),
    ]
    .concat()
}

#[tokio::test]
async fn wherever_a_stream_ends_it_is_the_whole_answer_or_none() {
    for (api, events) in [(Api::Openai, openai_events()), (Api::Anthropic, anthropic_events())] {
        let server = ModelServer::start().await;
        let all = events.clone();
        let mut at = 0;
        server.answer(move |_| {
            at += 1;
            Some(Reply::events([&all[..at.min(all.len())]]))
        });
        let configs = [("test/m".to_owned(), streamed(&server, api))].into_iter().collect();
        let once = Retries { max: 0, ..Retries::default() };
        let model = Client::new(configs, no_variables()).retries(once).model("test/m").unwrap();
        // What is missing at the very end is not part of the answer.
        let mark = events.rfind(if api == Api::Openai { "[DONE]" } else { "message_stop\ndata" }).unwrap();
        for length in 1..=events.len() {
            let result = model.chat(Arc::new(request("x"))).await;
            match result {
                Ok(answer) => {
                    assert!(length > mark, "{api:?}: {length} of {}: {answer:?}", events.len());
                    assert_eq!((answer.text.as_str(), answer.calls.len()), ("one two", 1));
                }
                Err(error) => {
                    assert!(length < events.len(), "{api:?}: {error}");
                    let kind = if error.message.contains("in pieces") {
                        ErrorKind::Malformed
                    } else {
                        ErrorKind::Unavailable
                    };
                    check(&error, kind, &["stream = false"]);
                }
            }
        }
    }
}

#[tokio::test]
async fn an_error_in_a_stream_is_told_apart_as_its_status_would_be() {
    let cases = [
        ("invalid_request_error", "prompt is too long: 210000 tokens", ErrorKind::ContextTooLong, 1),
        ("invalid_request_error", "no", ErrorKind::BadRequest, 1),
        ("authentication_error", "bad key", ErrorKind::Authentication, 1),
        ("rate_limit_error", "slow down", ErrorKind::Unavailable, 4),
        ("api_error", "internal", ErrorKind::Unavailable, 4),
        ("insufficient_quota", "no money", ErrorKind::Quota, 1),
    ];
    for api in APIS {
        for (kind, message, expected, asked) in cases {
            let server = ModelServer::start().await;
            let words = format!("{message} {KEY}");
            server.always(|_| true, Reply::text("one two three").error(kind, &words));
            let error = ask(streamed(&server, api)).await.unwrap_err();
            check(&error, expected, &[message, "[redacted]"]);
            assert_eq!(server.asked().len(), asked, "{api:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_key_in_an_error_of_a_stream_is_replaced_before_its_words_are_cut() {
    for api in APIS {
        let server = ModelServer::start().await;
        let words = format!("{} {KEY}", "x".repeat(292));
        server.always(|_| true, Reply::text("one two").error("invalid_request_error", &words));
        let error = ask(streamed(&server, api)).await.unwrap_err();
        assert!(error.message.contains(" [redac") && !error.message.contains("sk-"), "{error}");
    }
}

#[tokio::test]
async fn a_piece_that_nobody_can_read_is_malformed_where_the_stream_goes_on() {
    let openai = ["data: {\"choices\": [}\n\n".to_owned(), openai_events()];
    let start = "event: content_block_stop\n";
    let (before, after) =
        anthropic_events().split_once(start).map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    // The library reads nothing of this event, and would pass over it.
    let anthropic = [before, format!("{start}data: {{\"type\n\n{start}{after}")];
    for (api, events) in [(Api::Openai, openai), (Api::Anthropic, anthropic)] {
        let server = ModelServer::start().await;
        server.always(|_| true, Reply::events(events));
        let error = ask(streamed(&server, api)).await.unwrap_err();
        check(&error, ErrorKind::Malformed, &["check that base_url"]);
        assert_eq!(server.asked().len(), 1, "{api:?}");
    }
}

#[tokio::test]
async fn pieces_with_an_empty_error_are_named_as_such() {
    let server = ModelServer::start().await;
    let events = openai_events().replace("\"choices\"", "\"error\": null, \"choices\"");
    assert!(events.contains("null, "));
    server.always(|_| true, Reply::events([events]));
    let error = ask(streamed(&server, Api::Openai)).await.unwrap_err();
    check(&error, ErrorKind::Malformed, &["empty `error`", "stream = false"]);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_named_as_such() {
    let server = ModelServer::start().await;
    server.always(|_| true, Reply::raw(r#"{"choices": [{"message": {"content": "hi"}}]}"#));
    let error = ask(streamed(&server, Api::Openai)).await.unwrap_err();
    check(&error, ErrorKind::Malformed, &["in pieces", "stream = false"]);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_long_answer_comes_as_long_as_its_pieces_come() {
    let (pause, timeout) = (Duration::from_millis(400), Some(Duration::from_secs(2)));
    for api in APIS {
        let server = ModelServer::start().await;
        server.always(|_| true, Reply::text("one two three").every(pause));
        let begun = std::time::Instant::now();
        let answer = ask(Config { timeout, ..streamed(&server, api) }).await.unwrap();
        assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(answer.text, "one two three", "{api:?}");
    }
}

#[tokio::test]
async fn a_sign_of_life_without_content_breaks_the_silence() {
    let server = ModelServer::start().await;
    let comments = vec![": still thinking\n\n".to_owned(); 7];
    let events = comments.into_iter().chain([openai_events()]);
    server.always(|_| true, Reply::events(events).every(Duration::from_millis(400)));
    let timeout = Some(Duration::from_secs(2));
    let answer = ask(Config { timeout, ..streamed(&server, Api::Openai) }).await.unwrap();
    assert_eq!(answer.text, "one two");
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_given_up() {
    for api in APIS {
        let server = ModelServer::start().await;
        server.always(|_| true, Reply::text("one two three").stall(LONG));
        let timeout = Some(Duration::from_secs(2));
        let error = ask(Config { timeout, ..streamed(&server, api) }).await.unwrap_err();
        check(&error, ErrorKind::Unavailable, &["fell silent", "nothing came for 2s", "timeout"]);
        assert_eq!(server.asked().len(), 1, "{api:?}");
    }
    let server = ModelServer::start().await;
    server.always(|_| true, Reply::text("late").after(LONG));
    let timeout = Some(Duration::from_millis(50));
    let error = ask(Config { timeout, ..streamed(&server, Api::Openai) }).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, &["no answer within 50ms", "timeout"]);
}

#[tokio::test]
async fn a_stream_without_an_end_is_given_up_at_a_size() {
    for api in APIS {
        let server = ModelServer::start().await;
        server.always(|_| true, Reply::text("x".repeat(4 * 1024 * 1024)).endless());
        let error = ask(streamed(&server, api)).await.unwrap_err();
        check(&error, ErrorKind::Malformed, &["67108864 bytes", "ask for less"]);
        assert_eq!(server.asked().len(), 1, "{api:?}");
    }
}

#[tokio::test]
async fn a_project_that_says_nothing_gets_whole_answers() {
    let server = ModelServer::start().await;
    server.always(|asked| !asked.streamed(), Reply::text("whole"));
    assert_eq!(ask(config(&server, Api::Openai)).await.unwrap().text, "whole");
}

#[tokio::test]
async fn a_provider_says_for_its_models_that_they_stream_and_a_model_says_otherwise() {
    let server = ModelServer::start().await;
    server.answer(|asked| Some(Reply::text(asked.streamed().to_string())));
    let tables = [
        ("test", streamed(&server, Api::Openai)),
        ("test/b", Config { stream: Some(false), ..Config::default() }),
        ("test/c", Config::default()),
    ];
    let client = crate::common::client(tables);
    for (name, expected) in [("test/a", "true"), ("test/b", "false"), ("test/c", "true")] {
        let answer = client.model(name).unwrap().chat(Arc::new(request("x"))).await.unwrap();
        assert_eq!(answer.text, expected, "{name}");
    }
}
