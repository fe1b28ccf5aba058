//! The actor of one active run.
//!
//! It owns the run's state while it is in memory. The bus and the supervisor send to it. It must
//! not wait for a model, a tool or an expression: those answer by message. It does wait for the
//! journal, since nothing may be dispatched before its entry is durable.
//!
//! # Cancel safety
//!
//! Killed at any await, it loses only what the journal does not have: an append that was not
//! acknowledged, or actions that [`Run::outstanding`], [`Run::unheard`] and a takeover repeat.

use std::sync::Arc;

use foreplan_bus::Receipt;
use foreplan_core::{
    action::Action,
    id::StepId,
    input::{Command, CommandKind, Input},
    map::IdMap,
    run::Run,
    time::Timestamp,
};
use foreplan_protocol::{Message, StepRequest};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde_json::Value;

use crate::{
    children::Told,
    decided::Decided,
    handle::{CommandError, Standing},
    inbox::Arrived,
    shared::Shared,
    supervisor::Order,
    unrecorded::Unrecorded,
    working::forget_verdicts,
};

/// What reaches the actor of a run.
#[expect(clippy::large_enum_variant, reason = "most messages are results, the largest kind")]
pub(crate) enum RunMessage {
    /// The run has just been created, or folded.
    Begin(Vec<Action>),
    /// Another process carried the run on, and is gone.
    Takeover(String),
    /// The run was folded for commands only, and may now dispatch.
    GoOn,
    /// From the bus, before the run was in memory.
    Bus(Message, Receipt),
    /// From the bus: what has come until this is read.
    Arrived(Arc<Arrived>),
    /// From a person.
    Command(Box<Command>, RpcReplyPort<Result<(), CommandError>>),
    /// An input whose evaluation took place elsewhere, with the plan version that it was about.
    Evaluated { version: u32, input: Box<Input>, inputs: IdMap<StepId, Arc<Value>>, receipt: Receipt },
    /// What may never have been sent is sent again.
    SendAgain,
    /// The run's time has come.
    Wake,
    /// The journal may be writable again.
    Again,
    /// Start nothing more.
    Hold,
    /// Say how many attempts are in flight.
    InFlight(RpcReplyPort<u32>),
    /// The supervisor sends nothing more: stop, unless something has come up.
    Retire,
}

/// The actor of one active run.
pub(crate) struct RunActor;

/// What it starts with.
pub(crate) struct Start {
    pub(crate) run: Run,
    pub(crate) shared: Arc<Shared>,
    pub(crate) supervisor: ActorRef<Order>,
}

pub(crate) struct State {
    /// Shared with those who look at a run that rests; changed in place while nobody does.
    pub(crate) run: Arc<Run>,
    pub(crate) shared: Arc<Shared>,
    supervisor: ActorRef<Order>,
    /// Inputs that were bound when their steps were evaluated; lists for `for_each` steps.
    pub(crate) inputs: IdMap<StepId, Arc<Value>>,
    /// Compiled `output` schemas of the plan version in force.
    pub(crate) schemas: IdMap<StepId, Arc<jsonschema::Validator>>,
    pub(crate) version: u32,
    /// Requests of steps that may have cost many workers.
    pub(crate) suspects: IdMap<StepId, Arc<StepRequest>>,
    /// What waits until the journal can be written again.
    pub(crate) unrecorded: Option<Unrecorded>,
    /// Whether the journal did not take the last entry.
    pub(crate) is_stuck: bool,
    wake: Option<Timestamp>,
    /// Whether it was said that the run is idle.
    is_idle: bool,
    is_retiring: bool,
    /// What was said last of where the run stands.
    pub(crate) told: Told,
    pub(crate) decided: Decided,
}

impl Actor for RunActor {
    type Msg = RunMessage;
    type State = State;
    type Arguments = Start;

    async fn pre_start(&self, _: ActorRef<RunMessage>, start: Start) -> Result<State, ActorProcessingErr> {
        let Start { run, shared, supervisor } = start;
        let version = run.plan_version();
        Ok(State {
            run: Arc::new(run),
            shared,
            supervisor,
            inputs: IdMap::default(),
            schemas: IdMap::default(),
            version,
            suspects: IdMap::default(),
            unrecorded: None,
            is_stuck: false,
            wake: None,
            is_idle: false,
            is_retiring: false,
            told: Told::default(),
            decided: Decided::default(),
        })
    }

