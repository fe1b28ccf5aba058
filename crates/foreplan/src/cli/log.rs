//! What the program's own parts have to say: lines on stderr, and spans for debugging. What a person
//! has to know is printed by the verbs.

use foreplan_telemetry::{DebugSpans, OtlpSettings};
use tokio::runtime::Handle;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Which lines are written; errors, unless it says otherwise.
const LINES: &str = "FOREPLAN_LOG";

/// `json` for JSON lines.
const FORMAT: &str = "FOREPLAN_LOG_FORMAT";

/// Which spans are sent to the collector that the environment names; none, unless it is set.
const SPANS: &str = "FOREPLAN_SPANS";

/// Begins to write, and to send what is asked for. Whoever ends the process ends the spans first.
pub(super) fn begin(runtime: &Handle) -> Option<DebugSpans> {
    let wanted = EnvFilter::try_from_env(LINES).unwrap_or_else(|_| EnvFilter::new("error"));
    // A line tells in which run, step and attempt it was written, whatever lines are wanted.
    let own = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("foreplan"));
    let filter = wanted.or(own);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if std::env::var(FORMAT).is_ok_and(|format| format == "json") {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_target(false).boxed()
    };
    let (spans, fault) = match spans(runtime) {
        Ok(spans) => (spans, None),
        Err(fault) => (None, Some(fault)),
    };
    let sending = spans.as_ref().map(|(spans, filter)| spans.layer().with_filter(filter.clone()));
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(sending).init();
    if let Some(fault) = fault {
        tracing::error!("{SPANS} is not followed: {fault}");
    }
    spans.map(|(spans, _)| spans)
}

fn spans(runtime: &Handle) -> Result<Option<(DebugSpans, EnvFilter)>, String> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(wanted) = var(SPANS) else { return Ok(None) };
    let filter = EnvFilter::try_new(wanted).map_err(|e| e.to_string())?;
    let settings = OtlpSettings::from_env(None, var)?
        .ok_or("no collector is named: set OTEL_EXPORTER_OTLP_ENDPOINT too")?;
    let instance = std::process::id().to_string();
    let spans = DebugSpans::begin(&settings, "foreplan-debug", &instance, runtime.clone())?;
    Ok(Some((spans, filter)))
}
