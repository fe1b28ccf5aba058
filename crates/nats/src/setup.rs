//! The streams and buckets of a deployment: made, and compared with what they must be.
//!
//! Old servers ignore settings that they do not know. So what comes back is compared with what was
//! asked for, and a difference is an error that names it.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, PullConsumer, pull},
    context::GetStreamErrorKind,
    kv, object_store,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};
use foreplan_protocol::wire::{Names, Queues, Worker};

use crate::{Connection, Error, cursors, error::chain, pack, queues};

/// How long a tracker may take over a message before it comes again: short, so that a takeover is.
pub(crate) const CMD_ACK_WAIT: Duration = Duration::from_secs(5);

/// How long a worker may go without a sign of life before its request counts as lost.
pub(crate) const WORK_ACK_WAIT: Duration = Duration::from_secs(30);

/// How long what could not be processed is kept.
const DEAD_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long a shard belongs to a tracker that gives no sign of life.
pub(crate) const OWNER_AGE: Duration = Duration::from_secs(10);

/// How long a worker is listed that gives no sign of life.
pub(crate) const WORKER_AGE: Duration = Duration::from_secs(30);

/// Messages that one consumer may have in hand.
pub(crate) const ACK_PENDING_MAX: i64 = 4096;

/// How often a request is handed out at most. Trackers count attempts; this only stops a request that
/// kills whoever reads it.
pub(crate) const DELIVERIES_MAX: i64 = 5;

/// Makes or verifies what a deployment consists of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Copies of everything: 3 in production.
    pub replicas: usize,
    /// Only look.
    pub dry_run: bool,
    /// How long a worker may go without a sign of life before its request counts as lost.
    pub work_ack_wait: Duration,
    /// Queues of trackers; as many as there are, if nothing is said.
    pub queues: Option<Queues>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { replicas: 1, dry_run: false, work_ack_wait: WORK_ACK_WAIT, queues: None }
    }
}

/// A stream or bucket of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub state: PartState,
}

/// What became of a stream or bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartState {
    /// It was there, as it must be.
    Present,
    /// It was made.
    Created,
    /// It is not there, and nothing was to be made.
    Missing,
}

/// What a part is made as.
enum Kind {
    Stream(Box<Config>),
    Bucket { max_age: Duration },
    Objects,
}

