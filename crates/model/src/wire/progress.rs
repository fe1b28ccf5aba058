//! A plan that is under way, as a model sees it: each step as it is written, where it stands, and
//! the beginning of what it returned.

use std::collections::BTreeMap;

use foreplan_core::{
    id::StepId,
    payload::Output,
    plan::{CompiledPlan, StepKind},
    tool::{Effect, Inventory},
};

/// How much of one result is shown, in characters.
const RESULT_CHARS_MAX: usize = 600;

/// How much of all results together is shown, in characters.
const RESULTS_CHARS_MAX: usize = 12_000;

/// Returns a line for each step of a plan.
#[must_use]
pub fn progress(
    plan: &CompiledPlan,
    statuses: &BTreeMap<StepId, String>,
    outputs: &BTreeMap<StepId, Output>,
) -> Vec<String> {
    let mut left = RESULTS_CHARS_MAX;
    let line = |step: &foreplan_core::plan::Step| {
        let status = statuses.get(&step.id).map_or("pending", String::as_str);
        let written = serde_json::to_string(step).unwrap_or_default();
        let result = match outputs.get(&step.id) {
            Some(output) => format!(" -> {}", shortened(output, &mut left)),
            None => String::new(),
        };
        format!("{status}: {written}{result}")
    };
    plan.steps().iter().map(line).collect()
}

/// Returns the beginning of an output, counted against what may still be shown.
fn shortened(output: &Output, left: &mut usize) -> String {
    let text = match output {
        Output::Inline(value) => value.to_string(),
        Output::Payload(payload) => return format!("({} bytes)", payload.bytes),
    };
    let most = RESULT_CHARS_MAX.min(*left);
    let shown = match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    };
    *left = left.saturating_sub(shown.chars().count());
    shown
}

/// Returns the steps that another plan cannot do without, as they are: those whose irreversible
/// call was made or may be under way.
#[must_use]
pub fn irrevocable(
    plan: &CompiledPlan,
    statuses: &BTreeMap<StepId, String>,
    inventory: &Inventory,
) -> Vec<StepId> {
    let is_irreversible =
        |tool: &str| inventory.get(tool).is_none_or(|tool| tool.effect == Effect::Irreversible);
    let may_have_acted = |status: &str| matches!(status, "succeeded" | "running" | "waiting");
    let steps = plan.steps().iter().filter(|step| {
        let acts = match step.kind() {
            Some(StepKind::Tool(tool)) => is_irreversible(tool.as_str()),
            Some(StepKind::Agent(agent)) => agent.tools.iter().any(|tool| is_irreversible(tool.as_str())),
            Some(StepKind::Goal(_)) => true,
            Some(StepKind::Human(_)) | None => false,
        };
        acts && statuses.get(&step.id).is_some_and(|status| may_have_acted(status))
    });
    steps.map(|step| step.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn each_step_stands_with_its_status_and_the_beginning_of_its_result() {
        let plan = serde_json::from_value(json!({"format": 1, "steps": [
            {"id": "a", "tool": "t"}, {"id": "b", "tool": "t", "needs": ["a"]},
        ]}))
        .unwrap();
        let plan = CompiledPlan::compile(Arc::new(plan)).unwrap();
        let statuses = BTreeMap::from([("a".parse().unwrap(), "succeeded".to_owned())]);
        let long = "x".repeat(5_000);
        let outputs = BTreeMap::from([("a".parse().unwrap(), Output::inline(json!({"text": long})))]);
        let lines = progress(&plan, &statuses, &outputs);
        assert!(lines[0].starts_with(r#"succeeded: {"id":"a","tool":"t"} -> {"text":"xxx"#), "{}", lines[0]);
        assert!(lines[0].ends_with("… (5011 bytes)") && lines[0].len() < 700);
        assert_eq!(lines[1], r#"pending: {"id":"b","needs":["a"],"tool":"t"}"#);
    }
}
