//! What changed from one plan version to the next, step by step and field by field: what people see
//! before they approve a replan. Data only; how it looks is for the command line.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::Value;

use crate::{
    id::StepId,
    plan::{Plan, Step},
};

/// What changed between two plans.
#[derive(Clone, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct PlanDiff {
    /// Steps of the new plan, and those that only the old one had, in reading order.
    pub steps: Vec<StepDiff>,
    /// What changed of the plan besides its steps.
    pub plan: Vec<FieldDiff>,
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct StepDiff {
    /// The step.
    pub id: StepId,
    /// What it does.
    pub title: String,
    /// Its tool, or the kind of step that it is.
    pub what: String,
    /// What became of it.
    pub change: Change,
    /// Which fields changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldDiff>,
    /// Whether it was done under the old plan.
    pub done: bool,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Dropped,
    /// Some of its fields differ.
    Changed,
    /// It is as it was, and done.
    Kept,
    /// It is as it was, and not done yet.
    Unchanged,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct FieldDiff {
    /// The field, as `input.version`.
    pub field: String,
    /// The old value; absent: there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// The new value; absent: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

impl PlanDiff {
    /// Compares two plans; `done` are the steps that the old one had finished.
    #[must_use]
    pub fn between(old: &Plan, new: &Plan, done: &BTreeSet<StepId>) -> Self {
        let (was, is) = (positions(old), positions(new));
        let mut steps: Vec<StepDiff> = Vec::new();
        let mut gone = old.steps.iter().enumerate().filter(|(_, s)| !is.contains_key(&s.id)).peekable();
        for step in &new.steps {
            let Some(&at) = was.get(&step.id) else {
                steps.push(entry(step, Change::Added, Vec::new(), done));
                continue;
            };
            // A dropped step stands where it stood: before the first later step that is still there.
            while let Some((_, dropped)) = gone.next_if(|(dropped, _)| *dropped < at) {
                steps.push(entry(dropped, Change::Dropped, Vec::new(), done));
            }
            let fields = step_fields(&old.steps[at], step);
            let change = match (fields.is_empty(), done.contains(&step.id)) {
                (false, _) => Change::Changed,
                (true, true) => Change::Kept,
                (true, false) => Change::Unchanged,
            };
            steps.push(entry(step, change, fields, done));
        }
        steps.extend(gone.map(|(_, dropped)| entry(dropped, Change::Dropped, Vec::new(), done)));
        Self { steps, plan: plan_fields(old, new) }
    }

    /// Returns how many steps a change happened to.
    #[must_use]
    pub fn count(&self, change: Change) -> usize {
        self.steps.iter().filter(|s| s.change == change).count()
    }
}

fn positions(plan: &Plan) -> HashMap<&StepId, usize> {
    plan.steps.iter().enumerate().map(|(at, step)| (&step.id, at)).collect()
}

fn entry(step: &Step, change: Change, fields: Vec<FieldDiff>, done: &BTreeSet<StepId>) -> StepDiff {
    let what = match &step.tool {
        Some(tool) => tool.to_string(),
        None => kind_of(step).to_owned(),
    };
    let done = done.contains(&step.id);
    StepDiff { id: step.id.clone(), title: step.title.clone(), what, change, fields, done }
}

/// Returns the word for a step that calls no tool.
#[must_use]
pub fn kind_of(step: &Step) -> &'static str {
    if step.human.is_some() {
        "person"
    } else if step.agent.is_some() {
        "agent"
    } else if step.goal.is_some() {
        "goal"
    } else {
        "-"
    }
}

fn step_fields(old: &Step, new: &Step) -> Vec<FieldDiff> {
    let mut fields = Vec::new();
    compare("", Some(&value(old)), Some(&value(new)), &mut fields);
    fields
}

fn plan_fields(old: &Plan, new: &Plan) -> Vec<FieldDiff> {
    let without_steps = |plan: &Plan| {
        let mut value = value(plan);
        if let Some(fields) = value.as_object_mut() {
            fields.remove("steps");
            fields.remove("rationale");
        }
        value
    };
    let mut fields = Vec::new();
    compare("", Some(&without_steps(old)), Some(&without_steps(new)), &mut fields);
    fields
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, into: &mut Vec<FieldDiff>) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (old, new)
        && (path.is_empty() || !is_marker(before) && !is_marker(after))
    {
        let added = after.keys().filter(|key| !before.contains_key(*key));
        for key in before.keys().chain(added) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&path, before.get(key), after.get(key), into);
        }
        return;
    }
    into.push(FieldDiff { field: path.to_owned(), old: old.cloned(), new: new.cloned() });
}

