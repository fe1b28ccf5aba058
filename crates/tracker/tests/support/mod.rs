//! A tracker whose other agents are played by the test.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use foreplan_bus::{Bus as _, Error, MemoryBus, Receipt};
use foreplan_core::{
    budget::Usage,
    event::Entry,
    failure::{Failure, FailureKind},
    goal::{Parent, RunSpec},
    id::RunId,
    input::{Asker, AttemptOutcome, AttemptReply, Command, CommandKind, Input, Verdicts},
    payload::Output,
    plan::Plan,
    policy::ReplanDecision,
    run::Run,
    time::Timestamp,
    tool::Inventory,
};
use foreplan_journal::{
    Error as JournalError, Journal, MemoryJournal, MemoryPayloads, NewRun, Progress, RunFilter, RunRecord,
};
use foreplan_protocol::{
    Message, PermitRequest, PlanOutcome, PlanRequest, ReplanRequest, Reply, StepRequest, Subject,
};
use foreplan_testkit::{Ids, TestClock};
use foreplan_tracker::{Deps, SubmitError, TrackerHandle, spawn};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Longer than anything here takes, even on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A tracker, and the requests that it makes.
pub(crate) struct Fixture {
    pub(crate) bus: Arc<MemoryBus>,
    pub(crate) journal: Arc<Doubtful>,
    pub(crate) tracker: TrackerHandle,
    pub(crate) requests: mpsc::UnboundedReceiver<Message>,
    pub(crate) clock: TestClock,
    pub(crate) ids: Ids,
    pub(crate) run: RunId,
}

/// A journal that can take entries and say that it did not, refuse them, and refuse to be read.
pub(crate) struct Doubtful {
    kept: MemoryJournal,
    doubts: AtomicBool,
    is_full: AtomicBool,
    is_unreadable: AtomicBool,
    /// How many entries were appended together, each time.
    appended: Mutex<Vec<usize>>,
}

impl Doubtful {
    /// Denies the next entries.
    pub(crate) fn doubt_once(&self) {
        self.doubts.store(true, Ordering::Relaxed);
    }

    /// Refuses the next entries.
    pub(crate) fn refuse_once(&self) {
        self.is_full.store(true, Ordering::Relaxed);
    }

    /// Returns how many entries were appended together, each time since this was asked.
    pub(crate) fn appended(&self) -> Vec<usize> {
        std::mem::take(&mut self.appended.lock())
    }

    /// Lets it be read, or not.
    pub(crate) fn set_unreadable(&self, is_unreadable: bool) {
        self.is_unreadable.store(is_unreadable, Ordering::Relaxed);
    }
}

impl Journal for Doubtful {
    fn create(
        &self,
        run: NewRun,
        entry: Arc<Entry>,
        row: Progress,
    ) -> BoxFuture<'_, Result<(), JournalError>> {
        self.kept.create(run, entry, row)
    }

    fn append_all(
        &self,
        run: RunId,
        entries: Vec<(Arc<Entry>, Progress)>,
    ) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            if self.is_full.swap(false, Ordering::Relaxed) {
                return Err(JournalError::Full("no room".to_owned()));
            }
            let count = entries.len();
            self.kept.append_all(run, entries).await?;
            self.appended.lock().push(count);
            if self.doubts.swap(false, Ordering::Relaxed) { Err(JournalError::Busy) } else { Ok(()) }
        })
    }

    fn read(&self, run: RunId, from: u64) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, JournalError>> {
        Box::pin(async move {
            if self.is_unreadable.load(Ordering::Relaxed) {
                return Err(JournalError::Busy);
            }
            self.kept.read(run, from).await
        })
    }

    fn find(&self, run: RunId) -> BoxFuture<'_, Result<Option<RunRecord>, JournalError>> {
        self.kept.find(run)
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunRecord>, JournalError>> {
        self.kept.list(filter)
    }
}

impl Fixture {
    /// Starts a tracker with one run, of which the planner is asked for a plan.
    pub(crate) async fn new() -> Self {
        Self::limited(10).await
    }

