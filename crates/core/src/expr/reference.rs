//! What a step refers to: `step.field[0]` in a marker, and the steps that its expressions name.

use std::{fmt, str::FromStr};

use serde_json::Value;

use crate::{finding::Finding, plan::Step};

/// A place inside a named value: `step.field[0]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// A step's id, `params`, `item` or `index`.
    pub root: String,
    /// What follows.
    pub segments: Vec<Segment>,
}

/// One part of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// `.field`
    Field(String),
    /// `[0]`
    Index(usize),
}

/// A text that is not a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a reference like `step.field[0]`")]
pub struct InvalidPath(String);

impl FromStr for Path {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let invalid = || InvalidPath(text.to_owned());
        let root_end = text.find(['.', '[']).unwrap_or(text.len());
        let (root, mut rest) = text.split_at(root_end);
        if root.is_empty() {
            return Err(invalid());
        }
        let mut segments = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let (field, tail) = after.split_at(end);
                if field.is_empty() {
                    return Err(invalid());
                }
                segments.push(Segment::Field(field.to_owned()));
                rest = tail;
            } else {
                let (index, tail) = rest[1..].split_once(']').ok_or_else(invalid)?;
                segments.push(Segment::Index(index.parse().map_err(|_| invalid())?));
                rest = tail;
            }
        }
        Ok(Self { root: root.to_owned(), segments })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.root)?;
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Field(name) => write!(f, ".{name}"),
            Segment::Index(at) => write!(f, "[{at}]"),
        })
    }
}

impl Path {
    /// Returns the value at this place inside the root's value.
    #[must_use]
    pub fn of<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.segments.iter().try_fold(root, |value, segment| match segment {
            Segment::Field(name) => value.get(name),
            Segment::Index(at) => value.get(at),
        })
    }
}

/// A step's use of another step's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The id that is named; it may be no step of the plan.
    pub step: String,
    /// The field that names it, as a path: `input.tickets`.
    pub field: String,
    /// Whether there is a default if the step was skipped.
    pub optional: bool,
}

/// Returns every use of another step by `step`: in its input, its `for_each`, its `when`, its
/// `expect`, and its question.
///
/// # Errors
///
/// A finding for each marker or expression that is malformed.
pub fn references(step: &Step) -> Result<Vec<Reference>, Vec<Finding>> {
    let mut found = Vec::new();
    let mut findings = Vec::new();
    in_value(&step.input, "input", &mut found, &mut findings);
    if findings.is_empty() { Ok(found) } else { Err(findings) }
}

fn in_value(value: &Value, field: &str, found: &mut Vec<Reference>, findings: &mut Vec<Finding>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get("$ref") {
                match text.parse::<Path>() {
                    Ok(path) if matches!(path.root.as_str(), "params" | "item" | "index") => {}
                    Ok(path) => found.push(Reference {
                        step: path.root,
                        field: field.to_owned(),
                        optional: fields.contains_key("default"),
                    }),
                    Err(e) => findings.push(Finding::error("reference", e.to_string()).field(field)),
                }
                return;
            }
            for (name, value) in fields {
                in_value(value, &format!("{field}.{name}"), found, findings);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                in_value(item, &format!("{field}[{at}]"), found, findings);
            }
        }
        _ => {}
    }
}
