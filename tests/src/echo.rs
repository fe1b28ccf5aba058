//! Says again, and late, what the processes of a deployment said to each other.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{HeaderMap, Message, jetstream};
use futures::StreamExt as _;
use tokio::runtime::{Builder, Runtime};

/// One message of so many is said again.
const ONE_OF: u64 = 3;

/// Longest time until then.
const DELAY_MAX_MS: u64 = 8_000;

/// The subjects: requests, what workers answer and ask, commands.
const SUBJECTS: [&str; 3] = ["fp.work.>", "fp.rep.>", "fp.cmd.>"];

/// Listens to a deployment until dropped, and repeats a part of what it hears.
pub struct Echo {
    /// Ends what runs on it when dropped.
    _runtime: Runtime,
    counts: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Echo {
    /// Begins to listen to a server.
    ///
    /// # Panics
    ///
    /// If the server is not there.
    #[must_use]
    pub fn of(url: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let counts = Arc::new(Mutex::new(BTreeMap::new()));
        let client = runtime.block_on(async_nats::connect(url)).expect("the server is there");
        for subject in SUBJECTS {
            let heard = runtime.block_on(client.subscribe(subject)).expect("it can be heard");
            runtime.spawn(repeat(client.clone(), heard, Arc::clone(&counts)));
        }
        Self { _runtime: runtime, counts }
    }

    /// Returns how many messages of each kind the server took once more.
    ///
    /// # Panics
    ///
    /// If a listener panicked.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.counts.lock().expect("no listener panicked").clone()
    }
}

async fn repeat(
    client: async_nats::Client,
    mut heard: async_nats::Subscriber,
    counts: Arc<Mutex<BTreeMap<&'static str, usize>>>,
) {
    let js = jetstream::new(client);
    let mut number = 0_u64;
    while let Some(message) = heard.next().await {
        // Without a message id there is nothing that a server could notice; nor is this heard again
        // as if it were said by a process.
        let is_own = message.headers.as_ref().is_some_and(|headers| headers.get(ECHO).is_some());
        number += 1;
        if is_own || !number.is_multiple_of(ONE_OF) {
            continue;
        }
        let delay = number.wrapping_mul(2_654_435_761) % DELAY_MAX_MS;
        let (js, counts) = (js.clone(), Arc::clone(&counts));
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let kind = kind(&message.subject);
            if say(&js, message).await.is_some() {
                *counts.lock().expect("no listener panicked").entry(kind).or_default() += 1;
            }
        });
    }
}

/// The header of what is said again.
const ECHO: &str = "Echo";

async fn say(js: &jetstream::Context, message: Message) -> Option<()> {
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        if name.to_string() != "Nats-Msg-Id" {
            values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
        }
    }
    headers.insert(ECHO, "1");
    // The server refuses work that is still queued, and is not always there.
    let sent = js.publish_with_headers(message.subject, headers, message.payload).await.ok()?;
    sent.await.ok().map(drop)
}

fn kind(subject: &str) -> &'static str {
    match subject.split('.').nth(1) {
        Some("work") => "repeated requests",
        Some("rep") => "repeated answers",
        _ => "repeated commands",
    }
}