    /// The same, with a limit on active runs.
    pub(crate) async fn limited(active_runs_max: usize) -> Self {
        let bus = Arc::new(MemoryBus::new());
        let (sender, requests) = mpsc::unbounded_channel();
        for subject in
            [Subject::Planner, Subject::Replanner, Subject::Executors, Subject::Executor("data".into())]
        {
            let sender = sender.clone();
            let queue = move |message| sender.send(message).map_err(|_| Error::Gone("test".to_owned()));
            bus.serve(subject, Box::new(queue));
        }
        let payloads = Arc::new(MemoryPayloads::default());
        let kept = MemoryJournal::new(Arc::clone(&payloads));
        let journal = Arc::new(Doubtful {
            kept,
            doubts: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            is_unreadable: AtomicBool::new(false),
            appended: Mutex::default(),
        });
        let tools = json!({"read": tool("read", "read"), "send": tool("send", "irreversible")});
        let inventory: Arc<Inventory> = Arc::new(serde_json::from_value(tools).unwrap());
        let clock = TestClock::ticking(Timestamp(1_000_000), Duration::from_micros(1));
        let deps = Deps {
            bus: bus.clone(),
            journal: journal.clone(),
            payloads,
            inventories: Arc::new(move |_: &str| Arc::clone(&inventory)),
            children: None,
            clock: clock.reader(),
            active_runs_max,
        };
        let tracker = spawn(deps).await.unwrap();
        let mut ids = Ids::seeded(3);
        let run = ids.run();
        let fixture = Self { bus, journal, tracker, requests, clock, ids, run };
        fixture.submit(run).await.unwrap();
        fixture
    }

    /// Begins a run.
    pub(crate) async fn submit(&self, run: RunId) -> Result<(), SubmitError> {
        self.submit_for(run, None).await
    }

    /// Begins the run of a step of another.
    pub(crate) async fn submit_for(&self, run: RunId, parent: Option<Parent>) -> Result<(), SubmitError> {
        let spec = json!({"project": "p", "goal": "g", "planner": {"kind": "custom", "name": "test"},
            "approval": {"mode": "auto"}});
        let spec = RunSpec { parent, ..serde_json::from_value(spec).unwrap() };
        self.tracker.submit(run, Arc::new(spec), "ann").await.map(drop)
    }

    /// Hands the tracker a message, and returns once it is dealt with: whether it was settled.
    pub(crate) async fn tell(&self, run: RunId, message: Message) -> bool {
        let (receipt, mut settled) = Receipt::pair();
        self.bus.hand(&Subject::Tracker(run), message, receipt).unwrap();
        tokio::time::timeout(PATIENCE, settled.wait()).await.unwrap()
    }

    /// Hands the tracker answers before the run's actor has a turn, and returns which were settled.
    pub(crate) async fn reply_together(&self, replies: impl IntoIterator<Item = Reply>) -> Vec<bool> {
        let mut receipts = Vec::new();
        for reply in replies {
            let (receipt, settled) = Receipt::pair();
            let message = Message::Reply { run: self.run, reply };
            self.bus.hand(&Subject::Tracker(self.run), message, receipt).unwrap();
            receipts.push(settled);
        }
        let mut settled = Vec::new();
        for receipt in &mut receipts {
            settled.push(tokio::time::timeout(PATIENCE, receipt.wait()).await.unwrap());
        }
        settled
    }

    /// The same, for an answer to the run.
    pub(crate) async fn reply(&self, reply: Reply) -> bool {
        self.tell(self.run, Message::Reply { run: self.run, reply }).await
    }

    /// Hands the tracker a message that must change nothing, and be settled all the same: a bus that
    /// keeps it would bring it for ever.
    pub(crate) async fn changes_nothing(&self, message: Message) {
        let before = self.entries().await.len();
        assert!(self.tell(self.run, message).await, "it is settled");
        assert_eq!(self.entries().await.len(), before);
    }

    async fn next(&mut self) -> Message {
        tokio::time::timeout(PATIENCE, self.requests.recv()).await.unwrap().unwrap()
    }

    /// Waits for a request to the planner.
    pub(crate) async fn asked_for_plan(&mut self) -> Arc<PlanRequest> {
        match self.next().await {
            Message::Plan(request) => request,
            other => panic!("no plan request: {other:?}"),
        }
    }

    /// Waits for a request to the replanner.
    pub(crate) async fn asked_to_replan(&mut self) -> Arc<ReplanRequest> {
        match self.next().await {
            Message::Replan(request) => request,
            other => panic!("no replan request: {other:?}"),
        }
    }

    /// Waits for a request to an executor.
    pub(crate) async fn asked_for_step(&mut self) -> Arc<StepRequest> {
        match self.next().await {
            Message::Step(request) => request,
            other => panic!("no step request: {other:?}"),
        }
    }

    /// Asks for a permit, and returns whether it was granted.
    pub(crate) async fn permit(&mut self, step: &str, attempt: u32) -> bool {
        let asked = permit_request(self.run, step, attempt);
        assert!(self.tell(self.run, Message::PermitRequest(asked)).await);
        match self.next().await {
            Message::PermitAnswer(answer) => answer.granted,
            other => panic!("no permit answer: {other:?}"),
        }
    }

