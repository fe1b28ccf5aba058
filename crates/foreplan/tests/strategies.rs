//! What a run does about a step that fails for good: the strategies, and how one leads to the next.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use foreplan::{Outcome, System};
use foreplan_core::{
    failure::{Failure, FailureKind},
    plan::{Plan, Step},
    policy::{Insert, Patch, ReplanDecision, ReplanPolicy},
    tool::{Effect, Inventory},
    view::{Status, WaitKind},
};
use foreplan_planner::{Planned, Planner};
use foreplan_protocol::{PlanOutcome, PlanRequest, ReplanRequest};
use foreplan_replanner::{Replanned, Replanner};
use foreplan_tools::Tool;
use futures::future::{BoxFuture, ready};
use serde_json::{Value, json};

/// Answers its requests with these tools, one after another, and then with the last; `?` asks.
struct Plans {
    tools: &'static [&'static str],
    asked: Arc<AtomicU32>,
}

impl Planner for Plans {
    fn name(&self) -> &str {
        "plans"
    }

    fn plan(&self, _: Arc<PlanRequest>, _: Arc<Inventory>) -> BoxFuture<'_, Planned> {
        let at = self.asked.fetch_add(1, Ordering::Relaxed) as usize;
        let planned = match self.tools[at.min(self.tools.len() - 1)] {
            "?" => Planned {
                outcome: PlanOutcome::Question { question: "what now?".to_owned() },
                ..Planned::none("", "")
            },
            tool => Planned::plan(plan(json!([{"id": "work", "tool": tool, "input": {"plan": at}}]))),
        };
        Box::pin(ready(planned))
    }
}

fn plan(steps: Value) -> Arc<Plan> {
    Arc::new(serde_json::from_value(json!({"format": 1, "steps": steps})).unwrap())
}

/// Puts a step before the one that failed.
struct Inserts {
    tool: &'static str,
}

impl Replanner for Inserts {
    fn name(&self) -> &str {
        "inserts"
    }

    fn replan(&self, request: Arc<ReplanRequest>, _: Arc<Inventory>) -> BoxFuture<'_, Replanned> {
        let failed = request.context.trigger.step().unwrap().clone();
        let id = format!("fix{}", request.basis);
        let step: Step = serde_json::from_value(json!({"id": id, "tool": self.tool})).unwrap();
        let insert = vec![Insert { step, before: vec![failed] }];
        let decision = ReplanDecision::Patch(Patch { insert, ..Patch::default() });
        Box::pin(ready(Replanned::new(decision, "as always")))
    }
}

fn tools() -> [Tool; 2] {
    let bad = Tool::function("bad", "Fails", Effect::Read, |_: Value| async {
        Err::<Value, _>(Failure::new(FailureKind::Tool, "broken", "it is broken").retryable(false))
    });
    let good =
        Tool::function("good", "Works", Effect::Read, |_: Value| async { Ok::<_, Failure>(json!({})) });
    [bad, good]
}

/// What came of a run: its end, what was decided, and how often the planner was asked.
struct Came {
    outcome: Outcome,
    decisions: Vec<String>,
    planned: u32,
}

impl Came {
    fn assert(&self, status: Status, decisions: &[&str], planned: u32) {
        let reason = &self.outcome.reason;
        assert_eq!((self.outcome.status, self.planned), (status, planned), "{reason:?}");
        assert_eq!(self.decisions, decisions, "{reason:?}");
    }

    fn reason(&self) -> &str {
        self.outcome.reason.as_deref().unwrap_or_default()
    }
}

