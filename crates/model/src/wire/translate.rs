//! From what a model wrote to a plan of ours. Nothing is judged here but what cannot be written
//! down at all; `check` judges the rest.

use std::{collections::BTreeMap, sync::Arc};

use foreplan_core::{
    finding::Finding,
    id::StepId,
    plan::{Agent, FORMAT, ForEach, Human, ITEMS_MAX_DEFAULT, OnFailure, OnItemFailure, Plan, Step, SubGoal},
    policy::{Insert, Patch},
    tool::{Inventory, ToolDescriptor},
};
use serde_json::{Map, Value, json};

use super::{
    answer::{EachForm, InsertForm, PlanForm, StepForm},
    strict::{resolve, without_absent},
};

/// The forms in which a model writes a value: one of these keys, and nothing else.
const WAYS: [&str; 4] = ["ref", "template", "value", "json"];

/// Returns the plan that a model wrote. Steps of `current` that it keeps come first, as they are.
///
/// # Errors
///
/// Everything that cannot be written down, for the model to read.
pub fn plan(
    form: PlanForm,
    goal: &str,
    current: Option<&Plan>,
    inventory: &Inventory,
) -> Result<Plan, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    for id in &form.keep {
        match current.and_then(|plan| plan.steps.iter().find(|step| step.id.as_str() == id)) {
            Some(step) => steps.push(step.clone()),
            None => findings.push(Finding::error(
                "unknown_step",
                format!("`keep` names `{id}`, which is no step of the plan in force"),
            )),
        }
    }
    for form in form.steps {
        match step(form, inventory) {
            Ok(step) => steps.push(step),
            Err(found) => findings.push(found),
        }
    }
    let result = form.result.filter(|value| !value.is_null()).map(|value| self::value(value, None, "result"));
    let result = result.transpose().map_err(|found| findings.push(found)).unwrap_or_default();
    if !findings.is_empty() {
        return Err(findings);
    }
    Ok(Plan {
        format: FORMAT,
        schema: None,
        goal: goal.to_owned(),
        rationale: form.rationale.filter(|text| !text.trim().is_empty()),
        assumptions: Vec::new(),
        steps,
        done_when: None,
        result,
    })
}

/// Returns the patch that a model wrote.
///
/// # Errors
///
/// Everything that cannot be written down, for the model to read.
pub fn patch(
    insert: Vec<InsertForm>,
    replace: Vec<StepForm>,
    drop: &[String],
    inventory: &Inventory,
) -> Result<Patch, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut patch = Patch::default();
    for InsertForm { step: form, before } in insert {
        match (step(form, inventory), ids(&before)) {
            (Ok(step), Ok(before)) => patch.insert.push(Insert { step, before }),
            (step, before) => findings.extend(step.err().into_iter().chain(before.err())),
        }
    }
    let mut replaced = BTreeMap::new();
    for form in replace {
        match step(form, inventory) {
            Ok(step) => {
                replaced.insert(step.id.clone(), step);
            }
            Err(found) => findings.push(found),
        }
    }
    patch.replace = replaced;
    match ids(drop) {
        Ok(drop) => patch.drop = drop,
        Err(found) => findings.push(found),
    }
    if findings.is_empty() { Ok(patch) } else { Err(findings) }
}

