//! The names of things: one newtype for each kind of identifier.
//!
//! The run id is a UUID v7 that the client makes, so that submitting twice is one run. Every other
//! id is derived or written by a person; none is random.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Longest step id, so that an id fits a subject token and a column of a terminal.
pub const STEP_ID_BYTES_MAX: usize = 63;

/// Names that a plan cannot give to a step because expressions use them for something else.
pub const RESERVED_STEP_IDS: [&str; 9] =
    ["params", "item", "index", "output", "input", "steps", "failure", "assumption", PLAN_STEP];

/// The pseudo step under which a planner asks its question.
pub const PLAN_STEP: &str = "plan";

/// Identifies a run: a UUID v7 made by the client.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct RunId(pub uuid::Uuid);

impl RunId {
    /// Returns the id of the run that carries out an attempt of a `goal` step of this one: always the
    /// same, so that there is never a second. It is as old as this one.
    #[must_use]
    pub fn child(self, step: &StepId, attempt: u32) -> Self {
        let digest = Digest::of_bytes(format!("{self}/{step}/{attempt}").as_bytes());
        let mut bytes = *self.0.as_bytes();
        bytes[6..].copy_from_slice(&digest.0[..10]);
        bytes[6] = (bytes[6] & 0x0f) | 0x70;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(uuid::Uuid::from_bytes(bytes))
    }

    /// Returns the name under which the run speaks to its parent and its child runs.
    #[must_use]
    pub fn speaks_as(self) -> String {
        format!("run {self}")
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}

/// Names one taking in hand of a request: made by the worker when it asks for its first permit. A
/// request may be in two hands, even of one worker, and a permit is for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct ClaimId(pub uuid::Uuid);

/// An identifier that does not have the form its kind asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{id}` is not a {kind}: {rule}")]
pub struct InvalidId {
    /// What was given.
    pub id: String,
    /// Which kind of identifier was asked for.
    pub kind: &'static str,
    /// The form it must have.
    pub rule: &'static str,
}

/// Identifies a step within a run: `[a-z][a-z0-9_-]{0,62}`, and `id~index` for one item of a
/// `for_each`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct StepId(Arc<str>);

impl StepId {
    /// Returns the id of one item of this `for_each` step.
    #[must_use]
    pub fn item(&self, index: u32) -> Self {
        Self(format!("{self}~{index}").into())
    }

    /// Returns the `for_each` step and the index, if this id names an item.
    #[must_use]
    pub fn as_item(&self) -> Option<(&str, u32)> {
        let (parent, index) = self.0.split_once('~')?;
        Some((parent, index.parse().ok()?))
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StepId {
    type Err = InvalidId;

    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let (name, index) = s.split_once('~').map_or((s, None), |(name, index)| (name, Some(index)));
        let index_fits = index.is_none_or(|i| i.parse::<u32>().is_ok_and(|n| n.to_string() == i));
        if is_name(name, STEP_ID_BYTES_MAX) && index_fits {
            return Ok(Self(s.into()));
        }
        Err(InvalidId { id: s.to_owned(), kind: "step id", rule: "[a-z][a-z0-9_-]{0,62}" })
    }
}

fn is_name(s: &str, bytes_max: usize) -> bool {
    let mut bytes = s.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && s.len() <= bytes_max
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

impl TryFrom<String> for StepId {
    type Error = InvalidId;

    fn try_from(s: String) -> Result<Self, InvalidId> {
        s.parse()
    }
}

impl From<StepId> for String {
    fn from(id: StepId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl Borrow<str> for StepId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        #[schemars(with = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: Into<Arc<str>>> From<T> for $name {
            fn from(s: T) -> Self {
                Self(s.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// Names a tool of the inventory.
    ToolName
);
name!(
    /// Names a pool of executors: what a step asks for when it asks for a specialist.
    Capability
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_ids_have_one_form() {
        for good in ["a", "count_intents", "fix-smoke", "a1~0", "fetch~999"] {
            assert!(good.parse::<StepId>().is_ok(), "{good}");
        }
        for bad in ["", "A", "1a", "a b", "a~", "a~01", "a~-1", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<StepId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn each_attempt_of_a_goal_step_has_one_child_run() {
        let run: RunId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let step: StepId = "sub".parse().unwrap();
        let child = run.child(&step, 1);
        assert_eq!(child, run.child(&step, 1));
        assert_eq!((child.0.get_version_num(), child.0.get_variant()), (7, uuid::Variant::RFC4122));
        assert_ne!(child, run.child(&step, 2));
        assert_ne!(child, run.child(&"other".parse().unwrap(), 1));
        assert!(child.to_string().starts_with("01890a5d-ac96-7"), "{child}");
    }

    #[test]
    fn an_item_names_its_step_and_index() {
        let step: StepId = "fetch".parse().unwrap();
        assert_eq!(step.item(7).as_item(), Some(("fetch", 7)));
        assert_eq!(step.as_item(), None);
    }
}
