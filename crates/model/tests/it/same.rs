//! An answer in pieces is the answer that comes whole: one table, both wire formats, over HTTP.

use std::sync::Arc;

use foreplan_model::{
    Answer, Api, Config, Error, ErrorKind, Message, OutputSchema, Price, Request, ToolSpec, structured,
};
use foreplan_testkit::{ModelServer, Reply};
use serde_json::{Value, json};

use crate::common::{config, model, request};

const APIS: [Api; 2] = [Api::Openai, Api::Anthropic];

/// What must come of a reply.
enum Expected {
    Text(&'static str),
    /// Where the library's readers of whole answers differ in the space around it.
    Padded(&'static str),
    Calls(Vec<(&'static str, Value)>),
    Fails(ErrorKind, &'static str),
}
use Expected::{Calls, Fails, Padded, Text};

/// A request with everything in it that forms have their own words for.
fn full_request() -> Request {
    let path = json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    let tool =
        |name: &str| ToolSpec { name: name.to_owned(), description: "Reads".to_owned(), input: path.clone() };
    let output = Some(OutputSchema { name: "found".to_owned(), schema: path.clone() });
    Request {
        tools: vec![tool("read"), tool("list")],
        output,
        max_output_tokens: Some(100),
        ..request("what is there?")
    }
}

/// Asks a server that has only this reply; returns also how often it was asked.
async fn come(reply: &Reply, api: Api, stream: bool) -> (Result<Answer, Error>, usize) {
    let server = ModelServer::start().await;
    let sent = reply.clone();
    server.always(move |asked| asked.streamed() == stream, sent);
    let price = Some(Price { input: 2.0, output: 10.0, cached: Some(0.5) });
    let model = model(Config { price, stream: Some(stream), ..config(&server, api) });
    let result = model.chat(Arc::new(full_request())).await;
    (result, server.asked().len())
}

fn cases() -> Vec<(&'static str, Reply, Expected)> {
    let call = |path: &str| ("read", json!({"path": path}));
    let strange =
        "tab\t bell\u{7} nul\u{0} \u{202e}rtl 漢字 🦀 \"quoted\" \\u0041 \r\n\r\ndata: [DONE]\n\n end";
    vec![
        ("text", Reply::text("one two three").tokens(100, 7), Text("one two three")),
        ("a text of one character", Reply::text("3"), Text("3")),
        ("space inside", Reply::text("a  b"), Text("a  b")),
        ("space around", Reply::text(" \n a  b \n"), Padded("a  b")),
        ("another model", Reply::text("ok").by("m-2026-11-22"), Text("ok")),
        ("every script", Reply::text(strange), Text(strange)),
        ("structured", Reply::json(&json!({"path": "漢/字"})), Text("{\"path\":\"漢/字\"}")),
        ("tokens apart", Reply::text("ok").tokens(1000, 70).tokens_apart(400, 30), Text("ok")),
        ("a call", Reply::call("read", json!({"path": "a"})), Calls(vec![call("a")])),
        (
            "parallel calls",
            Reply::call("read", json!({"path": "a"}))
                .and_call("list", json!({"path": "漢字", "deep": {"n": [1, 2.5, null]}}))
                .and_call("read", json!({"path": "a"})),
            Calls(vec![
                call("a"),
                ("list", json!({"path": "漢字", "deep": {"n": [1, 2.5, null]}})),
                call("a"),
            ]),
        ),
        (
            "text and calls",
            Reply::text("I look.").and_call("read", json!({"path": "b"})),
            Calls(vec![call("b")]),
        ),
        ("no arguments", Reply::call("now", json!("")), Calls(vec![("now", json!({}))])),
        ("empty arguments", Reply::call("now", json!({})), Calls(vec![("now", json!({}))])),
        (
            "arguments that are no JSON",
            Reply::call("read", json!("{\"path\": ")).and_call("read", json!({"path": "a"})),
            Calls(vec![("read", json!("{\"path\": ")), call("a")]),
        ),
        (
            "a tool that was not offered",
            Reply::call("no_such", json!({})),
            Calls(vec![("no_such", json!({}))]),
        ),
        ("cut at its tokens", Reply::text("one two").finish("max_tokens"), Text("one two")),
        ("a refusal", Reply::refusal("I cannot help with that."), Fails(ErrorKind::Refused, "I cannot help")),
        ("a filter", Reply::text("").finish("content_filter"), Fails(ErrorKind::Refused, "refuses")),
        ("an empty answer", Reply::text(""), Fails(ErrorKind::Malformed, "the answer is empty")),
        ("only space", Reply::text(" \n "), Fails(ErrorKind::Malformed, "the answer is empty")),
        (
            "no tokens left",
            Reply::text("").finish("max_tokens"),
            Fails(ErrorKind::Malformed, "tokens ran out"),
        ),
        ("a wrong key", Reply::status(401, "bad key"), Fails(ErrorKind::Authentication, "bad key")),
        ("no such model", Reply::status(404, "no model `m`"), Fails(ErrorKind::UnknownModel, "no model `m`")),
        (
            "too long",
            Reply::status(400, "context length exceeded"),
            Fails(ErrorKind::ContextTooLong, "shorten"),
        ),
        ("no quota", Reply::status(429, "insufficient_quota"), Fails(ErrorKind::Quota, "billing")),
        ("down", Reply::status(503, "maintenance"), Fails(ErrorKind::Unavailable, "tried 4 times")),
        (
            "a long wait",
            Reply::status(429, "slow down").retry_after("3600"),
            Fails(ErrorKind::Unavailable, "wait 3600 s"),
        ),
        ("no answer at all", Reply::hang_up(), Fails(ErrorKind::Unavailable, "the connection broke")),
    ]
}

#[tokio::test]
async fn an_answer_in_pieces_is_the_answer_that_comes_whole() {
    for api in APIS {
        for (name, reply, expected) in cases() {
            let (whole, asked) = come(&reply, api, false).await;
            let (streamed, asked_again) = come(&reply, api, true).await;
            let place = format!("{api:?}, {name}");
            assert_eq!(streamed, whole, "{place}");
            assert_eq!(asked_again, asked, "{place}");
            match (expected, streamed) {
                (Text(text), Ok(answer)) => {
                    assert_eq!((answer.text.as_str(), &answer.calls[..]), (text, &[][..]), "{place}");
                }
                (Padded(text), Ok(answer)) => assert_eq!(answer.text.trim(), text, "{place}"),
                (Calls(expected), Ok(answer)) => {
                    let calls: Vec<_> =
                        answer.calls.iter().map(|call| (call.name.as_str(), call.input.clone())).collect();
                    assert_eq!(calls, expected, "{place}");
                }
                (Fails(kind, part), Err(error)) => {
                    assert!(error.kind == kind && error.message.contains(part), "{place}: {error}");
                }
                (_, other) => panic!("{place}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn tokens_of_a_stream_are_counted_apart_and_cost_what_they_cost() {
    let reply = Reply::text("ok").tokens(1000, 70).tokens_apart(400, 30).by("m-2026-11-22");
    for (api, reasoning) in [(Api::Openai, 30), (Api::Anthropic, 0)] {
        let answer = come(&reply, api, true).await.0.unwrap();
        let tokens = answer.tokens;
        assert_eq!(
            (tokens.input, tokens.cached, tokens.output, tokens.reasoning),
            (1000, 400, 70, reasoning),
            "{api:?}"
        );
        assert_eq!(answer.cost_microusd, 600 * 2 + 200 + 700, "{api:?}");
        assert_eq!(answer.answered_by.as_deref(), Some("m-2026-11-22"), "{api:?}");
    }
}

#[tokio::test]
async fn a_conversation_goes_on_after_calls_that_came_in_pieces() {
    for api in APIS {
        let server = ModelServer::start().await;
        let two = Reply::call("read", json!({"path": "a"})).and_call("read", json!({"path": "b"}));
        server.once(|asked| asked.streamed() && asked.turns() == 0, two);
        let answer = Reply::json(&json!({"path": "done"}));
        server.once(|asked| asked.turns() == 1 && asked.says("AAA") && asked.says("BBB"), answer);
        let model = model(Config { stream: Some(true), ..config(&server, api) });
        let mut talk = full_request();
        let first = model.chat(Arc::new(talk.clone())).await.unwrap();
        assert_ne!(first.calls[0].id, first.calls[1].id, "{api:?}");
        talk.messages.push(Message::Assistant { text: first.text, calls: first.calls.clone() });
        for (call, content) in first.calls.iter().zip(["AAA", "BBB"]) {
            talk.messages.push(Message::Tool { id: call.id.clone(), content: content.to_owned() });
        }
        let last = model.chat(Arc::new(talk)).await.unwrap();
        assert_eq!(structured(&last), Ok(json!({"path": "done"})), "{api:?}");
    }
}
