//! The actor of one active run.
//!
//! It owns the run's state while it is in memory. The bus and the supervisor send to it. It must
//! not wait for a model, a tool or an expression: those answer by message. It does wait for the
//! journal, since nothing may be dispatched before its entry is durable.
//!
//! # Cancel safety
//!
//! Killed at any await, it loses only what the journal does not have: an append that was not
//! acknowledged, or actions that [`Run::outstanding`] and a takeover repeat.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use foreplan_core::{
    action::{Action, Dispatch},
    id::StepId,
    input::{
        AttemptOutcome, AttemptReply, Command, CommandKind, Input, PlanReply, Proposal, Readiness,
        ReplanReply,
    },
    plan::{Plan, Step},
    run::{Rejection, Run},
    time::Timestamp,
};
use foreplan_protocol::{Message, PlanOutcome, Reply, Subject};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde_json::Value;

use crate::{
    handle::{CommandError, Standing},
    judge::{Gate, Job, Judged, bind_later},
    perform::progress,
    proposal::{self, Planning, STEPS_CHECKED_INLINE},
    shared::Shared,
    supervisor::Order,
    values::Values,
};

/// What reaches the actor of a run.
pub(crate) enum RunMessage {
    /// The run has just been created, or folded.
    Begin(Vec<Action>),
    /// Another process carried the run on, and is gone.
    Takeover(String),
    /// From the bus.
    Bus(Message),
    /// From a person.
    Command(Box<Command>, RpcReplyPort<Result<(), CommandError>>),
    /// An input whose evaluation took place elsewhere, with the plan version that it was about.
    Evaluated { version: u32, input: Box<Input>, inputs: HashMap<StepId, Arc<Value>> },
    /// The run's time has come.
    Wake,
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
    run: Run,
    shared: Arc<Shared>,
    supervisor: ActorRef<Order>,
    /// Inputs that were bound when their steps were evaluated; lists for `for_each` steps.
    inputs: HashMap<StepId, Arc<Value>>,
    /// Compiled `output` schemas of the plan version in force.
    schemas: HashMap<StepId, Arc<jsonschema::Validator>>,
    version: u32,
    wake: Option<Timestamp>,
    /// Whether it was said that the run is idle.
    is_idle: bool,
    is_retiring: bool,
}

impl Actor for RunActor {
    type Msg = RunMessage;
    type State = State;
    type Arguments = Start;

    async fn pre_start(&self, _: ActorRef<RunMessage>, start: Start) -> Result<State, ActorProcessingErr> {
        let Start { run, shared, supervisor } = start;
        let version = run.plan_version();
        Ok(State {
            run,
            shared,
            supervisor,
            inputs: HashMap::new(),
            schemas: HashMap::new(),
            version,
            wake: None,
            is_idle: false,
            is_retiring: false,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<RunMessage>,
        message: RunMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RunMessage::Begin(actions) => state.go_on(&me, VecDeque::new(), actions).await?,
            RunMessage::Takeover(by) => {
                state.run.unhold();
                state.take(&me, Input::Takeover { by }).await?;
            }
            RunMessage::Bus(message) => state.from_bus(&me, message).await?,
            RunMessage::Command(command, reply) => state.command(&me, *command, reply).await?,
            RunMessage::Evaluated { version, input, inputs } => {
                let mut input = *input;
                if version == state.version {
                    state.inputs.extend(inputs);
                } else {
                    forget_verdicts(&mut input);
                }
                state.take(&me, input).await?;
            }
            RunMessage::Wake => {
                state.wake = None;
                state.take(&me, Input::Wake).await?;
            }
            RunMessage::Hold => state.run.hold(),
            RunMessage::InFlight(reply) => drop(reply.send(state.run.in_flight())),
            RunMessage::Retire => {
                if state.run.is_idle() {
                    me.stop(None);
                } else {
                    state.is_retiring = false;
                    let _ = state.supervisor.cast(Order::Unretire(state.run.id()));
                }
                return Ok(());
            }
        }
        state.rest();
        Ok(())
    }
}

impl State {
    /// Sets the timer, and asks to be dropped from memory if nothing can happen by itself.
    fn rest(&mut self) {
        let next = self.run.next_wake();
        let is_idle = self.run.is_idle();
        if self.is_idle && !is_idle {
            self.shared.standings.set(self.run.id(), Standing::Active);
        }
        self.is_idle = is_idle;
        if is_idle {
            self.shared.timers.set(self.run.id(), next);
            self.wake = next;
            self.shared.standings.set(self.run.id(), Standing::Idle(self.run.status()));
            if !self.is_retiring {
                self.is_retiring = true;
                let _ = self.supervisor.cast(Order::Retire(self.run.id()));
            }
        } else if next.is_some_and(|next| self.wake.is_none_or(|set| next < set)) {
            self.shared.timers.set(self.run.id(), next);
            self.wake = next;
        }
    }