/// A marker reads as one value: `{"$ref": "a.b"}`.
fn is_marker(fields: &serde_json::Map<String, Value>) -> bool {
    fields.keys().any(|key| key.starts_with('$'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(steps: Value) -> Plan {
        serde_json::from_value(json!({"format": 1, "steps": steps})).unwrap()
    }

    #[test]
    fn each_step_is_added_dropped_changed_or_kept() {
        let old = plan(json!([
            {"id": "build", "tool": "build"},
            {"id": "old", "tool": "x"},
            {"id": "smoke", "tool": "smoke", "input": {"v": 1, "from": {"$ref": "build.a"}}},
            {"id": "deploy", "tool": "deploy"},
        ]));
        let new = plan(json!([
            {"id": "build", "tool": "build"},
            {"id": "fix", "tool": "fix"},
            {"id": "smoke", "tool": "smoke", "needs": ["fix"], "input": {"v": 2, "from": {"$ref": "build.a"}}},
            {"id": "deploy", "tool": "deploy"},
        ]));
        let done = BTreeSet::from(["build".parse().unwrap()]);
        let diff = PlanDiff::between(&old, &new, &done);
        let changes: Vec<_> = diff.steps.iter().map(|s| (s.id.as_str(), s.change)).collect();
        assert_eq!(
            changes,
            [
                ("build", Change::Kept),
                ("fix", Change::Added),
                ("old", Change::Dropped),
                ("smoke", Change::Changed),
                ("deploy", Change::Unchanged),
            ]
        );
        let fields: Vec<_> = diff.steps[3].fields.iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["input.v", "needs"]);
        assert_eq!(diff.plan, []);
    }
    #[test]
    fn a_changed_title_and_a_changed_result_are_changes_and_the_rationale_is_not() {
        let mut old = plan(json!([{"id": "a", "tool": "t", "title": "Old"}]));
        let mut new = plan(json!([{"id": "a", "tool": "t", "title": "New"}]));
        old.rationale = Some("because".to_owned());
        new.result = Some(json!({"$ref": "a.x"}));
        let diff = PlanDiff::between(&old, &new, &BTreeSet::from(["a".parse().unwrap()]));
        assert_eq!(diff.count(Change::Changed), 1);
        assert!(diff.steps[0].done);
        assert_eq!(
            diff.plan,
            [FieldDiff { field: "result".to_owned(), old: None, new: Some(json!({"$ref": "a.x"})) }]
        );
    }

    #[test]
    fn steps_that_only_moved_are_unchanged() {
        let old =
            plan(json!([{"id": "a", "tool": "t"}, {"id": "gone", "tool": "t"}, {"id": "b", "tool": "t"}]));
        let new = plan(json!([{"id": "b", "tool": "t"}, {"id": "a", "tool": "t"}]));
        let diff = PlanDiff::between(&old, &new, &BTreeSet::new());
        let changes: Vec<_> = diff.steps.iter().map(|s| (s.id.as_str(), s.change)).collect();
        assert_eq!(changes, [("gone", Change::Dropped), ("b", Change::Unchanged), ("a", Change::Unchanged)]);
    }
}
