//! What a person should know of a plan that can run.

use std::collections::HashSet;

use crate::{
    expr,
    finding::Finding,
    id::StepId,
    plan::{CompiledPlan, Step, StepKind},
    tool::{Effect, Inventory},
};

/// Below this many steps, making a plan may cost more than it saves.
const STEPS_MIN: usize = 3;

/// Reports what could be better.
pub(super) fn check(compiled: &CompiledPlan, inventory: &Inventory, findings: &mut Vec<Finding>) {
    let steps = compiled.steps();
    if !steps.is_empty() && steps.len() < STEPS_MIN {
        let message = "a plan of fewer than three steps may not pay; a single call might do";
        findings.push(Finding::advice("few_steps", message));
    }
    unused(compiled, inventory, findings);
    for (at, step) in steps.iter().enumerate() {
        let others_use_it = compiled
            .node(at as u32)
            .dependents
            .iter()
            .any(|dependent| compiled.node(*dependent).refs.binary_search(&(at as u32)).is_ok());
        if matches!(step.kind(), Some(StepKind::Agent(_))) && step.output.is_none() && others_use_it {
            let message = "other steps use what this agent returns; say with `output` what that must be";
            findings.push(Finding::advice("agent_output", message).at(&step.id).field("output"));
        }
    }
    vague(steps, findings);
}

/// A step that only reads, that nobody waits for and nobody asks for, was run for nothing.
fn unused(compiled: &CompiledPlan, inventory: &Inventory, findings: &mut Vec<Finding>) {
    // Without a `result`, what no step uses is the result.
    let Some(result) = &compiled.plan().result else { return };
    let references = expr::value_references(result, "result", &["params"]).unwrap_or_default();
    let mut named: HashSet<String> = references.into_iter().map(|reference| reference.step).collect();
    named.extend(compiled.done_when().into_iter().flat_map(expr::Cel::steps));
    for (at, step) in compiled.steps().iter().enumerate() {
        let reads = step
            .tool
            .as_ref()
            .and_then(|tool| inventory.get(tool.as_str()))
            .is_some_and(|tool| tool.effect == Effect::Read);
        let gate = step.expect.is_some() || step.output.is_some() || step.review;
        let wanted = !compiled.node(at as u32).dependents.is_empty() || named.contains(step.id.as_str());
        if reads && !gate && !wanted {
            let message =
                "nobody uses what this step returns, and it changes nothing; refer to it or drop it";
            findings.push(Finding::advice("unused_output", message).at(&step.id));
        }
    }
}

/// Steps that a person cannot tell apart from their ids are named together.
fn vague(steps: &[Step], findings: &mut Vec<Finding>) {
    const SHOWN: usize = 5;
    let vague: Vec<&StepId> = steps
        .iter()
        .filter(|step| step.outcome.is_none())
        .filter(|step| {
            let title = step.title.trim();
            title.is_empty() || title.eq_ignore_ascii_case(step.id.as_str())
        })
        .map(|step| &step.id)
        .collect();
    if vague.is_empty() {
        return;
    }
    let mut names: Vec<String> = vague.iter().take(SHOWN).map(|id| format!("`{id}`")).collect();
    if vague.len() > SHOWN {
        names.push(format!("{} more", vague.len() - SHOWN));
    }
    let message = format!("{}: no title says what is done; give a `title` or an `outcome`", names.join(", "));
    findings.push(Finding::advice("vague_title", message));
}
