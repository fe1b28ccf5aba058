//! The server's side of a deployment's security: one account for each tenant, and in it one user for
//! each role with what that role needs and nothing more.
//!
//! A user receives on an inbox of its own (`_INBOX.{user}`), so that nobody hears another's answers.

use std::fmt::Write as _;

use foreplan_core::id::Capability;
use foreplan_protocol::wire::{Names, Worker, token};

use crate::{Error, cursors, setup};

/// Who may do what in the account of a tenant.
#[derive(Clone, Debug)]
pub struct Account {
    /// The tenant prefix.
    pub tenant: String,
    /// The pools of executors: project and capability.
    pub executors: Vec<(String, Capability)>,
    /// The people and programs that submit and command; the record names them so.
    pub clients: Vec<String>,
}

/// A user of the account.
struct User {
    name: String,
    publish: Vec<String>,
    subscribe: Vec<String>,
}

impl Account {
    /// Returns the account as a part of a server's configuration. Passwords are variables: the server
    /// takes them from its environment.
    ///
    /// # Errors
    ///
    /// If the tenant prefix cannot be part of a subject.
    pub fn to_config(&self) -> Result<String, Error> {
        let names = Names::new(&self.tenant)?;
        let mut text = format!("{}: {{\n  jetstream: enabled\n  users: [\n", names.tenant());
        for user in self.users(&names) {
            let (name, password) = (&user.name, variable(&user.name));
            let quoted = |subjects: &[String]| -> String {
                subjects
                    .iter()
                    .fold(String::new(), |text, subject| text + &format!("        \"{subject}\"\n"))
            };
            let _ = write!(
                text,
                "    {{ user: \"{name}\", password: ${password}, permissions: {{\n      publish: [\n{}      ]\n      subscribe: [\n{}      ]\n    }} }}\n",
                quoted(&user.publish),
                quoted(&user.subscribe),
            );
        }
        text.push_str("  ]\n}\n");
        Ok(text)
    }

    fn users(&self, names: &Names) -> Vec<User> {
        let mut users = vec![admin(names), tracker(names)];
        users.push(planner(names, "planner", &[Worker::Planner, Worker::Reviewer]));
        users.push(planner(names, "replanner", &[Worker::Replanner, Worker::Reviewer]));
        users.extend(self.executors.iter().map(|(project, capability)| executor(names, project, capability)));
        users.extend(self.clients.iter().map(|client| self::client(names, client)));
        users
    }
}

/// Returns the variable with the password of a user: `FP_TRACKER`.
fn variable(user: &str) -> String {
    user.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

impl User {
    /// Makes a user that may look which streams there are, and receive answers.
    fn new(names: &Names, role: &str) -> Self {
        let name = format!("{}-{role}", names.tenant());
        let mut publish = vec!["$JS.API.INFO".to_owned()];
        publish
            .extend(setup::streams(names).into_iter().map(|stream| format!("$JS.API.STREAM.INFO.{stream}")));
        let subscribe = vec![format!("{}.>", inbox(&name))];
        Self { name, publish, subscribe }
    }

    fn publishes(mut self, subjects: impl IntoIterator<Item = String>) -> Self {
        self.publish.extend(subjects);
        self
    }

    fn hears(mut self, subjects: impl IntoIterator<Item = String>) -> Self {
        self.subscribe.extend(subjects);
        self
    }

    /// Lets the user read all of a stream.
    fn reads(self, streams: impl IntoIterator<Item = String>) -> Self {
        let subjects = streams.into_iter().flat_map(|stream| {
            [
                format!("$JS.API.CONSUMER.CREATE.{stream}"),
                format!("$JS.API.CONSUMER.CREATE.{stream}.>"),
                format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.>"),
                format!("$JS.API.CONSUMER.INFO.{stream}.>"),
                format!("$JS.API.CONSUMER.DELETE.{stream}.>"),
                format!("$JS.API.DIRECT.GET.{stream}.>"),
                format!("$JS.API.DIRECT.GET.{stream}"),
                format!("$JS.API.STREAM.MSG.GET.{stream}"),
                format!("$JS.FC.{stream}.>"),
                format!("$JS.FC.*.*.{stream}.>"),
            ]
        });
        let subjects: Vec<String> = subjects.collect();
        self.publishes(subjects)
    }

    /// Lets the user take what one consumer of a stream delivers. Servers from 2.15 on name domain and
    /// account in what acknowledges.
    fn takes(self, stream: &str, consumer: &str) -> Self {
        self.publishes([
            format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
            format!("$JS.ACK.{stream}.{consumer}.>"),
            format!("$JS.ACK.*.*.{stream}.{consumer}.>"),
        ])
    }

    /// Lets the user serve a pool: make its queue if that is not there, take work, answer.
    fn works(self, names: &Names, worker: &Worker) -> Self {
        let (stream, consumer) = (names.stream("WORK"), names.work_consumer(worker));
        let make = format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}.{}", names.work_of(worker));
        self.publishes([make]).takes(&stream, &consumer)
    }

    /// Lets the user hear what is announced and who lives, show its own signs of life, exchange
    /// payloads, and keep what it cannot read.
    fn serves(self, names: &Names) -> Self {
        let bucket = |name: &str| format!("KV_{}", names.stream(name));
        let (workers, payloads) = (names.stream("WORKERS"), names.stream("PAYLOADS"));
        self.reads([bucket("CAPABILITIES"), bucket("WORKERS"), format!("OBJ_{payloads}")]).publishes([
            format!("$KV.{workers}.*"),
            format!("$O.{payloads}.>"),
            names.all_dead(),
        ])
    }
}

