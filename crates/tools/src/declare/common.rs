//! What every declaration says.

use std::{collections::BTreeMap, time::Duration};

use foreplan_core::{id::ToolName, tool::Effect};
use serde::Deserialize;

use super::{Error, Shape};
use crate::tool::{Signature, Tool};

/// What the fields of the output are called among artifacts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum As {
    /// The one field of the output, for tools that have one.
    Field(String),
    /// Field → artifact.
    Fields(BTreeMap<String, String>),
}

/// The keys that all kinds share, borrowed from one declaration.
#[derive(Clone, Copy)]
pub(crate) struct Common<'a> {
    pub(crate) name: &'a ToolName,
    pub(crate) description: &'a str,
    pub(crate) effect: Option<Effect>,
    pub(crate) cost: Option<u64>,
    pub(crate) verify: Option<&'a ToolName>,
    pub(crate) writes: &'a [String],
    pub(crate) timeout: Option<Duration>,
    pub(crate) r#as: Option<&'a As>,
}

impl<'a> Common<'a> {
    pub(crate) fn error(&self, field: &'static str, message: impl Into<String>) -> Error {
        Error { tool: self.name.to_string(), field, message: message.into() }
    }

    /// Returns the name of the only field of the output: `as`, or `otherwise`.
    pub(crate) fn sole_field(&self, otherwise: &'a str) -> Result<&'a str, Error> {
        match self.r#as {
            None => Ok(otherwise),
            Some(As::Field(field)) if field.is_empty() => Err(self.error("as", "the name is empty")),
            Some(As::Field(field)) => Ok(field),
            Some(As::Fields(_)) => {
                Err(self.error("as", "this tool has one field; name it with a text: as = \"report\""))
            }
        }
    }

    /// Returns field → artifact of a tool whose output has fields of its own.
    pub(crate) fn renames(&self) -> Result<BTreeMap<String, String>, Error> {
        match self.r#as {
            None => Ok(BTreeMap::new()),
            Some(As::Fields(fields)) => Ok(fields.clone()),
            Some(As::Field(field)) => Err(self.error(
                "as",
                format!("say which field of the output is `{field}`: as = {{ text = \"{field}\" }}"),
            )),
        }
    }

    /// Returns the signature with `shape`, and `default` for a tool that declares no effect.
    pub(crate) fn signature(&self, shape: Shape, default: Effect) -> Result<Signature, Error> {
        let name = self.name.as_str();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
            return Err(self.error("name", "a tool's name has letters, digits, `_`, `-` and `.` only"));
        }
        Ok(Signature {
            name: self.name.clone(),
            description: self.description.to_owned(),
            effect: self.effect.unwrap_or(default),
            input: shape.input,
            output: shape.output,
        })
    }

    /// Adds what has no part in how the tool is called.
    pub(crate) fn finish(&self, mut tool: Tool, renames: BTreeMap<String, String>) -> Tool {
        tool = tool.writes(self.writes.iter().cloned());
        if let Some(cost) = self.cost {
            tool = tool.cost(cost);
        }
        if let Some(verify) = self.verify {
            tool = tool.verify(verify.clone());
        }
        if let Some(timeout) = self.timeout {
            tool = tool.timeout(timeout);
        }
        renames.into_iter().fold(tool, |tool, (field, artifact)| tool.artifact(field, artifact))
    }
}
