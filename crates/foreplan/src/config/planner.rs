//! A planner, as a person names it on the command line.

use std::{path::PathBuf, str::FromStr};

/// A planner, as a person names it on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PlannerName {
    /// The one that the project file names now.
    #[default]
    Project,
    /// The one that derives; empty: it wants what was wanted anyway.
    Derive(Vec<String>),
    /// A plan file.
    Runbook(PathBuf),
    /// A model: `provider/name`.
    Model(String),
}

impl FromStr for PlannerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, value) = text.split_once('=').unwrap_or((text, ""));
        let artifacts = || value.split(',').filter(|a| !a.is_empty()).map(str::to_owned).collect();
        match (kind, value) {
            ("project", "") => Ok(Self::Project),
            ("derive", _) => Ok(Self::Derive(artifacts())),
            ("runbook", file) if !file.is_empty() => Ok(Self::Runbook(file.into())),
            ("model", name) if name.contains('/') => Ok(Self::Model(name.to_owned())),
            _ => {
                Err("say project, derive, derive=ARTIFACT,…, runbook=FILE or model=PROVIDER/NAME".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planner_is_named_by_its_kind_and_what_it_needs() {
        let parse = str::parse::<PlannerName>;
        assert_eq!(parse("project"), Ok(PlannerName::Project));
        assert_eq!(parse("derive"), Ok(PlannerName::Derive(Vec::new())));
        assert_eq!(parse("derive=a,b"), Ok(PlannerName::Derive(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(parse("runbook=p.json"), Ok(PlannerName::Runbook("p.json".into())));
        assert_eq!(parse("model=openai/m"), Ok(PlannerName::Model("openai/m".to_owned())));
        for wrong in ["", "model", "model=m", "runbook", "project=x", "magic"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