/// Runs a goal whose plans call `tools`, and whose patches insert a step that calls `fix`.
async fn run(policy: Value, tools: &'static [&'static str], fix: &'static str) -> Came {
    let policy: ReplanPolicy = serde_json::from_value(policy).unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let system = System::builder()
        .tools(self::tools())
        .custom_planner(Plans { tools, asked: asked.clone() })
        .custom_replanner(Inserts { tool: fix })
        .policy(policy)
        .build()
        .await
        .unwrap();
    let outcome = system.run("Work").await.unwrap();
    system.shutdown().await;
    let decisions = outcome.replans.iter().map(|replan| replan.decision.clone()).collect();
    Came { outcome, decisions, planned: asked.load(Ordering::Relaxed) }
}

#[tokio::test]
async fn fail_fast_ends_the_run_at_the_first_failure() {
    let came = run(json!({"strategy": "fail-fast"}), &["bad", "good"], "good").await;
    came.assert(Status::Failed, &[], 1);
}

#[tokio::test]
async fn patches_that_do_not_help_are_bounded() {
    let came = run(json!({"strategy": "local-patch"}), &["bad"], "good").await;
    came.assert(Status::Failed, &["patch", "patch"], 1);
    assert!(came.reason().contains("2 replans did not help"), "{}", came.reason());
}

#[tokio::test]
async fn full_replans_that_do_not_help_are_bounded() {
    let came = run(json!({"strategy": "full-replan"}), &["bad"], "good").await;
    came.assert(Status::Failed, &["full_replan", "full_replan"], 3);
    assert!(came.reason().contains("2 replans did not help"), "{}", came.reason());
}

#[tokio::test]
async fn a_full_replan_that_helps_ends_well() {
    let came = run(json!({"strategy": "full-replan"}), &["bad", "good"], "good").await;
    came.assert(Status::Succeeded, &["full_replan"], 2);
}

#[tokio::test]
async fn a_patch_that_did_not_help_leads_to_a_full_replan() {
    let policy = json!({"strategy": "local-patch", "escalate": "full-replan"});
    let came = run(policy, &["bad", "good"], "good").await;
    came.assert(Status::Succeeded, &["patch", "full_replan"], 2);
    let reason = &came.outcome.replans[1].reason;
    assert_eq!(reason, "`work` failed again after a patch: escalated to a full replan");
}

#[tokio::test]
async fn a_patch_whose_own_step_fails_leads_to_a_full_replan() {
    let policy = json!({"strategy": "local-patch", "escalate": "full-replan"});
    let came = run(policy, &["bad", "good"], "bad").await;
    came.assert(Status::Succeeded, &["patch", "full_replan"], 2);
    let reason = &came.outcome.replans[1].reason;
    assert!(reason.contains("which a patch for `work` brought, failed"), "{reason}");
}

#[tokio::test]
async fn escalation_is_bounded_and_ends_in_failure() {
    let policy = json!({"strategy": "local-patch", "escalate": "full-replan"});
    let came = run(policy, &["bad"], "good").await;
    came.assert(Status::Failed, &["patch", "full_replan"], 2);
    let policy = json!({"strategy": "local-patch", "escalate": "full-replan", "max": 4});
    let came = run(policy, &["bad"], "good").await;
    came.assert(Status::Failed, &["patch", "full_replan", "full_replan", "full_replan"], 4);
    assert!(came.reason().contains("4 replans did not help"), "{}", came.reason());
}

#[tokio::test]
async fn escalation_can_end_at_a_person() {
    let policy = json!({"strategy": "local-patch", "escalate": "full-replan"});
    let came = run(policy, &["bad", "?"], "good").await;
    came.assert(Status::Waiting, &["patch"], 2);
    let waiting = came.outcome.waiting_for.as_ref().unwrap();
    assert_eq!((waiting.kind, waiting.question.as_deref()), (WaitKind::Question, Some("what now?")));
}

#[tokio::test]
async fn escalation_can_be_to_give_up() {
    let policy = json!({"strategy": "local-patch", "escalate": "fail-fast"});
    let came = run(policy, &["bad", "good"], "good").await;
    came.assert(Status::Failed, &["patch"], 1);
    assert!(came.reason().contains("`work` failed again after a patch"), "{}", came.reason());
}
