//! The working side of a run's actor: what must be judged about a result, what a step's input is,
//! and sending it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use foreplan_bus::Receipt;
use foreplan_core::{
    action::{Dispatch, Work},
    budget::StepMax,
    digest::Digest,
    event::{Event, ReviewOf},
    expr::{self, Cel},
    failure::{EffectState, Failure, FailureKind},
    id::{RunId, StepId},
    input::{AttemptOutcome, AttemptReply, Input, Readiness, ReviewReply},
    payload::Output,
    plan::Step,
    review::ReviewSubject,
    run::{Found, WORKERS_LOST_MAX},
    tool::Effect,
};
use foreplan_protocol::{AgentWork, ListedTool, Message, ReviewRequest, StepRequest, StepWork};
use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use ractor::{ActorProcessingErr, ActorRef};
use serde_json::Value;

use crate::{
    judge::{Gate, Job, Judged, bind_later},
    perform::{Origin, Sending},
    run_actor::{RunMessage, State},
    shared::Shared,
    values::Values,
};

/// Requests that are older are not sent again: half as long as a server knows a repetition, so that one whose
/// result is on its way does not run once more. Their timeouts tell.
const UNHEARD_MAX: Duration = Duration::from_secs(60);

/// A step's input before its markers are replaced.
pub(crate) struct Unbound {
    pub(crate) template: Value,
    pub(crate) values: Values,
    /// The template of the list and the index, for an item whose list is not at hand.
    pub(crate) list: Option<(Value, u32)>,
}

/// A step on its way to an executor.
pub(crate) type Sent = BoxFuture<'static, Option<Arc<StepRequest>>>;

impl State {
    /// Has a job judged off the actor; the input that it completes comes back as a message.
    pub(crate) fn judge_elsewhere(
        &self,
        me: &ActorRef<RunMessage>,
        job: Job,
        receipt: Receipt,
        input: impl FnOnce(Judged) -> Input + Send + 'static,
    ) {
        let (me, version, run) = (me.clone(), self.version, self.run.id());
        let payloads = Arc::clone(&self.shared.payloads);
        tokio::spawn(async move {
            let mut judged = job.judge_later(run, payloads).await;
            let inputs = std::mem::take(&mut judged.inputs);
            let input = Box::new(input(judged));
            let _ = me.cast(RunMessage::Evaluated { version, input, inputs, receipt });
        });
    }

    /// Returns what must be judged about a reply; `None` if nothing.
    pub(crate) fn result_job(&mut self, reply: &AttemptReply) -> Option<Job> {
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
        let mut job = if self.run.reviews_output_of(id.as_str()) {
            // What it unlocks is found out when the reviewer has accepted it.
            let values = Values::new(&self.run);
            Job { done_when: false, plan: Arc::clone(&plan), values, gate: None, unlocked: Vec::new() }
        } else {
            self.done_job(id, output)?
        };
        job.values.see_references(&self.run, at);
        job.values.set(id.clone(), output.clone());
        let expect = plan.node(at).expect.clone();
        job.gate = self.gate_of(plan.step(at), id, output.clone(), expect, &mut job.values);
        Some(job)
    }

    /// Returns what must be judged once a step is done with this output.
    fn done_job(&self, id: &StepId, output: &Output) -> Option<Job> {
        let plan = Arc::clone(&self.run.current()?.plan);
        let unlocked = self.run.unlocked_by(id.as_str());
        let mut values = Values::new(&self.run);
        for next in &unlocked {
            values.see_references(&self.run, plan.position(next.as_str())?);
        }
        if plan.done_when().is_some() {
            values.see_all(&self.run);
        }
        values.set(id.clone(), output.clone());
        Some(Job { done_when: plan.done_when().is_some(), plan, values, gate: None, unlocked })
    }

    /// Returns what must be judged about an output that a reviewer accepts; `None` if nothing.
    pub(crate) fn review_job(&self, reply: &ReviewReply) -> Option<Job> {
        let (step, output) = self.run.output_in_review(reply.review)?;
        if reply.outcome.accepts() { self.done_job(step, output) } else { None }
    }

