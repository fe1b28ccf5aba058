//! Where the command line lets traces go, and what a person is told about it.

use std::sync::Arc;

use foreplan_telemetry::{FileSink, Options, OtlpSettings, OtlpSink, Redact, Sink};

use super::{error::Failure, output::Output, place::Place};
use crate::system::{System, Traces};

/// Returns what the spans of a project hold.
///
/// # Errors
///
/// If a pattern of the project file is no regular expression.
pub(crate) fn options(place: &Place) -> Result<Options, Failure> {
    let section = &place.project.file().telemetry;
    let redact = Redact::new(&section.redact)
        .map_err(|e| Failure::usage(format!("`telemetry.redact` in foreplan.toml: {e}")))?;
    Ok(Options { content: section.content, redact })
}

/// Returns the file of a run's trace, beside the runs.
pub(crate) fn file(place: &Place) -> FileSink {
    FileSink::new(place.store.join("traces"))
}

/// Returns where the traces of a project go.
///
/// # Errors
///
/// If the project file or the environment names a place that cannot be.
pub(crate) fn places(place: &Place) -> Result<Traces, Failure> {
    let section = &place.project.file().telemetry;
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    if section.file {
        sinks.push(Arc::new(file(place)));
    }
    let var = |name: &str| std::env::var(name).ok();
    let usage = |e| Failure::usage(format!("traces cannot be exported: {e}"));
    if let Some(settings) = OtlpSettings::from_env(section.endpoint.as_deref(), var).map_err(usage)? {
        sinks.push(Arc::new(OtlpSink::new(&settings).map_err(usage)?));
    }
    Ok(Traces { sinks, options: options(place)?, ..Traces::default() })
}

/// Says what was not exported, and that nothing is lost by that.
pub(crate) fn tell(output: &mut Output, system: &System) {
    for stats in system.trace_stats() {
        if let Some(why) = stats.failing {
            output.note(&format!("note: the trace was not exported to {}: {why}", stats.sink));
            output.note("the journal keeps it, and the next command sends it");
        }
        if let Some(why) = stats.refused {
            output.note(&format!("note: {} refused spans: {why}", stats.sink));
            output.note("the journal keeps them, and the next command sends them again");
        }
    }
}