    async fn from_bus(
        &mut self,
        me: &ActorRef<RunMessage>,
        message: Message,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Reply { reply: Reply::Step(reply), .. } => self.result(me, reply).await,
            Message::Reply { reply: Reply::Plan { request, by, outcome, usage }, .. } => {
                let reply = move |proposal| Input::Planned(PlanReply { request, by, proposal, usage });
                match outcome {
                    PlanOutcome::Plan(plan) => self.check(me, plan, reply).await,
                    PlanOutcome::None { code, message, .. } => {
                        self.take(me, reply(Proposal::None { code, message })).await
                    }
                }
            }
            Message::Reply { reply: Reply::Replan { basis, by, reason, decision, rule, usage }, .. } => {
                let current = self.run.current().map(|v| Arc::clone(v.plan.plan()));
                let plan = current.and_then(|current| proposal::decided_plan(&decision, &current));
                let reply = move |proposal| {
                    Input::Replanned(ReplanReply { basis, by, reason, decision, proposal, rule, usage })
                };
                match plan {
                    None => self.take(me, reply(None)).await,
                    Some(Ok(plan)) => self.check(me, plan, move |proposal| reply(Some(proposal))).await,
                    Some(Err(message)) => {
                        let proposal = Proposal::None { code: "patch".to_owned(), message };
                        self.take(me, reply(Some(proposal))).await
                    }
                }
            }
            Message::PermitRequest(ask) => {
                self.take(me, Input::Permit { step: ask.step, attempt: ask.attempt }).await
            }
            Message::Input { input, .. } => self.take(me, input).await,
            Message::Plan(_)
            | Message::Replan(_)
            | Message::Step(_)
            | Message::Cancel(_)
            | Message::PermitAnswer(_) => {
                tracing::warn!(run = %self.run.id(), "a message for another agent came to the tracker");
                Ok(())
            }
        }
    }

    /// Checks a plan, on the actor if it is small, and takes the input that the proposal completes.
    async fn check(
        &mut self,
        me: &ActorRef<RunMessage>,
        plan: Arc<Plan>,
        input: impl FnOnce(Proposal) -> Input + Send + 'static,
    ) -> Result<(), ActorProcessingErr> {
        let inventory = (self.shared.inventories)();
        let spec = Arc::clone(self.run.spec());
        let is_small = plan.steps.len() <= STEPS_CHECKED_INLINE;
        let propose = move || proposal::propose(&plan, Planning { spec: &spec, inventory: &inventory });
        if is_small {
            return self.take(me, input(propose())).await;
        }
        let (me, version) = (me.clone(), self.version);
        tokio::task::spawn_blocking(move || {
            let input = Box::new(input(propose()));
            let _ = me.cast(RunMessage::Evaluated { version, input, inputs: HashMap::new() });
        });
        Ok(())
    }

    /// Judges a worker's reply before the core sees it, so that one result is one entry.
    async fn result(
        &mut self,
        me: &ActorRef<RunMessage>,
        mut reply: AttemptReply,
    ) -> Result<(), ActorProcessingErr> {
        let Some(job) = self.result_job(&reply) else { return self.take(me, Input::Result(reply)).await };
        if job.is_light()
            && let Ok(judged) = job.judge()
        {
            self.inputs.extend(judged.inputs);
            reply.verdicts = judged.verdicts;
            return self.take(me, Input::Result(reply)).await;
        }
        self.judge_elsewhere(me, job, move |judged| {
            reply.verdicts = judged.verdicts;
            Input::Result(reply)
        });
        Ok(())
    }

