//! Names on a NATS server: subjects, streams, buckets and consumers. They are built and read here
//! and nowhere else.
//!
//! ```text
//!  {t}.run.{shard}.{run}                                    entries of a run
//!  {t}.cmd.{user}.{shard}.{run}                             commands
//!  {t}.rep.{shard}.{run}.{task}.{n}                         what workers answer and ask, and trackers tell
//!  {t}.work.{role}.{project}.{capability}.{run}.{step}.{n}  work
//!  {t}.dead.{why}.{run}                                     what could not be processed
//!  {t}.hint                                                 cancellations, to all executors
//!  {t}.worker.{worker}                                      permits, to one worker
//! ```

use std::fmt;

use foreplan_core::{
    id::{Capability, RunId, StepId},
    input::Input,
};

use crate::Message;

/// Runs are spread over this many shards: so many trackers can share them at most.
pub const SHARDS: u8 = 64;

/// Returns the shard of a run: the last byte of its id, which is random, modulo [`SHARDS`].
#[must_use]
pub fn shard(run: RunId) -> u8 {
    run.0.as_bytes()[15] % SHARDS
}

/// How many queues the shards of a deployment share. A tracker takes whole queues, so many trackers can have
/// a part at most; each queue costs the server with every message of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues(u8);

impl Queues {
    /// A queue for each shard: what deployments have that do not say how many.
    pub const EVERY_SHARD: Self = Self(SHARDS);

    /// Takes the number of queues: a power of two, at most [`SHARDS`].
    #[must_use]
    pub fn new(count: u8) -> Option<Self> {
        (count.is_power_of_two() && count <= SHARDS).then_some(Self(count))
    }

    /// Returns how many there are.
    #[must_use]
    pub fn count(self) -> u8 {
        self.0
    }

    /// Returns the queue of a run.
    #[must_use]
    pub fn of(self, run: RunId) -> u8 {
        shard(run) % self.0
    }

    /// Returns the shards of a queue.
    pub fn shards(self, queue: u8) -> impl Iterator<Item = u8> {
        (queue..SHARDS).step_by(usize::from(self.0))
    }
}

impl Default for Queues {
    /// Sixteen: they cost little more than one, and more trackers are seldom needed.
    fn default() -> Self {
        Self(16)
    }
}

/// The names of one deployment: its tenant prefix with what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    tenant: String,
}

/// A tenant prefix that cannot be part of a subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a tenant: use letters, digits, `_` and `-`, at most 32")]
pub struct InvalidTenant(pub String);

/// Who does a piece of work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Worker {
    /// Any planner.
    Planner,
    /// Any replanner.
    Replanner,
    /// Any reviewer.
    Reviewer,
    /// Any executor of the capability of a project.
    Executor {
        /// The project.
        project: String,
        /// The capability.
        capability: Capability,
    },
}

