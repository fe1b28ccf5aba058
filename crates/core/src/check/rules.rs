//! The answers to known failures: whether each can ever be given.

use serde_json::{Map, Value, json};

use super::{CheckContext, steps};
use crate::{
    expr::{Cel, Marker, marker},
    finding::Finding,
    json,
    plan::Step,
    policy::{Rule, rules::STEP_PLACEHOLDER},
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

/// Checks the step of a rule as it would be with the id of a failed step filled in. What of a
/// replacement comes from the failed step is not known here.
fn step(value: &Value, whole: bool, place: &str, context: &CheckContext<'_>, findings: &mut Vec<Finding>) {
    let Value::Object(fields) = filled(value) else {
        return findings.push(Finding::error("rule_step", "a step is an object").field(place));
    };
    let mut fields: Map<String, Value> = fields;
    if !whole {
        fields.entry("id").or_insert_with(|| SAMPLE_STEP.into());
    }
    let is_input_known = whole || fields.contains_key("input");
    let mut step: Step = match json::from_value(Value::Object(fields)) {
        Ok(step) => step,
        Err(e) => return findings.push(Finding::error("rule_step", e.to_string()).field(place)),
    };
    let at = |finding: Finding| {
        let field = match &finding.field {
            Some(field) => format!("{place}.{field}"),
            None => place.to_owned(),
        };
        finding.field(field)
    };
    if whole && step.kind().is_none() {
        let message = "a step has exactly one of `tool`, `agent`, `human` and `goal`";
        findings.push(Finding::error("step_kind", message).field(place));
    }
    // What stays of the failed step decides what a replacement may name.
    if whole && let Err(errors) = crate::expr::references(&step) {
        findings.extend(errors.into_iter().map(at));
    }
    step.input = match value.get("input") {
        Some(input) if is_input_known => open(input),
        _ => step.input,
    };
    findings.extend(steps::alone(step, is_input_known, context).into_iter().map(at));
}

/// Returns an input in which every text that depends on the failed step is one that nobody knows.
fn open(input: &Value) -> Value {
    match input {
        Value::String(text) if text.contains(STEP_PLACEHOLDER) => json!({"$template": SAMPLE_STEP}),
        Value::Array(items) => items.iter().map(open).collect(),
        Value::Object(fields) => match marker(fields) {
            Ok(Marker::None) => {
                Value::Object(fields.iter().map(|(key, value)| (key.clone(), open(value))).collect())
            }
            Ok(Marker::Literal(literal)) if filled(literal) != *literal => json!({"$ref": SAMPLE_STEP}),
            _ => filled(input),
        },
        other => other.clone(),
    }
}

fn filled(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace(STEP_PLACEHOLDER, SAMPLE_STEP)),
        Value::Array(items) => items.iter().map(filled).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), filled(value))).collect())
        }
        other => other.clone(),
    }
}
