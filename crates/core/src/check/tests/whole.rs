//! Plans of every shape: checking ends, and does not panic.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{World, steps};
use crate::{check::check, plan::Plan};

fn any_input() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec![
        "a",
        "a.tickets",
        "b.intent_counts",
        "c[0]",
        "params.version",
        "params",
        "item.x",
        "index",
        "load..x",
        "",
        "{{ a.x }}",
        "{{ steps['b'].y }}",
        "{% for x in a %}",
        "{{ item }}",
        "a.tickets[0].id",
    ]);
    let leaf = prop_oneof![text.prop_map(Value::from), any::<i32>().prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop::sample::select(vec![
            "$ref",
            "$template",
            "$literal",
            "$x",
            "default",
            "tickets",
            "top",
            "text",
            "service",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..3)
                .prop_map(|f| Value::Object(f.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

fn any_step() -> impl Strategy<Value = Value> {
    let id = prop::sample::select(vec!["a", "b", "c", "load", "params"]);
    let tool = prop::sample::select(vec![
        "load_tickets",
        "count_intents",
        "draft_report",
        "shout",
        "deploy",
        "nobody",
    ]);
    let cel = prop::sample::select(vec![
        "a.x > 1",
        "output.x",
        "size(steps.b.rows) > 0",
        "item.y == index",
        "a >",
        "params.version == 'x'",
    ]);
    (
        id.clone(),
        tool,
        any_input(),
        prop::option::of(cel.clone()),
        prop::option::of(cel),
        prop::collection::vec(id, 0..2),
        prop::option::of((any_input(), 0..3u32)),
        prop::option::of(any_input()),
        0..6u8,
    )
        .prop_map(|(id, tool, input, when, expect, needs, for_each, output, kind)| {
            let mut step = json!({"id": id, "input": input, "needs": needs});
            match kind {
                0 => step["human"] = json!({"question": "{{ a.x }}?", "answer": {"type": "object"}}),
                1 => step["agent"] = json!({"instructions": "x", "tools": [tool]}),
                2 => step["goal"] = json!({"text": "x"}),
                _ => step["tool"] = json!(tool),
            }
            let for_each = for_each.map(|(list, max)| json!({"in": list, "max": max, "max_parallel": max}));
            for (key, value) in [
                ("when", when.map(Value::from)),
                ("expect", expect.map(Value::from)),
                ("for_each", for_each),
                ("output", output),
            ] {
                if let Some(value) = value {
                    step[key] = value;
                }
            }
            step
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_plan_panics(list in prop::collection::vec(any_step(), 0..6), result in prop::option::of(any_input())) {
        let mut plan = steps(list.into());
        if let Some(result) = result {
            plan["result"] = result;
        }
        let plan: Arc<Plan> = Arc::new(serde_json::from_value(plan).unwrap());
        let world = World::new();
        let checked = check(&plan, &world.context());
        prop_assert!(checked.compiled.is_some() || checked.findings.iter().any(|f| f.is_error()));
        prop_assert!(checked.findings.is_sorted_by_key(|f| f.severity));
        prop_assert_eq!(checked.findings, check(&plan, &world.context()).findings);
    }
}

/// 1 → `width` → 1.
fn fan(width: usize) -> Plan {
    let mut list = vec![json!({"id": "load", "title": "Load", "outcome": "x", "tool": "load_tickets"})];
    let mut texts = Vec::new();
    for at in 0..width {
        list.push(json!({"id": format!("s{at}"), "title": format!("Count part {at}"), "tool": "count_intents", "input": {"tickets": {"$ref": "load.tickets"}, "top": 3}}));
        texts.push(json!({"$ref": format!("s{at}.intent_counts")}));
    }
    list.push(
        json!({"id": "end", "title": "Collect all", "tool": "is_deployed", "input": {"counts": texts}}),
    );
    serde_json::from_value(steps(list.into())).unwrap()
}

#[test]
fn a_wide_plan_has_no_findings() {
    let world = World::new();
    let checked = check(&Arc::new(fan(1_000)), &world.context());
    assert_eq!(checked.findings, []);
    assert_eq!(checked.compiled.unwrap().node(1_001).deps.len(), 1_000);
}