fn parts(names: &Names, replicas: usize, queues: Queues) -> Vec<(&'static str, Kind)> {
    let stream = |name: &str, subjects: Vec<String>| Config {
        name: names.stream(name),
        subjects,
        storage: StorageType::File,
        num_replicas: replicas,
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    let queue = RetentionPolicy::WorkQueue;
    let advisory =
        |kind: &str, name: &str| format!("$JS.EVENT.ADVISORY.CONSUMER.{kind}.{}.>", names.stream(name));
    let mut dead = vec![names.all_dead()];
    for name in ["CMD", "WORK"] {
        dead.extend([advisory("MAX_DELIVERIES", name), advisory("MSG_TERMINATED", name)]);
    }
    let bucket = |max_age| Kind::Bucket { max_age };
    vec![
        (
            "RUNS",
            Kind::Stream(Box::new(Config {
                deny_delete: true,
                allow_direct: true,
                metadata: pack::stated(queues),
                ..stream("RUNS", vec![names.runs()])
            })),
        ),
        (
            "CMD",
            Kind::Stream(Box::new(Config {
                retention: queue,
                metadata: queues::stated(queues),
                ..stream("CMD", names.commands())
            })),
        ),
        (
            "WORK",
            Kind::Stream(Box::new(Config {
                retention: queue,
                max_messages_per_subject: 1,
                discard_new_per_subject: true,
                ..stream("WORK", vec![names.all_work()])
            })),
        ),
        (
            "DEAD",
            Kind::Stream(Box::new(Config {
                discard: DiscardPolicy::Old,
                max_age: DEAD_AGE,
                ..stream("DEAD", dead)
            })),
        ),
        ("OPEN", bucket(Duration::ZERO)),
        ("KEYS", bucket(Duration::ZERO)),
        (cursors::BUCKET, bucket(Duration::ZERO)),
        ("CAPABILITIES", bucket(Duration::ZERO)),
        (crate::lease::BUCKET, bucket(Duration::ZERO)),
        ("WORKERS", bucket(WORKER_AGE)),
        ("OWNERS", bucket(OWNER_AGE)),
        ("PAYLOADS", Kind::Objects),
    ]
}

/// Returns the streams of a deployment, those below its buckets included.
pub(crate) fn streams(names: &Names) -> Vec<String> {
    parts(names, 1, Queues::default())
        .iter()
        .map(|(name, kind)| as_stream(names, name, kind, 1).name)
        .collect()
}

impl Setup {
    /// Makes what is missing, and verifies the rest.
    ///
    /// # Errors
    ///
    /// [`Error::Differs`] names the first stream with other settings than it needs.
    pub async fn run(self, to: &Connection) -> Result<Vec<Part>, Error> {
        self.make(to).await.map_err(|error| to.explain(error))
    }

    async fn make(self, to: &Connection) -> Result<Vec<Part>, Error> {
        let mut done = Vec::new();
        for (name, kind) in parts(&to.names, self.replicas, self.queues.unwrap_or_default()) {
            let state = self.part(to, name, kind).await?;
            done.push(Part { name: to.names.stream(name), state });
        }
        if !self.dry_run {
            crate::lease::make(to).await?;
            self.consumers(to).await?;
        } else if !done.iter().any(|part| part.state == PartState::Missing) {
            to.compare_queues(self.queues).await?;
        }
        Ok(done)
    }

    async fn part(self, to: &Connection, name: &str, kind: Kind) -> Result<PartState, Error> {
        let wanted = as_stream(&to.names, name, &kind, self.replicas);
        let state = match found(to, &wanted.name).await? {
            Some(found) => {
                compare(&wanted, &found)?;
                return Ok(PartState::Present);
            }
            None if self.dry_run => return Ok(PartState::Missing),
            None => PartState::Created,
        };
        make(to, name, kind, self.replicas).await?;
        match found(to, &wanted.name).await? {
            Some(found) => compare(&wanted, &found).map(|()| state),
            None => Err(Error::server("a stream is made", format!("`{}` is not there", wanted.name))),
        }
    }

    /// Makes the consumers that do not depend on what is announced later.
    async fn consumers(self, to: &Connection) -> Result<(), Error> {
        to.make_queues(self.queues).await?;
        for worker in [Worker::Planner, Worker::Replanner, Worker::Reviewer] {
            to.work_consumer(&worker, self.work_ack_wait).await?;
        }
        Ok(())
    }
}

impl Connection {
    /// Verifies that the deployment is set up.
    ///
    /// # Errors
    ///
    /// [`Error::NotSetUp`] names what is missing, [`Error::Differs`] what is otherwise than it must be.
    pub async fn verify(&self) -> Result<(), Error> {
        self.look().await.map_err(|error| self.explain(error))
    }

    async fn look(&self) -> Result<(), Error> {
        let mut missing = Vec::new();
        // Those who export traces find out about theirs.
        let needed =
            parts(&self.names, 0, Queues::default()).into_iter().filter(|(name, _)| *name != cursors::BUCKET);
        for (name, kind) in needed {
            let wanted = as_stream(&self.names, name, &kind, 0);
            match found(self, &wanted.name).await? {
                Some(found) => compare(&wanted, &found)?,
                None => missing.push(self.names.stream(name)),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::NotSetUp { tenant: self.names.tenant().to_owned(), missing })
    }

    /// Returns how long a worker may be silent here: what the set-up said.
    ///
    /// # Errors
    ///
    /// If the deployment is not set up.
    pub async fn work_ack_wait(&self) -> Result<Duration, Error> {
        let planner = self.names.work_consumer(&Worker::Planner);
        let info = self.stream("WORK").await?.consumer_info(&planner).await;
        Ok(info.map_err(|e| Error::server("a consumer is looked up", chain(&e)))?.config.ack_wait)
    }

    /// Returns the consumer of the work for a worker, made if it is not there. One that is there keeps
    /// its settings.
    pub(crate) async fn work_consumer(
        &self,
        worker: &Worker,
        ack_wait: Duration,
    ) -> Result<PullConsumer, Error> {
        let name = self.names.work_consumer(worker);
        let config = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject: self.names.work_of(worker),
            ack_policy: AckPolicy::Explicit,
            ack_wait,
            max_deliver: DELIVERIES_MAX,
            max_ack_pending: ACK_PENDING_MAX,
            ..pull::Config::default()
        };
        let made = self.stream("WORK").await?.get_or_create_consumer(&name, config).await;
        made.map_err(|e| Error::server("a pool's consumer is made", chain(&e)))
    }
}

/// Returns the stream that a part is, with the settings that are compared.
fn as_stream(names: &Names, name: &str, kind: &Kind, replicas: usize) -> Config {
    match kind {
        Kind::Stream(config) => config.as_ref().clone(),
        Kind::Bucket { max_age } => Config {
            name: format!("KV_{}", names.stream(name)),
            subjects: vec![format!("$KV.{}.>", names.stream(name))],
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            deny_delete: true,
            max_age: *max_age,
            num_replicas: replicas,
            ..Config::default()
        },
        Kind::Objects => {
            let bucket = names.stream(name);
            Config {
                name: format!("OBJ_{bucket}"),
                subjects: vec![format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")],
                discard: DiscardPolicy::New,
                num_replicas: replicas,
                ..Config::default()
            }
        }
    }
}

async fn make(to: &Connection, name: &str, kind: Kind, replicas: usize) -> Result<(), Error> {
    let failed =
        |reason: String| Error::server("a stream is made", format!("`{}`: {reason}", to.names.stream(name)));
    match kind {
        Kind::Stream(config) => {
            to.js.create_stream(*config).await.map_err(|e| failed(chain(&e)))?;
        }
        Kind::Bucket { max_age } => {
            let config = kv::Config {
                bucket: to.names.stream(name),
                history: 1,
                max_age,
                num_replicas: replicas,
                ..kv::Config::default()
            };
            to.js.create_key_value(config).await.map_err(|e| failed(chain(&e)))?;
        }
        Kind::Objects => {
            let config = object_store::Config {
                bucket: to.names.stream(name),
                num_replicas: replicas,
                ..object_store::Config::default()
            };
            to.js.create_object_store(config).await.map_err(|e| failed(chain(&e)))?;
        }
    }
    Ok(())
}

async fn found(to: &Connection, stream: &str) -> Result<Option<Config>, Error> {
    match to.js.get_stream(stream).await {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(ref e) if e.code() == 404 => Ok(None),
            _ => Err(Error::server("a stream is looked up", format!("`{stream}`: {}", chain(&error)))),
        },
    }
}

/// Compares the settings that matter. Replicas are compared if a number is asked for.
fn compare(wanted: &Config, found: &Config) -> Result<(), Error> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, wanted: String, found: String| {
        if wanted != found {
            differences.push(format!("{what} is {found}, and must be {wanted}"));
        }
    };
    let sorted = |subjects: &[String]| {
        let mut subjects = subjects.to_vec();
        subjects.sort();
        subjects.join(" ")
    };
    differ("subjects", sorted(&wanted.subjects), sorted(&found.subjects));
    differ("retention", format!("{:?}", wanted.retention), format!("{:?}", found.retention));
    differ("discard", format!("{:?}", wanted.discard), format!("{:?}", found.discard));
    differ("max_age", format!("{:?}", wanted.max_age), format!("{:?}", found.max_age));
    differ("deny_delete", wanted.deny_delete.to_string(), found.deny_delete.to_string());
    let per_subject = |config: &Config| match config.max_messages_per_subject {
        0 | -1 => "unlimited".to_owned(),
        n => n.to_string(),
    };
    differ("max_msgs_per_subject", per_subject(wanted), per_subject(found));
    differ(
        "discard_new_per_subject",
        wanted.discard_new_per_subject.to_string(),
        found.discard_new_per_subject.to_string(),
    );
    differ("storage", format!("{:?}", wanted.storage), format!("{:?}", found.storage));
    if wanted.num_replicas > 0 {
        differ("num_replicas", wanted.num_replicas.to_string(), found.num_replicas.to_string());
    }
    if wanted.allow_direct {
        differ("allow_direct", "true".to_owned(), found.allow_direct.to_string());
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::Differs { name: wanted.name.clone(), differences })
}
