//! What is counted, under the same names wherever it is read.
//!
//! Counters follow from entries alone: [`Fold`] counts each once. Gauges are taken when somebody looks.

mod fold;
mod often;
mod otlp;

use std::{collections::BTreeMap, fmt::Write as _};

use foreplan_core::{
    event::{Entry, Event},
    failure::Failure,
    input::{AttemptOutcome, Input},
};

pub use fold::{Fold, Gap};
pub use otlp::Counter;

use crate::ExporterStats;

/// Something that is counted or measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// The name of the one label that it has, if it has one.
    pub label: Option<&'static str>,
    /// Whether it only grows.
    pub is_counter: bool,
}

const fn counter(name: &'static str, label: Option<&'static str>, help: &'static str) -> Metric {
    Metric { name, help, label, is_counter: true }
}

const fn gauge(name: &'static str, label: Option<&'static str>, help: &'static str) -> Metric {
    Metric { name, help, label, is_counter: false }
}

/// The roles of a process that serves.
pub const UP: Metric = gauge("foreplan_up", Some("role"), "The roles of a process that serves.");
/// Runs by where they stand.
pub const RUNS: Metric = gauge("foreplan_runs", Some("status"), "Runs by where they stand.");
/// Steps of open runs that are done, and that are left.
pub const STEPS: Metric = gauge("foreplan_steps", Some("state"), "Steps of open runs, done and left.");
/// Runs that ended.
pub const ENDED: Metric = counter("foreplan_runs_ended_total", Some("outcome"), "Runs that ended, by how.");
/// Seconds for which the oldest step has waited for room.
pub const QUEUE_AGE: Metric =
    gauge("foreplan_queue_age_seconds", None, "How long the oldest step has waited for room.");
/// Milliseconds for which steps waited for room.
pub const WAIT: Metric =
    counter("foreplan_queue_wait_milliseconds_total", None, "How long all steps waited for room.");
/// Attempts that began.
pub const WAITED: Metric = counter("foreplan_attempts_begun_total", None, "Attempts that began.");
/// Entries that are durable and not counted yet.
pub const JOURNAL_LAG: Metric = gauge(
    "foreplan_journal_lag_entries",
    None,
    "Entries of this process's open runs that it has not counted yet.",
);
/// Attempts that ended.
pub const ATTEMPTS: Metric = counter(
    "foreplan_attempts_total",
    Some("outcome"),
    "Attempts that ended: succeeded, or the kind of failure.",
);
/// Plans that were proposed.
pub const PLANS: Metric = counter("foreplan_plans_total", Some("outcome"), "Plans: adopted or refused.");
/// Adopted plan versions after the first.
pub const REPLANS: Metric = counter("foreplan_replans_total", None, "Adopted plan versions after the first.");
/// Approvals.
pub const APPROVALS: Metric =
    counter("foreplan_approvals_total", Some("outcome"), "Approvals: asked or granted.");
/// Calls of models and tools.
pub const CALLS: Metric = counter("foreplan_calls_total", Some("kind"), "Calls of models and of tools.");
/// Tokens.
pub const TOKENS: Metric = counter("foreplan_tokens_total", Some("direction"), "Tokens sent and received.");
/// Micro-dollars.
pub const COST: Metric = counter("foreplan_cost_microusd_total", None, "Micro-dollars spent on models.");
/// Spans that a sink took.
pub const SPANS: Metric = counter("foreplan_trace_spans_total", Some("sink"), "Spans that a sink took.");
/// Batches that a sink did not take.
pub const SEND_FAILURES: Metric =
    counter("foreplan_trace_failures_total", Some("sink"), "Batches that a sink did not take.");
/// Runs with entries that a sink has not got.
pub const BEHIND: Metric =
    gauge("foreplan_trace_runs_behind", Some("sink"), "Runs with entries that a sink has not got.");

/// Entries that a sink has not got.
pub const ENTRIES_BEHIND: Metric =
    gauge("foreplan_trace_entries_behind", Some("sink"), "Entries that a sink has not got.");

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    values: BTreeMap<Metric, BTreeMap<String, u64>>,
}