    async fn handle(
        &self,
        me: ActorRef<RunMessage>,
        message: RunMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(message) = state.unless_unrecorded(message) else { return Ok(()) };
        let is_retiring = matches!(message, RunMessage::Retire);
        if let Err(error) = state.receive(&me, message).await {
            state.set_back(&me, error).await?;
        }
        if is_retiring {
            return Ok(());
        }
        state.rest();
        state.tell().await;
        Ok(())
    }
}

impl State {
    async fn receive(
        &mut self,
        me: &ActorRef<RunMessage>,
        message: RunMessage,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RunMessage::Begin(actions) => self.carry_out(me, actions).await?,
            RunMessage::Takeover(by) => {
                Arc::make_mut(&mut self.run).unhold();
                self.take(me, Input::Takeover { by }).await?;
                self.ask_children();
            }
            RunMessage::GoOn => {
                self.unhold(me).await?;
                self.say_again();
            }
            RunMessage::Bus(message, receipt) => {
                self.message(me, message, receipt).await?;
                self.carry_out(me, Vec::new()).await?;
            }
            RunMessage::Arrived(arrived) => {
                let (taken, is_more) = arrived.take();
                if is_more {
                    let _ = me.cast(RunMessage::Arrived(arrived));
                }
                for (message, receipt) in taken {
                    self.message(me, message, receipt).await?;
                }
                self.carry_out(me, Vec::new()).await?;
            }
            RunMessage::Command(command, reply) => self.command(me, *command, reply).await?,
            RunMessage::Evaluated { version, input, inputs, receipt } => {
                let mut input = *input;
                if version == self.version {
                    self.inputs.extend(inputs);
                } else {
                    forget_verdicts(&mut input);
                }
                self.accept(input, receipt);
                self.carry_out(me, Vec::new()).await?;
            }
            RunMessage::SendAgain => self.send_again(me).await?,
            RunMessage::Wake => {
                self.wake = None;
                self.take(me, Input::Wake).await?;
            }
            RunMessage::Again => self.record_again(me).await?,
            RunMessage::Hold => Arc::make_mut(&mut self.run).hold(),
            RunMessage::InFlight(reply) => drop(reply.send(self.in_flight())),
            RunMessage::Retire => self.retire(me),
        }
        Ok(())
    }

    /// Stops, unless something has come up.
    fn retire(&mut self, me: &ActorRef<RunMessage>) {
        if self.is_idle() {
            me.stop(None);
        } else {
            self.is_retiring = false;
            let _ = self.supervisor.cast(Order::Unretire(self.run.id()));
        }
    }

    /// Sets the timer, and asks to be dropped from memory if nothing can happen by itself.
    fn rest(&mut self) {
        let next = self.run.next_wake();
        let is_idle = self.is_idle();
        if self.is_idle && !is_idle {
            self.shared.standings.set(self.run.id(), Standing::Active);
        }
        self.is_idle = is_idle;
        if is_idle {
            self.shared.timers.set(self.run.id(), next);
            self.wake = next;
            self.shared.standings.set(self.run.id(), Standing::Idle(Arc::clone(&self.run)));
            if !self.is_retiring {
                self.is_retiring = true;
                let _ = self.supervisor.cast(Order::Retire(self.run.id()));
            }
        } else if next.is_some_and(|next| self.wake.is_none_or(|set| next < set)) {
            self.shared.timers.set(self.run.id(), next);
            self.wake = next;
        }
    }

    /// Asks for what is outstanding, if the run was held.
    async fn unhold(&mut self, me: &ActorRef<RunMessage>) -> Result<(), ActorProcessingErr> {
        if !self.run.is_held() {
            return Ok(());
        }
        Arc::make_mut(&mut self.run).unhold();
        self.carry_out(me, self.run.outstanding()).await?;
        self.send_again(me).await?;
        self.take(me, Input::Wake).await
    }

    async fn command(
        &mut self,
        me: &ActorRef<RunMessage>,
        mut command: Command,
        reply: RpcReplyPort<Result<(), CommandError>>,
    ) -> Result<(), ActorProcessingErr> {
        if let CommandKind::Answer { step, value, verdicts } = &mut command.kind {
            verdicts.gate = self.misfit(step, value);
        }
        let done = match self.decide(Input::Command(command)) {
            Ok(()) => self.carry_out(me, Vec::new()).await,
            Err(rejection) => {
                self.rest();
                let _ = reply.send(Err(rejection.into()));
                return Ok(());
            }
        };
        self.rest();
        let _ = reply.send(match &done {
            Ok(()) => Ok(()),
            Err(error) => Err(CommandError::Stuck(error.to_string())),
        });
        done
    }
}
