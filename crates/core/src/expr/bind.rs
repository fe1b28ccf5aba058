//! Binding: a step's input with its markers becomes the value that a worker gets.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    cel::{Cel, CelError},
    marker::{Marker, marker},
    path::{InvalidPath, Path, follow},
    template::{Template, TemplateError},
};
use crate::{id::RESERVED_STEP_IDS, payload::PayloadRef};

/// Where binding finds values.
pub trait Scope {
    /// Returns what is known of a step's output.
    fn step(&self, id: &str) -> StepValue<'_>;
    /// Returns the run's params.
    fn params(&self) -> &Map<String, Value>;
    /// Returns the item and index, inside a `for_each`.
    fn item(&self) -> Option<(&Value, u32)>;
}

/// What is known of a step's output.
#[derive(Clone, Copy, Debug)]
pub enum StepValue<'a> {
    /// The value.
    Value(&'a Value),
    /// It is kept in the payload store and not loaded.
    Payload(PayloadRef),
    /// The step was skipped.
    Skipped,
    /// The step is not done, or does not exist.
    Absent,
}

/// Why an input cannot be bound, or an expression cannot be evaluated in a scope.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BindError {
    /// A step without whose value this one makes no sense was skipped.
    #[error("`{0}` was skipped, and the reference to it has no default")]
    Skipped(String),
    /// A payload must be loaded first; load it and bind again.
    #[error("the payload {} is not loaded", .0.sha256)]
    NeedsPayload(PayloadRef),
    /// A reference leads nowhere.
    #[error("`{0}` leads to no value")]
    Missing(String),
    /// A reference is malformed.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// A marker is malformed.
    #[error("{0}")]
    Marker(String),
    /// A template cannot be rendered.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// An expression cannot be evaluated.
    #[error(transparent)]
    Expression(#[from] CelError),
}

/// Returns `template` with every marker replaced by its value. A reference to a whole output that
/// is kept by reference stays one.
///
/// # Errors
///
/// See [`BindError`].
pub fn bind(template: &Value, scope: &dyn Scope) -> Result<Value, BindError> {
    match template {
        Value::Object(fields) => match marker(fields).map_err(BindError::Marker)? {
            Marker::Ref { path, default } => reference(&path.parse()?, default, scope),
            Marker::Template(text) => render(text, scope).map(Value::String),
            Marker::Literal(literal) => Ok(literal.clone()),
            Marker::None => fields
                .iter()
                .map(|(k, v)| Ok((k.clone(), bind(v, scope)?)))
                .collect::<Result<_, _>>()
                .map(Value::Object),
        },
        Value::Array(items) => {
            items.iter().map(|v| bind(v, scope)).collect::<Result<_, _>>().map(Value::Array)
        }
        other => Ok(other.clone()),
    }
}

/// Returns every payload that must be loaded before `template` can be bound, each once, so that one
/// walk finds them all.
#[must_use]
pub fn needed_payloads(template: &Value, scope: &dyn Scope) -> Vec<PayloadRef> {
    let mut needed = Vec::new();
    collect_payloads(template, scope, &mut needed);
    needed.sort_unstable_by_key(|payload| payload.sha256);
    needed.dedup();
    needed
}

/// Returns every payload that must be loaded before `cel` can be evaluated, each once.
#[must_use]
pub fn needed_by_condition(cel: &Cel, scope: &dyn Scope) -> Vec<PayloadRef> {
    let mut needed: Vec<PayloadRef> = cel.steps().iter().filter_map(|step| stored(step, scope)).collect();
    needed.sort_unstable_by_key(|payload| payload.sha256);
    needed.dedup();
    needed
}

