//! The replanner over the memory bus, with a test in the place of the tracker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{sync::Arc, time::Duration};

use foreplan_bus::{Bus as _, Error, MemoryBus, service::Handle};
use foreplan_core::{
    action::Trigger,
    budget::Usage,
    failure::{Failure, FailureKind},
    goal::RunSpec,
    id::{RunId, StepId},
    input::Input,
    payload::Output,
    plan::{CompiledPlan, Plan},
    policy::ReplanDecision,
    tool::Inventory,
};
use foreplan_protocol::{Message, ReplanContext, ReplanRequest, Reply, Subject};
use foreplan_replanner::{Replanned, Replanner, Replanners, spawn};
use futures::future::{BoxFuture, ready};
use serde_json::{Value, json};
use tokio::sync::mpsc;

const RUN: RunId = RunId(uuid::Uuid::from_u128(7));

/// How long a test waits for an answer before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Fixture {
    bus: Arc<MemoryBus>,
    replies: mpsc::UnboundedReceiver<Message>,
    replanner: Handle,
}

struct Answer {
    basis: u64,
    by: String,
    reason: String,
    decision: ReplanDecision,
    rule: Option<u32>,
    usage: Usage,
}

impl Fixture {
    async fn new(replanners: Replanners) -> Self {
        let bus = Arc::new(MemoryBus::new());
        let (sender, replies) = mpsc::unbounded_channel();
        let tracker = move |message| sender.send(message).map_err(|_| Error::Gone("test".to_owned()));
        bus.serve(Subject::Tracker(RUN), Box::new(tracker));
        let tools = json!({
            "load": tool("load", "path", "rows", 1),
            "draft": tool("draft", "rows", "report", 1),
            "draft_slowly": tool("draft_slowly", "rows", "report", 9),
        });
        let inventory: Arc<Inventory> = Arc::new(serde_json::from_value(tools).unwrap());
        let source = Arc::new(move || Arc::clone(&inventory));
        let replanner = spawn(bus.clone(), replanners, source).await.unwrap();
        Self { bus, replies, replanner }
    }

    async fn answer(&mut self, request: ReplanRequest) -> Answer {
        self.bus.publish(Subject::Replanner, Message::Replan(Arc::new(request))).await.unwrap();
        let message = tokio::time::timeout(PATIENCE, self.replies.recv()).await.unwrap().unwrap();
        let Message::Reply { run: RUN, reply } = message else { panic!("{message:?}") };
        let Reply::Replan { basis, by, reason, decision, rule, usage, .. } = reply else {
            panic!("{reply:?}")
        };
        Answer { basis, by, reason, decision, rule, usage }
    }
}

fn tool(name: &str, needs: &str, makes: &str, cost: u32) -> Value {
    json!({
        "name": name, "description": "", "effect": "read", "capabilities": ["local"], "cost": cost,
        "digest": format!("sha256:{}", "0".repeat(64)),
        "input": {"type": "object", "properties": {needs: {}}, "required": [needs]},
        "output": {"type": "object", "properties": {makes: {}}},
    })
}

/// The plan that derive makes of `load` and `draft`.
fn plan() -> Value {
    json!({"format": 1, "goal": "g", "result": {"$ref": "draft.report"}, "steps": [
        {"id": "load", "tool": "load", "title": "Load", "input": {"path": {"$ref": "params.path"}}},
        {"id": "draft", "tool": "draft", "input": {"rows": {"$ref": "load.rows"}}},
    ]})
}

/// `draft` failed with `out_of_ink`, after `load` was done.
fn request(planner: Value, replan: Value) -> ReplanRequest {
    let spec = json!({
        "project": "p", "goal": "g", "params": {"path": "x"}, "planner": planner, "replan": replan,
    });
    let spec: RunSpec = serde_json::from_value(spec).unwrap();
    let plan: Plan = serde_json::from_value(plan()).unwrap();
    let trigger = Trigger::StepFailed {
        step: "draft".parse().unwrap(),
        failure: Failure::new(FailureKind::Tool, "out_of_ink", "no ink left"),
    };
    let context = ReplanContext {
        trigger: Arc::new(trigger),
        plan: Some(Arc::new(CompiledPlan::compile(Arc::new(plan)).unwrap())),
        outputs: [("load".parse().unwrap(), Output::inline(json!({"rows": []})))].into(),
        statuses: [("load".parse().unwrap(), "succeeded".to_owned())].into(),
        failed_tools: vec![],
        attempts: 3,
        rule_uses: [].into(),
        earlier_replans: 0,
        patched_for: None,
    };
    ReplanRequest { run: RUN, basis: 12, spec: Arc::new(spec), context }
}

