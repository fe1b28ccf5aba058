//! Random plans, and random changes of plans.

use std::sync::Arc;

use foreplan_core::{
    budget::Limits,
    input::Proposal,
    plan::{CompiledPlan, Plan},
};
use serde_json::{Value, json};

use crate::{rng::Rng, support};

const STEPS_MAX: usize = 7;
const TOOLS: [&str; 6] = ["read", "read", "put", "send", "pay", "send"];

/// Returns a plan as a document.
pub(crate) fn random(rng: &mut Rng) -> Value {
    let count = 1 + rng.below(STEPS_MAX);
    let steps: Vec<Value> = (0..count).map(|at| step(rng, &format!("s{at}"), at)).collect();
    let mut plan = json!({"format": 1, "steps": steps});
    if rng.chance(20) {
        let check = json!({"text": "it holds", "tool": "read", "expect": "true"});
        plan["assumptions"] = json!(vec![check; 1 + rng.below(2)]);
    }
    plan
}

/// Makes a step that may refer to those before it.
fn step(rng: &mut Rng, id: &str, before: usize) -> Value {
    let mut step = json!({"id": id});
    if rng.chance(10) {
        step["human"] = json!({"question": "what now?"});
    } else {
        step["tool"] = json!(rng.pick(&TOOLS));
    }
    for at in 0..before {
        if !rng.chance(35) {
            continue;
        }
        let name = format!("s{at}");
        match rng.below(3) {
            0 => step["input"][&name] = json!({"$ref": name}),
            1 => step["input"][&name] = json!({"$ref": name, "default": null}),
            _ => {
                let mut needs = step["needs"].as_array().cloned().unwrap_or_default();
                needs.push(json!(name));
                step["needs"] = json!(needs);
            }
        }
    }
    if rng.chance(15) {
        step["input"]["p"] = json!({"$ref": "params.x"});
    }
    if rng.chance(20) {
        let list: Vec<usize> = (0..rng.below(5)).collect();
        step["for_each"] = json!({"in": list, "on_item_failure": rng.pick(&["fail", "skip"])});
        if rng.chance(50) {
            step["for_each"]["max_parallel"] = json!(1 + rng.below(2));
        }
    }
    if rng.chance(10) {
        step["approval"] = json!(true);
    }
    let then = rng.pick(&["replan", "replan", "replan", "skip", "ask", "fail"]);
    step["on_failure"] = json!({"attempts": 1 + rng.below(3), "backoff": "1s", "then": then});
    step
}

/// Returns the plan with some of its steps changed.
pub(crate) fn changed(rng: &mut Rng, plan: &Plan) -> Value {
    if rng.chance(15) {
        return random(rng);
    }
    let mut plan = serde_json::to_value(plan).unwrap();
    let steps = plan["steps"].as_array_mut().unwrap();
    let at = rng.below(steps.len());
    match rng.below(5) {
        0 if !steps.is_empty() => {
            steps.remove(at);
        }
        1 if !steps.is_empty() => steps[at]["input"]["more"] = json!(rng.below(3)),
        2 if !steps.is_empty() => {
            let mut needs = steps[at]["needs"].as_array().cloned().unwrap_or_default();
            needs.push(json!("fix"));
            steps[at]["needs"] = json!(needs);
            steps.push(json!({"id": "fix", "tool": rng.pick(&TOOLS)}));
        }
        3 if !steps.is_empty() => steps[at]["title"] = json!("the same, said better"),
        _ => {}
    }
    plan
}

/// Makes a proposal of a document, invalid if it is no plan.
pub(crate) fn proposal(document: Value, limits: &Limits) -> Proposal {
    let plan: Arc<Plan> = Arc::new(serde_json::from_value(document).unwrap());
    match CompiledPlan::compile(Arc::clone(&plan)) {
        Ok(compiled) => {
            let tools = support::tools();
            let envelope = foreplan_core::envelope::Envelope {
                plan: compiled.digest(),
                params: serde_json::Map::new(),
                tools,
                agents: [].into(),
                limits: limits.clone(),
            };
            Proposal::Valid {
                plan: Arc::new(compiled),
                envelope: Arc::new(envelope.into()),
                findings: Vec::new(),
            }
        }
        Err(findings) => Proposal::Invalid { plan, findings },
    }
}
