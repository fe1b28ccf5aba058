//! Exporting to sinks that are down, refuse, forget, or are killed.

#![allow(clippy::unwrap_used, reason = "tests may")]
#![cfg(feature = "otlp")]

mod collector;
mod delivery;
mod settings;
mod store;
#[path = "../../../core/tests/run/support/mod.rs"]
mod support;
