//! What is sent, and how answers are read, in both wire formats.

use std::sync::Arc;

use foreplan_model::{Api, Message, Models, OutputSchema, Price, Request, ToolSpec, ToolUse, structured};
use foreplan_testkit::{ModelServer, Reply};
use serde_json::json;

use crate::common::{KEY, ask, client, config, model, request};

const APIS: [Api; 2] = [Api::Openai, Api::Anthropic];

#[tokio::test]
async fn a_text_comes_back_with_tokens_cost_and_who_answered() {
    for api in APIS {
        let server = ModelServer::start().await;
        server.always(
            |asked| asked.says("You count.") && asked.last() == "how many?",
            Reply::text("3").tokens(100, 7),
        );
        let price = Some(Price { input: 2.0, output: 10.0, cached: None });
        let model = model(foreplan_model::Config { price, ..config(&server, api) });
        let answer = model.chat(Arc::new(request("how many?"))).await.unwrap();
        assert_eq!(answer.text, "3", "{api:?}");
        assert_eq!((answer.tokens.input, answer.tokens.output), (100, 7), "{api:?}");
        assert_eq!(answer.cost_microusd, 270, "{api:?}");
        assert_eq!(answer.answered_by.as_deref(), Some("m"), "{api:?}");
        assert_eq!(answer.retries, 0);
        let asked = server.asked();
        assert_eq!((asked[0].model(), asked[0].key.as_deref()), ("m", Some(KEY)));
    }
}

#[tokio::test]
async fn a_price_of_the_project_goes_before_the_built_in_table() {
    let server = ModelServer::start().await;
    server.always(|_| true, Reply::text("3").tokens(1_000_000, 1_000_000));
    let cost = async |name: &str, price: Option<Price>| {
        let config = foreplan_model::Config { price, ..config(&server, Api::Openai) };
        let model = client([(name, config)]).model(name).unwrap();
        model.chat(Arc::new(request("how many?"))).await.unwrap().cost_microusd
    };
    let own = Price { input: 1.0, output: 2.0, cached: None };
    assert_eq!(cost("openai/gpt-4o", Some(own)).await, 3_000_000);
    let built_in = foreplan_model::PriceTable::built_in().of("openai/gpt-4o").unwrap();
    let expected = ((built_in.input + built_in.output) * 1e6) as u64;
    assert!(expected > 0 && expected != 3_000_000);
    assert_eq!(cost("openai/gpt-4o", None).await, expected);
    assert_eq!(cost("local/unheard-of", None).await, 0, "a model without a price counts as free");
}

#[tokio::test]
async fn tools_are_offered_called_and_answered() {
    for api in APIS {
        let server = ModelServer::start().await;
        let two = Reply::call("read", json!({"path": "a"})).and_call("read", json!({"path": "b"}));
        server.once(|asked| asked.tools() == ["read"] && asked.turns() == 0, two);
        server
            .once(|asked| asked.turns() == 1 && asked.says("AAA") && asked.says("BBB"), Reply::text("done"));
        let model = model(config(&server, api));
        let tool = ToolSpec {
            name: "read".to_owned(),
            description: "Reads a file".to_owned(),
            input: json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}),
        };
        let first = Request { tools: vec![tool], ..request("read a and b") };
        let answer = model.chat(Arc::new(first.clone())).await.unwrap();
        let asked: Vec<_> = answer.calls.iter().map(|c| (c.name.as_str(), c.input.clone())).collect();
        assert_eq!(asked, [("read", json!({"path": "a"})), ("read", json!({"path": "b"}))], "{api:?}");
        assert_ne!(answer.calls[0].id, answer.calls[1].id);

        let mut second = first;
        second.messages.push(Message::Assistant { text: answer.text, calls: answer.calls.clone() });
        for (call, content) in answer.calls.iter().zip(["AAA", "BBB"]) {
            second.messages.push(Message::Tool { id: call.id.clone(), content: content.to_owned() });
        }
        assert_eq!(model.chat(Arc::new(second)).await.unwrap().text, "done", "{api:?}");
    }
}

#[tokio::test]
async fn a_tool_that_was_not_offered_is_passed_on_as_it_was_asked_for() {
    let server = ModelServer::start().await;
    server.script([Reply::call("no_such_tool", json!({"path": "a"}))]);
    let answer = ask(&server).await.unwrap();
    let ToolUse { name, input, .. } = &answer.calls[0];
    assert_eq!((name.as_str(), input), ("no_such_tool", &json!({"path": "a"})));
}

#[tokio::test]
async fn arguments_that_are_no_json_stay_a_text() {
    let server = ModelServer::start().await;
    server.script([Reply::call("read", json!("{\"path\": "))]);
    assert_eq!(ask(&server).await.unwrap().calls[0].input, json!("{\"path\": "));
}

#[tokio::test]
async fn a_call_without_arguments_has_an_empty_input() {
    let server = ModelServer::start().await;
    server.script([Reply::call("now", json!(""))]);
    assert_eq!(ask(&server).await.unwrap().calls[0].input, json!({}));
}

#[tokio::test]
async fn a_model_is_asked_for_by_its_whole_name() {
    for name in ["mistral-medium", "coder-high", "qwen-max"] {
        let server = ModelServer::start().await;
        server.script([Reply::text("hi")]);
        let model = client([("test", config(&server, Api::Openai))]).model(&format!("test/{name}")).unwrap();
        model.chat(Arc::new(request("x"))).await.unwrap();
        let asked = server.asked();
        assert_eq!(asked[0].model(), name);
        assert_eq!(asked[0].body.get("reasoning_effort"), None, "{name}");
    }
}

#[tokio::test]
async fn a_schema_goes_with_the_request_and_the_answer_is_json() {
    for api in APIS {
        let server = ModelServer::start().await;
        server
            .always(|asked| asked.body.to_string().contains("\"lines\""), Reply::json(&json!({"lines": 3})));
        let schema =
            json!({"type": "object", "properties": {"lines": {"type": "integer"}}, "required": ["lines"]});
        let output = Some(OutputSchema { name: "count".to_owned(), schema });
        let answer =
            model(config(&server, api)).chat(Arc::new(Request { output, ..request("count") })).await.unwrap();
        assert_eq!(structured(&answer), Ok(json!({"lines": 3})), "{api:?}");
    }
}

#[tokio::test]
async fn control_characters_and_every_script_pass_unchanged() {
    let text = "tab\t bell\u{7} nul\u{0} \u{202e}rtl 漢字 🦀 \"quoted\" \\u0041";
    for api in APIS {
        let server = ModelServer::start().await;
        server.answer(|asked| Some(Reply::text(format!("<{}>", asked.last()))));
        let answer = model(config(&server, api)).chat(Arc::new(request(text))).await.unwrap();
        assert_eq!(answer.text, format!("<{text}>"), "{api:?}");
    }
}
