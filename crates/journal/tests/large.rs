//! Entries whose values are large, deep or odd.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;

use foreplan_core::{
    goal::PlannerSpec,
    input::{CommandKind, Input, PlanReply, Proposal, ReplanReply},
    payload::{ENTRY_BYTES_MAX, INLINE_BYTES_MAX, PayloadRef},
    plan::Plan,
    policy::ReplanDecision,
    view::Status,
};
use foreplan_journal::{Error, Journal, MemoryPayloads, Payloads, RunStore, chain};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::*;

fn large_plan() -> Arc<Plan> {
    let steps: Vec<_> = (0..2_000)
        .map(|n| json!({"id": format!("step_{n}"), "tool": "t", "title": "x".repeat(400)}))
        .collect();
    Arc::new(serde_json::from_value(json!({"format": 1, "steps": steps})).unwrap())
}

fn causes_with_plans() -> Vec<Input> {
    let plan = large_plan();
    let invalid = || Proposal::Invalid { plan: plan.clone(), findings: vec![] };
    vec![
        Input::Submit {
            spec: Arc::new(spec(PlannerSpec::Runbook { plan: plan.clone() })),
            by: "tester".to_owned(),
            kept: Vec::new(),
        },
        Input::Planned(PlanReply {
            request: 1,
            by: "runbook".to_owned(),
            proposal: invalid(),
            usage: Default::default(),
            calls: Vec::new(),
        }),
        Input::Replanned(ReplanReply {
            basis: 1,
            by: "derive".to_owned(),
            reason: "because".to_owned(),
            decision: ReplanDecision::NewPlan { plan: plan.clone() },
            proposal: Some(invalid()),
            rule: None,
            usage: Default::default(),
            calls: Vec::new(),
        }),
        Input::Command(command(CommandKind::Edit { parent: 1, proposal: invalid() })),
    ]
}

#[tokio::test]
async fn large_plans_are_kept_by_reference() {
    for (name, journal) in stores().all {
        for cause in causes_with_plans() {
            let run = write_run(journal.as_ref(), 1).await;
            let large = entry(1, cause);
            assert!(serde_json::to_vec(&large).unwrap().len() > ENTRY_BYTES_MAX);
            journal.append(run, large.clone(), progress(Status::Planning)).await.unwrap();
            assert_eq!(journal.read(run, 1).await.unwrap(), [large], "{name}");
            let stored = journal.export(run).await.unwrap();
            assert!(stored[1].bytes.len() < 2_000, "{name}: {}", String::from_utf8_lossy(&stored[1].bytes));
            assert_eq!(journal.verify(run).await.unwrap().fault, None, "{name}");
        }
    }
}

#[tokio::test]
async fn a_large_plan_is_one_payload() {
    let (payloads, run) = (MemoryPayloads::default(), run_id());
    let [cause, ..] = &causes_with_plans()[..] else { unreachable!() };
    let (bytes, _) = chain::encode(run, &entry(0, cause.clone()), &payloads).await.unwrap().chain(None);
    let stored: Value = serde_json::from_slice(&bytes).unwrap();
    let reference = PayloadRef::from_value(&stored["cause"]["spec"]["planner"]["plan"]).unwrap();
    let plan = payloads.get(run, reference).await.unwrap();
    assert_eq!(serde_json::from_value::<Plan>(plan.as_ref().clone()).unwrap(), *large_plan());
}

#[tokio::test]
async fn a_large_plan_that_was_edited_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let journal = sqlite(dir.path());
    let run = write_run(&journal, 1).await;
    let cause = causes_with_plans().remove(1);
    journal.append(run, entry(1, cause), progress(Status::Planning)).await.unwrap();
    let folder = dir.path().join("payloads").join(run.to_string());
    for file in std::fs::read_dir(folder).unwrap() {
        std::fs::write(file.unwrap().path(), "{}").unwrap();
    }
    assert!(matches!(journal.read(run, 0).await, Err(Error::Payload { .. })));
}

#[tokio::test]
async fn many_large_values_fit_one_entry() {
    for (name, journal) in stores().all {
        let run = write_run(journal.as_ref(), 1).await;
        let rows: Vec<_> =
            (0..20).map(|n| json!({"n": n, "a/b~c": "x".repeat(INLINE_BYTES_MAX - n)})).collect();
        let large = entry(1, result(json!({"rows": rows})));
        journal.append(run, large.clone(), progress(Status::Running)).await.unwrap();
        assert_eq!(journal.read(run, 1).await.unwrap(), [large], "{name}");
    }
}

#[tokio::test]
async fn a_value_that_looks_like_a_reference_stays_a_value() {
    let reference = PayloadRef { sha256: foreplan_core::digest::Digest::of_bytes(b"x"), bytes: 1 }.to_value();
    for filling in [0, INLINE_BYTES_MAX] {
        for (name, journal) in stores().all {
            let run = write_run(journal.as_ref(), 1).await;
            let odd = entry(
                1,
                result(json!({"odd": reference, "payloads": ["/cause"], "fill": "x".repeat(filling)})),
            );
            journal.append(run, odd.clone(), progress(Status::Running)).await.unwrap();
            assert_eq!(journal.read(run, 1).await.unwrap(), [odd], "{name}");
        }
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

#[tokio::test]
async fn what_a_parser_lets_in_can_be_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let journal = sqlite(dir.path());
    let run = write_run(&journal, 1).await;
    let text = nested(127).to_string();
    let deep = entry(1, result(serde_json::from_str(&text).unwrap()));
    journal.append(run, deep.clone(), progress(Status::Running)).await.unwrap();
    assert_eq!(journal.read(run, 1).await.unwrap(), [deep]);
    let deeper = entry(2, result(nested(300)));
    let refused = journal.append(run, deeper, progress(Status::Running)).await;
    assert!(matches!(refused, Err(Error::TooDeep { .. })));
    assert_eq!(journal.read(run, 0).await.unwrap().len(), 2);
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("x".repeat(INLINE_BYTES_MAX))),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((".{0,6}", inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn causes() -> impl Strategy<Value = Input> {
    prop_oneof![
        values().prop_map(result),
        values().prop_map(|value| {
            let step = "ask".parse().unwrap();
            let kind = CommandKind::Answer { step, value: Arc::new(value), verdicts: Default::default() };
            Input::Command(command(kind))
        }),
        ".{0,40}".prop_map(|by| Input::Takeover { by }),
        Just(Input::Wake),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_appended_is_what_is_read(causes in prop::collection::vec(causes(), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let journal = sqlite(dir.path());
            let run = write_run(&journal, 1).await;
            let entries: Vec<_> =
                causes.into_iter().enumerate().map(|(at, cause)| entry(at as u64 + 1, cause)).collect();
            for one in &entries {
                journal.append(run, one.clone(), progress(Status::Running)).await.unwrap();
            }
            drop(journal);
            let journal = sqlite(dir.path());
            prop_assert_eq!(journal.read(run, 1).await.unwrap(), entries);
            prop_assert_eq!(journal.verify(run).await.unwrap().fault, None);
            Ok(())
        })?;
    }
}
