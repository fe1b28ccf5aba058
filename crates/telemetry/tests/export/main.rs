//! Exporting to sinks that are down, refuse, forget, or are killed.

#![allow(clippy::unwrap_used, reason = "tests may")]
#![cfg(feature = "otlp")]

use std::time::Duration;

use foreplan_telemetry::Pace;

mod collector;
mod delivery;
mod settings;
mod store;
#[path = "../../../core/tests/run/support/mod.rs"]
mod support;
mod together;

/// Long enough on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// No longer than it takes.
const PACE: Pace = Pace {
    gather: Duration::from_millis(1),
    rest: 0,
    lag: Duration::ZERO,
    pause_min: Duration::from_millis(5),
    pause_max: Duration::from_millis(50),
    refused: Duration::from_millis(50),
};
