//! Plan files: a plan, and beside it perhaps the envelope that somebody approved.

use std::path::Path;

use foreplan_core::{envelope::Envelope, json, plan::Plan};
use serde_json::Value;

use super::{Error, Problem};

/// The key under which a plan file carries an envelope, outside the plan's digest.
const ENVELOPE_KEY: &str = "envelope";

/// What a plan file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanFile {
    /// The plan.
    pub plan: Plan,
    /// What was approved, if the file says so.
    pub envelope: Option<Envelope>,
}

impl PlanFile {
    /// Reads a plan file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no plan.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|e| {
            Problem::new("", format!("`{}` is no plan: {e}", path.display()))
                .fix("`foreplan schema plan` prints the form of plans")
                .into()
        })
    }

    /// Reads the text of a plan file.
    ///
    /// # Errors
    ///
    /// If it is no plan.
    pub fn parse(text: &str) -> Result<Self, json::Error> {
        let mut value = json::parse_value(text)?;
        let envelope = value.as_object_mut().and_then(|fields| fields.shift_remove(ENVELOPE_KEY));
        let envelope = envelope.filter(|e| !e.is_null()).map(json::from_value).transpose()?;
        Ok(Self { plan: json::from_value(value)?, envelope })
    }

    /// Returns the text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut value = serde_json::to_value(&self.plan).unwrap_or(Value::Null);
        if let (Some(fields), Some(envelope)) = (value.as_object_mut(), &self.envelope) {
            let envelope = serde_json::to_value(envelope).unwrap_or(Value::Null);
            fields.insert(ENVELOPE_KEY.to_owned(), envelope);
        }
        let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_stands_beside_the_plan_and_outside_its_digest() {
        let bare = PlanFile::parse(r#"{"format": 1, "steps": [{"id": "a", "tool": "t"}]}"#).unwrap();
        let envelope = Envelope {
            plan: bare.plan.digest(),
            params: serde_json::Map::new(),
            tools: [].into(),
            agents: [].into(),
            limits: foreplan_core::budget::Limits::default(),
        };
        let sealed = PlanFile { envelope: Some(envelope), ..bare.clone() };
        let read = PlanFile::parse(&sealed.to_text()).unwrap();
        assert_eq!(read, sealed);
        assert_eq!(read.plan.digest(), bare.plan.digest());
    }
}
