//! The rules of a run: answers to known failures, written in CEL.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Insert, Patch, ReplanDecision, Rule};
use crate::{
    expr::Cel,
    failure::Failure,
    finding::Finding,
    id::StepId,
    json,
    payload::Output,
    plan::{Plan, Step},
    tool::Effect,
};

/// Stands for the id of the failed step in the strings of a rule.
pub(crate) const STEP_PLACEHOLDER: &str = "{step}";

/// The fields of a step that say how it is done.
const KINDS: [&str; 4] = ["tool", "agent", "human", "goal"];

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Why the step failed.
    pub failure: &'a Failure,
    /// The step, as the plan defines it.
    pub step: &'a Step,
    /// What the step does to the world, if its tool is known.
    pub effect: Option<Effect>,
    /// Attempts of the step over the whole run.
    pub attempts: u32,
    /// The plan in force.
    pub plan: &'a Plan,
    /// Status of every step, as `show` names it.
    pub statuses: &'a BTreeMap<StepId, String>,
    /// Outputs of the steps that are done.
    pub outputs: &'a BTreeMap<StepId, Output>,
    /// The run's params.
    pub params: &'a Map<String, Value>,
    /// How often each rule has answered, by its position.
    pub rule_uses: &'a BTreeMap<u32, u32>,
}

/// What the rules say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// The first rule that matches and can be carried out.
    pub answer: Option<Answer>,
    /// Rules before it that cannot be evaluated or carried out.
    pub findings: Vec<Finding>,
}

/// What one rule says.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its position, from 0.
    pub rule: u32,
    /// Its decision.
    pub decision: ReplanDecision,
    /// Why, for the record.
    pub reason: String,
}

/// Asks the rules in their order. A rule that has answered `times` already, or whose condition
/// cannot be evaluated, is passed over.
#[must_use]
pub fn answer(rules: &[Rule], situation: &Situation<'_>) -> Answered {
    let mut answered = Answered::default();
    if rules.is_empty() {
        return answered;
    }
    let (failure, step, steps, params) = situation.variables();
    let variables = [("failure", &failure), ("step", &step), ("steps", &steps), ("params", &params)];
    for (at, rule) in (0..).zip(rules) {
        let uses = situation.rule_uses.get(&at).copied().unwrap_or(0);
        if rule.times.is_some_and(|times| uses >= times) {
            continue;
        }
        let mut refuse = |code: &str, field: &str, message: String| {
            let place = format!("replan.rules[{at}].{field}");
            answered.findings.push(Finding::error(code, message).field(place));
        };
        match Cel::parse(&rule.when).and_then(|condition| condition.holds(&variables)) {
            Ok(false) => {}
            Err(error) => refuse("expression", "when", error.to_string()),
            Ok(true) => match decision(rule, situation) {
                Ok((decision, what)) => {
                    let reason = format!("rule {} (`{}`) {what}", at + 1, rule.when);
                    answered.answer = Some(Answer { rule: at, decision, reason });
                    return answered;
                }
                Err(Unfit { field, message }) => refuse("rule", field, message),
            },
        }
    }
    answered
}

impl Situation<'_> {
    /// Returns `failure`, `step`, `steps` and `params` as expressions see them.
    fn variables(&self) -> (Value, Value, Value, Value) {
        let failure = json!({
            "kind": self.failure.kind.as_str(), "code": self.failure.code, "message": self.failure.message,
            "retryable": self.failure.is_retryable(), "effect": self.failure.effect,
        });
        let step = json!({
            "id": self.step.id, "title": self.step.label(), "tool": self.step.tool, "input": self.step.input,
            "attempts": self.attempts, "effect": self.effect,
        });
        let steps = self.plan.steps.iter().map(|step| {
            let status = self.statuses.get(&step.id).map_or("pending", String::as_str);
            let output = self.outputs.get(&step.id).map(Output::to_value);
            (step.id.as_str().to_owned(), json!({"status": status, "output": output}))
        });
        (failure, step, Value::Object(steps.collect()), Value::Object(self.params.clone()))
    }
}

/// Why a rule cannot be carried out.
struct Unfit {
    field: &'static str,
    message: String,
}