/// Returns the step that a model wrote.
///
/// # Errors
///
/// What cannot be written down.
pub fn step(mut form: StepForm, inventory: &Inventory) -> Result<Step, Finding> {
    let id = id(&form.id)?;
    let work = form.take_work();
    let tool = work.tool.as_deref().and_then(|name| inventory.get(name)).map(Arc::as_ref);
    let at = |finding: Finding| finding.at(&id);
    let mut output = None;
    let agent = match work.agent {
        Some(agent) => {
            output = schema(agent.output, "agent.output").map_err(at)?;
            let tools = agent.tools.into_iter().map(Into::into).collect();
            Some(Agent { instructions: agent.instructions, tools })
        }
        None => None,
    };
    let human = match work.human {
        Some(human) => Some(Human {
            question: human.question,
            answer: schema(human.answer, "human.answer").map_err(at)?,
        }),
        None => None,
    };
    Ok(Step {
        title: form.title.unwrap_or_default(),
        outcome: given(form.outcome),
        needs: ids(&form.needs.unwrap_or_default()).map_err(at)?,
        when: given(form.when),
        for_each: form.for_each.map(each).transpose().map_err(at)?.map(Box::new),
        capability: given(work.capability).map(Into::into),
        tool: given(work.tool).map(Into::into),
        agent: agent.map(Box::new),
        human: human.map(Box::new),
        goal: given(work.goal).map(|text| Box::new(SubGoal { text, produce: Vec::new() })),
        input: input(work.input, tool).map_err(at)?,
        output: output.map(Box::new),
        expect: given(form.expect),
        on_failure: OnFailure::default(),
        timeout: None,
        approval: false,
        review: false,
        budget: None,
        id,
    })
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

fn id(text: &str) -> Result<StepId, Finding> {
    text.parse().map_err(|error: foreplan_core::id::InvalidId| Finding::error("step_id", error.to_string()))
}

fn ids(texts: &[String]) -> Result<Vec<StepId>, Finding> {
    texts.iter().map(|text| id(text)).collect()
}

fn each(form: EachForm) -> Result<ForEach, Finding> {
    Ok(ForEach {
        list: value(form.list, None, "for_each.in")?,
        max: form.max.filter(|max| *max > 0).unwrap_or(ITEMS_MAX_DEFAULT),
        max_parallel: None,
        on_item_failure: OnItemFailure::default(),
    })
}

fn schema(written: Option<Value>, field: &str) -> Result<Option<Value>, Finding> {
    match written {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => parse(&text, field).map(Some),
        Some(schema) => Ok(Some(schema)),
    }
}

fn parse(text: &str, field: &str) -> Result<Value, Finding> {
    foreplan_core::json::parse_value(text)
        .map_err(|error| Finding::error("json", format!("is no JSON: {error}")).field(field))
}

/// Returns an input: written field by field, or as a whole in JSON text.
fn input(written: Option<Value>, tool: Option<&ToolDescriptor>) -> Result<Value, Finding> {
    let fields = match written {
        None | Some(Value::Null) => return Ok(json!({})),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(json!({})),
        Some(Value::String(text)) => return parse(&text, "input"),
        Some(Value::Object(fields)) => fields,
        Some(other) => return Ok(other),
    };
    if let (1, Some(Value::String(text))) = (fields.len(), fields.get("json")) {
        return if text.trim().is_empty() { Ok(json!({})) } else { parse(text, "input") };
    }
    let schema = tool.map(|tool| &tool.input);
    let mut input = Map::new();
    for (name, written) in fields {
        if written.is_null() {
            continue;
        }
        let place = format!("input.{name}");
        let property =
            schema.and_then(|root| Some((root, resolve(root, root).get("properties")?.get(&name)?)));
        input.insert(name, value(written, property, &place)?);
    }
    Ok(Value::Object(input))
}

/// Returns a value that a model wrote in one of its [`WAYS`]; anything else stands as it is.
fn value(written: Value, property: Option<(&Value, &Value)>, place: &str) -> Result<Value, Finding> {
    let Value::Object(fields) = &written else { return Ok(written) };
    let mut entries = fields.iter();
    let (Some((way, inner)), None) = (entries.next(), entries.next()) else { return Ok(written) };
    if !WAYS.contains(&way.as_str()) {
        return Ok(written);
    }
    match (way.as_str(), inner) {
        ("ref", Value::String(path)) => Ok(json!({"$ref": path.trim()})),
        ("template", Value::String(text)) => Ok(json!({"$template": text})),
        ("json", Value::String(text)) => parse(text, place),
        ("value", literal) => {
            let literal = match property {
                Some((root, property)) => {
                    let mut schema = resolve(root, property).clone();
                    if let (Some(definitions), Value::Object(fields)) = (root.get("$defs"), &mut schema) {
                        fields.entry("$defs").or_insert_with(|| definitions.clone());
                    }
                    without_absent(literal.clone(), &schema)
                }
                None => literal.clone(),
            };
            Ok(if has_marker(&literal) { json!({"$literal": literal}) } else { literal })
        }
        _ => Ok(written),
    }
}

fn has_marker(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| key.starts_with('$') || has_marker(value)),
        Value::Array(items) => items.iter().any(has_marker),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        let tool = json!({
            "name": "load", "description": "", "output": {}, "effect": "read", "capabilities": ["local"],
            "digest": foreplan_core::digest::Digest::of_bytes(b""), "cost": 1,
            "input": {"type": "object", "required": ["path"], "properties": {
                "path": {"type": "string"}, "filter": {"type": "object", "properties": {"a": {"type": "integer"}}},
            }},
        });
        Inventory::from_iter([serde_json::from_value(tool).unwrap()])
    }

    fn written(step: Value) -> Result<Step, Finding> {
        super::step(serde_json::from_value(step).unwrap(), &inventory())
    }

    fn input_of(input: Value) -> Value {
        let apart = written(json!({"id": "a", "do": {"tool": "load", "input": input}})).unwrap();
        let flat = written(json!({"id": "a", "tool": "load", "input": input})).unwrap();
        assert_eq!(apart, flat);
        apart.input
    }

    #[test]
    fn values_become_literals_and_markers_and_absent_fields_go() {
        let input = json!({"path": {"ref": "find.path"}, "filter": {"value": {"a": null}}});
        assert_eq!(input_of(input), json!({"path": {"$ref": "find.path"}, "filter": {}}));
        let input = json!({"path": {"template": "{{ params.dir }}/x"}, "filter": null});
        assert_eq!(input_of(input), json!({"path": {"$template": "{{ params.dir }}/x"}}));
        let input = json!({"path": {"value": "x"}, "filter": {"json": "{\"a\": {\"$ref\": \"find.a\"}}"}});
        assert_eq!(input_of(input), json!({"path": "x", "filter": {"a": {"$ref": "find.a"}}}));
    }

    #[test]
    fn a_whole_input_may_be_json_text() {
        assert_eq!(input_of(json!({"json": "{\"path\": \"x\"}"})), json!({"path": "x"}));
        assert_eq!(input_of(json!("{\"path\": \"x\"}")), json!({"path": "x"}));
        assert_eq!(input_of(json!(null)), json!({}));
        let error = written(json!({"id": "a", "tool": "load", "input": {"json": "{path"}})).unwrap_err();
        assert_eq!((error.code.as_str(), error.field.as_deref()), ("json", Some("input")));
    }

    #[test]
    fn an_input_written_as_people_write_it_stands_as_it_is() {
        let input = json!({"path": {"$ref": "find.path"}, "filter": {"a": 1, "b": 2}});
        assert_eq!(input_of(input.clone()), input);
    }

    #[test]
    fn a_literal_that_looks_like_a_marker_is_escaped() {
        let input = json!({"filter": {"value": {"$ref": "x"}}});
        assert_eq!(input_of(input), json!({"filter": {"$literal": {"$ref": "x"}}}));
    }

    #[test]
    fn kept_steps_come_first_as_they_are_and_an_unknown_one_is_a_finding() {
        let current: Plan = serde_json::from_value(json!({"format": 1, "steps": [
            {"id": "old", "tool": "load", "input": {"path": "x"}, "expect": "output.ok"},
        ]}))
        .unwrap();
        let form = |keep: &str| PlanForm {
            keep: vec![keep.to_owned()],
            steps: vec![serde_json::from_value(json!({"id": "new", "tool": "load"})).unwrap()],
            ..PlanForm::default()
        };
        let plan = super::plan(form("old"), "g", Some(&current), &inventory()).unwrap();
        assert_eq!(plan.steps[0], current.steps[0]);
        assert_eq!(plan.steps[1].id.as_str(), "new");
        let findings = super::plan(form("gone"), "g", Some(&current), &inventory()).unwrap_err();
        assert_eq!(findings[0].code, "unknown_step");
    }
}
