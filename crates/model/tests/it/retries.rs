//! What is sent again, how long it waits, and how much runs at a time.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use foreplan_model::{Api, Config, ErrorKind, Models};
use foreplan_testkit::{ModelServer, Reply};
use futures::future::join_all;

use crate::common::{ask, client, config, request};

#[tokio::test]
async fn transient_errors_are_tried_again() {
    let transient = [
        Reply::status(408, ""),
        Reply::status(429, "slow down"),
        Reply::status(500, ""),
        Reply::status(529, "overloaded"),
        Reply::hang_up(),
        Reply::text("cut off in the middle").cut(),
    ];
    for reply in transient {
        let server = ModelServer::start().await;
        server.script([reply.clone(), reply.clone(), Reply::text("at last")]);
        let answer = ask(&server).await.unwrap_or_else(|e| panic!("{e} after {reply:?}"));
        assert_eq!((answer.text.as_str(), answer.retries), ("at last", 2), "{reply:?}");
        assert_eq!(server.asked().len(), 3, "{reply:?}");
    }
}

#[tokio::test]
async fn an_error_that_stays_is_tried_as_often_as_allowed() {
    let server = ModelServer::start().await;
    server.always(|_| true, Reply::status(503, "down for maintenance"));
    let error = ask(&server).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    for part in ["503", "down for maintenance", "tried 4 times"] {
        assert!(error.message.contains(part), "{error}");
    }
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn errors_of_the_request_are_not_tried_again() {
    for status in [400, 401, 403, 404] {
        let server = ModelServer::start().await;
        server.always(|_| true, Reply::status(status, "no"));
        assert!(ask(&server).await.is_err());
        assert_eq!(server.asked().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn the_wait_that_the_server_asks_for_is_kept() {
    let server = ModelServer::start().await;
    server.script([Reply::status(429, "slow down").retry_after("1"), Reply::text("ok")]);
    let start = Instant::now();
    assert_eq!(ask(&server).await.unwrap().retries, 1);
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_an_error_that_says_how_long() {
    let server = ModelServer::start().await;
    server.always(|_| true, Reply::status(429, "slow down").retry_after("3600"));
    let error = ask(&server).await.unwrap_err();
    assert!(error.message.contains("wait 3600 s"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_date_is_a_wait_too() {
    let server = ModelServer::start().await;
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    server.script([Reply::status(503, "").retry_after(past), Reply::text("ok")]);
    assert_eq!(ask(&server).await.unwrap().retries, 1);
}

#[tokio::test]
async fn models_of_one_provider_share_its_limit() {
    let server = ModelServer::start().await;
    server.always(|_| true, Reply::text("ok").after(Duration::from_millis(20)));
    let one = Config { concurrency: NonZeroU32::new(2), ..config(&server, Api::Openai) };
    let client = client([("test/a", one), ("test/b", config(&server, Api::Openai))]);
    let models = [client.model("test/a").unwrap(), client.model("test/b").unwrap()];
    let answers = join_all((0..8).map(|n| models[n % 2].chat(Arc::new(request("x"))))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(server.most_at_once(), 2);
}
