//! Places inside named values: `step.field[0]`.

use std::{fmt, str::FromStr};

use serde_json::Value;

/// A place inside a named value: `step.field[0]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// A step's id, `params`, `item` or `index`.
    pub root: String,
    /// What follows.
    pub segments: Vec<Segment>,
}

/// One part of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
            } else if let Some(after) = rest.strip_prefix('[') {
                let (index, tail) = after.split_once(']').ok_or_else(invalid)?;
                segments.push(Segment::Index(index.parse().map_err(|_| invalid())?));
                rest = tail;
            } else {
                return Err(invalid());
            }
        }
        Ok(Self { root: root.to_owned(), segments })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.root)?;
        self.segments.iter().try_for_each(|segment| segment.fmt(f))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Index(at) => write!(f, "[{at}]"),
        }
    }
}

impl Path {
    /// Returns the value at this place inside the root's value.
    #[must_use]
    pub fn of<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        follow(root, &self.segments)
    }
}

/// Returns the value at a place inside another.
pub(super) fn follow<'a>(value: &'a Value, segments: &[Segment]) -> Option<&'a Value> {
    segments.iter().try_fold(value, |value, segment| match segment {
        Segment::Field(name) => value.get(name),
        Segment::Index(at) => value.get(at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_path_is_written_as_it_is_read(text in "\\PC{0,24}|[a-z]{1,3}([.][a-z]{1,3}|[\\[][0-9]{1,3}[\\]]){0,4}") {
            if let Ok(path) = text.parse::<Path>() {
                prop_assert_eq!(path.to_string().parse::<Path>().unwrap(), path);
            }
        }
    }

    #[test]
    fn a_path_leads_to_a_place_or_nowhere() {
        let value = serde_json::json!({"rows": [{"a": 1}]});
        let at = |text: &str| text.parse::<Path>().unwrap().of(&value).cloned();
        assert_eq!(at("s.rows[0].a"), Some(1.into()));
        assert_eq!(at("s.rows[1].a"), None);
        assert_eq!(at("s"), Some(value.clone()));
        for bad in ["", ".a", "s.", "s..a", "s[", "s[x]", "s[0]a", "s]"] {
            assert!(bad.parse::<Path>().is_err() || bad == "s]", "{bad}");
        }
    }
}
