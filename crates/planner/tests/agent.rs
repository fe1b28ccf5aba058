//! The planner over the memory bus, with a test in the place of the tracker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{sync::Arc, time::Duration};

use foreplan_bus::{Bus as _, Error, MemoryBus, service::Handle};
use foreplan_core::{
    action::Trigger,
    failure::{Failure, FailureKind},
    goal::RunSpec,
    id::RunId,
    input::Input,
    payload::Output,
    plan::{CompiledPlan, Plan},
    tool::Inventory,
};
use foreplan_planner::{Planned, Planner, Planners, spawn};
use foreplan_protocol::{Message, PlanOutcome, PlanRequest, ReplanContext, Reply, Subject};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const RUN: RunId = RunId(uuid::Uuid::from_u128(7));

/// How long a test waits for an answer before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Fixture {
    bus: Arc<MemoryBus>,
    replies: mpsc::UnboundedReceiver<Message>,
    planner: Handle,
}

impl Fixture {
    async fn new(planners: Planners, tools: Value) -> Self {
        let bus = Arc::new(MemoryBus::new());
        let (sender, replies) = mpsc::unbounded_channel();
        let tracker = move |message| sender.send(message).map_err(|_| Error::Gone("test".to_owned()));
        bus.serve(Subject::Tracker(RUN), Box::new(tracker));
        let inventory: Arc<Inventory> = Arc::new(serde_json::from_value(tools).unwrap());
        let source = Arc::new(move || Arc::clone(&inventory));
        let planner = spawn(bus.clone(), planners, source).await.unwrap();
        Self { bus, replies, planner }
    }

    async fn ask(&self, request: PlanRequest) {
        self.bus.publish(Subject::Planner, Message::Plan(Arc::new(request))).await.unwrap();
    }