    /// Sends what is to be judged to the reviewer, with the input that the step was given.
    pub(crate) async fn ask_reviewer(&mut self, review: u32, of: ReviewOf) {
        let spec = Arc::clone(self.run.spec());
        let Some(model) = spec.review.as_ref().map(|review| review.model.clone()) else { return };
        let run = self.run.id();
        let known = match &of {
            ReviewOf::Plan { .. } => Some(Arc::default()),
            ReviewOf::Output { step, .. } => self.inputs.get(step).cloned(),
        };
        let (input, unbound) = match (known, &of) {
            (Some(input), _) => (input, None),
            (None, ReviewOf::Output { step, .. }) => (Arc::default(), self.unbound(step)),
            (None, ReviewOf::Plan { .. }) => return,
        };
        let Some(subject) = self.run.review_subject(&of, input) else { return };
        let mut request = ReviewRequest { run, review, spec, model, subject };
        let shared = Arc::clone(&self.shared);
        let Some(Unbound { template, values, list }) = unbound else {
            return shared.ask_reviewer(request).await;
        };
        tokio::spawn(async move {
            let bound = bind_with_item(&template, values, list, run, &shared).await;
            if let (ReviewSubject::Output { input, .. }, Ok(bound)) = (&mut request.subject, bound) {
                *input = Arc::new(bound);
            }
            shared.ask_reviewer(request).await;
        });
    }

    fn assumption_job(&self, id: &StepId, output: &Output) -> Option<Job> {
        let plan = Arc::clone(&self.run.proposed()?.plan);
        let assumption = plan.plan().assumptions.get(id.as_item()?.1 as usize)?;
        let expect = Cel::parse(&assumption.expect).ok();
        let input = self.inputs.get(id).cloned().unwrap_or_default();
        let gate = Some(Gate { output: output.clone(), input, expect, schema: None });
        let values = Values::new(&self.run);
        Some(Job { plan, values, gate, unlocked: Vec::new(), done_when: false })
    }

