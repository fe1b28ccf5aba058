//! The queues of a deployment: what reaches the runs of some shards, for one tracker at a time.
//!
//! Their number stands with the stream `CMD`. Deployments of before say nothing: each shard has a queue of its own.

use std::collections::HashMap;

use async_nats::jetstream::{
    consumer::{AckPolicy, PullConsumer, pull},
    stream::{Config, Stream},
};
use foreplan_protocol::wire::Queues;
use futures::TryStreamExt as _;

use crate::{
    Connection, Error,
    error::chain,
    pack,
    setup::{ACK_PENDING_MAX, CMD_ACK_WAIT},
};

/// The entry of the stream's metadata that says how many queues there are.
const COUNT: &str = "foreplan-queues";

/// Returns what a stream says of its queues.
pub(crate) fn stated(queues: Queues) -> HashMap<String, String> {
    HashMap::from([(COUNT.to_owned(), queues.count().to_string())])
}

/// Returns the queues of a stream.
pub(crate) fn of(commands: &Stream) -> Result<Queues, Error> {
    let config = &commands.cached_info().config;
    let Some(count) = config.metadata.get(COUNT) else { return Ok(Queues::EVERY_SHARD) };
    count.parse().ok().and_then(Queues::new).ok_or_else(|| Error::Differs {
        name: config.name.clone(),
        differences: vec![format!("{COUNT} is `{count}`, and must be a power of two up to 64")],
    })
}

impl Connection {
    /// Finds that there are as many queues as are wanted, if that is said.
    pub(crate) async fn compare_queues(&self, wanted: Option<Queues>) -> Result<(), Error> {
        let Some(wanted) = wanted else { return Ok(()) };
        let found = of(&self.stream("CMD").await?)?;
        if found != wanted {
            let differences = vec![format!("{COUNT} is {}, and must be {}", found.count(), wanted.count())];
            return Err(Error::Differs { name: self.names.stream("CMD"), differences });
        }
        match pack::difference(&self.stream("RUNS").await?, wanted) {
            Some(difference) => {
                Err(Error::Differs { name: self.names.stream("RUNS"), differences: vec![difference] })
            }
            None => Ok(()),
        }
    }

    /// Makes the queues, if need be another number of them than there are.
    pub(crate) async fn make_queues(&self, wanted: Option<Queues>) -> Result<(), Error> {
        let (commands, runs) = (self.stream("CMD").await?, self.stream("RUNS").await?);
        let found = of(&commands)?;
        let queues = wanted.unwrap_or(found);
        let is_otherwise = wanted.is_some() && pack::difference(&runs, queues).is_some();
        if queues != found {
            self.check_unused("the number of queues").await?;
            self.divide_anew(&commands, queues).await?;
        }
        if is_otherwise {
            self.check_unused("the form of entries").await?;
            self.state(&runs, pack::stated(queues)).await?;
        }
        for queue in 0..queues.count() {
            self.queue(&commands, queues, queue).await?;
        }
        Ok(())
    }

    /// Finds that no tracker shows a sign of life.
    async fn check_unused(&self, what: &'static str) -> Result<(), Error> {
        let trackers = self.trackers().await?;
        if trackers.is_empty() {
            return Ok(());
        }
        Err(Error::InUse { what, by: trackers })
    }

    /// Changes how many queues there are, while no tracker has one. What waits in them is in the stream.
    async fn divide_anew(&self, commands: &Stream, queues: Queues) -> Result<(), Error> {
        let failed = |reason: String| Error::server("the queues are divided anew", reason);
        let consumers: Vec<String> =
            commands.consumer_names().try_collect().await.map_err(|e| failed(chain(&e)))?;
        for consumer in consumers {
            commands.delete_consumer(&consumer).await.map_err(|e| failed(chain(&e)))?;
        }
        self.state(commands, stated(queues)).await
    }

    /// Has a stream say of itself what is new.
    async fn state(&self, stream: &Stream, stated: HashMap<String, String>) -> Result<(), Error> {
        let mut config: Config = stream.cached_info().config.clone();
        config.metadata.extend(stated);
        let updated = self.js.update_stream(config).await;
        updated.map(drop).map_err(|e| Error::server("a stream is changed", chain(&e)))
    }

    /// Returns the trackers that showed a sign of life lately.
    async fn trackers(&self) -> Result<Vec<String>, Error> {
        let failed = |reason: String| Error::server("trackers are looked up", reason);
        let keys = self.bucket("OWNERS").await?.keys().await.map_err(|e| failed(chain(&e)))?;
        let keys: Vec<String> = keys.try_collect().await.map_err(|e| failed(chain(&e)))?;
        Ok(keys.iter().filter_map(|key| crate::shards::tracker_of(key)).collect())
    }

    /// Returns a queue, made if it is not there: what it knows is in the server's memory only. Another
    /// delivery of a message does no harm here, and what nobody acknowledged is in the stream.
    pub(crate) async fn queue(
        &self,
        commands: &Stream,
        queues: Queues,
        queue: u8,
    ) -> Result<PullConsumer, Error> {
        let name = self.names.queue_consumer(queues, queue);
        let subjects = self.names.queue_commands(queues, queue);
        let config = pull::Config {
            durable_name: Some(name.clone()),
            filter_subjects: subjects.clone(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: CMD_ACK_WAIT,
            max_ack_pending: ACK_PENDING_MAX,
            memory_storage: true,
            ..pull::Config::default()
        };
        let made = commands.get_or_create_consumer(&name, config).await;
        let made = made.map_err(|e| Error::server("a queue is made", chain(&e)))?;
        let found = &made.cached_info().config.filter_subjects;
        if found.len() != subjects.len() {
            let differences = vec![format!(
                "filter_subjects has {} of {}: the server knows one filter only, or the queue was made for others",
                found.len(),
                subjects.len()
            )];
            return Err(Error::Differs { name, differences });
        }
        Ok(made)
    }
}
