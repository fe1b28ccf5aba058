//! A deployment's server without Foreplan's own client: what strangers send, what scalers read.

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream::{self, consumer::PullConsumer};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::{Builder, Runtime};

/// Queues of a deployment that says nothing of them.
const QUEUES: u8 = 16;

/// A connection to the server of a deployment.
pub struct Raw {
    runtime: Runtime,
    js: jetstream::Context,
}

/// A piece of work that was taken from its queue.
pub struct Taken {
    /// Its subject.
    pub subject: String,
    /// Its frame.
    pub frame: serde_json::Value,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    ///
    /// If the server is not there.
    #[must_use]
    pub fn connect(url: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let js = runtime.block_on(async {
            let client = async_nats::connect(url).await.expect("the server is there");
            jetstream::new(client)
        });
        Self { js, runtime }
    }

    /// Publishes to a stream.
    ///
    /// # Errors
    ///
    /// Why the server, or the client, refuses it.
    pub fn publish(&self, subject: &str, bytes: impl Into<Vec<u8>>) -> Result<(), String> {
        let (subject, bytes) = (subject.to_owned(), bytes.into());
        self.runtime.block_on(async {
            let sent = self.js.publish(subject, bytes.into()).await.map_err(|e| e.to_string())?;
            sent.await.map(|_| ()).map_err(|e| e.to_string())
        })
    }

    /// Returns the value of a key of a bucket.
    ///
    /// # Panics
    ///
    /// If it is not there.
    #[must_use]
    pub fn get(&self, bucket: &str, key: &str) -> Vec<u8> {
        self.runtime.block_on(async {
            let bucket = self.js.get_key_value(bucket).await.expect("a bucket");
            bucket.get(key).await.expect("the server answers").expect("a key").to_vec()
        })
    }

    /// Puts a value under a key of a bucket.
    ///
    /// # Panics
    ///
    /// If the server refuses it.
    pub fn put(&self, bucket: &str, key: &str, value: Vec<u8>) {
        self.runtime.block_on(async {
            let bucket = self.js.get_key_value(bucket).await.expect("a bucket");
            bucket.put(key, value.into()).await.expect("the server takes it");
        });
    }

    /// Takes the next piece of work of a pool, and acknowledges it.
    ///
    /// # Panics
    ///
    /// If there is none for long.
    #[must_use]
    pub fn take(&self, consumer: &str) -> Taken {
        self.runtime.block_on(async {
            let message = self.next(consumer).await;
            message.double_ack().await.expect("the work is taken");
            let frame = serde_json::from_slice(&message.payload).expect("work is JSON");
            Taken { subject: message.subject.to_string(), frame }
        })
    }

    /// Takes the next piece of work of a pool, and does nothing with it.
    ///
    /// # Panics
    ///
    /// If there is none for long.
    pub fn leave(&self, consumer: &str) {
        self.runtime.block_on(async { self.next(consumer).await });
    }

    async fn next(&self, consumer: &str) -> jetstream::Message {
        let queue: PullConsumer =
            self.js.get_consumer_from_stream(consumer, "fp_WORK").await.expect("a pool");
        let batch = queue.batch().max_messages(1).expires(Duration::from_secs(60)).messages().await;
        let message = batch.expect("the queue answers").next().await;
        message.expect("there is work").expect("the work comes whole")
    }

    /// Deletes the queues of trackers, as a server loses them that comes back, and returns how many there were.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn forget_queues(&self) -> usize {
        self.runtime.block_on(async {
            let stream = self.js.get_stream("fp_CMD").await.expect("a stream");
            let queues: Vec<String> = stream.consumer_names().try_collect().await.expect("names");
            for queue in &queues {
                stream.delete_consumer(queue).await.expect("it is there");
            }
            queues.len()
        })
    }

    /// Loses what waits for a run in its queue, and returns how many messages that was.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn lose(&self, run: &str) -> u64 {
        self.runtime.block_on(async {
            let stream = self.js.get_stream("fp_CMD").await.expect("the stream");
            stream.purge().filter(format!("fp.rep.*.{run}.>")).await.expect("it is emptied").purged
        })
    }

    /// Returns how many messages a stream has.
    #[must_use]
    pub fn messages(&self, stream: &str) -> u64 {
        let stream = self.runtime.block_on(self.js.get_stream(stream));
        stream.map_or(0, |stream| stream.cached_info().state.messages)
    }

    /// Returns how many pieces of work wait for a pool: what a scaler looks at.
    #[must_use]
    pub fn pending(&self, consumer: &str) -> u64 {
        self.runtime.block_on(async {
            let stream = self.js.get_stream_no_info("fp_WORK").await.expect("a stream");
            stream.consumer_info(consumer).await.map_or(0, |info| info.num_pending)
        })
    }

    /// Returns the steps that a worker says to have in hand.
    #[must_use]
    pub fn in_hand(&self, worker: &str) -> Vec<String> {
        let read = self.runtime.block_on(async {
            let bucket = self.js.get_key_value("fp_WORKERS").await.ok()?;
            bucket.get(worker).await.ok()?
        });
        let alive: serde_json::Value = serde_json::from_slice(&read.unwrap_or_default()).unwrap_or_default();
        let steps = alive["in_hand"].as_array().into_iter().flatten();
        steps.filter_map(|step| step["step"].as_str().map(str::to_owned)).collect()
    }

    /// Returns how many queues each tracker has.
    #[must_use]
    pub fn owners(&self) -> BTreeMap<String, usize> {
        let mut owners = BTreeMap::new();
        for queue in 0..QUEUES {
            if let Some(owner) = self.owner(queue) {
                *owners.entry(owner).or_default() += 1;
            }
        }
        owners
    }

    /// Returns the tracker that has a run's queue; nobody, if a server that has just been started
    /// again does not answer yet.
    ///
    /// # Panics
    ///
    /// If this is no id of a run.
    #[must_use]
    pub fn owner_of(&self, run: &str) -> Option<String> {
        let last = run.get(run.len() - 2..).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        self.owner(last.expect("a run's id") % QUEUES)
    }

    fn owner(&self, queue: u8) -> Option<String> {
        self.runtime.block_on(async {
            let bucket = self.js.get_key_value("fp_OWNERS").await.ok()?;
            let owner = bucket.get(format!("{QUEUES}.{queue}")).await.ok()??;
            Some(String::from_utf8_lossy(&owner).into_owned())
        })
    }
}