/// Returns the prefix of what a user receives its answers on.
#[must_use]
pub fn inbox(user: &str) -> String {
    format!("_INBOX.{user}")
}

/// Who sets the deployment up, looks at what is dead, and deletes old runs.
fn admin(names: &Names) -> User {
    let all = || vec![">".to_owned()];
    User { name: format!("{}-admin", names.tenant()), publish: all(), subscribe: all() }
}

/// Alone writes journals, and alone queues work.
fn tracker(names: &Names) -> User {
    let (bucket, commands, work) =
        (|name: &str| format!("KV_{}", names.stream(name)), names.stream("CMD"), names.stream("WORK"));
    let written = ["OPEN", "KEYS", "OWNERS", cursors::BUCKET];
    let user = User::new(names, "tracker").serves(names);
    user.reads([names.stream("RUNS")])
        .reads(written.map(bucket))
        .reads([bucket("SECRETS")])
        .takes(&commands, "*")
        .publishes(written.map(|name| format!("$KV.{}.>", names.stream(name))))
        .publishes([
            names.runs(),
            names.all_work(),
            names.all_replies(),
            names.hint(),
            names.worker_of_any(),
            "_INBOX.>".to_owned(),
            format!("$JS.API.CONSUMER.CREATE.{commands}.*"),
            format!("$JS.API.CONSUMER.INFO.{work}.*"),
            format!("$JS.API.DIRECT.GET.{work}.>"),
            format!("$JS.API.STREAM.MSG.GET.{work}"),
            format!("$JS.API.STREAM.PURGE.{work}"),
            format!("$JS.API.STREAM.MSG.DELETE.{work}"),
        ])
}

/// Answers requests for plans, or for decisions about them.
fn planner(names: &Names, role: &str, workers: &[Worker]) -> User {
    let stream = names.stream("WORK");
    let user = User::new(names, role).serves(names).publishes([
        names.all_replies(),
        format!("$JS.API.CONSUMER.INFO.{stream}.{}", names.work_consumer(&Worker::Planner)),
    ]);
    workers.iter().fold(user, |user, worker| user.works(names, worker))
}

/// Announces one capability, and carries out its steps.
fn executor(names: &Names, project: &str, capability: &Capability) -> User {
    let worker = Worker::Executor { project: project.to_owned(), capability: capability.clone() };
    let role = names.work_consumer(&worker);
    let (stream, capabilities) = (names.stream("WORK"), names.stream("CAPABILITIES"));
    User::new(names, &role)
        .serves(names)
        .works(names, &worker)
        .publishes([
            names.all_replies(),
            format!("$KV.{capabilities}.{}", names.capability(project, capability)),
            format!("$JS.API.CONSUMER.INFO.{stream}.{}", names.work_consumer(&Worker::Planner)),
        ])
        .hears([names.hint(), names.worker_of_any()])
}

/// Submits and commands under one name, and reads what runs do.
fn client(names: &Names, name: &str) -> User {
    let bucket = |name: &str| format!("KV_{}", names.stream(name));
    let payloads = format!("OBJ_{}", names.stream("PAYLOADS"));
    User::new(names, &format!("client-{}", token(name)))
        .reads([names.stream("RUNS"), names.stream("DEAD"), payloads])
        .reads(["CAPABILITIES", "WORKERS", "KEYS", "OPEN"].map(bucket))
        .publishes([names.commands_of(name)])
        .hears([names.runs()])
}
