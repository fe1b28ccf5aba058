//! Where the command line lets traces go, and what a person is told about it.

use std::sync::Arc;

use foreplan_telemetry::{FileSink, Options, OtlpSettings, OtlpSink, Redact, Sink};

use super::{error::Failure, output::Output, place::Place};
use crate::system::{System, Traces};

/// How often metrics are sent: OpenTelemetry's default.
#[cfg(feature = "nats")]
const METRICS_INTERVAL: std::time::Duration = std::time::Duration::from_secs(60);

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
    if let Some(settings) = OtlpSettings::from_env(section.endpoint.as_deref(), var).map_err(unusable)? {
        sinks.push(Arc::new(OtlpSink::new(&settings).map_err(unusable)?));
    }
    Ok(Traces { sinks, options: options(place)?, ..Traces::default() })
}

/// Returns where a tracker of a deployment lets traces go: to a collector, if one is named.
///
/// # Errors
///
/// If the project file or the environment names a place that cannot be.
#[cfg(feature = "nats")]
pub(crate) fn collector(place: Option<&Place>) -> Result<Traces, Failure> {
    let section = place.map(|place| &place.project.file().telemetry);
    let var = |name: &str| std::env::var(name).ok();
    let endpoint = section.and_then(|section| section.endpoint.as_deref());
    let settings = OtlpSettings::from_env(endpoint, var).map_err(unusable)?;
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    if let Some(settings) = settings {
        sinks.push(Arc::new(OtlpSink::new(&settings).map_err(unusable)?));
    }
    let options = place.map(options).transpose()?.unwrap_or_default();
    Ok(Traces { sinks, options, ..Traces::default() })
}

/// Returns where metrics are sent, and how often; nowhere, unless the environment asks for it.
///
/// # Errors
///
/// If the environment names a place that cannot be.
#[cfg(feature = "nats")]
pub(crate) fn metrics(endpoint: Option<&str>) -> Result<Option<(OtlpSink, std::time::Duration)>, Failure> {
    let var = |name: &str| std::env::var(name).ok();
    let Some(settings) = OtlpSettings::of_metrics(endpoint, var).map_err(unusable)? else { return Ok(None) };
    let millis = var("OTEL_METRIC_EXPORT_INTERVAL").and_then(|text| text.trim().parse().ok());
    let every =
        millis.filter(|millis| *millis > 0).map_or(METRICS_INTERVAL, std::time::Duration::from_millis);
    Ok(Some((OtlpSink::new(&settings).map_err(unusable)?, every)))
}

fn unusable(error: String) -> Failure {
    Failure::usage(format!("traces and metrics cannot be exported: {error}"))
}

/// Says what was not exported, and that nothing is lost by that.
pub(crate) fn tell(output: &mut Output, system: &System) {
    for stats in system.trace_stats() {
        let is_late = stats.runs_behind > 0 && stats.refused.is_none() && stats.unreadable.is_none();
        let late = is_late.then(|| "it did not take everything in time".to_owned());
        if let Some(why) = stats.failing.or(late) {
            output.note(&format!("note: the trace was not exported to {}: {why}", stats.sink));
            output.note("the journal keeps it, and the next command sends it");
        }
        if let Some(why) = stats.refused {
            output.note(&format!("note: {} refused spans: {why}", stats.sink));
            output.note("the journal keeps them, and the next command sends them again");
        }
        if let Some(why) = stats.unreadable {
            output.note(&format!("note: {why}"));
            output.note(&format!(
                "{} gets no spans of it; `foreplan audit RUN --verify` says more",
                stats.sink
            ));
        }
    }
}