impl Names {
    /// Takes a tenant prefix.
    ///
    /// # Errors
    ///
    /// If it cannot be part of a subject.
    pub fn new(tenant: &str) -> Result<Self, InvalidTenant> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if tenant.is_empty() || tenant.len() > 32 || !tenant.bytes().all(fits) {
            return Err(InvalidTenant(tenant.to_owned()));
        }
        Ok(Self { tenant: tenant.to_owned() })
    }

    /// Returns the tenant prefix.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Returns the name of a stream: `RUNS`, `CMD`, `WORK`, `DEAD`.
    #[must_use]
    pub fn stream(&self, name: &str) -> String {
        format!("{}_{name}", self.tenant)
    }

    /// Returns the subject of a run's entries.
    #[must_use]
    pub fn run(&self, run: RunId) -> String {
        format!("{}.run.{}.{run}", self.tenant, shard(run))
    }

    /// Returns the subjects of the entries of all runs.
    #[must_use]
    pub fn runs(&self) -> String {
        format!("{}.run.*.*", self.tenant)
    }

    /// Returns the subjects of the entries of a shard's runs.
    #[must_use]
    pub fn shard_runs(&self, shard: u8) -> String {
        format!("{}.run.{shard}.*", self.tenant)
    }

    /// Returns the run whose entry has this subject.
    #[must_use]
    pub fn run_of(&self, subject: &str) -> Option<RunId> {
        subject.rsplit('.').next()?.parse().ok()
    }

    /// Returns the subject of a user's commands to a run.
    #[must_use]
    pub fn command(&self, user: &str, run: RunId) -> String {
        format!("{}.cmd.{}.{}.{run}", self.tenant, token(user), shard(run))
    }

    /// Returns the subjects of all commands of a user.
    #[must_use]
    pub fn commands_of(&self, user: &str) -> String {
        format!("{}.cmd.{}.*.*", self.tenant, token(user))
    }

    /// Returns the user who sent a command, as the subject has it.
    #[must_use]
    pub fn user_of(&self, subject: &str) -> Option<String> {
        let rest = subject.strip_prefix(&self.tenant)?.strip_prefix(".cmd.")?;
        untoken(rest.split('.').next()?)
    }

    /// Returns the subjects of all commands, and of all that workers answer and ask.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        vec![format!("{}.cmd.*.*.*", self.tenant), self.all_replies()]
    }

    /// Returns the subjects of what reaches the runs of a queue.
    #[must_use]
    pub fn queue_commands(&self, queues: Queues, queue: u8) -> Vec<String> {
        let of =
            |shard| [format!("{}.cmd.*.{shard}.*", self.tenant), format!("{}.rep.{shard}.>", self.tenant)];
        queues.shards(queue).flat_map(of).collect()
    }

    /// Returns whether the subject is that of workers' replies.
    #[must_use]
    pub fn is_reply(&self, subject: &str) -> bool {
        subject.strip_prefix(&self.tenant).is_some_and(|rest| rest.starts_with(".rep."))
    }

    /// Returns the consumer of a queue.
    #[must_use]
    pub fn queue_consumer(&self, queues: Queues, queue: u8) -> String {
        match queues {
            Queues::EVERY_SHARD => format!("shard-{queue}"),
            _ => format!("queue-{queue}"),
        }
    }

    /// Returns the subject of what a worker answers or asks about a piece of work.
    #[must_use]
    pub fn reply(&self, run: RunId, task: &str, number: u64) -> String {
        format!("{}.rep.{}.{run}.{}.{number}", self.tenant, shard(run), token(task))
    }

    /// Returns the subjects of all that workers answer and ask.
    #[must_use]
    pub fn all_replies(&self) -> String {
        format!("{}.rep.>", self.tenant)
    }

    /// Returns the subject of a piece of work.
    #[must_use]
    pub fn work(&self, worker: &Worker, run: RunId, task: &str, number: u64) -> String {
        format!("{}.{run}.{}.{number}", self.pool(worker), token(task))
    }

    /// Returns the subjects of all work for a worker.
    #[must_use]
    pub fn work_of(&self, worker: &Worker) -> String {
        format!("{}.>", self.pool(worker))
    }

    /// Returns the subjects of all work.
    #[must_use]
    pub fn all_work(&self) -> String {
        format!("{}.work.>", self.tenant)
    }

    /// Returns the subjects of one attempt at a step, whichever pool it waits for.
    #[must_use]
    pub fn step_work(&self, run: RunId, id: &StepId, attempt: u32) -> String {
        let (_, task, number) = step(run, id, attempt);
        format!("{}.work.executor.*.*.{run}.{}.{number}", self.tenant, token(&task))
    }

    fn pool(&self, worker: &Worker) -> String {
        match worker {
            Worker::Planner => format!("{}.work.planner._._", self.tenant),
            Worker::Replanner => format!("{}.work.replanner._._", self.tenant),
            Worker::Reviewer => format!("{}.work.reviewer._._", self.tenant),
            Worker::Executor { project, capability } => {
                format!("{}.work.executor.{}", self.tenant, self.capability(project, capability))
            }
        }
    }

    /// Returns the consumer of the work for a worker.
    #[must_use]
    pub fn work_consumer(&self, worker: &Worker) -> String {
        match worker {
            Worker::Planner => "planner".to_owned(),
            Worker::Replanner => "replanner".to_owned(),
            Worker::Reviewer => "reviewer".to_owned(),
            Worker::Executor { project, capability } => {
                format!("executor-{}-{}", token(project), token(capability.as_str()))
            }
        }
    }

    /// Returns the key of a project's capability.
    #[must_use]
    pub fn capability(&self, project: &str, capability: &Capability) -> String {
        format!("{}.{}", token(project), token(capability.as_str()))
    }

    /// Returns the subject of what could not be processed.
    #[must_use]
    pub fn dead(&self, why: &str, about: &str) -> String {
        format!("{}.dead.{}.{}", self.tenant, token(why), token(about))
    }

    /// Returns the subjects of all that could not be processed.
    #[must_use]
    pub fn all_dead(&self) -> String {
        format!("{}.dead.>", self.tenant)
    }

    /// Returns the subject of hints to all executors.
    #[must_use]
    pub fn hint(&self) -> String {
        format!("{}.hint", self.tenant)
    }

    /// Returns the subject of what concerns one worker.
    #[must_use]
    pub fn worker(&self, worker: &str) -> String {
        format!("{}.worker.{}", self.tenant, token(worker))
    }

    /// Returns the subjects of what concerns any one worker.
    #[must_use]
    pub fn worker_of_any(&self) -> String {
        format!("{}.worker.*", self.tenant)
    }
}

