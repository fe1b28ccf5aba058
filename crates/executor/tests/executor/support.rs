//! An executor with one pool, and what its tracker sees.

use std::{sync::Arc, time::Duration};

use foreplan_bus::{Bus, Error, MemoryBus};
use foreplan_core::{
    digest::Digest,
    failure::Failure,
    id::{RunId, ToolName},
    input::{AttemptOutcome, AttemptReply},
    payload::Output,
    time::Timestamp,
    tool::Effect,
};
use foreplan_executor::{Executor, ExecutorHandle, Logs, Options};
use foreplan_journal::MemoryPayloads;
use foreplan_protocol::{Message, PermitAnswer, PermitRequest, Reply, StepRequest, StepWork, Subject};
use foreplan_testkit::{Ids, TestClock};
use foreplan_tools::{Specialist, Tool, Toolbox};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The pool of every test.
pub(crate) const POOL: &str = "pool";

/// The run of every test.
pub(crate) fn run_id() -> RunId {
    Ids::seeded(7).run()
}

/// An executor, and what its tracker sees.
pub(crate) struct Setup {
    pub(crate) bus: Arc<MemoryBus>,
    pub(crate) executor: ExecutorHandle,
    pub(crate) payloads: Arc<MemoryPayloads>,
    toolbox: Arc<Toolbox>,
    tracker: mpsc::UnboundedReceiver<Message>,
}

impl Setup {
    /// Starts an executor whose one specialist has these tools.
    pub(crate) async fn new(concurrency: usize, tools: impl IntoIterator<Item = Tool>) -> Self {
        let tools: Vec<Tool> = tools.into_iter().collect();
        let specialist = Specialist {
            capability: POOL.into(),
            tools: tools.iter().map(|tool| tool.descriptor().name.clone()).collect(),
            concurrency,
            agent: None,
        };
        Self::of(Toolbox::new(tools, [specialist]).unwrap(), None).await
    }

    /// Starts an executor of a toolbox. Its clock counts microseconds, one at each look.
    pub(crate) async fn of(toolbox: Toolbox, log: Option<Logs>) -> Self {
        let toolbox = Arc::new(toolbox);
        let bus = Arc::new(MemoryBus::new());
        let payloads = Arc::new(MemoryPayloads::default());
        let (sender, tracker) = mpsc::unbounded_channel();
        bus.serve(
            Subject::Trackers,
            Box::new(move |message| sender.send(message).map_err(|_| Error::Gone("the test".to_owned()))),
        );
        let clock = TestClock::ticking(Timestamp(0), Duration::from_micros(1));
        let options = Options { clock: clock.reader(), log, ..Options::default() };
        let executor =
            Executor::spawn(bus.clone(), toolbox.clone(), payloads.clone(), options).await.unwrap();
        Self { bus, executor, payloads, toolbox, tracker }
    }

    /// Returns the request for the first attempt of a step that calls `tool`.
    pub(crate) fn request(&self, step: &str, tool: &str, input: Value) -> StepRequest {
        let descriptor = self.toolbox.get(tool).map(Tool::descriptor);
        StepRequest {
            project: "test".into(),
            run: run_id(),
            step: step.parse().unwrap(),
            attempt: 1,
            plan_version: 1,
            work: StepWork::Tool {
                tool: ToolName::from(tool),
                tool_digest: descriptor.map_or(Digest([0; 32]), |tool| tool.digest),
            },
            effect: descriptor.map_or(Effect::Read, |tool| tool.effect),
            capability: POOL.into(),
            input: Arc::new(input),
            idempotency_key: None,
            timeout: Duration::from_secs(60),
        }
    }

    /// Hands a request to the executor.
    pub(crate) async fn send(&self, request: StepRequest) -> Result<(), Error> {
        let to = Subject::Executor(request.capability.clone());
        self.bus.publish(to, Message::Step(Arc::new(request))).await
    }

    /// Hands a hint to the executor.
    pub(crate) async fn hint(&self, message: Message) {
        self.bus.publish(Subject::Executors, message).await.unwrap();
    }

    /// Waits for the executor to ask for a permit.
    pub(crate) async fn asked(&mut self) -> PermitRequest {
        match self.tracker.recv().await.unwrap() {
            Message::PermitRequest(asked) => asked,
            other => panic!("not a permit request: {other:?}"),
        }
    }

    /// Answers a permit request.
    pub(crate) async fn permit(&self, asked: PermitRequest, granted: bool) {
        let PermitRequest { run, step, attempt, call, asker } = asked;
        let call = call.map_or(0, |call| call.call);
        self.hint(Message::PermitAnswer(PermitAnswer {
            run,
            step,
            attempt,
            call,
            claim: asker.claim,
            granted,
        }))
        .await;
    }

    /// Waits for an answer.
    pub(crate) async fn reply(&mut self) -> AttemptReply {
        match self.tracker.recv().await.unwrap() {
            Message::Reply { run, reply: Reply::Step(reply) } if run == run_id() => reply,
            other => panic!("not an answer: {other:?}"),
        }
    }

    /// Sends a request for a step and waits for its answer.
    pub(crate) async fn answer(&mut self, tool: &str, input: Value) -> AttemptOutcome {
        self.send(self.request("step", tool, input)).await.unwrap();
        self.reply().await.outcome
    }

    /// The same, for a step that must fail.
    pub(crate) async fn failure(&mut self, tool: &str, input: Value) -> Failure {
        failure(self.answer(tool, input).await)
    }
}

/// Returns the failure of an outcome that must be one.
pub(crate) fn failure(outcome: AttemptOutcome) -> Failure {
    match outcome {
        AttemptOutcome::Failure(failure) => failure,
        AttemptOutcome::Output(output) => panic!("not a failure: {output:?}"),
    }
}

/// Returns the outcome of a step that returned this value.
pub(crate) fn returned(value: Value) -> AttemptOutcome {
    AttemptOutcome::Output(Output::inline(value))
}

/// A tool that returns its input under the key `got`.
pub(crate) fn echo(effect: Effect) -> Tool {
    Tool::function(
        "echo",
        "Returns its input",
        effect,
        |input: Value| async move { Ok(json!({"got": input})) },
    )
}