impl Metrics {
    /// Counts what few entries say. An entry that is counted twice counts twice.
    fn observe(&mut self, entry: &Entry) {
        for event in &entry.events {
            match event {
                Event::AttemptFailed { failure, .. } => {
                    let failure = failure.as_ref().or_else(|| failure_of(&entry.cause));
                    self.add(ATTEMPTS, failure.map_or("unknown", |f| f.kind.as_str()), 1);
                }
                Event::PlanAdopted { version } => {
                    self.add(PLANS, "adopted", 1);
                    self.add(REPLANS, "", u64::from(*version > 1));
                }
                Event::PlanRefused { .. } => self.add(PLANS, "refused", 1),
                Event::ApprovalRequested { .. } => self.add(APPROVALS, "asked", 1),
                Event::ApprovalGranted { .. } => self.add(APPROVALS, "granted", 1),
                Event::RunSucceeded => self.add(ENDED, "succeeded", 1),
                Event::RunFailed { .. } => self.add(ENDED, "failed", 1),
                Event::RunCancelled { .. } => self.add(ENDED, "cancelled", 1),
                Event::RunRejected { .. } => self.add(ENDED, "rejected", 1),
                _ => {}
            }
        }
    }

    /// Takes what the exporter of traces says of its sinks.
    pub fn traces(&mut self, stats: &[ExporterStats]) {
        for one in stats {
            self.set(SPANS, &one.sink, one.spans);
            self.set(SEND_FAILURES, &one.sink, one.failures);
            self.set(BEHIND, &one.sink, one.runs_behind);
        }
    }

    /// Adds to a value.
    pub fn add(&mut self, metric: Metric, label: &str, more: u64) {
        let values = self.values.entry(metric).or_default();
        match values.get_mut(label) {
            Some(value) => *value = value.saturating_add(more),
            None => drop(values.insert(label.to_owned(), more)),
        }
    }

    /// Sets a value.
    pub fn set(&mut self, metric: Metric, label: &str, value: u64) {
        self.values.entry(metric).or_default().insert(label.to_owned(), value);
    }

    /// Returns a value; 0 if there is none.
    #[must_use]
    pub fn get(&self, metric: Metric, label: &str) -> u64 {
        self.values.get(&metric).and_then(|values| values.get(label)).copied().unwrap_or(0)
    }

    /// Returns the text that Prometheus reads.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        for (metric, values) in &self.values {
            let Metric { name, help, label, is_counter } = metric;
            let kind = if *is_counter { "counter" } else { "gauge" };
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (value_of, value) in values {
                let _ = match label {
                    Some(label) => writeln!(text, "{name}{{{label}=\"{}\"}} {value}", escaped(value_of)),
                    None => writeln!(text, "{name} {value}"),
                };
            }
        }
        text
    }
}

fn failure_of(cause: &Input) -> Option<&Failure> {
    let Input::Result(reply) = cause else { return None };
    match &reply.outcome {
        AttemptOutcome::Failure(failure) => Some(failure),
        AttemptOutcome::Output(_) => reply.verdicts.gate.as_ref(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_form_that_prometheus_reads() {
        let mut metrics = Metrics::default();
        metrics.add(ATTEMPTS, "succeeded", 2);
        metrics.add(ATTEMPTS, "succeeded", 1);
        metrics.add(REPLANS, "", 0);
        metrics.set(BEHIND, "otlp \"a\"", 4);
        assert_eq!(
            metrics.to_prometheus(),
            "# HELP foreplan_attempts_total Attempts that ended: succeeded, or the kind of failure.\n\
             # TYPE foreplan_attempts_total counter\n\
             foreplan_attempts_total{outcome=\"succeeded\"} 3\n\
             # HELP foreplan_replans_total Adopted plan versions after the first.\n\
             # TYPE foreplan_replans_total counter\n\
             foreplan_replans_total 0\n\
             # HELP foreplan_trace_runs_behind Runs with entries that a sink has not got.\n\
             # TYPE foreplan_trace_runs_behind gauge\n\
             foreplan_trace_runs_behind{sink=\"otlp \\\"a\\\"\"} 4\n"
        );
    }
}
