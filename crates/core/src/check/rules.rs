//! The answers to known failures: whether each can ever be given.

use serde_json::{Map, Value};

use super::{CheckContext, schema::nearest};
use crate::{
    expr::Cel,
    finding::Finding,
    json,
    plan::{Step, StepKind},
    policy::Rule,
};

/// What a rule's `when` sees.
const VARIABLES: [&str; 4] = ["failure", "params", "step", "steps"];

/// A step's id, to try a rule's step with.
const SAMPLE_STEP: &str = "failed-step";

/// Checks the rules of a run: each has one action, a condition that parses, and tools that exist.
#[must_use]
pub fn rules(context: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, rule) in context.rules.iter().enumerate() {
        let place = format!("replan.rules[{at}]");
        condition(rule, &place, &mut findings);
        let actions = actions(rule);
        if actions.len() != 1 {
            let has = if actions.is_empty() { "none".to_owned() } else { actions.join(" and ") };
            let message = format!(
                "a rule has exactly one of retry, skip, insert, replace, full_replan, finish, fail and ask; this \
                 one has {has}"
            );
            findings.push(Finding::error("rule_action", message).field(&place));
        }
        if let Some(insert) = &rule.insert {
            step(insert, true, &format!("{place}.insert"), context, &mut findings);
        }
        if let Some(replace) = &rule.replace {
            step(replace, false, &format!("{place}.replace"), context, &mut findings);
        }
    }
    findings
}

/// Returns the names of the tools that rules put into plans.
pub(super) fn tools(rules: &[Rule]) -> Vec<&str> {
    rules
        .iter()
        .flat_map(|rule| rule.insert.iter().chain(&rule.replace))
        .flat_map(|step| {
            let listed = step.pointer("/agent/tools").and_then(Value::as_array).into_iter().flatten();
            step.get("tool").into_iter().chain(listed)
        })
        .filter_map(Value::as_str)
        .collect()
}

fn condition(rule: &Rule, place: &str, findings: &mut Vec<Finding>) {
    let field = format!("{place}.when");
    match Cel::parse(&rule.when) {
        Err(e) => findings.push(Finding::error("expression", e.to_string()).field(field)),
        Ok(cel) => {
            for path in cel.raw_paths().filter(|path| !VARIABLES.contains(&path.root.as_str())) {
                let message =
                    format!("there is no `{}` here; a rule sees `{}`", path.root, VARIABLES.join("`, `"));
                findings.push(Finding::error("variable", message).field(&field));
            }
        }
    }
}

fn actions(rule: &Rule) -> Vec<&'static str> {
    let Rule { when: _, times: _, retry, skip, insert, replace, full_replan, finish, fail, ask } = rule;
    [
        ("retry", *retry),
        ("skip", *skip),
        ("insert", insert.is_some()),
        ("replace", replace.is_some()),
        ("full_replan", *full_replan),
        ("finish", *finish),
        ("fail", fail.is_some()),
        ("ask", ask.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_set)| is_set.then_some(name))
    .collect()
}

/// Reads the step of a rule as it would be with the id of a failed step filled in.
fn step(value: &Value, whole: bool, place: &str, context: &CheckContext<'_>, findings: &mut Vec<Finding>) {
    let Value::Object(fields) = filled(value) else {
        return findings.push(Finding::error("rule_step", "a step is an object").field(place));
    };
    let mut fields: Map<String, Value> = fields;
    if !whole {
        fields.entry("id").or_insert_with(|| SAMPLE_STEP.into());
    }
    let step: Step = match json::from_value(Value::Object(fields)) {
        Ok(step) => step,
        Err(e) => return findings.push(Finding::error("rule_step", e.to_string()).field(place)),
    };
    match step.kind() {
        Some(StepKind::Tool(name)) if context.inventory.get(name.as_str()).is_none() => {
            let near = nearest(name.as_str(), context.inventory.tools().map(|tool| tool.name.as_str()));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let message = format!("there is no tool `{name}`{hint}");
            findings.push(Finding::error("unknown_tool", message).field(format!("{place}.tool")));
        }
        None if whole => {
            let message = "a step has exactly one of `tool`, `agent`, `human` and `goal`";
            findings.push(Finding::error("step_kind", message).field(place));
        }
        Some(_) | None => {}
    }
    // What stays of the failed step decides what a replacement may name.
    if whole && let Err(errors) = crate::expr::references(&step) {
        for finding in errors {
            let field = format!("{place}.{}", finding.field.as_deref().unwrap_or_default());
            findings.push(finding.field(field));
        }
    }
}

fn filled(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("{step}", SAMPLE_STEP)),
        Value::Array(items) => items.iter().map(filled).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), filled(value))).collect())
        }
        other => other.clone(),
    }
}
