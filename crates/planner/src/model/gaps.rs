//! Gaps in a model's plan that need no model: a required input that it left out, and that a param,
//! a step or a tool gives.

use std::collections::BTreeSet;

use foreplan_core::{
    derive::{DeriveRequest, Have, derive, made_by, needed_by},
    expr::{Path, Segment},
    id::ToolName,
    plan::{CompiledPlan, Plan, Step},
    tool::{Effect, Inventory},
};
use serde_json::{Map, Value};

/// Gaps that are closed in one plan: with more of them it is no plan.
const GAPS_MAX: usize = 32;

/// Closes the gaps that typed derivation can close. Nothing irreversible is added, and no tool of
/// `failed`.
pub(super) fn close(
    plan: &mut Plan,
    inventory: &Inventory,
    params: &Map<String, Value>,
    failed: &[ToolName],
) {
    let mut avoid: BTreeSet<ToolName> = failed.iter().cloned().collect();
    let irreversible = inventory.tools().filter(|tool| tool.effect == Effect::Irreversible);
    avoid.extend(irreversible.map(|tool| tool.name.clone()));
    let mut given_up: BTreeSet<(String, String)> = BTreeSet::new();
    for _ in 0..GAPS_MAX {
        let Some((at, need)) = next(plan, inventory, &given_up) else { return };
        if close_one(plan, at, &need, inventory, params, &avoid).is_none() {
            given_up.insert((plan.steps[at].id.to_string(), need));
        }
    }
}

/// Returns the next step that lacks a required input.
fn next(
    plan: &Plan,
    inventory: &Inventory,
    given_up: &BTreeSet<(String, String)>,
) -> Option<(usize, String)> {
    plan.steps.iter().enumerate().find_map(|(at, step)| {
        let tool = inventory.get(step.tool.as_ref()?.as_str())?;
        let input = step.input.as_object()?;
        if input.keys().any(|key| key.starts_with('$')) {
            return None;
        }
        let lacks = |need: &String| {
            !input.contains_key(need) && !given_up.contains(&(step.id.to_string(), need.clone()))
        };
        needed_by(tool).into_iter().find(lacks).map(|need| (at, need))
    })
}

fn close_one(
    plan: &mut Plan,
    at: usize,
    need: &str,
    inventory: &Inventory,
    params: &Map<String, Value>,
    avoid: &BTreeSet<ToolName>,
) -> Option<()> {
    let produce = [need.to_owned()];
    let request = DeriveRequest {
        have: have(plan, at, inventory)?,
        avoid: avoid.clone(),
        ..DeriveRequest::new(inventory, &produce, params)
    };
    let derived = derive(&request).ok()?.plan;
    let added = derived.steps.into_iter().skip(plan.steps.len());
    let value = derived.result?;
    plan.steps[at].input.as_object_mut()?.insert(need.to_owned(), value);
    plan.steps.splice(at..at, added);
    Some(())
}

/// Returns what the steps that do not wait for the one at `at` make of artifacts. A step that may be
/// skipped, or runs over a list, makes none.
fn have(plan: &Plan, at: usize, inventory: &Inventory) -> Option<Have> {
    let compiled = CompiledPlan::compile(plan.clone().into()).ok()?;
    let mut waiting: BTreeSet<u32> = BTreeSet::new();
    let mut open = vec![at as u32];
    while let Some(at) = open.pop() {
        if waiting.insert(at) {
            open.extend(&compiled.node(at).dependents);
        }
    }
    let mut have = Have { steps: plan.steps.clone(), ..Have::default() };
    let is_sure = |step: &Step| step.for_each.is_none() && step.when.is_none();
    for (at, step) in plan.steps.iter().enumerate().filter(|(_, step)| is_sure(step)) {
        let tool = step.tool.as_ref().and_then(|tool| inventory.get(tool.as_str()));
        let (Some(tool), false) = (tool, waiting.contains(&(at as u32))) else { continue };
        for made in made_by(tool) {
            let path = Path { root: step.id.to_string(), segments: vec![Segment::Field(made.field)] };
            have.artifacts.entry(made.artifact).or_insert(path);
        }
    }
    Some(have)
}

#[cfg(test)]
mod tests {
    use foreplan_core::{digest::Digest, tool::ToolDescriptor};
    use serde_json::json;

    use super::*;

    fn tool(name: &str, effect: &str, needs: &[&str], makes: &str) -> ToolDescriptor {
        let properties: Map<String, Value> =
            needs.iter().map(|need| ((*need).to_owned(), json!({}))).collect();
        serde_json::from_value(json!({
            "name": name, "description": "", "effect": effect, "capabilities": ["local"], "cost": 1,
            "digest": Digest::of_bytes(b""), "output": {"type": "object", "properties": {makes: {}}},
            "input": {"type": "object", "properties": properties, "required": needs},
        }))
        .unwrap()
    }

    fn inventory() -> Inventory {
        Inventory::from_iter([
            tool("load", "read", &["path"], "rows"),
            tool("count", "read", &["rows"], "counts"),
            tool("draft", "read", &["rows", "counts"], "report"),
            tool("buy", "irreversible", &[], "stamp"),
            tool("post", "irreversible", &["report", "stamp"], "sent"),
        ])
    }

    fn closed(steps: Value) -> Vec<String> {
        let mut plan: Plan = serde_json::from_value(json!({"format": 1, "steps": steps})).unwrap();
        let params = json!({"path": "x"}).as_object().unwrap().clone();
        close(&mut plan, &inventory(), &params, &[]);
        plan.steps.iter().map(|step| format!("{} {}", step.id, step.input)).collect()
    }

    #[test]
    fn what_a_tool_makes_is_put_in_before_the_step_that_lacks_it() {
        let steps =
            json!([{"id": "rows", "tool": "load", "input": {"path": "y"}}, {"id": "write", "tool": "draft"}]);
        assert_eq!(
            closed(steps),
            [
                r#"rows {"path":"y"}"#,
                r#"count {"rows":{"$ref":"rows.rows"}}"#,
                r#"write {"counts":{"$ref":"count.counts"},"rows":{"$ref":"rows.rows"}}"#,
            ]
        );
    }

    #[test]
    fn a_param_of_the_name_is_taken() {
        let steps = json!([{"id": "load", "tool": "load"}]);
        assert_eq!(closed(steps), [r#"load {"path":{"$ref":"params.path"}}"#]);
    }

    #[test]
    fn nothing_irreversible_is_added_and_what_waits_for_a_step_gives_it_nothing() {
        let steps = json!([{"id": "post", "tool": "post", "input": {"report": "r"}}]);
        assert_eq!(closed(steps), [r#"post {"report":"r"}"#]);
        let steps = json!([
            {"id": "first", "tool": "count"},
            {"id": "then", "tool": "load", "input": {"path": {"$template": "{{ first.counts }}"}}},
        ]);
        assert_eq!(
            closed(steps)[..2],
            [r#"load {"path":{"$ref":"params.path"}}"#, r#"first {"rows":{"$ref":"load.rows"}}"#]
        );
    }
}
