//! The same operations in the order in which a step needs them: a request is published and pulled, an answer published,
//! the request acknowledged, the answer pulled, an entry appended, and only then the next request published and the
//! answer acknowledged. Nothing else is done: no message is read or made of anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::Context as _;
use async_nats::{
    Client,
    jetstream::{self, Message, consumer::PullConsumer},
};
use futures::{
    StreamExt as _,
    future::{try_join, try_join_all},
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{ANSWERS, BATCH, ENTRIES, REQUESTS, STEPS, WAIT, acknowledge, consumer, message, publish};

/// Steps in flight: as many as 300 runs have at once that do three side by side.
const LANES: usize = 900;

/// Requests for messages that stand at once, so that one always does.
const PULLS: usize = 2;

/// What a step's two halves share.
struct Floor {
    client: Client,
    js: jetstream::Context,
    lanes: Vec<Lane>,
    /// Steps that are not begun.
    left: AtomicUsize,
    /// One permit for each step that is done.
    done: Semaphore,
}

/// Steps one after the other, as those of a run.
#[derive(Default)]
struct Lane {
    steps: AtomicUsize,
    /// The stream's sequence of the last entry.
    last: AtomicU64,
}

/// Returns the steps of a second.
pub(super) async fn steps_per_s(
    client: &Client,
    js: &jetstream::Context,
    [requests, answers]: [&jetstream::stream::Stream; 2],
) -> anyhow::Result<f64> {
    let floor = Arc::new(Floor {
        client: client.clone(),
        js: js.clone(),
        lanes: (0..LANES).map(|_| Lane::default()).collect(),
        left: AtomicUsize::new(STEPS),
        done: Semaphore::new(0),
    });
    let (work, replies) = try_join(consumer(requests), consumer(answers)).await?;
    let mut pulling = JoinSet::new();
    for _ in 0..PULLS {
        pulling.spawn(Arc::clone(&floor).pull(work.clone(), Half::Execute));
        pulling.spawn(Arc::clone(&floor).pull(replies.clone(), Half::Track));
    }
    let began = Instant::now();
    try_join_all((0..LANES).map(|lane| floor.begin(lane))).await?;
    tokio::select! {
        done = floor.done.acquire_many(u32::try_from(STEPS)?) => drop(done?),
        Some(failed) = pulling.join_next() => failed??,
    }
    let took = began.elapsed();
    Ok(STEPS as f64 / took.as_secs_f64())
}

/// What is done with a message.
#[derive(Clone, Copy)]
enum Half {
    Execute,
    Track,
}

impl Floor {
    /// Publishes the next request of a lane, unless all are.
    async fn begin(&self, lane: usize) -> anyhow::Result<()> {
        let one_less = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            return Ok(());
        }
        let step = self.lanes[lane].steps.fetch_add(1, Ordering::Relaxed);
        let id = format!("request-{lane}-{step}");
        publish(&self.js, format!("{REQUESTS}.{lane}.{step}"), message().message_id(id)).await.map(drop)
    }

    async fn pull(self: Arc<Self>, queue: PullConsumer, half: Half) -> anyhow::Result<()> {
        let mut halves = JoinSet::new();
        loop {
            let mut batch = queue.batch().max_messages(BATCH).expires(WAIT).messages().await?;
            while let Some(delivery) = batch.next().await {
                let delivery = delivery.map_err(anyhow::Error::from_boxed)?;
                halves.spawn(Arc::clone(&self).half(delivery, half));
                while let Some(done) = halves.try_join_next() {
                    done??;
                }
            }
        }
    }

    async fn half(self: Arc<Self>, delivery: Message, half: Half) -> anyhow::Result<()> {
        let mut subject = delivery.subject.split('.').skip(1);
        let mut number = || subject.next().and_then(|part| part.parse::<usize>().ok());
        let (lane, step) = number().zip(number()).context("the subject names no step")?;
        match half {
            Half::Execute => {
                let answer = message().message_id(format!("answer-{lane}-{step}"));
                publish(&self.js, format!("{ANSWERS}.{lane}.{step}"), answer).await?;
                acknowledge(&self.client, Ok(delivery)).await
            }
            Half::Track => {
                let last = &self.lanes[lane].last;
                let entry = message().expected_last_subject_sequence(last.load(Ordering::Relaxed));
                let sequence = publish(&self.js, format!("{ENTRIES}.{lane}"), entry).await?;
                last.store(sequence, Ordering::Relaxed);
                self.begin(lane).await?;
                acknowledge(&self.client, Ok(delivery)).await?;
                self.done.add_permits(1);
                Ok(())
            }
        }
    }
}
