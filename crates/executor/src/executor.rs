//! The executor as its surroundings see it: started with its specialists, stopped, no more.
//!
//! Its actor supervises the factories: one that dies is started again, and the attempts that it had
//! in hand answer for themselves.

use std::{collections::HashMap, sync::Arc, time::Duration};

use foreplan_bus::{Bus, Consumer};
use foreplan_core::id::{RunId, StepId};
use foreplan_journal::Payloads;
use foreplan_model::Models;
use foreplan_protocol::{Cancel, Message, Subject};
use foreplan_tools::{LogSink, Toolbox};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::{
    attempts::{AttemptKey, Attempts},
    clock::{Clock, system_clock},
    pool::{Inbox, Pool, Shared},
    worker::PERMIT_WAIT,
};

/// Returns where the tools of one attempt write what they print.
pub type Logs = Arc<dyn Fn(RunId, &StepId, u32) -> Arc<dyn LogSink> + Send + Sync>;

/// What an executor is made of besides its tools.
pub struct Options {
    /// What the time in answers is read from.
    pub clock: Clock,
    /// Where tools write what they print.
    pub log: Option<Logs>,
    /// Where the models of agent steps are found; absent: agent steps fail.
    pub models: Option<Arc<dyn Models>>,
    /// The process, where there are several: it stands before the name of each worker.
    pub process: Option<String>,
    /// How long a permit that was asked for counts: shorter than the time after which a silent worker
    /// is taken for lost, since its call may be permitted to another one then.
    pub permit_wait: Duration,
}

impl Default for Options {
    /// The system's clock, no log, and no models.
    fn default() -> Self {
        Self { clock: system_clock(), log: None, models: None, process: None, permit_wait: PERMIT_WAIT }
    }
}

/// What can go wrong with an executor itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The actors did not start.
    #[error("the executor's actors did not start")]
    Start(#[source] ractor::SpawnErr),
}

/// Starts executors.
pub struct Executor;

impl Executor {
    /// Starts one pool per specialist of the toolbox and serves their capabilities on the bus.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn spawn(
        bus: Arc<dyn Bus>,
        toolbox: Arc<Toolbox>,
        payloads: Arc<dyn Payloads>,
        options: Options,
    ) -> Result<ExecutorHandle, Error> {
        let Options { clock, log, models, process, permit_wait } = options;
        let specialists = toolbox.specialists().to_vec();
        let attempts = Attempts::default();
        let shared =
            Arc::new(Shared { bus, toolbox, payloads, attempts, clock, log, models, process, permit_wait });
        let pools: Vec<_> = specialists
            .into_iter()
            .map(|specialist| Arc::new(Pool::new(specialist, Arc::clone(&shared))))
            .collect();
        let (actor, _) = Actor::spawn(None, Supervisor, pools.clone()).await.map_err(Error::Start)?;
        for pool in &pools {
            let inbox = Box::new(Inbox(Arc::clone(pool)));
            shared.bus.serve(Subject::Executor(pool.capability.clone()), inbox);
        }
        shared.bus.serve(Subject::Executors, Box::new(Hints(Arc::clone(&shared))));
        Ok(ExecutorHandle { actor, shared, pools: pools.into() })
    }
}

/// A running executor. Copies of the handle are handles of the same executor; dropping them ends
/// nothing.
#[derive(Clone)]
pub struct ExecutorHandle {
    actor: ActorRef<Order>,
    shared: Arc<Shared>,
    pools: Arc<[Arc<Pool>]>,
}

impl ExecutorHandle {
    /// Returns how many attempts are in hand.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.shared.attempts.len()
    }

    /// Tells every call in hand to end; each is answered as cancelled.
    pub fn cancel_all(&self) {
        self.shared.attempts.cancel_all();
    }

    /// Takes no more requests, finishes those in hand and ends.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, the executor still ends when its work is done.
    pub async fn stop(&self) {
        for pool in self.pools.iter() {
            self.shared.bus.leave(&Subject::Executor(pool.capability.clone()));
        }
        // An actor that takes no message has ended already.
        let _ = self.actor.cast(Order::Stop);
        // Without a limit, the wait has no error.
        let _ = self.actor.get_cell().wait(None).await;
        self.shared.bus.leave(&Subject::Executors);
    }
}

/// Takes what concerns attempts in hand, whichever pool has them.
struct Hints(Arc<Shared>);

impl Consumer for Hints {
    fn deliver(&self, message: Message) -> Result<(), foreplan_bus::Error> {
        match message {
            Message::Cancel(Cancel { run, step, attempt }) => {
                self.0.attempts.cancel(&AttemptKey { run, step, attempt });
            }
            Message::PermitAnswer(answer) => self.0.attempts.answer_permit(answer),
            Message::Plan(_)
            | Message::Replan(_)
            | Message::Review(_)
            | Message::Step(_)
            | Message::PermitRequest(_)
            | Message::Reply { .. }
            | Message::Input { .. } => {
                tracing::warn!("a message that concerns no attempt in hand was dropped");
            }
        }
        Ok(())
    }
}

/// What the supervisor can be told.
enum Order {
    /// Finish what is in hand and end.
    Stop,
}

/// Starts the factories, starts them again when they die, and ends when all have.
struct Supervisor;

struct Supervised {
    pools: HashMap<ActorId, Arc<Pool>>,
    stopping: bool,
}