fn collect_payloads(template: &Value, scope: &dyn Scope, needed: &mut Vec<PayloadRef>) {
    match template {
        Value::Object(fields) => match marker(fields) {
            Ok(Marker::Ref { path, .. }) => {
                let path = path.parse::<Path>().ok().filter(|path| !path.segments.is_empty());
                needed.extend(path.and_then(|path| stored(&path.root, scope)));
            }
            Ok(Marker::Template(text)) => {
                if let Ok(template) = Template::parse(text) {
                    needed.extend(template.paths().iter().filter_map(|path| stored(&path.root, scope)));
                }
            }
            Ok(Marker::Literal(_)) | Err(_) => {}
            Ok(Marker::None) => fields.values().for_each(|v| collect_payloads(v, scope, needed)),
        },
        Value::Array(items) => items.iter().for_each(|v| collect_payloads(v, scope, needed)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn stored(step: &str, scope: &dyn Scope) -> Option<PayloadRef> {
    match scope.step(step) {
        StepValue::Payload(payload) if !RESERVED_STEP_IDS.contains(&step) => Some(payload),
        _ => None,
    }
}

/// Returns a text with its template tags replaced: a human step's question, a `$template`.
///
/// # Errors
///
/// See [`BindError`].
pub fn render(text: &str, scope: &dyn Scope) -> Result<String, BindError> {
    let template = Template::parse(text)?;
    let names = template.paths().iter().map(|path| path.root.as_str());
    let vars = variables(names, scope, &[])?;
    Ok(template.render(&borrowed(&vars))?)
}

/// Returns the value of an expression over `scope`, and over `extra` variables: `output` and
/// `input` for an `expect`.
///
/// # Errors
///
/// See [`BindError`].
pub fn evaluate(cel: &Cel, scope: &dyn Scope, extra: &[(&str, &Value)]) -> Result<Value, BindError> {
    let names = cel.names();
    let vars = variables(names.iter().map(String::as_str), scope, extra)?;
    Ok(cel.evaluate(&borrowed(&vars))?)
}

/// Returns whether a condition holds over `scope` and `extra` variables.
///
/// # Errors
///
/// See [`BindError`].
pub fn holds(cel: &Cel, scope: &dyn Scope, extra: &[(&str, &Value)]) -> Result<bool, BindError> {
    let names = cel.names();
    let vars = variables(names.iter().map(String::as_str), scope, extra)?;
    Ok(cel.holds(&borrowed(&vars))?)
}

type Variables<'a> = Vec<(&'a str, Cow<'a, Value>)>;

fn borrowed<'a>(vars: &'a Variables<'a>) -> Vec<(&'a str, &'a Value)> {
    vars.iter().map(|(name, value)| (*name, value.as_ref())).collect()
}

fn variables<'a>(
    names: impl Iterator<Item = &'a str>,
    scope: &'a dyn Scope,
    extra: &[(&'a str, &'a Value)],
) -> Result<Variables<'a>, BindError> {
    let mut vars: Variables<'a> = Vec::new();
    for name in names {
        if vars.iter().any(|(seen, _)| *seen == name) {
            continue;
        }
        if let Some((name, value)) = extra.iter().find(|(n, _)| *n == name) {
            vars.push((*name, Cow::Borrowed(*value)));
            continue;
        }
        match (name, scope.item()) {
            ("params", _) => vars.push((name, Cow::Owned(Value::Object(scope.params().clone())))),
            ("item", Some((item, _))) => vars.push((name, Cow::Borrowed(item))),
            ("index", Some((_, index))) => vars.push((name, Cow::Owned(index.into()))),
            _ => match scope.step(name) {
                StepValue::Value(value) => vars.push((name, Cow::Borrowed(value))),
                StepValue::Payload(payload) => return Err(BindError::NeedsPayload(payload)),
                StepValue::Skipped => return Err(BindError::Skipped(name.to_owned())),
                // What an expression does without the name, its engine says best.
                StepValue::Absent => {}
            },
        }
    }
    Ok(vars)
}

fn reference(path: &Path, default: Option<&Value>, scope: &dyn Scope) -> Result<Value, BindError> {
    let missing = || BindError::Missing(path.to_string());
    let found = match (path.root.as_str(), scope.item()) {
        ("params", _) => match path.segments.split_first() {
            None => return Ok(Value::Object(scope.params().clone())),
            Some((super::Segment::Field(name), rest)) => {
                scope.params().get(name).and_then(|param| follow(param, rest))
            }
            Some((super::Segment::Index(_), _)) => None,
        },
        ("item", Some((item, _))) => path.of(item),
        ("index", Some((_, index))) if path.segments.is_empty() => return Ok(index.into()),
        _ => match scope.step(&path.root) {
            StepValue::Value(value) => path.of(value),
            StepValue::Payload(payload) if path.segments.is_empty() => return Ok(payload.to_value()),
            StepValue::Payload(payload) => return Err(BindError::NeedsPayload(payload)),
            StepValue::Skipped if default.is_none() => return Err(BindError::Skipped(path.root.clone())),
            StepValue::Skipped | StepValue::Absent => None,
        },
    };
    found.or(default).cloned().ok_or_else(missing)
}
