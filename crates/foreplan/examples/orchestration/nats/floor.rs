//! What a bare server gives at this moment for what a step needs: two work-queue cycles and one append, with the
//! acknowledgements of the bus. Once all side by side, so that nothing waits for anything else; once in the order in which a step needs them.

mod in_order;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::{
    Client,
    jetstream::{
        self, AckKind, Message,
        consumer::{AckPolicy, PullConsumer, pull},
        message::PublishMessage,
        stream::{Config, DiscardPolicy, RetentionPolicy, Stream},
    },
};
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use serde_json::{Value, json};

/// The streams of requests, of answers, and of entries.
const REQUESTS: &str = "floor1";
const ANSWERS: &str = "floor2";
const ENTRIES: &str = "floor3";

/// Steps that are measured: over a second and more, since what a shorter time gives varies by a third.
const STEPS: usize = 50_000;

/// Bytes of a message: about a request, an answer, or an entry.
const BYTES: usize = 512;

/// Messages in flight: enough that the server is never idle.
const IN_FLIGHT: usize = 256;

/// Messages that are pulled at once.
const BATCH: usize = 256;

/// Round trips, one after the other, that are measured.
const ROUNDS: usize = 1_000;

/// How long the server may take to deliver.
const WAIT: Duration = Duration::from_secs(30);

/// Measures on streams of its own, with the same copies and the same acknowledgements.
pub(crate) async fn measure(url: &str, replicas: usize) -> anyhow::Result<Value> {
    let client = async_nats::connect(url).await?;
    let js = jetstream::new(client.clone());
    let config = |name: &str, retention| Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        retention,
        discard: DiscardPolicy::New,
        num_replicas: replicas,
        ..Config::default()
    };
    let queue = RetentionPolicy::WorkQueue;
    let configs = [config(REQUESTS, queue), config(ANSWERS, queue), config(ENTRIES, RetentionPolicy::Limits)];
    let made = || try_join_all(configs.iter().map(|config| js.create_stream(config)));
    let deleted = || try_join_all(configs.iter().map(|config| js.delete_stream(&config.name)));

    let streams = made().await?;
    let round_us = round_us(&client, &js, &streams[0]).await?;
    let steps_per_s = side_by_side(&client, &js, [&streams[0], &streams[1]]).await?;
    deleted().await?;
    let streams = made().await?;
    let in_order = in_order::steps_per_s(&client, &js, [&streams[0], &streams[1]]).await?;
    deleted().await?;
    Ok(json!({
        "steps_per_s": steps_per_s, "in_order_steps_per_s": in_order, "dependent_round_us": round_us,
    }))
}

/// Returns the steps of a second, if their operations wait for nothing.
async fn side_by_side(
    client: &Client,
    js: &jetstream::Context,
    [first, second]: [&Stream; 2],
) -> anyhow::Result<f64> {
    let began = Instant::now();
    tokio::try_join!(
        tokio::spawn(cycles(client.clone(), js.clone(), first.clone())),
        tokio::spawn(cycles(client.clone(), js.clone(), second.clone())),
        tokio::spawn(appends(js.clone())),
    )
    .map_err(anyhow::Error::from)
    .and_then(|(first, second, third)| first.and(second).and(third))?;
    Ok(STEPS as f64 / began.elapsed().as_secs_f64())
}

async fn publish(js: &jetstream::Context, subject: String, message: PublishMessage) -> anyhow::Result<u64> {
    Ok(js.send_publish(subject, message).await?.await?.sequence)
}

fn message() -> PublishMessage {
    PublishMessage::build().payload(vec![b'x'; BYTES].into())
}

/// Publishes, pulls and acknowledges.
async fn cycles(client: Client, js: jetstream::Context, queue: Stream) -> anyhow::Result<()> {
    let name = queue.cached_info().config.name.clone();
    let consumer = consumer(&queue).await?;
    let publishing = tokio::spawn({
        let name = name.clone();
        async move {
            let all = stream::iter(0..STEPS).map(|number| {
                publish(&js, format!("{name}.{number}"), message().message_id(format!("{name}-{number}")))
            });
            all.buffer_unordered(IN_FLIGHT).try_for_each(|_| async { Ok(()) }).await
        }
    });
    let mut left = STEPS;
    while left > 0 {
        let batch = consumer.batch().max_messages(BATCH.min(left)).expires(WAIT).messages().await?;
        let batch: Vec<_> = batch.collect().await;
        let taken = batch.len();
        let acknowledged = batch
            .into_iter()
            .map(|delivery| acknowledge(&client, delivery.map_err(anyhow::Error::from_boxed)));
        futures::future::try_join_all(acknowledged).await?;
        left = left.checked_sub(taken).filter(|_| taken > 0).context("the server does not deliver")?;
    }
    publishing.await?
}

/// Acknowledges as the bus does: requests confirmed, over the one inbox of the connection; answers not, since they
/// may come again.
async fn acknowledge(client: &Client, delivery: anyhow::Result<Message>) -> anyhow::Result<()> {
    let delivery = delivery?;
    let reply = delivery.reply.clone().context("the message is none of a stream")?;
    if delivery.subject.starts_with(ANSWERS) {
        client.publish(reply, AckKind::Ack.into()).await?;
    } else {
        client.request(reply, AckKind::Ack.into()).await?;
    }
    Ok(())
}

async fn consumer(queue: &Stream) -> anyhow::Result<PullConsumer> {
    let config = pull::Config {
        durable_name: Some("floor".to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 4096,
        ..pull::Config::default()
    };
    Ok(queue.create_consumer(config).await?)
}

/// Appends under an expected sequence, each to a subject of its own as its run's next entry.
async fn appends(js: jetstream::Context) -> anyhow::Result<()> {
    let each = STEPS / IN_FLIGHT;
    let runs = stream::iter(0..IN_FLIGHT).map(|run| {
        let js = js.clone();
        async move {
            let mut last = 0;
            for _ in 0..each + usize::from(run < STEPS % IN_FLIGHT) {
                let entry = message().expected_last_subject_sequence(last);
                last = publish(&js, format!("{ENTRIES}.{run}"), entry).await?;
            }
            anyhow::Ok(())
        }
    });
    runs.buffer_unordered(IN_FLIGHT).try_for_each(|()| async { Ok(()) }).await
}

/// Returns what one dependent round trip takes: published, pulled, and answered to who waits.
async fn round_us(client: &Client, js: &jetstream::Context, queue: &Stream) -> anyhow::Result<f64> {
    let consumer = consumer(queue).await?;
    let name = queue.cached_info().config.name.clone();
    let mut took = Vec::with_capacity(ROUNDS);
    for number in 0..ROUNDS {
        let began = Instant::now();
        let published = publish(js, format!("{name}.round.{number}"), message());
        let pulled = async {
            let mut batch = consumer.batch().max_messages(1).expires(WAIT).messages().await?;
            let delivery = batch.next().await.context("nothing came")?;
            acknowledge(client, delivery.map_err(anyhow::Error::from_boxed)).await
        };
        tokio::try_join!(published, pulled)?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[ROUNDS / 2])
}