    async fn reply(&mut self) -> (u32, String, PlanOutcome) {
        let message = tokio::time::timeout(PATIENCE, self.replies.recv()).await.unwrap().unwrap();
        match message {
            Message::Reply { run: RUN, reply: Reply::Plan { request, by, outcome, .. } } => {
                (request, by, outcome)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn outcome(&mut self, request: PlanRequest) -> PlanOutcome {
        self.ask(request).await;
        self.reply().await.2
    }
}

fn request(planner: Value) -> PlanRequest {
    let spec = json!({"project": "p", "goal": "a report", "params": {"path": "x"}, "planner": planner});
    let spec: RunSpec = serde_json::from_value(spec).unwrap();
    PlanRequest { run: RUN, request: 1, spec: Arc::new(spec), context: None, answers: vec![] }
}

fn tool(name: &str, needs: &str, makes: &str, cost: u32) -> Value {
    json!({
        "name": name, "description": "", "effect": "read", "capabilities": ["local"], "cost": cost,
        "digest": format!("sha256:{}", "0".repeat(64)),
        "input": {"type": "object", "properties": {needs: {}}, "required": [needs]},
        "output": {"type": "object", "properties": {makes: {}}},
    })
}

fn report_tools() -> Value {
    json!({
        "load": tool("load", "path", "rows", 1),
        "draft": tool("draft", "rows", "report", 1),
        "draft_slowly": tool("draft_slowly", "rows", "report", 9),
    })
}

fn plan_of(outcome: &PlanOutcome) -> &Arc<Plan> {
    match outcome {
        PlanOutcome::Plan(plan) => plan,
        PlanOutcome::None { message, .. } | PlanOutcome::Question { question: message } => {
            panic!("{message}")
        }
    }
}

fn code_and_message(outcome: &PlanOutcome) -> (&str, &str) {
    match outcome {
        PlanOutcome::None { code, message, .. } => (code, message),
        PlanOutcome::Plan(_) | PlanOutcome::Question { .. } => panic!("{outcome:?}"),
    }
}

fn steps(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.id.as_str()).collect()
}

/// Fails in one way or the other.
struct Broken {
    at_once: bool,
}

impl Planner for Broken {
    fn name(&self) -> &str {
        if self.at_once { "broken_at_once" } else { "broken" }
    }

    fn plan(&self, _: Arc<PlanRequest>, _: Arc<Inventory>) -> BoxFuture<'_, Planned> {
        assert!(!self.at_once, "no plan today");
        Box::pin(async { panic!("no plan tomorrow") })
    }
}

#[tokio::test]
async fn derive_answers_with_a_plan_under_the_number_of_the_request() {
    let mut fixture = Fixture::new(Planners::default(), report_tools()).await;
    let derive = json!({"kind": "derive", "produce": ["report"]});
    fixture.ask(PlanRequest { request: 3, ..request(derive) }).await;
    let (number, by, outcome) = fixture.reply().await;
    assert_eq!((number, by.as_str()), (3, "derive"));
    assert_eq!(steps(plan_of(&outcome)), ["load", "draft"]);
    assert_eq!(plan_of(&outcome).goal, "a report");
}

#[tokio::test]
async fn a_large_inventory_is_searched_off_the_async_threads_with_the_same_answer() {
    let mut tools = report_tools();
    for at in 0..40 {
        let name = format!("other_{at}");
        tools[&name] = tool(&name, "path", "rows", 5 + at);
    }
    let mut fixture = Fixture::new(Planners::default(), tools).await;
    let outcome = fixture.outcome(request(json!({"kind": "derive", "produce": ["report"]}))).await;
    assert_eq!(steps(plan_of(&outcome)), ["load", "draft"]);
}

#[tokio::test]
async fn what_nobody_makes_is_an_outcome_with_its_finding() {
    let mut fixture = Fixture::new(Planners::default(), report_tools()).await;
    let outcome = fixture.outcome(request(json!({"kind": "derive", "produce": ["reprot"]}))).await;
    let PlanOutcome::None { code, message, findings } = outcome else { panic!("{outcome:?}") };
    assert_eq!(code, "no_producer");
    assert!(message.contains("`reprot` is wanted") && message.contains("`report`"), "{message}");
    assert_eq!(findings.len(), 1);
}

#[tokio::test]
async fn derive_asked_again_keeps_what_is_done_and_avoids_what_failed() {
    let mut fixture = Fixture::new(Planners::default(), report_tools()).await;
    let first = request(json!({"kind": "derive", "produce": ["report"]}));
    let outcome = fixture.outcome(first.clone()).await;
    let plan = plan_of(&outcome);
    let trigger = Trigger::StepFailed {
        step: "draft".parse().unwrap(),
        failure: Failure::new(FailureKind::Tool, "exit_1", "out of ink"),
    };
    let context = ReplanContext {
        trigger: Arc::new(trigger),
        plan: Some(Arc::new(CompiledPlan::compile(plan.clone()).unwrap())),
        outputs: [("load".parse().unwrap(), Output::inline(json!({"rows": []})))].into(),
        statuses: [].into(),
        failed_tools: vec![],
        attempts: 0,
        rule_uses: [].into(),
        earlier_replans: 0,
        patched_for: None,
    };
    let again = fixture.outcome(PlanRequest { request: 2, context: Some(context), ..first }).await;
    assert_eq!(steps(plan_of(&again)), ["load", "draft_slowly"]);
    assert_eq!(plan_of(&again).steps[0], plan.steps[0]);
}

#[tokio::test]
async fn a_runbook_is_the_plan_as_it_was_written_and_no_answer_to_a_refusal() {
    let mut fixture = Fixture::new(Planners::default(), json!({})).await;
    let plan = json!({"format": 1, "steps": [{"id": "a", "tool": "t"}]});
    let first = request(json!({"kind": "runbook", "plan": plan}));
    let outcome = fixture.outcome(first.clone()).await;
    assert_eq!(serde_json::to_value(plan_of(&outcome).as_ref()).unwrap(), plan);
    let context = ReplanContext {
        trigger: Arc::new(Trigger::PlanRefused { message: "unknown tool `t`".to_owned() }),
        plan: None,
        outputs: [].into(),
        statuses: [].into(),
        failed_tools: vec![],
        attempts: 0,
        rule_uses: [].into(),
        earlier_replans: 0,
        patched_for: None,
    };
    let again = fixture.outcome(PlanRequest { context: Some(context), ..first }).await;
    assert_eq!(code_and_message(&again).0, "runbook_unchanged");
}

#[tokio::test]
async fn a_kind_that_is_not_built_in_is_answered_with_what_there_is() {
    let mut fixture = Fixture::new(Planners::default(), json!({})).await;
    let outcome = fixture.outcome(request(json!({"kind": "model", "model": "a/b"}))).await;
    assert_eq!(
        code_and_message(&outcome),
        (
            "planner_unavailable",
            "`a/b` cannot be asked: this process has no models; plan with one of `derive`, `runbook`"
        )
    );
    let outcome = fixture.outcome(request(json!({"kind": "custom", "name": "mine"}))).await;
    assert!(code_and_message(&outcome).1.starts_with("no planner is registered as `mine`"));
}

#[tokio::test]
async fn a_planner_that_panics_is_an_outcome_and_the_agent_goes_on() {
    let planners = Planners::default().with(Broken { at_once: true }).with(Broken { at_once: false });
    let mut fixture = Fixture::new(planners, report_tools()).await;
    for (name, word) in [("broken_at_once", "today"), ("broken", "tomorrow")] {
        let outcome = fixture.outcome(request(json!({"kind": "custom", "name": name}))).await;
        let (code, message) = code_and_message(&outcome);
        assert_eq!(code, "planner_panicked");
        assert!(message.contains(name) && message.contains(word), "{message}");
    }
    let outcome = fixture.outcome(request(json!({"kind": "derive", "produce": ["report"]}))).await;
    assert_eq!(plan_of(&outcome).steps.len(), 2);
}

#[tokio::test]
async fn a_message_that_is_no_request_is_dropped_and_the_agent_goes_on() {
    let mut fixture = Fixture::new(Planners::default(), report_tools()).await;
    let odd = Message::Input { run: RUN, input: Input::Wake };
    fixture.bus.publish(Subject::Planner, odd).await.unwrap();
    let outcome = fixture.outcome(request(json!({"kind": "derive", "produce": ["report"]}))).await;
    assert_eq!(plan_of(&outcome).steps.len(), 2);
    assert!(fixture.replies.try_recv().is_err());
}

#[tokio::test]
async fn a_planner_that_stopped_no_longer_serves() {
    let fixture = Fixture::new(Planners::default(), json!({})).await;
    fixture.planner.stop().await;
    fixture.planner.stop().await;
    let message = Message::Plan(Arc::new(request(json!({"kind": "model", "model": "a/b"}))));
    let error = fixture.bus.publish(Subject::Planner, message).await.unwrap_err();
    assert!(matches!(error, Error::Unserved(_)), "{error}");
}