    fn judge_elsewhere(
        &self,
        me: &ActorRef<RunMessage>,
        job: Job,
        input: impl FnOnce(Judged) -> Input + Send + 'static,
    ) {
        let (me, version, run) = (me.clone(), self.version, self.run.id());
        let payloads = Arc::clone(&self.shared.payloads);
        tokio::spawn(async move {
            let mut judged = job.judge_later(run, payloads).await;
            let inputs = std::mem::take(&mut judged.inputs);
            let _ = me.cast(RunMessage::Evaluated { version, input: Box::new(input(judged)), inputs });
        });
    }

    /// Returns what must be judged about a reply; `None` if nothing.
    fn result_job(&mut self, reply: &AttemptReply) -> Option<Job> {
        let AttemptOutcome::Output(output) = &reply.outcome else { return None };
        let id = &reply.step;
        if !self.run.awaits(id.as_str(), reply.attempt) || self.run.is_verifying(id.as_str()) {
            return None;
        }
        if self.run.step(id.as_str()).is_none() {
            return self.assumption_job(id, output);
        }
        let plan = Arc::clone(&self.run.current()?.plan);
        let own = id.as_item().map_or(id.as_str(), |(parent, _)| parent);
        let at = plan.position(own)?;
        let unlocked = self.run.unlocked_by(id.as_str());
        let mut values = Values::new(&self.run);
        values.see_references(&self.run, at);
        for next in &unlocked {
            values.see_references(&self.run, plan.position(next.as_str())?);
        }
        if plan.done_when().is_some() {
            values.see_all(&self.run);
        }
        values.set(id.clone(), output.clone());
        let gate = self.gate_of(plan.step(at), id, output.clone(), plan.node(at).expect.clone(), &mut values);
        Some(Job { done_when: plan.done_when().is_some(), plan, values, gate, unlocked })
    }

    fn assumption_job(&self, id: &StepId, output: &foreplan_core::payload::Output) -> Option<Job> {
        let plan = Arc::clone(&self.run.proposed()?.plan);
        let assumption = plan.plan().assumptions.get(id.as_item()?.1 as usize)?;
        let expect = foreplan_core::expr::Cel::parse(&assumption.expect).ok();
        let input = self.inputs.get(id).cloned().unwrap_or_default();
        let gate = Some(Gate { output: output.clone(), input, expect, schema: None });
        let values = Values::new(&self.run);
        Some(Job { plan, values, gate, unlocked: Vec::new(), done_when: false })
    }

    fn gate_of(
        &mut self,
        step: &Step,
        id: &StepId,
        output: foreplan_core::payload::Output,
        expect: Option<foreplan_core::expr::Cel>,
        values: &mut Values,
    ) -> Option<Gate> {
        let schema = self.schema_of(step);
        if expect.is_none() && schema.is_none() {
            return None;
        }
        if let Some((item, index)) = self.item_of(id) {
            values.set_item(item, index);
        }
        let input = match self.inputs.get(id) {
            Some(input) => Arc::clone(input),
            None => Arc::new(foreplan_core::expr::bind(&step.input, values).unwrap_or_default()),
        };
        Some(Gate { output, input, expect, schema })
    }

    fn schema_of(&mut self, step: &Step) -> Option<Arc<jsonschema::Validator>> {
        let schema = step.output.as_ref()?;
        if let Some(known) = self.schemas.get(&step.id) {
            return Some(Arc::clone(known));
        }
        let compiled = Arc::new(jsonschema::validator_for(schema).ok()?);
        self.schemas.insert(step.id.clone(), Arc::clone(&compiled));
        Some(compiled)
    }

