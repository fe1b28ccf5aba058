//! What a run shows that is not in its journal by itself: the result, and questions with their
//! values in place. Both follow from the plan and the outputs.

use foreplan_core::{
    expr,
    plan::{CompiledPlan, StepKind},
    run::{Found, Run},
};
use foreplan_journal::Payloads;
use serde_json::{Map, Value};

use crate::{judge::bind_later, values::Values};

/// Returns the result of a run: what its plan's `result` binds to, else the only sink's output,
/// else the outputs of all sinks by step id. Payloads are loaded.
///
/// # Errors
///
/// Why the plan's `result` cannot be bound.
pub async fn result(run: &Run, payloads: &dyn Payloads) -> Result<Option<Value>, String> {
    let Some(version) = run.current() else { return Ok(None) };
    let mut values = Values::new(run);
    values.see_all(run);
    let bound = match &version.plan.plan().result {
        Some(template) => bind_later(template, values, run.id(), payloads).await?,
        None => match sinks(run, &version.plan) {
            Some(value) => value,
            None => return Ok(None),
        },
    };
    load(bound, run, payloads).await.map(Some)
}

fn sinks(run: &Run, plan: &CompiledPlan) -> Option<Value> {
    let outputs =
        (0..plan.steps().len() as u32).filter(|at| plan.node(*at).dependents.is_empty()).filter_map(|at| {
            let id = &plan.step(at).id;
            match run.output(id.as_str()) {
                Found::Output(output) => Some((id.to_string(), output.to_value())),
                Found::Skipped | Found::Absent => None,
            }
        });
    let mut outputs: Vec<_> = outputs.collect();
    match outputs.len() {
        0 => None,
        1 => outputs.pop().map(|(_, value)| value),
        _ => Some(Value::Object(Map::from_iter(outputs))),
    }
}

async fn load(value: Value, run: &Run, payloads: &dyn Payloads) -> Result<Value, String> {
    match foreplan_core::payload::PayloadRef::from_value(&value) {
        Some(payload) => {
            payloads.get(run.id(), payload).await.map(|v| v.as_ref().clone()).map_err(|e| e.to_string())
        }
        None => Ok(value),
    }
}

/// Returns the question of a human step with its values in place; the text as written where they
/// are missing.
#[must_use]
pub fn question(run: &Run, step: &str) -> Option<String> {
    let Some(StepKind::Human(human)) = run.definition(step).and_then(foreplan_core::plan::Step::kind) else {
        return None;
    };
    let mut values = Values::new(run);
    values.see_all(run);
    Some(expr::render(&human.question, &values).unwrap_or_else(|_| human.question.clone()))
}
