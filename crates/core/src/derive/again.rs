//! Deriving again: from what the steps of the plan in force have made, around what failed.

use std::collections::{BTreeMap, BTreeSet};

use super::{DeriveRequest, Derived, Error, Have, derive, made_by};
use crate::{
    expr::{Path, Segment},
    id::{StepId, ToolName},
    payload::Output,
    plan::CompiledPlan,
    tool::Inventory,
};

/// A plan in force, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The plan.
    pub plan: &'a CompiledPlan,
    /// Outputs of the steps that are done.
    pub outputs: &'a BTreeMap<StepId, Output>,
    /// Tools that failed for good.
    pub failed_tools: &'a [ToolName],
    /// The step that failed, if that is why; its tool is not used again.
    pub failed_step: Option<&'a StepId>,
}

/// Derives a plan that keeps the steps that are done as they are, and avoids the tools that failed.
///
/// # Errors
///
/// See [`Error`].
pub fn derive_again(request: &DeriveRequest<'_>, progress: &Progress<'_>) -> Result<Derived, Error> {
    let mut request = request.clone();
    request.have = Have::of(request.inventory, progress.plan, progress.outputs);
    request.avoid.extend(progress.failed_tools.iter().cloned());
    if let Some(step) = progress.failed_step {
        let id = step.as_item().map_or(step.as_str(), |(each, _)| each);
        let at = progress.plan.position(id);
        request.avoid.extend(at.and_then(|at| progress.plan.step(at).tool.clone()));
    }
    derive(&request)
}

impl Have {
    /// Returns what the steps of `plan` that have an output made of artifacts, and all these steps,
    /// with those that they refer to. A field that is not in an output is no artifact; nor is one
    /// of a `for_each`, whose output is a list.
    #[must_use]
    pub fn of(inventory: &Inventory, plan: &CompiledPlan, outputs: &BTreeMap<StepId, Output>) -> Self {
        let mut have = Self::default();
        let mut kept: BTreeSet<u32> = BTreeSet::new();
        let mut open = Vec::new();
        for at in plan.topological() {
            let step = plan.step(at);
            let Some(output) = outputs.get(&step.id) else { continue };
            open.push(at);
            let tool = step.tool.as_ref().and_then(|tool| inventory.get(tool.as_str()));
            let Some(tool) = tool.filter(|_| step.for_each.is_none()) else { continue };
            for made in made_by(tool).into_iter().filter(|made| holds(output, &made.field)) {
                let segments = vec![Segment::Field(made.field)];
                let path = Path { root: step.id.as_str().to_owned(), segments };
                have.artifacts.entry(made.artifact).or_insert(path);
            }
        }
        while let Some(at) = open.pop() {
            if kept.insert(at) {
                open.extend(&plan.node(at).deps);
            }
        }
        have.steps = kept.into_iter().map(|at| plan.step(at).clone()).collect();
        have
    }
}

fn holds(output: &Output, field: &str) -> bool {
    match output {
        Output::Inline(value) => value.get(field).is_some(),
        // Its schema passed; which optional fields it has shows when it is bound.
        Output::Payload(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{digest::Digest, tool::ToolDescriptor};

    #[test]
    fn the_tool_of_the_failed_step_and_those_that_failed_before_are_avoided() {
        let maker = |name: &str, cost: u32| -> ToolDescriptor {
            serde_json::from_value(json!({
                "name": name, "description": "", "input": {"type": "object"},
                "output": {"type": "object", "properties": {"x": {}}}, "effect": "read",
                "capabilities": ["local"], "digest": Digest::of_bytes(b""), "cost": cost,
            }))
            .unwrap()
        };
        let inventory = Inventory::from_iter([maker("a", 1), maker("b", 2), maker("c", 3)]);
        let (produce, params) = (vec!["x".to_owned()], serde_json::Map::new());
        let request = DeriveRequest::new(&inventory, &produce, &params);
        let plan = serde_json::from_value(json!({"format": 1, "steps": [
            {"id": "make", "tool": "b", "for_each": {"in": [1, 2]}},
        ]}))
        .unwrap();
        let plan = CompiledPlan::compile(Arc::new(plan)).unwrap();
        let item = "make~1".parse().unwrap();
        let progress = Progress {
            plan: &plan,
            outputs: &BTreeMap::new(),
            failed_tools: &["a".into()],
            failed_step: Some(&item),
        };
        let derived = derive_again(&request, &progress).unwrap();
        assert_eq!(derived.plan.steps[0].tool.as_ref().unwrap().as_str(), "c");
    }

    #[test]
    fn done_steps_give_their_artifacts_and_keep_what_they_wait_for() {
        let tool: ToolDescriptor = serde_json::from_value(json!({
            "name": "load", "description": "", "input": {"type": "object"},
            "output": {"type": "object", "properties": {"text": {}, "rows": {}, "rest": {}}},
            "effect": "read", "capabilities": ["local"], "digest": Digest::of_bytes(b""), "cost": 1,
            "artifacts": {"text": "report"},
        }))
        .unwrap();
        let plan = serde_json::from_value(json!({"format": 1, "steps": [
            {"id": "last", "tool": "load", "needs": ["first"]},
            {"id": "first", "tool": "load"},
            {"id": "open", "tool": "load"},
            {"id": "each", "tool": "load", "for_each": {"in": [1]}},
        ]}))
        .unwrap();
        let plan = CompiledPlan::compile(Arc::new(plan)).unwrap();
        let outputs = BTreeMap::from([
            ("last".parse().unwrap(), Output::inline(json!({"text": "x", "rows": []}))),
            ("each".parse().unwrap(), Output::inline(json!([{"rest": 1}]))),
        ]);
        let have = Have::of(&Inventory::from_iter([tool]), &plan, &outputs);
        let artifacts: Vec<String> =
            have.artifacts.iter().map(|(name, path)| format!("{name} {path}")).collect();
        assert_eq!(artifacts, ["report last.text", "rows last.rows"]);
        let steps: Vec<&str> = have.steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(steps, ["last", "first", "each"]);
    }
}
