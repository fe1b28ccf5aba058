//! Changes around a point of failure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    id::StepId,
    plan::{Plan, Step},
};

/// A change to a plan, applied to the version that the request named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Patch {
    /// Steps to add, each before the steps that are to wait for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub insert: Vec<Insert>,
    /// Steps to put in the place of those named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub replace: BTreeMap<StepId, Step>,
    /// Steps to take out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<StepId>,
}

/// A step to add to a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Insert {
    /// The new step.
    pub step: Step,
    /// The steps that wait for it.
    pub before: Vec<StepId>,
}

/// A patch that cannot be applied to the plan it was made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It names a step that the plan does not have.
    #[error("the patch names `{0}`, which is no step of the plan")]
    UnknownStep(StepId),
    /// It adds a step under an id that the plan has.
    #[error("the patch adds `{0}`, which the plan has already")]
    DuplicateStep(StepId),
}

impl Patch {
    /// Returns the plan that results from applying this patch to `plan`. Steps that needed a
    /// dropped one no longer do.
    ///
    /// # Errors
    ///
    /// If the patch and the plan do not fit; whether the result is a good plan is for `check`.
    pub fn apply(&self, plan: &Plan) -> Result<Plan, PatchError> {
        let mut plan = plan.clone();
        let position = |plan: &Plan, id: &StepId| {
            plan.steps.iter().position(|s| s.id == *id).ok_or_else(|| PatchError::UnknownStep(id.clone()))
        };
        for (id, step) in &self.replace {
            let at = position(&plan, id)?;
            plan.steps[at] = step.clone();
            rename_needs(&mut plan, id, &step.id);
        }
        for id in &self.drop {
            let at = position(&plan, id)?;
            plan.steps.remove(at);
            for step in &mut plan.steps {
                step.needs.retain(|n| n != id);
            }
        }
        for Insert { step, before } in &self.insert {
            if plan.steps.iter().any(|s| s.id == step.id) {
                return Err(PatchError::DuplicateStep(step.id.clone()));
            }
            let mut first = plan.steps.len();
            for id in before {
                let at = position(&plan, id)?;
                plan.steps[at].needs.push(step.id.clone());
                first = first.min(at);
            }
            plan.steps.insert(first, step.clone());
        }
        Ok(plan)
    }
}

fn rename_needs(plan: &mut Plan, from: &StepId, to: &StepId) {
    if from == to {
        return;
    }
    for need in plan.steps.iter_mut().flat_map(|s| &mut s.needs).filter(|n| *n == from) {
        *need = to.clone();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn step(value: Value) -> Step {
        serde_json::from_value(value).unwrap()
    }

    /// `build` ← `smoke` ← `deploy`.
    fn plan() -> Plan {
        serde_json::from_value(json!({"format": 1, "steps": [
            {"id": "build", "tool": "build"},
            {"id": "smoke", "tool": "smoke", "needs": ["build"]},
            {"id": "deploy", "tool": "deploy", "needs": ["smoke"]},
        ]}))
        .unwrap()
    }

    fn shape(plan: &Plan) -> Vec<String> {
        let needs = |step: &Step| step.needs.iter().map(|n| format!(" {n}")).collect::<String>();
        plan.steps.iter().map(|step| format!("{}:{}", step.id, needs(step))).collect()
    }

    fn id(text: &str) -> StepId {
        text.parse().unwrap()
    }

    #[test]
    fn an_inserted_step_stands_before_those_that_wait_for_it() {
        let insert = Insert {
            step: step(json!({"id": "fix", "tool": "fix"})),
            before: vec![id("deploy"), id("smoke")],
        };
        let patched = Patch { insert: vec![insert], ..Patch::default() }.apply(&plan()).unwrap();
        assert_eq!(shape(&patched), ["build:", "fix:", "smoke: build fix", "deploy: smoke fix"]);
    }

    #[test]
    fn a_step_that_nobody_waits_for_comes_last() {
        let insert = Insert { step: step(json!({"id": "note", "tool": "note"})), before: vec![] };
        let patched = Patch { insert: vec![insert], ..Patch::default() }.apply(&plan()).unwrap();
        assert_eq!(shape(&patched), ["build:", "smoke: build", "deploy: smoke", "note:"]);
    }

    #[test]
    fn a_replaced_step_keeps_its_place_and_its_dependents_follow_its_new_name() {
        let quick = step(json!({"id": "quick", "tool": "smoke", "needs": ["build"]}));
        let replace = BTreeMap::from([(id("smoke"), quick)]);
        let patched = Patch { replace, ..Patch::default() }.apply(&plan()).unwrap();
        assert_eq!(shape(&patched), ["build:", "quick: build", "deploy: quick"]);
    }

    #[test]
    fn nobody_needs_a_dropped_step() {
        let patched = Patch { drop: vec![id("smoke")], ..Patch::default() }.apply(&plan()).unwrap();
        assert_eq!(shape(&patched), ["build:", "deploy:"]);
    }

    #[test]
    fn a_patch_that_does_not_fit_its_plan_is_refused() {
        let gone = || vec![id("gone")];
        let insert = |name: &str, before| Insert { step: step(json!({"id": name, "tool": "t"})), before };
        let apply = |patch: Patch| patch.apply(&plan()).unwrap_err();
        assert_eq!(apply(Patch { drop: gone(), ..Patch::default() }), PatchError::UnknownStep(id("gone")));
        assert_eq!(
            apply(Patch { insert: vec![insert("new", gone())], ..Patch::default() }),
            PatchError::UnknownStep(id("gone"))
        );
        assert_eq!(
            apply(Patch { insert: vec![insert("build", vec![])], ..Patch::default() }),
            PatchError::DuplicateStep(id("build"))
        );
        let replace = BTreeMap::from([(id("gone"), step(json!({"id": "gone", "tool": "t"})))]);
        assert_eq!(apply(Patch { replace, ..Patch::default() }), PatchError::UnknownStep(id("gone")));
    }
}