/// Returns what the rule decides, and that in words.
fn decision(rule: &Rule, situation: &Situation<'_>) -> Result<(ReplanDecision, String), Unfit> {
    let step = &situation.step.id;
    let mut decisions = Vec::new();
    if rule.retry {
        decisions.push((ReplanDecision::Retry, format!("tries `{step}` again")));
    }
    if rule.skip {
        decisions.push((ReplanDecision::Skip, format!("skips `{step}`")));
    }
    if let Some(template) = &rule.insert {
        decisions.push(insert(template, situation)?);
    }
    if let Some(fields) = &rule.replace {
        decisions.push(replace(fields, situation)?);
    }
    if rule.full_replan {
        decisions.push((ReplanDecision::FullReplan, "asks the planner again".to_owned()));
    }
    if rule.finish {
        decisions.push((ReplanDecision::Finish, "ends the run with what is done".to_owned()));
    }
    if let Some(reason) = &rule.fail {
        let reason = with_step(reason, step);
        decisions.push((ReplanDecision::Fail { reason: reason.clone() }, format!("ends the run: {reason}")));
    }
    if let Some(question) = &rule.ask {
        let question = with_step(question, step);
        decisions.push((ReplanDecision::Ask { question: question.clone() }, format!("asks: {question}")));
    }
    match <[_; 1]>::try_from(decisions) {
        Ok([decision]) => Ok(decision),
        Err(several) => Err(Unfit {
            field: "when",
            message: format!(
                "the rule decides {} things; give it exactly one of retry, skip, insert, replace, full_replan, \
                 finish, fail and ask",
                several.len()
            ),
        }),
    }
}

/// Puts the step of a rule before the failed one, under an id that the plan does not have yet.
fn insert(template: &Value, situation: &Situation<'_>) -> Result<(ReplanDecision, String), Unfit> {
    let failed = &situation.step.id;
    let mut step = read_step("insert", fill(template, failed))?;
    let wanted = step.id.clone();
    let is_taken = |id: &StepId| situation.plan.steps.iter().any(|step| step.id == *id);
    for count in 2_u32.. {
        if !is_taken(&step.id) {
            break;
        }
        step.id = format!("{wanted}_{count}").parse().map_err(|e| unfit("insert", &e))?;
    }
    let what = format!("puts `{}` before `{failed}` and tries that again", step.id);
    let insert = vec![Insert { step, before: vec![failed.clone()] }];
    Ok((ReplanDecision::Patch(Patch { insert, ..Patch::default() }), what))
}

/// Puts the fields of a rule in the place of the failed step's own; null takes a field away.
fn replace(fields: &Value, situation: &Situation<'_>) -> Result<(ReplanDecision, String), Unfit> {
    let failed = situation.step;
    let unfit = |message: &str| Unfit { field: "replace", message: message.to_owned() };
    let Value::Object(fields) = fill(fields, &failed.id) else {
        return Err(unfit("not an object; give the fields of the step that change"));
    };
    let Ok(Value::Object(mut definition)) = serde_json::to_value(failed) else {
        return Err(unfit("the step has no form in JSON"));
    };
    if KINDS.iter().any(|kind| fields.contains_key(*kind)) {
        definition.retain(|field, _| !KINDS.contains(&field.as_str()));
    }
    definition.extend(fields);
    definition.retain(|_, value| !value.is_null());
    let step = read_step("replace", Value::Object(definition))?;
    let what = match &step.tool {
        Some(tool) if failed.tool.as_ref() != Some(tool) => format!("does `{}` by `{tool}`", failed.id),
        _ => format!("changes `{}`", failed.id),
    };
    let replace = BTreeMap::from([(failed.id.clone(), step)]);
    Ok((ReplanDecision::Patch(Patch { replace, ..Patch::default() }), what))
}

fn read_step(field: &'static str, value: Value) -> Result<Step, Unfit> {
    json::from_value(value).map_err(|e| unfit(field, &e))
}

fn unfit(field: &'static str, error: &dyn std::error::Error) -> Unfit {
    Unfit { field, message: format!("makes no step: {error}") }
}

fn fill(template: &Value, step: &StepId) -> Value {
    match template {
        Value::String(text) => with_step(text, step).into(),
        Value::Array(items) => items.iter().map(|item| fill(item, step)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), fill(value, step))).collect::<Map<_, _>>().into()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => template.clone(),
    }
}

fn with_step(text: &str, step: &StepId) -> String {
    text.replace(STEP_PLACEHOLDER, step.as_str())
}

#[cfg(test)]
mod tests;
