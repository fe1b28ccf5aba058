//! `foreplan schema`: the JSON Schemas of what people write and programs read.

use foreplan_core::{
    diff::PlanDiff, envelope::Envelope, event::Entry, finding::Finding, plan::Plan, tool::ToolDescriptor,
    view::RunView,
};
use schemars::{Schema, schema_for};
use serde_json::{Map, Value};

use crate::{
    cli::{
        args::SchemaArgs,
        error::Failure,
        exit::Exit,
        lines::{
            CheckLine, FindingLine, JaegerLine, OtherwiseLine, PlanLine, ProgressLine, ReplayLine,
            RewordedLine, RunLine, StatsLine, ToolLine, VerifyLine,
        },
        output::{Output, VersionLine},
    },
    config::{self, nearest},
};

type Make = fn() -> Schema;

const SCHEMAS: &[(&str, Make)] = &[
    ("plan", || schema_for!(Plan)),
    ("project", || schema_for!(config::File)),
    ("run", || schema_for!(RunView)),
    ("entry", || schema_for!(Entry)),
    ("envelope", || schema_for!(Envelope)),
    ("finding", || schema_for!(Finding)),
    ("tool", || schema_for!(ToolDescriptor)),
    ("diff", || schema_for!(PlanDiff)),
    ("message", || schema_for!(foreplan_protocol::Frame)),
    #[cfg(feature = "nats")]
    ("announcement", || schema_for!(foreplan_nats::Announcement)),
    #[cfg(feature = "nats")]
    ("worker", || schema_for!(foreplan_nats::Alive)),
    #[cfg(feature = "nats")]
    ("answer", || schema_for!(foreplan_nats::Answer)),
    ("line.version", || schema_for!(VersionLine)),
    ("line.progress", || schema_for!(ProgressLine)),
    ("line.run", || schema_for!(RunLine)),
    ("line.stats", || schema_for!(StatsLine)),
    ("line.plan", || schema_for!(PlanLine)),
    ("line.finding", || schema_for!(FindingLine)),
    ("line.check", || schema_for!(CheckLine)),
    ("line.verify", || schema_for!(VerifyLine)),
    ("line.jaeger", || schema_for!(JaegerLine)),
    ("line.otherwise", || schema_for!(OtherwiseLine)),
    ("line.reworded", || schema_for!(RewordedLine)),
    ("line.replay", || schema_for!(ReplayLine)),
    ("line.tool", || schema_for!(ToolLine)),
];

/// Prints one schema, or all as one object by name.
///
/// # Errors
///
/// If there is no schema of that name.
pub(crate) fn schema(output: &mut Output, args: &SchemaArgs) -> Result<Exit, Failure> {
    let value = match &args.name {
        None => Value::Object(
            SCHEMAS.iter().map(|(name, make)| ((*name).to_owned(), make().to_value())).collect::<Map<_, _>>(),
        ),
        Some(name) => {
            let found = SCHEMAS.iter().find(|(known, _)| known == name);
            let Some((_, make)) = found else { return Err(unknown(name)) };
            make().to_value()
        }
    };
    if output.is_json() {
        output.object(&value);
    } else {
        output.result(&format!("{}\n", serde_json::to_string_pretty(&value).unwrap_or_default()));
    }
    Ok(Exit::Ok)
}

fn unknown(name: &str) -> Failure {
    let names: Vec<&str> = SCHEMAS.iter().map(|(name, _)| *name).collect();
    let hint =
        nearest(name, names.iter().copied()).map_or_else(String::new, |n| format!("did you mean `{n}`? "));
    Failure::usage(format!("there is no schema `{name}`"))
        .next(format!("{hint}There are: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_describes_an_object() {
        for (name, make) in SCHEMAS {
            let schema = make().to_value();
            let is_object =
                schema.get("type").is_some_and(|t| t == "object") || schema.get("oneOf").is_some();
            assert!(is_object, "{name}: {schema}");
        }
    }
}