impl Supervised {
    async fn ended(&mut self, who: ActorId, me: &ActorRef<Order>) -> Result<(), ActorProcessingErr> {
        let Some(pool) = self.pools.remove(&who) else { return Ok(()) };
        if !self.stopping {
            let id = pool.start(me.get_cell()).await?;
            self.pools.insert(id, pool);
        } else if self.pools.is_empty() {
            me.stop(None);
        }
        Ok(())
    }
}

impl Actor for Supervisor {
    type Msg = Order;
    type State = Supervised;
    type Arguments = Vec<Arc<Pool>>;

    async fn pre_start(
        &self,
        me: ActorRef<Order>,
        pools: Vec<Arc<Pool>>,
    ) -> Result<Supervised, ActorProcessingErr> {
        let mut started = HashMap::with_capacity(pools.len());
        for pool in pools {
            started.insert(pool.start(me.get_cell()).await?, pool);
        }
        Ok(Supervised { pools: started, stopping: false })
    }

    async fn handle(
        &self,
        me: ActorRef<Order>,
        Order::Stop: Order,
        state: &mut Supervised,
    ) -> Result<(), ActorProcessingErr> {
        state.stopping = true;
        state.pools.values().for_each(|pool| pool.drain());
        if state.pools.is_empty() {
            me.stop(None);
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Order>,
        event: SupervisionEvent,
        state: &mut Supervised,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => {
                tracing::error!(%error, "a pool of workers died");
                state.ended(who.get_id(), &me).await
            }
            SupervisionEvent::ActorTerminated(who, _, _) => state.ended(who.get_id(), &me).await,
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foreplan_bus::MemoryBus;
    use foreplan_core::{
        failure::{EffectState, Failure},
        id::RunId,
        input::{AttemptOutcome, AttemptReply},
        payload::Output,
        tool::Effect,
    };
    use foreplan_journal::MemoryPayloads;
    use foreplan_protocol::{Reply, StepRequest, StepWork};
    use foreplan_tools::{Specialist, Tool};
    use serde_json::{Value, json};
    use tokio::sync::{Notify, mpsc};

    use super::*;

    fn request(toolbox: &Toolbox, step: &str, hang: bool) -> Message {
        let tool = toolbox.get("hang").unwrap().descriptor();
        Message::Step(Arc::new(StepRequest {
            project: "test".into(),
            run: RunId(uuid::Uuid::from_u128(7)),
            step: step.parse().unwrap(),
            attempt: 1,
            plan_version: 1,
            work: StepWork::Tool { tool: tool.name.clone(), tool_digest: tool.digest },
            effect: tool.effect,
            capability: "pool".into(),
            input: Arc::new(json!({"hang": hang})),
            idempotency_key: None,
            timeout: Duration::from_secs(60),
        }))
    }

    #[tokio::test]
    async fn attempts_of_a_pool_that_dies_are_lost_and_another_pool_takes_over() {
        let began = Arc::new(Notify::new());
        let hang = Tool::function("hang", "Hangs if told to", Effect::Idempotent, {
            let began = Arc::clone(&began);
            move |input: Value| {
                let began = Arc::clone(&began);
                async move {
                    if input["hang"] == true {
                        began.notify_one();
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, Failure>(json!(1))
                }
            }
        });
        let pool =
            Specialist { capability: "pool".into(), tools: vec!["hang".into()], concurrency: 1, agent: None };
        let toolbox = Arc::new(Toolbox::new([hang], [pool]).unwrap());
        let bus = Arc::new(MemoryBus::new());
        let (sender, mut tracker) = mpsc::unbounded_channel();
        bus.serve(
            Subject::Trackers,
            Box::new(move |message| {
                sender.send(message).map_err(|_| foreplan_bus::Error::Gone("the test".to_owned()))
            }),
        );
        let spawned = Executor::spawn(
            bus.clone(),
            toolbox.clone(),
            Arc::new(MemoryPayloads::default()),
            Options::default(),
        );
        let executor = spawned.await.unwrap();
        let to = || Subject::Executor("pool".into());
        bus.publish(to(), request(&toolbox, "running", true)).await.unwrap();
        began.notified().await;
        bus.publish(to(), request(&toolbox, "waiting", true)).await.unwrap();

        executor.pools[0].kill();
        let mut lost = [reply(tracker.recv().await), reply(tracker.recv().await)];
        lost.sort_by(|a, b| a.step.cmp(&b.step));
        let effects: Vec<_> = lost.iter().map(|reply| effect_of_lost(&reply.outcome)).collect();
        assert_eq!(effects, [None, Some(EffectState::None)]);

        while bus.publish(to(), request(&toolbox, "next", false)).await.is_err() {
            tokio::task::yield_now().await;
        }
        let next = reply(tracker.recv().await);
        assert_eq!(next.outcome, AttemptOutcome::Output(Output::inline(json!(1))));
    }

    fn reply(message: Option<Message>) -> AttemptReply {
        match message.unwrap() {
            Message::Reply { reply: Reply::Step(reply), .. } => reply,
            other => panic!("not an answer: {other:?}"),
        }
    }

    fn effect_of_lost(outcome: &AttemptOutcome) -> Option<EffectState> {
        match outcome {
            AttemptOutcome::Failure(failure) if failure.code == "worker_lost" => failure.effect,
            other => panic!("not lost: {other:?}"),
        }
    }
}
