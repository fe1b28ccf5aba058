//! The schemas of the answers that planning models give.

use foreplan_core::check::{EXECUTABLE, Kind};
use serde_json::{Map, Value, json};

use super::{
    menu::{Inputs, Menu, any_value, any_value_or_null, value_definitions},
    strict::{object, or_null},
};
use crate::OutputSchema;

/// What a planner may answer; with `again`, steps of the plan in force can be kept by their ids.
#[must_use]
pub fn plan_form(menu: &Menu, again: bool) -> OutputSchema {
    let answers = vec![
        kind("plan", plan_fields(again)),
        kind(
            "impossible",
            vec![field("reason", described("string", "what is missing, and what would help"))],
        ),
        kind("question", vec![field("question", described("string", "what a person must say first"))]),
    ];
    form("plan", "answer", answers, menu)
}

/// What a replanner may answer about a step that failed.
#[must_use]
pub fn replan_form(menu: &Menu) -> OutputSchema {
    let insert = object([field("step", step()), field("before", texts())]);
    let reasons = |fields: Vec<(String, Value)>| [vec![field("reason", text())], fields].concat();
    let answers = vec![
        kind("retry", reasons(vec![field("step", or_null(step()))])),
        kind("skip", reasons(vec![])),
        kind(
            "patch",
            reasons(vec![
                field("insert", list(insert)),
                field("replace", list(step())),
                field("drop", texts()),
            ]),
        ),
        kind("new_plan", [vec![field("reason", text())], plan_fields(true)].concat()),
        kind("fail", reasons(vec![])),
        kind("ask", reasons(vec![field("question", text())])),
    ];
    form("decision", "decision", answers, menu)
}

fn form(name: &str, root: &str, answers: Vec<Value>, menu: &Menu) -> OutputSchema {
    let mut schema = object([field(root, json!({"anyOf": answers}))]);
    let Inputs { of_tools, scalars } = menu.inputs();
    let mut definitions: Map<String, Value> = value_definitions(&scalars).into_iter().collect();
    definitions.insert("step".to_owned(), any_step(&work(menu, of_tools)));
    schema["$defs"] = Value::Object(definitions);
    OutputSchema { name: name.to_owned(), schema }
}

fn plan_fields(again: bool) -> Vec<(String, Value)> {
    let mut fields = vec![field("rationale", described("string", "one sentence"))];
    if again {
        fields.push(field("keep", texts()));
    }
    fields.push(field("steps", list(step())));
    fields.push(field("result", any_value_or_null()));
    fields
}

/// Returns the schema of a step: what all steps have, said once, and what it does.
fn any_step(work: &[Value]) -> Value {
    let each = object([field("in", any_value()), field("max", json!({"type": "integer"}))]);
    object([
        field("id", text()),
        field("title", text()),
        field("do", json!({"anyOf": work})),
        field("needs", texts()),
        field("when", or_null(described("string", "CEL over steps and params"))),
        field("for_each", or_null(each)),
        field("expect", or_null(described("string", "CEL over output, input and params"))),
    ])
}

/// Returns one variant for each tool, and one for each other kind of step that can be executed. Goals
/// are not offered: each would cost planning calls of its own, and one call is to plan all.
fn work(menu: &Menu, inputs: Vec<(&str, Value)>) -> Vec<Value> {
    let tool = |(name, input)| object([field("tool", json!({"enum": [name]})), field("input", input)]);
    let mut work: Vec<Value> = inputs.into_iter().map(tool).collect();
    if EXECUTABLE.contains(&Kind::Agent) {
        work.push(object(agent(menu)));
    }
    if EXECUTABLE.contains(&Kind::Human) {
        let human = object([field("question", text()), field("answer", or_null(schema_text()))]);
        work.push(object([field("human", human)]));
    }
    work
}

