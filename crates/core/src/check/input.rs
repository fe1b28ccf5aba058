//! What the markers of a plan stand for, by the schemas of the steps that they name.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use serde_json::{Map, Value, json};

use super::{
    literal::{Behind, Markers},
    schema::{Found, Fuel, Node, find},
};
use crate::{
    expr::{Path, Segment, Template},
    finding::Finding,
    plan::{OnItemFailure, Plan, Step, StepKind},
    tool::{Inventory, ToolDescriptor},
};

static TEXT: LazyLock<Value> = LazyLock::new(|| json!({"type": "string"}));
static INDEX: LazyLock<Value> = LazyLock::new(|| json!({"type": "integer", "minimum": 0}));

/// The outputs of a plan's steps, by their schemas.
pub(super) struct Outputs<'a> {
    index: HashMap<&'a str, usize>,
    steps: &'a [Step],
    tools: Vec<Option<&'a ToolDescriptor>>,
    lists: HashMap<usize, Value>,
}

impl<'a> Outputs<'a> {
    /// Reads the schemas of a plan's steps.
    pub(super) fn new(plan: &'a Plan, inventory: &'a Inventory) -> Self {
        let tools: Vec<Option<&ToolDescriptor>> = plan
            .steps
            .iter()
            .map(|step| step.tool.as_ref().and_then(|t| inventory.get(t.as_str())).map(AsRef::as_ref))
            .collect();
        let mut lists = HashMap::new();
        for (at, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.for_each.is_some()) {
            lists.insert(at, list_of(step, tools[at]));
        }
        let index = plan.steps.iter().enumerate().map(|(at, s)| (s.id.as_str(), at)).rev().collect();
        Self { index, steps: &plan.steps, tools, lists }
    }

    /// Returns the tool of the step at a position, if there is one.
    pub(super) fn tool(&self, at: usize) -> Option<&'a ToolDescriptor> {
        self.tools[at]
    }

    /// Returns the schemas that the output of a step fits; `None` if there is no such step.
    pub(super) fn of(&self, step: &str) -> Option<Vec<Node<'_>>> {
        let at = *self.index.get(step)?;
        if let Some(list) = self.lists.get(&at) {
            return Some(vec![Node::new(list)]);
        }
        Some(schemas(&self.steps[at], self.tools[at]).map(Node::new).collect())
    }

    /// Returns the schemas that the output of one attempt at a step fits: of one item, in a `for_each`.
    pub(super) fn attempt(&self, at: usize) -> Vec<Node<'_>> {
        schemas(&self.steps[at], self.tools[at]).map(Node::new).collect()
    }

    /// Returns what is known of a place inside the output of a step.
    pub(super) fn find(&self, step: &str, segments: &[Segment]) -> Found<'_> {
        match self.of(step) {
            None => Found::Any,
            Some(nodes) => find(&nodes, segments, &Fuel::new()),
        }
    }
}

fn schemas<'s>(step: &'s Step, tool: Option<&'s ToolDescriptor>) -> impl Iterator<Item = &'s Value> {
    let own = match step.kind() {
        Some(StepKind::Tool(_)) => tool.map(|t| &t.output),
        Some(StepKind::Human(human)) => Some(human.answer.as_ref().unwrap_or(&TEXT)),
        Some(StepKind::Agent(_) | StepKind::Goal(_)) | None => None,
    };
    own.into_iter().chain(step.output.as_deref())
}

/// Returns the schema of a `for_each` step's output: a list with one output for each item.
fn list_of(step: &Step, tool: Option<&ToolDescriptor>) -> Value {
    let mut definitions = Map::new();
    let mut items: Vec<Value> = Vec::new();
    for schema in schemas(step, tool).filter(|schema| movable(schema)) {
        for key in ["$defs", "definitions"] {
            if let Some(more) = schema.get(key) {
                definitions.insert(key.to_owned(), more.clone());
            }
        }
        items.push(schema.clone());
    }
    let item = json!({"allOf": items});
    let may_be_null = step.for_each.as_ref().is_some_and(|f| f.on_item_failure == OnItemFailure::Skip);
    let item = if may_be_null { json!({"anyOf": [item, {"type": "null"}]}) } else { item };
    definitions.insert("type".to_owned(), "array".into());
    definitions.insert("items".to_owned(), item);
    Value::Object(definitions)
}

