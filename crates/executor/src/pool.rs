//! The pool of one specialist: a ractor factory, and the bound on what waits for it.
//!
//! The factory's mailbox and queue know no bound of their own that a sender would notice. The pool
//! therefore counts what it has in hand and refuses more at the door, so that nothing is ever
//! dropped behind it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use foreplan_bus::{Bus, Consumer, Error, Receipt};
use foreplan_core::{
    digest::Digest,
    id::{Capability, ToolName},
    map::IdSet,
};
use foreplan_journal::Payloads;
use foreplan_model::Models;
use foreplan_protocol::{Message, StepRequest};
use foreplan_tools::{AgentSpec, Specialist, Toolbox};
use parking_lot::RwLock;
use ractor::{
    Actor, ActorCell, ActorId, MessagingErr, SpawnErr,
    factory::{
        Factory, FactoryArguments, FactoryMessage, FactoryRef, Job, routing::QueuerRouting, worker_builder,
    },
};

use crate::{
    attempt::Attempt, attempts::Attempts, clock::Clock, executor::Logs, turns::Turns, worker::StepWorker,
};

/// Attempts that may wait for a worker of one pool: a thousand runs with 64 steps in flight each,
/// at about half a kilobyte an attempt.
pub const QUEUE_MAX: usize = 64 * 1024;

/// Counts the attempts of a pool; the factory only needs keys to differ.
pub(crate) type JobKey = u64;

type StepFactory =
    Factory<JobKey, Attempt, (), StepWorker, QueuerRouting<JobKey, Attempt>, Turns<Job<JobKey, Attempt>>>;

/// What all pools of an executor share.
pub(crate) struct Shared {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) toolbox: Arc<Toolbox>,
    pub(crate) payloads: Arc<dyn Payloads>,
    pub(crate) attempts: Attempts,
    pub(crate) clock: Clock,
    pub(crate) log: Option<Logs>,
    pub(crate) models: Option<Arc<dyn Models>>,
    /// Stands before the name of each worker.
    pub(crate) process: Option<String>,
    /// How long a permit that was asked for counts.
    pub(crate) permit_wait: Duration,
}

/// The pool of one specialist.
pub(crate) struct Pool {
    /// What the pool is for.
    pub(crate) capability: Capability,
    /// What all pools share.
    pub(crate) shared: Arc<Shared>,
    /// What the specialist needs for agent steps, if it carries them out.
    pub(crate) agent: Option<(AgentSpec, Digest)>,
    tools: IdSet<ToolName>,
    concurrency: usize,
    in_hand: AtomicUsize,
    next_key: AtomicU64,
    /// Absent before the start and after the end, replaced when a factory dies.
    factory: RwLock<Option<FactoryRef<JobKey, Attempt>>>,
}

impl Pool {
    /// Makes the pool of a specialist, without workers yet.
    pub(crate) fn new(specialist: Specialist, shared: Arc<Shared>) -> Self {
        let digest = specialist.agent().map(|agent| agent.digest);
        Self {
            agent: specialist.agent.zip(digest),
            capability: specialist.capability,
            shared,
            tools: specialist.tools.into_iter().collect(),
            concurrency: specialist.concurrency,
            in_hand: AtomicUsize::new(0),
            next_key: AtomicU64::new(0),
            factory: RwLock::new(None),
        }
    }

    /// Starts the workers, in the place of those before.
    ///
    /// # Errors
    ///
    /// If the factory or a worker does not start.
    pub(crate) async fn start(self: &Arc<Self>, supervisor: ActorCell) -> Result<ActorId, SpawnErr> {
        let pool = Arc::clone(self);
        let arguments = FactoryArguments::builder()
            .worker_builder(Box::new(worker_builder(move |wid| (StepWorker::new(&pool, wid), ()))))
            .queue(Turns::default())
            .router(QueuerRouting::default())
            .num_initial_workers(self.concurrency)
            .build();
        let (factory, _) = Actor::spawn_linked(None, StepFactory::default(), arguments, supervisor).await?;
        let id = factory.get_id();
        *self.factory.write() = Some(factory);
        Ok(id)
    }

    /// Takes nothing more, and lets the workers finish what is in hand.
    pub(crate) fn drain(&self) {
        if let Some(factory) = self.factory.write().take() {
            // A factory that takes no message has stopped already.
            let _ = factory.drain_requests();
        }
    }

    /// Returns whether the specialist may call this tool.
    pub(crate) fn lists(&self, tool: &ToolName) -> bool {
        self.tools.contains(tool)
    }

    /// Notes that one attempt is no longer in hand.
    pub(crate) fn leave(&self) {
        self.in_hand.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends the factory and its workers in the middle of what they do.
    #[cfg(test)]
    pub(crate) fn kill(&self) {
        if let Some(factory) = self.factory.read().as_ref() {
            factory.kill();
        }
    }

    fn accept(self: &Arc<Self>, request: Arc<StepRequest>, receipt: Receipt) -> Result<(), Error> {
        if self.in_hand.fetch_add(1, Ordering::Relaxed) >= self.concurrency + QUEUE_MAX {
            self.leave();
            return Err(Error::Busy(self.capability.to_string()));
        }
        let Some(attempt) = Attempt::admit(self, request, receipt) else {
            self.leave();
            // A repetition of what is in hand: the answer to the first is the answer.
            return Ok(());
        };
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let factory = self.factory.read();
        let Some(factory) = factory.as_ref() else {
            attempt.withdraw();
            return Err(Error::Gone(self.capability.to_string()));
        };
        factory.dispatch(key, attempt).map_err(|error| {
            if let MessagingErr::SendErr(FactoryMessage::Dispatch(job)) = *error {
                job.msg.withdraw();
            }
            Error::Gone(self.capability.to_string())
        })
    }
}

/// Where the bus leaves the requests of a capability.
pub(crate) struct Inbox(pub(crate) Arc<Pool>);

impl Consumer for Inbox {
    fn deliver(&self, message: Message) -> Result<(), Error> {
        self.accept(message, Receipt::none())
    }

    fn slots(&self) -> usize {
        self.0.concurrency
    }

    fn accept(&self, message: Message, receipt: Receipt) -> Result<(), Error> {
        match message {
            Message::Step(request) => self.0.accept(request, receipt),
            Message::Plan(_)
            | Message::Replan(_)
            | Message::Review(_)
            | Message::Cancel(_)
            | Message::PermitAnswer(_)
            | Message::PermitRequest(_)
            | Message::Reply { .. }
            | Message::Input { .. } => {
                tracing::warn!(capability = %self.0.capability, "a message that is no step request was dropped");
                receipt.settle();
                Ok(())
            }
        }
    }
}