    /// Answers the first plan request with these steps.
    pub(crate) async fn planned(&mut self, steps: Value) {
        let request = self.asked_for_plan().await.request;
        assert!(self.reply(plan_reply(request, steps)).await);
    }

    /// Has another tracker take the run over, which begins the attempts in hand anew.
    pub(crate) async fn begun_elsewhere(&self) {
        let (mut run, record) = (self.folded().await, self.journal.find(self.run).await.unwrap().unwrap());
        let (seq, input) = (run.seq(), Input::Takeover { by: "p2".to_owned() });
        let decision = run.handle(Timestamp(9_000_000), &input).unwrap();
        let entry = Run::entry(seq, run.at(), input, decision.events);
        self.journal.append(self.run, Arc::new(entry), record.progress).await.unwrap();
    }

    /// Carries out a command that the run takes.
    pub(crate) async fn command(&mut self, kind: CommandKind) {
        let command = Command { id: self.ids.command(), by: "ann".to_owned(), kind };
        self.tracker.command(self.run, command).await.unwrap();
    }

    /// Returns the run's entries.
    pub(crate) async fn entries(&self) -> Vec<Arc<Entry>> {
        self.journal.read(self.run, 0).await.unwrap()
    }

    /// Returns the run as its entries tell it.
    pub(crate) async fn folded(&self) -> Run {
        Run::replay(self.run, self.entries().await.iter().map(AsRef::as_ref)).unwrap()
    }

    /// Waits until no run has an actor.
    pub(crate) async fn at_rest(&self) {
        let rest = async {
            while self.tracker.actors() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, rest).await.unwrap();
    }
}

fn tool(name: &str, effect: &str) -> Value {
    json!({
        "name": name, "description": "", "effect": effect, "capabilities": ["data"], "cost": 1,
        "digest": format!("sha256:{}", "0".repeat(64)), "input": true, "output": true,
    })
}

/// Returns the question whether an attempt may make its call.
pub(crate) fn permit_request(run: RunId, step: &str, attempt: u32) -> PermitRequest {
    PermitRequest { run, step: step.parse().unwrap(), attempt, call: None, asker: Asker::default() }
}

/// Returns the answer to a plan request.
pub(crate) fn plan_reply(request: u32, steps: Value) -> Reply {
    let plan: Plan = serde_json::from_value(json!({"format": 1, "steps": steps})).unwrap();
    Reply::Plan {
        request,
        by: "test".to_owned(),
        outcome: PlanOutcome::Plan(Arc::new(plan)),
        usage: Usage::default(),
        calls: Vec::new(),
    }
}

/// Returns the answer to a replan request.
pub(crate) fn replan_reply(basis: u64, decision: ReplanDecision) -> Reply {
    Reply::Replan {
        basis,
        by: "test".to_owned(),
        reason: "because".to_owned(),
        decision,
        rule: None,
        usage: Usage::default(),
        calls: Vec::new(),
    }
}

/// A plan whose second step uses the output of its first.
pub(crate) fn two_steps() -> Value {
    json!([
        {"id": "a", "tool": "read"},
        {"id": "b", "tool": "read", "input": {"x": {"$ref": "a.n"}}},
    ])
}

/// A plan whose last step uses the outputs of two that run side by side.
pub(crate) fn two_and_one() -> Value {
    json!([
        {"id": "a", "tool": "read"},
        {"id": "b", "tool": "read"},
        {"id": "c", "tool": "read", "input": {"x": {"$ref": "a.n"}, "y": {"$ref": "b.n"}}},
    ])
}

/// Returns the result of an attempt that succeeded.
pub(crate) fn returned(step: &str, attempt: u32, output: Value) -> Reply {
    result(step, attempt, AttemptOutcome::Output(Output::inline(output)))
}

/// Returns the result of an attempt that failed for good.
pub(crate) fn failed(step: &str, attempt: u32) -> Reply {
    let failure = Failure::new(FailureKind::Tool, "broken", "it broke").retryable(false);
    result(step, attempt, AttemptOutcome::Failure(failure))
}

fn result(step: &str, attempt: u32, outcome: AttemptOutcome) -> Reply {
    Reply::Step(AttemptReply {
        step: step.parse().unwrap(),
        attempt,
        outcome,
        worker: "test".to_owned(),
        claim: None,
        input: None,
        started_at: Timestamp(1),
        ended_at: Timestamp(2),
        usage: Usage::default(),
        calls: Vec::new(),
        verdicts: Verdicts::default(),
    })
}