fn derived() -> Value {
    json!({"kind": "derive", "produce": ["report"]})
}

fn written() -> Value {
    json!({"kind": "runbook", "plan": plan()})
}

/// Decides the same whatever is asked.
struct Fixed {
    name: &'static str,
    decision: ReplanDecision,
}

impl Replanner for Fixed {
    fn name(&self) -> &str {
        self.name
    }

    fn replan(&self, _: Arc<ReplanRequest>, _: Arc<Inventory>) -> BoxFuture<'_, Replanned> {
        let mut replanned = Replanned::new(self.decision.clone(), "as always");
        replanned.usage.model_calls = 1;
        Box::pin(ready(replanned))
    }
}

struct Broken;

impl Replanner for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn replan(&self, _: Arc<ReplanRequest>, _: Arc<Inventory>) -> BoxFuture<'_, Replanned> {
        panic!("no idea")
    }
}

#[tokio::test]
async fn a_rule_answers_first_and_the_record_says_which() {
    let mut fixture = Fixture::new(Replanners::default()).await;
    let rules = json!({"rules": [
        {"when": "failure.code == 'jam'", "skip": true},
        {"when": "failure.code == 'out_of_ink' && step.attempts == 3 && step.effect == 'read'",
         "insert": {"id": "fix-{step}", "tool": "load"}},
    ]});
    let answer = fixture.answer(request(derived(), rules)).await;
    assert_eq!((answer.basis, answer.by.as_str(), answer.rule), (12, "rules", Some(1)));
    let ReplanDecision::Patch(patch) = answer.decision else { panic!("{:?}", answer.decision) };
    assert_eq!(patch.insert[0].step.id.as_str(), "fix-draft");
    assert!(answer.reason.starts_with("rule 2"), "{}", answer.reason);
}

#[tokio::test]
async fn without_a_rule_the_plan_is_derived_around_what_failed() {
    let mut fixture = Fixture::new(Replanners::default()).await;
    let rules = json!({"rules": [{"when": "failure.code == ", "skip": true}]});
    let answer = fixture.answer(request(derived(), rules)).await;
    assert_eq!((answer.by.as_str(), answer.rule), ("derive", None));
    let ReplanDecision::NewPlan { plan: new } = answer.decision else { panic!("{:?}", answer.decision) };
    let ids: Vec<&str> = new.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["load", "draft_slowly"]);
    // What is done stays as it is defined, so that its result is kept.
    assert_eq!(serde_json::to_value(&new.steps[0]).unwrap(), plan()["steps"][0]);
    assert!(
        answer.reason.contains("around `draft`, by `draft_slowly`")
            && answer.reason.contains("passed over replan.rules[0].when"),
        "{}",
        answer.reason
    );
}

#[tokio::test]
async fn a_plan_that_was_not_derived_is_not_derived_again() {
    let mut fixture = Fixture::new(Replanners::default()).await;
    let answer = fixture.answer(request(written(), json!({}))).await;
    assert_eq!(answer.by, "strategy");
    let ReplanDecision::Fail { reason } = answer.decision else { panic!("{:?}", answer.decision) };
    assert_eq!(
        reason,
        "`draft` failed (out_of_ink: no ink left), and no replanner had an answer (derive: the plan was not \
         derived)"
    );
}

#[tokio::test]
async fn when_nothing_else_makes_it_derive_passes_with_the_reason() {
    let mut fixture = Fixture::new(Replanners::default()).await;
    let mut request = request(derived(), json!({}));
    request.context.failed_tools = vec!["draft_slowly".into()];
    let answer = fixture.answer(request).await;
    assert_eq!(answer.decision.name(), "fail");
    assert!(
        answer.reason.contains("only `draft`, `draft_slowly` could make, and that failed"),
        "{}",
        answer.reason
    );
}

#[tokio::test]
async fn fail_fast_asks_the_rules_and_nobody_else() {
    let mut fixture = Fixture::new(Replanners::default()).await;
    let answer = fixture.answer(request(derived(), json!({"strategy": "fail-fast"}))).await;
    assert_eq!((answer.by.as_str(), answer.decision.name()), ("strategy", "fail"));
    let rules = json!({"strategy": "fail-fast", "rules": [{"when": "true", "retry": true}]});
    let answer = fixture.answer(request(derived(), rules)).await;
    assert_eq!((answer.by.as_str(), answer.decision.name()), ("rules", "retry"));
}

