//! What the tests share: a client of one scripted server, and requests.

use std::{sync::Arc, time::Duration};

use foreplan_core::{call::Purpose, digest::Digest};
use foreplan_model::{
    Answer, Api, Client, Config, Configs, Error, Key, Message, Model, Models, Request, Retries, Variables,
};
use foreplan_testkit::ModelServer;

pub(crate) const KEY: &str = "sk-very-secret-1234";

/// Repetitions that take no time.
pub(crate) const QUICK: Retries =
    Retries { max: 3, first: Duration::from_millis(1), longest: Duration::from_millis(1500) };

pub(crate) fn no_variables() -> Variables {
    Arc::new(|_| None)
}

/// Returns how `server` is reached.
pub(crate) fn config(server: &ModelServer, api: Api) -> Config {
    Config {
        api: Some(api),
        base_url: Some(server.base_url()),
        key: Key::Given(KEY.to_owned()),
        ..Config::default()
    }
}

/// Returns the model `test/m` of a client that has this configuration.
pub(crate) fn model(config: Config) -> Arc<dyn Model> {
    client([("test/m", config)]).model("test/m").unwrap()
}

pub(crate) fn client<const N: usize>(configs: [(&str, Config); N]) -> Client {
    let configs: Configs = configs.into_iter().map(|(name, config)| (name.to_owned(), config)).collect();
    Client::new(configs, no_variables()).retries(QUICK)
}

pub(crate) fn request(text: &str) -> Request {
    Request {
        purpose: Purpose::Act,
        prompt: Digest::of_bytes(b"prompt"),
        system: "You count.".to_owned(),
        messages: vec![Message::User { text: text.to_owned() }],
        tools: Vec::new(),
        output: None,
        max_output_tokens: None,
    }
}

/// Asks an OpenAI-compatible server once.
pub(crate) async fn ask(server: &ModelServer) -> Result<Answer, Error> {
    model(config(server, Api::Openai)).chat(Arc::new(request("how many?"))).await
}