fn agent(menu: &Menu) -> Vec<(String, Value)> {
    let names = menu.names();
    let tools = if names.is_empty() { texts() } else { list(json!({"enum": names})) };
    let agent = object([
        field("instructions", text()),
        field("tools", tools),
        field("output", or_null(schema_text())),
    ]);
    let capabilities: Vec<&str> = menu.capabilities().into_iter().collect();
    let mut fields = vec![field("agent", agent), field("input", json!({"$ref": "#/$defs/json"}))];
    if !capabilities.is_empty() {
        fields.push(field("capability", or_null(json!({"enum": capabilities}))));
    }
    fields
}

fn kind(name: &str, fields: Vec<(String, Value)>) -> Value {
    object([vec![field("kind", json!({"enum": [name]}))], fields].concat())
}

fn field(name: &str, schema: Value) -> (String, Value) {
    (name.to_owned(), schema)
}

fn step() -> Value {
    json!({"$ref": "#/$defs/step"})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn described(kind: &str, what: &str) -> Value {
    json!({"type": kind, "description": what})
}

fn schema_text() -> Value {
    described("string", "JSON Schema, as text")
}

fn texts() -> Value {
    list(text())
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use foreplan_core::{
        digest::Digest,
        tool::{Inventory, ToolDescriptor},
    };

    use super::*;

    fn menu() -> Menu {
        let tool: ToolDescriptor = serde_json::from_value(json!({
            "name": "load", "description": "", "output": {}, "effect": "read", "capabilities": ["local"],
            "digest": Digest::of_bytes(b""), "cost": 1,
            "input": {"type": "object", "required": ["path"], "properties": {
                "path": {"type": "string"}, "filter": {"type": "object", "properties": {"a": {"type": "integer"}}},
            }},
        }))
        .unwrap();
        Menu::choose(&Inventory::from_iter([tool]), "", &BTreeSet::new())
    }

    /// Returns where an object is not closed, or a field is not required.
    fn open_objects(schema: &Value, place: &str, found: &mut Vec<String>) {
        if schema["type"] == "object" {
            let names: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
            let closed = schema["additionalProperties"] == false && schema["required"] == json!(names);
            if !closed {
                found.push(place.to_owned());
            }
        }
        let inside: Vec<(String, &Value)> = match schema {
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
            }
            _ => Vec::new(),
        };
        for (name, value) in inside {
            open_objects(value, &format!("{place}/{name}"), found);
        }
    }

    #[test]
    fn every_object_of_a_form_is_closed_and_needs_all_its_fields_as_strict_modes_want() {
        for form in [plan_form(&menu(), false), plan_form(&menu(), true), replan_form(&menu())] {
            let mut found = Vec::new();
            open_objects(&form.schema, "", &mut found);
            assert_eq!(found, Vec::<String>::new());
            assert_eq!(form.schema["type"], "object", "the root is an object and no alternative");
            jsonschema::validator_for(&form.schema).unwrap();
        }
    }

    #[test]
    fn a_step_names_a_tool_of_the_menu_with_its_input_and_no_other() {
        let form = plan_form(&menu(), false);
        let validator = jsonschema::validator_for(&form.schema).unwrap();
        let answer = |tool: &str, input: Value| {
            json!({"answer": {"kind": "plan", "rationale": "", "result": null, "steps": [{
                "id": "a", "title": "Load", "do": {"tool": tool, "input": input}, "needs": [], "when": null,
                "for_each": null, "expect": null,
            }]}})
        };
        let good = json!({"path": {"ref": "params.path"}, "filter": null});
        assert!(validator.is_valid(&answer("load", good.clone())));
        assert!(
            validator
                .is_valid(&answer("load", json!({"path": {"value": "x"}, "filter": {"value": {"a": null}}})))
        );
        assert!(!validator.is_valid(&answer("lode", good)));
        assert!(!validator.is_valid(&answer("load", json!({"path": {"value": 7}, "filter": null}))));
    }
}