#[tokio::test]
async fn full_replan_asks_the_rules_and_then_the_planner() {
    let mut fixture = Fixture::new(Replanners::default()).await;
    let answer = fixture.answer(request(derived(), json!({"strategy": "full-replan"}))).await;
    assert_eq!((answer.by.as_str(), answer.decision.name()), ("strategy", "full_replan"));
}

#[tokio::test]
async fn a_patch_that_did_not_help_escalates() {
    let mut fixture = Fixture::new(Replanners::default()).await;
    let mut request = request(derived(), json!({"escalate": "full-replan"}));
    assert_eq!(fixture.answer(request.clone()).await.by, "derive");
    let mut inserted = request.clone();
    request.context.earlier_replans = 1;
    let answer = fixture.answer(request).await;
    assert_eq!((answer.by.as_str(), answer.decision.name()), ("strategy", "full_replan"));
    inserted.context.patched_for = Some("load".parse().unwrap());
    let answer = fixture.answer(inserted).await;
    assert_eq!((answer.by.as_str(), answer.decision.name()), ("strategy", "full_replan"));
}

#[tokio::test]
async fn replanners_are_asked_in_order_and_their_use_is_counted() {
    let replanners = Replanners::default()
        .with(Fixed { name: "modest", decision: ReplanDecision::Pass })
        .with(Fixed { name: "bold", decision: ReplanDecision::Finish })
        .with(Broken);
    let mut fixture = Fixture::new(replanners).await;
    let answer = fixture.answer(request(written(), json!({}))).await;
    assert_eq!((answer.by.as_str(), answer.decision.name()), ("bold", "finish"));
    assert_eq!(answer.reason, "as always (before: derive: the plan was not derived; modest: as always)");
    assert_eq!(answer.usage.model_calls, 2);
}

#[tokio::test]
async fn a_replanner_that_panics_passes_and_the_agent_goes_on() {
    let mut fixture = Fixture::new(Replanners::default().with(Broken)).await;
    for _ in 0..2 {
        let answer = fixture.answer(request(written(), json!({}))).await;
        assert_eq!((answer.by.as_str(), answer.decision.name()), ("strategy", "fail"));
        assert!(answer.reason.contains("broken: it panicked (no idea)"), "{}", answer.reason);
    }
}

#[tokio::test]
async fn a_request_about_a_step_that_is_gone_is_answered() {
    let mut fixture = Fixture::new(Replanners::default()).await;
    let mut request = request(written(), json!({"rules": [{"when": "true", "retry": true}]}));
    let gone: StepId = "gone".parse().unwrap();
    let failure = Failure::new(FailureKind::Tool, "x", "y");
    request.context.trigger = Arc::new(Trigger::StepFailed { step: gone, failure });
    let answer = fixture.answer(request).await;
    assert_eq!((answer.basis, answer.decision.name()), (12, "fail"));
    assert!(answer.reason.contains("no step `gone`"), "{}", answer.reason);
}

#[tokio::test]
async fn when_nothing_failed_the_planner_looks_again() {
    let mut fixture = Fixture::new(Replanners::default()).await;
    let mut request = request(derived(), json!({}));
    request.context.trigger = Arc::new(Trigger::GoalRevised);
    assert_eq!(fixture.answer(request).await.decision, ReplanDecision::FullReplan);
}

#[tokio::test]
async fn a_message_that_is_no_request_is_dropped_and_the_agent_goes_on() {
    let mut fixture = Fixture::new(Replanners::default()).await;
    let odd = Message::Input { run: RUN, input: Input::Wake };
    fixture.bus.publish(Subject::Replanner, odd).await.unwrap();
    assert_eq!(fixture.answer(request(derived(), json!({}))).await.by, "derive");
    assert!(fixture.replies.try_recv().is_err());
}

#[tokio::test]
async fn a_replanner_that_stopped_no_longer_serves() {
    let fixture = Fixture::new(Replanners::default()).await;
    fixture.replanner.stop().await;
    let message = Message::Replan(Arc::new(request(derived(), json!({}))));
    let error = fixture.bus.publish(Subject::Replanner, message).await.unwrap_err();
    assert!(matches!(error, Error::Unserved(_)), "{error}");
}
