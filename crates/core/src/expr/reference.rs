//! What a step refers to: by markers in its input and list, in templates, and in CEL.

use serde_json::Value;

use super::{
    cel::Cel,
    marker::{Marker, marker},
    path::{Path, Segment},
    template::Template,
};
use crate::{finding::Finding, plan::Step};

/// A step's use of another step's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The id that is named; it may be no step of the plan.
    pub step: String,
    /// The place inside that step's output.
    pub segments: Vec<Segment>,
    /// The field that names it, as a path: `input.tickets`.
    pub field: String,
    /// Whether there is a default if the step was skipped.
    pub optional: bool,
}

/// Returns every use of another step by `step`: in its input, its `for_each`, its `when`, its
/// `expect`, and its question. Inputs without markers cost a walk through them and nothing more.
///
/// # Errors
///
/// A finding for each marker, template or expression that is malformed, and for each variable that
/// there is not in its place.
pub fn references(step: &Step) -> Result<Vec<Reference>, Vec<Finding>> {
    analyze(step).map(|analysis| analysis.references)
}

/// A step's expressions, parsed once.
pub(crate) struct Analysis {
    /// Every use of another step.
    pub(crate) references: Vec<Reference>,
    /// The step's `when`.
    pub(crate) when: Option<Cel>,
    /// The step's `expect`.
    pub(crate) expect: Option<Cel>,
}

/// Parses a step's expressions and returns what they refer to.
pub(crate) fn analyze(step: &Step) -> Result<Analysis, Vec<Finding>> {
    let item: &[&str] = if step.for_each.is_some() { &["params", "item", "index"] } else { &["params"] };
    let mut collect = Collect::new(item);
    collect.value(&step.input, &Place::root("input"));
    if let Some(human) = &step.human {
        collect.template(&human.question, &Place::root("human.question"));
    }
    collect.variables = &["params"];
    if let Some(for_each) = &step.for_each {
        collect.value(&for_each.list, &Place::root("for_each.in"));
    }
    let when = step.when.as_deref().and_then(|source| collect.cel(source, "when"));
    collect.variables = if step.for_each.is_some() {
        &["output", "input", "params", "item", "index"]
    } else {
        &["output", "input", "params"]
    };
    let expect = step.expect.as_deref().and_then(|source| collect.cel(source, "expect"));
    collect.finish().map(|references| Analysis { references, when, expect })
}

/// Returns every use of a step by a value with markers that may name `variables` besides.
pub(crate) fn value_references(
    value: &Value,
    field: &str,
    variables: &'static [&'static str],
) -> Result<Vec<Reference>, Vec<Finding>> {
    let mut collect = Collect::new(variables);
    collect.value(value, &Place::root(field));
    collect.finish()
}

/// Parses a condition that may name steps and `variables`, and returns it with the steps it names.
pub(crate) fn condition(
    source: &str,
    field: &str,
    variables: &'static [&'static str],
) -> Result<(Cel, Vec<Reference>), Vec<Finding>> {
    let mut collect = Collect::new(variables);
    let cel = collect.cel(source, field);
    let references = collect.finish()?;
    cel.map(|cel| (cel, references)).ok_or_else(Vec::new)
}

/// Names that are never steps, wherever they are read.
fn is_variable(name: &str) -> bool {
    crate::id::RESERVED_STEP_IDS.contains(&name)
}

/// A place in a document, spelled only when something is found there.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    part: Part<'a>,
}

enum Part<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    fn root(name: &'a str) -> Self {
        Self { parent: None, part: Part::Name(name) }
    }

    fn below(&'a self, part: Part<'a>) -> Self {
        Self { parent: Some(self), part }
    }

    fn spell(&self) -> String {
        let mut text = self.parent.map(Self::spell).unwrap_or_default();
        match self.part {
            Part::Name(name) if text.is_empty() => text.push_str(name),
            Part::Name(name) => text.extend([".", name]),
            Part::Index(at) => text.push_str(&format!("[{at}]")),
        }
        text
    }
}

struct Collect {
    variables: &'static [&'static str],
    references: Vec<Reference>,
    findings: Vec<Finding>,
}

impl Collect {
    fn new(variables: &'static [&'static str]) -> Self {
        Self { variables, references: Vec::new(), findings: Vec::new() }
    }

    fn finish(self) -> Result<Vec<Reference>, Vec<Finding>> {
        if self.findings.is_empty() { Ok(self.references) } else { Err(self.findings) }
    }

    fn value(&mut self, value: &Value, place: &Place<'_>) {
        match value {
            Value::Object(fields) => match marker(fields) {
                Ok(Marker::None) => {
                    for (name, value) in fields {
                        self.value(value, &place.below(Part::Name(name)));
                    }
                }
                Ok(Marker::Ref { path, default }) => match path.parse::<Path>() {
                    Ok(path) => self.path(path, place, default.is_some()),
                    Err(e) => {
                        self.findings.push(Finding::error("reference", e.to_string()).field(place.spell()))
                    }
                },
                Ok(Marker::Template(text)) => self.template(text, place),
                Ok(Marker::Literal(_)) => {}
                Err(reason) => self.findings.push(Finding::error("marker", reason).field(place.spell())),
            },
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.value(item, &place.below(Part::Index(at)));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn template(&mut self, text: &str, place: &Place<'_>) {
        if !text.contains('{') {
            return;
        }
        match Template::parse(text) {
            Ok(template) => template.paths().iter().for_each(|path| self.path(path.clone(), place, false)),
            Err(e) => self.findings.push(Finding::error("template", e.to_string()).field(place.spell())),
        }
    }

    fn cel(&mut self, source: &str, field: &str) -> Option<Cel> {
        match Cel::parse(source) {
            Ok(cel) => {
                let place = Place::root(field);
                cel.paths().for_each(|path| self.path(path, &place, false));
                Some(cel)
            }
            Err(e) => {
                self.findings.push(Finding::error("expression", e.to_string()).field(field));
                None
            }
        }
    }

    fn path(&mut self, path: Path, place: &Place<'_>, optional: bool) {
        if self.variables.contains(&path.root.as_str()) {
            return;
        }
        if is_variable(&path.root) {
            let finding = Finding::error("variable", self.no_variable(&path.root)).field(place.spell());
            return self.findings.push(finding);
        }
        self.references.push(Reference {
            step: path.root,
            segments: path.segments,
            field: place.spell(),
            optional,
        });
    }

    fn no_variable(&self, name: &str) -> String {
        if name == "steps" {
            return "`steps` needs the name of one step: `steps.load` or `steps[\"my-step\"]`".to_owned();
        }
        let known = self.variables.join("`, `");
        let why = match name {
            "item" | "index" => "; it stands for the items of a `for_each`",
            _ => "",
        };
        format!("there is no `{name}` here{why}; there are steps and `{known}`")
    }
}