    /// Returns the item that an item's step works on, if its list is at hand.
    fn item_of(&self, id: &StepId) -> Option<(Value, u32)> {
        let (parent, index) = id.as_item()?;
        let item = self.inputs.get(parent)?.get(index as usize)?;
        Some((item.clone(), index))
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
        let accepted = self.decide(me, Input::Command(command)).await;
        self.rest();
        match accepted {
            Ok(Ok(())) => drop(reply.send(Ok(()))),
            Ok(Err(rejection)) => drop(reply.send(Err(rejection.into()))),
            Err(error) => {
                let _ = reply.send(Err(CommandError::Stuck(error.to_string())));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Returns why an answer does not fit the schema of its question.
    fn misfit(&self, step: &StepId, value: &Value) -> Option<foreplan_core::failure::Failure> {
        let schema = self.run.definition(step.as_str())?.human.as_ref()?.answer.as_ref()?;
        let validator = jsonschema::validator_for(schema).ok()?;
        let error = validator.iter_errors(value).next()?;
        let message = format!("{error}; the answer must fit {schema}");
        Some(foreplan_core::failure::Failure::new(
            foreplan_core::failure::FailureKind::OutputSchema,
            "answer",
            message,
        ))
    }

    /// Takes an input that cannot be sent back: a rejection is a late message.
    async fn take(&mut self, me: &ActorRef<RunMessage>, input: Input) -> Result<(), ActorProcessingErr> {
        if let Err(rejection) = self.decide(me, input).await? {
            tracing::debug!(run = %self.run.id(), %rejection, "an input came too late");
        }
        Ok(())
    }

    /// Decides about an input and all that follows from it at once.
    async fn decide(
        &mut self,
        me: &ActorRef<RunMessage>,
        input: Input,
    ) -> Result<Result<(), Rejection>, ActorProcessingErr> {
        match self.step(input).await? {
            Ok(actions) => self.go_on(me, VecDeque::new(), actions).await.map(Ok),
            Err(rejection) => Ok(Err(rejection)),
        }
    }

    /// Decides about one input and appends its entry.
    async fn step(&mut self, input: Input) -> Result<Result<Vec<Action>, Rejection>, ActorProcessingErr> {
        let seq = self.run.seq();
        let decision = match self.run.handle(self.shared.now(), &input) {
            Ok(decision) => decision,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if !decision.events.is_empty() {
            let entry = Arc::new(Run::entry(seq, self.run.at(), input, decision.events));
            let appended =
                self.shared.journal.append(self.run.id(), Arc::clone(&entry), progress(&self.run)).await;
            if let Err(error) = appended {
                let lost = matches!(error, foreplan_journal::Error::Conflict { .. });
                let why = error.to_string();
                self.shared.standings.set(self.run.id(), Standing::Stuck { why, lost });
                return Err(error.into());
            }
            if self.version != self.run.plan_version() {
                self.version = self.run.plan_version();
                self.inputs.clear();
                self.schemas.clear();
            }
            self.shared.tell(&self.run, entry);
        }
        Ok(Ok(decision.actions))
    }

    /// Performs actions, and decides about what they lead to at once.
    async fn go_on(
        &mut self,
        me: &ActorRef<RunMessage>,
        mut inputs: VecDeque<Input>,
        actions: Vec<Action>,
    ) -> Result<(), ActorProcessingErr> {
        let mut actions = VecDeque::from(actions);
        loop {
            while let Some(action) = actions.pop_front() {
                match action {
                    Action::Evaluate { steps } => inputs.extend(self.evaluate(me, steps)),
                    Action::RunStep(dispatch) => self.dispatch(dispatch).await,
                    other => self.shared.perform(&self.run, other).await,
                }
            }
            let Some(input) = inputs.pop_front() else { return Ok(()) };
            if let Ok(more) = self.step(input).await? {
                actions.extend(more);
            }
        }
    }

    /// Finds out whether steps can start: at once if that is light.
    fn evaluate(&mut self, me: &ActorRef<RunMessage>, steps: Vec<StepId>) -> Option<Input> {
        let plan = Arc::clone(&self.run.current()?.plan);
        let mut values = Values::new(&self.run);
        let mut ready = Vec::new();
        let mut unlocked = Vec::new();
        for id in steps {
            match plan.position(id.as_str()) {
                Some(at) => {
                    values.see_references(&self.run, at);
                    unlocked.push(id);
                }
                None => ready.push((id, Readiness::Go)),
            }
        }
        let job = Job { plan, values, gate: None, unlocked, done_when: false };
        if job.is_light()
            && let Ok(judged) = job.judge()
        {
            self.inputs.extend(judged.inputs);
            ready.extend(judged.verdicts.ready);
            return Some(Input::Evaluated { ready });
        }
        self.judge_elsewhere(me, job, move |judged| {
            ready.extend(judged.verdicts.ready);
            Input::Evaluated { ready }
        });
        None
    }

    async fn dispatch(&mut self, dispatch: Dispatch) {
        let (run, version) = (self.run.id(), self.version);
        if let Some(input) = self.inputs.get(&dispatch.step) {
            let input = Arc::clone(input);
            return self.shared.dispatch(run, version, dispatch, input).await;
        }
        let Some((template, values, list)) = self.unbound(&dispatch.step) else { return };
        let shared = Arc::clone(&self.shared);
        if list.is_none()
            && let Ok(input) = foreplan_core::expr::bind(&template, &values)
        {
            let input = Arc::new(input);
            self.inputs.insert(dispatch.step.clone(), Arc::clone(&input));
            return shared.dispatch(run, version, dispatch, input).await;
        }
        tokio::spawn(async move {
            match bind_with_item(&template, values, list, run, &shared).await {
                Ok(input) => shared.dispatch(run, version, dispatch, Arc::new(input)).await,
                Err(message) => {
                    let failure = foreplan_core::failure::Failure::new(
                        foreplan_core::failure::FailureKind::InputSchema,
                        "unbound",
                        message,
                    );
                    shared.answer(run, dispatch.step, dispatch.attempt, failure).await;
                }
            }
        });
    }

    /// Returns a step's input template with what it refers to; and, for an item whose list is not
    /// at hand, the list's template.
    fn unbound(&self, id: &StepId) -> Option<(Value, Values, Option<(Value, u32)>)> {
        let mut values = Values::new(&self.run);
        let Some(step) = self.run.definition(id.as_str()) else {
            let assumptions = &self.run.proposed()?.plan.plan().assumptions;
            return Some((assumptions.get(id.as_item()?.1 as usize)?.input.clone(), values, None));
        };
        let at = self.run.current()?.plan.position(step.id.as_str())?;
        values.see_references(&self.run, at);
        let mut list = None;
        if let Some((_, index)) = id.as_item() {
            match self.item_of(id) {
                Some((item, index)) => values.set_item(item, index),
                None => list = step.for_each.as_ref().map(|f| (f.list.clone(), index)),
            }
        }
        Some((step.input.clone(), values, list))
    }
}

async fn bind_with_item(
    template: &Value,
    mut values: Values,
    list: Option<(Value, u32)>,
    run: foreplan_core::id::RunId,
    shared: &Shared,
) -> Result<Value, String> {
    let payloads = shared.payloads.as_ref();
    if let Some((list, index)) = list {
        let list = bind_later(&list, values.clone(), run, payloads).await?;
        let item = list.get(index as usize).cloned().ok_or("the list has become shorter")?;
        values.set_item(item, index);
    }
    bind_later(template, values, run, payloads).await
}

/// Takes out verdicts that are about another plan version: the core asks again.
fn forget_verdicts(input: &mut Input) {
    match input {
        Input::Result(reply) => reply.verdicts.ready.clear(),
        Input::Evaluated { ready } => ready.clear(),
        Input::Submit { .. }
        | Input::Planned(_)
        | Input::Permit { .. }
        | Input::Replanned(_)
        | Input::Command(_)
        | Input::Wake
        | Input::Takeover { .. } => {}
    }
}

/// Where the bus puts messages for the run.
pub(crate) fn inbox(actor: ActorRef<RunMessage>, subject: Subject) -> Box<dyn foreplan_bus::Consumer> {
    Box::new(move |message| {
        actor.cast(RunMessage::Bus(message)).map_err(|_| foreplan_bus::Error::Gone(subject.to_string()))
    })
}
