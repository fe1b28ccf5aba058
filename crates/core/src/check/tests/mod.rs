mod bad_input;
mod compatible;
mod helpful;
mod whole;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{CheckContext, Checked, EXECUTABLE, check};
use crate::{
    budget::Limits,
    digest::Digest,
    finding::Severity,
    goal::{PlannerSpec, Review},
    plan::Plan,
    policy::Rule,
    tool::{Effect, Inventory, ToolDescriptor},
};

fn tool(name: &str, input: Value, output: Value, effect: Effect) -> ToolDescriptor {
    ToolDescriptor {
        name: name.into(),
        description: String::new(),
        input,
        output,
        effect,
        capabilities: vec!["data".into()],
        digest: Digest::of_bytes(name.as_bytes()),
        cost: 1,
        writes: Vec::new(),
        verify: None,
        artifacts: Default::default(),
        timeout: None,
    }
}

fn object(fields: Value) -> Value {
    let required: Vec<&String> = fields.as_object().unwrap().keys().collect();
    json!({"type": "object", "properties": fields, "required": required, "additionalProperties": false})
}

/// The tools of a small project.
fn inventory() -> Inventory {
    let mut deploy = tool(
        "deploy",
        object(json!({"service": {"type": "string"}})),
        object(json!({"done": {"type": "boolean"}})),
        Effect::Irreversible,
    );
    deploy.writes = vec!["service:{service}".into()];
    deploy.verify = Some("is_deployed".into());
    deploy.capabilities = vec!["ops".into()];
    let mut orphan = tool("orphan", json!(true), json!(true), Effect::Read);
    orphan.capabilities.clear();
    let mut broken = tool("broken", json!(true), json!(true), Effect::Irreversible);
    broken.verify = Some("nobody".into());
    [
        tool(
            "load_tickets",
            object(json!({})),
            object(json!({"tickets": {"type": "array", "items": object(json!({"id": {"type": "integer"}, "text": {"type": "string"}}))}})),
            Effect::Read,
        ),
        tool(
            "count_intents",
            json!({"type": "object", "required": ["tickets"], "additionalProperties": false, "properties": {
                "tickets": {"type": "array"}, "top": {"type": "integer", "minimum": 1, "maximum": 10},
                "mode": {"enum": ["fast", "exact"]}, "code": {"type": "string", "pattern": "^[A-Z]+$"}}}),
            object(json!({"intent_counts": {"type": "object", "additionalProperties": {"type": "integer"}}})),
            Effect::Read,
        ),
        tool(
            "draft_report",
            object(json!({"intent_counts": {"type": "object"}})),
            object(json!({"report": {"type": "string"}})),
            Effect::Read,
        ),
        tool("shout", object(json!({"text": {"type": "string"}})), object(json!({"text": {"type": "string"}})), Effect::Read),
        tool("is_deployed", json!(true), json!(true), Effect::Read),
        deploy,
        orphan,
        broken,
    ]
    .into_iter()
    .collect()
}

struct World {
    inventory: Inventory,
    limits: Limits,
    params: Map<String, Value>,
    rules: Vec<Rule>,
    planner: PlannerSpec,
    review: Option<Review>,
}

impl World {
    fn new() -> Self {
        let params = Map::from_iter([("version".to_owned(), json!("1.4.2"))]);
        Self {
            inventory: inventory(),
            limits: Limits::default(),
            params,
            rules: Vec::new(),
            planner: PlannerSpec::Custom { name: "test".to_owned() },
            review: None,
        }
    }

    fn context(&self) -> CheckContext<'_> {
        CheckContext {
            inventory: &self.inventory,
            limits: &self.limits,
            params: &self.params,
            rules: &self.rules,
            planner: &self.planner,
            review: self.review.as_ref(),
            executable: &EXECUTABLE,
        }
    }

    fn check(&self, plan: Value) -> Checked {
        let plan: Plan = serde_json::from_value(plan).unwrap();
        check(&Arc::new(plan), &self.context())
    }

    fn errors(&self, plan: Value) -> Vec<String> {
        told(&self.check(plan), Severity::Error)
    }
}

fn told(checked: &Checked, severity: Severity) -> Vec<String> {
    checked
        .findings
        .iter()
        .filter(|finding| finding.severity == severity)
        .map(|finding| format!("[{}] {finding}", finding.code))
        .collect()
}

/// A plan that is right: the other tests bend it.
fn report() -> Value {
    json!({
        "format": 1, "goal": "report",
        "steps": [
            {"id": "load", "title": "Load the tickets", "tool": "load_tickets"},
            {"id": "count", "title": "Count the issues", "tool": "count_intents", "input": {"tickets": {"$ref": "load.tickets"}}},
            {"id": "draft", "title": "Write the summary", "tool": "draft_report", "input": {"intent_counts": {"$ref": "count.intent_counts"}}},
        ],
        "result": {"$ref": "draft.report"},
    })
}

/// The plan with some of a step's fields replaced.
fn with(at: usize, fields: Value) -> Value {
    let mut plan = report();
    let step = plan["steps"][at].as_object_mut().unwrap();
    for (key, value) in fields.as_object().unwrap() {
        step.insert(key.clone(), value.clone());
    }
    plan
}

fn steps(steps: Value) -> Value {
    json!({"format": 1, "goal": "x", "steps": steps})
}