/// Returns what a message is about: a task of its run, and its number. A repetition has the same.
#[must_use]
pub fn task_of(message: &Message) -> Option<(RunId, String, u64)> {
    use crate::Reply;
    Some(match message {
        Message::Plan(request) => (request.run, "plan".to_owned(), u64::from(request.request)),
        Message::Replan(request) => (request.run, "replan".to_owned(), request.basis),
        Message::Review(request) => (request.run, "review".to_owned(), u64::from(request.review)),
        Message::Step(request) => step(request.run, &request.step, request.attempt),
        Message::PermitRequest(ask) => step(ask.run, &ask.step, ask.attempt),
        Message::PermitAnswer(answer) => step(answer.run, &answer.step, answer.attempt),
        Message::Cancel(cancel) => step(cancel.run, &cancel.step, cancel.attempt),
        Message::Reply { run, reply: Reply::Plan { request, .. } } => {
            (*run, "plan".to_owned(), u64::from(*request))
        }
        Message::Reply { run, reply: Reply::Replan { basis, .. } } => (*run, "replan".to_owned(), *basis),
        Message::Reply { run, reply: Reply::Review { review, .. } } => {
            (*run, "review".to_owned(), u64::from(*review))
        }
        Message::Reply { run, reply: Reply::Step(reply) } => step(*run, &reply.step, reply.attempt),
        Message::Input { run, input } => told(*run, input)?,
    })
}

/// Returns what a tracker tells a run of another's: that of a parent or of a child run. The words are
/// no task of a worker, so that no lease of a worker's fits.
fn told(run: RunId, input: &Input) -> Option<(RunId, String, u64)> {
    match input {
        Input::Submit { .. } => Some((run, "begin".to_owned(), 0)),
        Input::Command(_) => Some((run, "command".to_owned(), 0)),
        Input::Child { step, attempt, .. } => Some((run, format!("child-{step}"), u64::from(*attempt))),
        Input::Planned(_)
        | Input::Evaluated { .. }
        | Input::Result(_)
        | Input::Permit { .. }
        | Input::Replanned(_)
        | Input::Reviewed(_)
        | Input::Wake
        | Input::Takeover { .. } => None,
    }
}

fn step(run: RunId, step: &StepId, attempt: u32) -> (RunId, String, u64) {
    (run, format!("step-{step}"), u64::from(attempt))
}

/// Writes text as one token of a subject: letters, digits, `_` and `-` as they are, other bytes as
/// `=` with two hexadecimal digits.
#[must_use]
pub fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            token.push(char::from(byte));
        } else {
            fmt::Write::write_fmt(&mut token, format_args!("={byte:02x}")).unwrap_or_default();
        }
    }
    if token.is_empty() { "=".to_owned() } else { token }
}

/// Reads what [`token`] wrote.
#[must_use]
pub fn untoken(token: &str) -> Option<String> {
    if token == "=" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        if *first == b'=' {
            let digits = std::str::from_utf8(more.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_one_token_and_reads_back() {
        for text in ["ada", "", "a.b c", "ä*>", "x=41"] {
            let written = token(text);
            assert!(!written.is_empty() && !written.contains(['.', '*', '>', ' ']), "{written}");
            assert_eq!(untoken(&written).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_command_names_its_user_and_its_shard() {
        let names = Names::new("fp").unwrap();
        let run = RunId(uuid::Uuid::from_u128(0x1_41));
        let subject = names.command("ada.l", run);
        assert_eq!(subject, format!("fp.cmd.ada=2el.1.{run}"));
        assert_eq!(names.user_of(&subject).as_deref(), Some("ada.l"));
        assert_eq!(names.run_of(&subject), Some(run));
        assert!(!names.is_reply(&subject) && names.is_reply(&names.reply(run, "a", 1)));
    }

    #[test]
    fn each_shard_is_in_the_queue_of_its_runs() {
        assert!([0, 3, 65, 128].into_iter().all(|count| Queues::new(count).is_none()));
        let names = Names::new("fp").unwrap();
        for queues in [1, 16, 64].map(|count| Queues::new(count).unwrap()) {
            for last in 0..SHARDS {
                let run = RunId(uuid::Uuid::from_u128(u128::from(last)));
                let queue = queues.of(run);
                assert!(queue < queues.count() && queues.shards(queue).any(|one| one == shard(run)));
                let reply = format!("fp.rep.{}.>", shard(run));
                assert!(names.queue_commands(queues, queue).contains(&reply));
            }
            let all: usize = (0..queues.count()).map(|queue| queues.shards(queue).count()).sum();
            assert_eq!(all, usize::from(SHARDS));
        }
    }

    #[test]
    fn a_tenant_is_one_token() {
        assert!(Names::new("a.b").is_err() && Names::new("").is_err() && Names::new("acme-1").is_ok());
    }
}