    fn gate_of(
        &mut self,
        step: &Step,
        id: &StepId,
        output: Output,
        expect: Option<Cel>,
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
            None => Arc::new(expr::bind(&step.input, values).unwrap_or_default()),
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

    /// Returns why an answer does not fit the schema of its question.
    pub(crate) fn misfit(&self, step: &StepId, value: &Value) -> Option<Failure> {
        let schema = self.run.definition(step.as_str())?.human.as_ref()?.answer.as_ref()?;
        let validator = jsonschema::validator_for(schema).ok()?;
        let error = validator.iter_errors(value).next()?;
        let message = format!("{error}; the answer must fit {schema}");
        Some(Failure::new(FailureKind::OutputSchema, "answer", message))
    }

    /// Finds out whether steps can start: at once if that is light.
    pub(crate) fn evaluate(&mut self, me: &ActorRef<RunMessage>, steps: Vec<StepId>) -> Option<Input> {
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
        self.judge_elsewhere(me, job, Receipt::none(), move |judged| {
            ready.extend(judged.verdicts.ready);
            Input::Evaluated { ready }
        });
        None
    }

    /// Sends the requests again that whoever carried the run on before may not have sent. Whoever has one
    /// already does not take it twice.
    pub(crate) async fn send_again(&mut self, me: &ActorRef<RunMessage>) -> Result<(), ActorProcessingErr> {
        // What is unrecorded may tell of attempts that the state does not know to be done.
        if self.run.is_held() || self.unrecorded.is_some() {
            return Ok(());
        }
        let since = self.shared.now().minus(UNHEARD_MAX);
        self.carry_out(me, self.run.unheard(since)).await
    }

    /// Sends a step, and returns what is left to wait for: steps whose server has not answered yet go
    /// side by side.
    pub(crate) fn dispatch(&mut self, dispatch: Dispatch) -> Option<Sent> {
        let mut sent = self.begin(dispatch)?;
        match (&mut sent).now_or_never() {
            Some(request) => {
                self.suspect(request);
                None
            }
            None => Some(sent),
        }
    }

    /// Waits until steps are sent.
    pub(crate) async fn sent(&mut self, sending: Vec<Sent>) {
        for request in join_all(sending).await {
            self.suspect(request);
        }
    }

    fn begin(&mut self, dispatch: Dispatch) -> Option<Sent> {
        let (run, project) = (self.run.id(), self.run.spec().project.as_str().into());
        let origin = Origin { run, version: self.version, project };
        let shared = Arc::clone(&self.shared);
        if let Some(input) = self.inputs.get(&dispatch.step) {
            let (sending, input) = (self.sending(dispatch), Arc::clone(input));
            return Some(Box::pin(async move { shared.dispatch(origin, sending, input).await }));
        }
        let Unbound { template, values, list } = self.unbound(&dispatch.step)?;
        let sending = self.sending(dispatch);
        if list.is_none()
            && let Ok(input) = expr::bind(&template, &values)
        {
            let input = Arc::new(input);
            self.inputs.insert(sending.dispatch.step.clone(), Arc::clone(&input));
            return Some(Box::pin(async move { shared.dispatch(origin, sending, input).await }));
        }
        tokio::spawn(async move {
            match bind_with_item(&template, values, list, run, &shared).await {
                Ok(input) => drop(shared.dispatch(origin, sending, Arc::new(input)).await),
                Err(message) => {
                    let failure = Failure::new(FailureKind::InputSchema, "unbound", message);
                    let Dispatch { step, attempt, .. } = sending.dispatch;
                    let outcome = AttemptOutcome::Failure(failure.effect(EffectState::None));
                    shared.answer(run, step, attempt, outcome).await;
                }
            }
        });
        None
    }

    /// Remembers what was sent if the loss of one more worker may pause the run.
    fn suspect(&mut self, sent: Option<Arc<StepRequest>>) {
        if let Some(request) = sent.filter(|request| request.attempt >= WORKERS_LOST_MAX) {
            self.suspects.insert(request.step.clone(), request);
        }
    }

    /// Keeps, for people to look at, the request of a step that cost so many workers that the run was
    /// paused.
    pub(crate) async fn bury_killers(&mut self, events: &[Event]) {
        if self.suspects.is_empty() || !events.iter().any(|e| matches!(e, Event::RunPaused { .. })) {
            return;
        }
        for event in events {
            if let Event::AttemptFailed { step, .. } = event
                && let Some(request) = self.suspects.remove(step)
            {
                self.shared.bus.bury("workers_lost", &Message::Step(request)).await;
            }
        }
    }

    /// Returns what an executor needs besides the input.
    fn sending(&self, dispatch: Dispatch) -> Sending {
        let work = match &dispatch.work {
            Work::Tool { tool, tool_digest } => {
                StepWork::Tool { tool: tool.clone(), tool_digest: *tool_digest }
            }
            Work::Agent { digest, max } => {
                StepWork::Agent { agent: Arc::new(self.agent_work(&dispatch.step, *digest, *max)) }
            }
        };
        let done = match (&work, dispatch.effect) {
            (StepWork::Tool { .. }, Effect::Irreversible) => self.run.done_calls().to_vec(),
            _ => Vec::new(),
        };
        Sending { dispatch, work, done }
    }

    fn agent_work(&self, id: &StepId, digest: Digest, max: StepMax) -> AgentWork {
        let mut work = AgentWork {
            digest,
            title: String::new(),
            outcome: None,
            instructions: String::new(),
            tools: Vec::new(),
            output: None,
            context: BTreeMap::new(),
            max,
        };
        let (Some(step), Some(version)) = (self.run.definition(id.as_str()), self.run.current()) else {
            return work;
        };
        let Some(agent) = &step.agent else { return work };
        let listed = agent.tools.iter().filter_map(|tool| {
            let sealed = version.envelope.tools.get(tool)?;
            Some(ListedTool { tool: tool.clone(), tool_digest: sealed.digest, effect: sealed.effect })
        });
        work.title = step.label().to_owned();
        work.outcome.clone_from(&step.outcome);
        work.instructions.clone_from(&agent.instructions);
        work.tools = listed.collect();
        work.output = step.output.as_deref().cloned();
        let deps = version.plan.position(step.id.as_str()).map(|at| &version.plan.node(at).deps);
        for dep in deps.into_iter().flatten() {
            let id = &version.plan.step(*dep).id;
            if let Found::Output(output) = self.run.output(id.as_str()) {
                work.context.insert(id.clone(), output.to_value());
            }
        }
        work
    }

    /// Returns a step's input template with what it refers to.
    pub(crate) fn unbound(&self, id: &StepId) -> Option<Unbound> {
        let mut values = Values::new(&self.run);
        let Some(step) = self.run.definition(id.as_str()) else {
            let assumptions = &self.run.proposed()?.plan.plan().assumptions;
            let template = assumptions.get(id.as_item()?.1 as usize)?.input.clone();
            return Some(Unbound { template, values, list: None });
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
        Some(Unbound { template: step.input.clone(), values, list })
    }
}

pub(crate) async fn bind_with_item(
    template: &Value,
    mut values: Values,
    list: Option<(Value, u32)>,
    run: RunId,
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
pub(crate) fn forget_verdicts(input: &mut Input) {
    match input {
        Input::Result(reply) => reply.verdicts.ready.clear(),
        Input::Reviewed(reply) => reply.verdicts.ready.clear(),
        Input::Evaluated { ready } => ready.clear(),
        Input::Submit { .. }
        | Input::Planned(_)
        | Input::Permit { .. }
        | Input::Child { .. }
        | Input::Replanned(_)
        | Input::Command(_)
        | Input::Wake
        | Input::Takeover { .. } => {}
    }
}