/// Returns whether a schema means the same inside another: it refers to definitions only.
fn movable(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().all(|(key, value)| match (key.as_str(), value) {
            ("$ref", Value::String(to)) => to.starts_with("#/$defs/") || to.starts_with("#/definitions/"),
            _ => movable(value),
        }),
        Value::Array(items) => items.iter().all(movable),
        _ => true,
    }
}

/// The markers of one input.
pub(super) struct Scope<'a, 'o> {
    pub outputs: &'a Outputs<'o>,
    pub params: &'a Map<String, Value>,
    /// What `item` stands for; `None` outside a `for_each`.
    pub item: Option<Vec<Node<'a>>>,
    /// What `output` stands for, in an `expect`.
    pub output: Vec<Node<'a>>,
    pub findings: Vec<Finding>,
    /// References of which only the run can tell whether their values fit.
    pub unknown: Vec<String>,
    seen: HashSet<String>,
}

impl<'a, 'o> Scope<'a, 'o> {
    pub(super) fn new(outputs: &'a Outputs<'o>, params: &'a Map<String, Value>) -> Self {
        Self {
            outputs,
            params,
            item: None,
            output: Vec::new(),
            findings: Vec::new(),
            unknown: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Looks at a place that an expression names, of which only its being there matters.
    pub(super) fn names(&mut self, path: &Path, place: &str) {
        self.place(path, false, place);
    }

    fn place(&mut self, path: &Path, has_default: bool, place: &str) -> Behind<'a> {
        match path.root.as_str() {
            "params" => {
                self.param(path, has_default, place);
                Behind::Any
            }
            "item" => match &self.item {
                Some(nodes) => {
                    let found = find(nodes, &path.segments, &Fuel::new());
                    self.found(found, path, has_default, place)
                }
                None => Behind::Any,
            },
            "index" => Behind::Schemas(vec![Node::new(&INDEX)]),
            "input" => Behind::Any,
            "output" => {
                let found = find(&self.output, &path.segments, &Fuel::new());
                self.found(found, path, has_default, place)
            }
            step => {
                let found = self.outputs.find(step, &path.segments);
                self.found(found, path, has_default, place)
            }
        }
    }

    fn found(&mut self, found: Found<'a>, path: &Path, has_default: bool, place: &str) -> Behind<'a> {
        match found {
            Found::Schemas(nodes) => Behind::Schemas(nodes),
            Found::Any => Behind::Any,
            Found::Never(why) => {
                let message = format!("`{path}` leads to no value: what is there {why}");
                let finding = if has_default {
                    Finding::advice("missing_field", format!("{message} (its default will stand in)"))
                } else {
                    Finding::error("missing_field", message)
                };
                self.note(finding.field(place));
                Behind::Any
            }
        }
    }

    fn param(&mut self, path: &Path, has_default: bool, place: &str) {
        let Some(Segment::Field(name)) = path.segments.first() else { return };
        if has_default || self.params.contains_key(name) {
            return;
        }
        let known: Vec<&str> = self.params.keys().map(String::as_str).collect();
        let hint = match super::schema::nearest(name, known.iter().copied()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None if known.is_empty() => "; this run has none".to_owned(),
            None => format!("; there are `{}`", known.join("`, `")),
        };
        self.note(Finding::error("unknown_param", format!("there is no param `{name}`{hint}")).field(place));
    }

    /// Keeps a finding once, however often the schema has its place looked at.
    fn note(&mut self, finding: Finding) {
        if self.seen.insert(finding.to_string()) {
            self.findings.push(finding);
        }
    }
}

impl<'a> Markers<'a> for Scope<'a, '_> {
    fn reference(&mut self, path: &Path, default: Option<&Value>, place: &str) -> Behind<'a> {
        self.place(path, default.is_some(), place)
    }

    fn template(&mut self, text: &str, place: &str) {
        if !text.contains('{') {
            return;
        }
        if let Ok(template) = Template::parse(text) {
            for path in template.paths() {
                self.names(path, place);
            }
        }
    }

    fn unknown(&mut self, path: &str, place: &str) {
        let text = format!("{place} (from `{path}`)");
        if self.seen.insert(text.clone()) {
            self.unknown.push(text);
        }
    }
}
