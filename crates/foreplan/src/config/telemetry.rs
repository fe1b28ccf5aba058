//! `[telemetry]`: where traces go, and what they hold.

use schemars::JsonSchema;
use serde::Deserialize;

/// Where traces go, and what they hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySection {
    /// The base URL of a collector that takes OTLP over HTTP; `OTEL_EXPORTER_OTLP_ENDPOINT` goes
    /// before it.
    pub endpoint: Option<String>,
    /// Whether each run's trace is written beside the runs, as OTLP JSON lines.
    pub file: bool,
    /// Whether goals, prompts, inputs, outputs and messages are exported.
    pub content: bool,
    /// Regular expressions: what they match is replaced on export and on display.
    pub redact: Vec<String>,
}

impl Default for TelemetrySection {
    fn default() -> Self {
        Self { endpoint: None, file: true, content: false, redact: Vec::new() }
    }
}
