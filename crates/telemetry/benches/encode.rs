//! How long it takes to derive 20,000 spans and to write them as OTLP.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../../core/tests/run/support/mod.rs"]
mod support;

use std::{sync::Arc, time::Instant};

use foreplan_core::digest::Digest;
use foreplan_telemetry::{Batch, Options, Record, derive, to_json};
use serde_json::json;
use support::{Harness, run_id, spec};

/// Steps of the run: as many as a trace of 2,000 spans has.
const STEPS: usize = 400;

/// What is measured.
const SPANS: usize = 20_000;

fn main() {
    let plan: Vec<_> = (0..STEPS).map(|at| json!({"id": format!("s{at}"), "tool": "read"})).collect();
    let (mut h, _) = Harness::started(spec(), &json!(plan));
    for at in 0..STEPS {
        h.ok(&format!("s{at}"), 1);
    }
    let record = |entry: &foreplan_core::event::Entry| Record {
        entry: Arc::new(entry.clone()),
        hash: Digest::of(entry),
    };
    let records: Vec<Record> = h.entries.iter().map(record).collect();
    let options = Options::default();
    let of_one = derive(run_id(), &records, &options).len();
    let runs = SPANS.div_ceil(of_one);

    let begun = Instant::now();
    let derived: Vec<_> = (0..runs).map(|_| derive(run_id(), &records, &options)).collect();
    let spans = of_one * runs;
    println!("derive    {spans} spans  {:?}", begun.elapsed());

    let batches: Vec<Batch> = derived
        .iter()
        .flat_map(|spans| spans.chunks(512))
        .map(|spans| Batch { run: run_id(), spans: spans.to_vec() })
        .collect();
    let begun = Instant::now();
    let bytes: usize = batches.iter().map(|batch| batch.to_protobuf().len()).sum();
    println!("protobuf  {spans} spans  {:?}  {bytes} bytes", begun.elapsed());

    let begun = Instant::now();
    let bytes: usize = batches.iter().map(|batch| to_json(&batch.spans).unwrap().len()).sum();
    println!("json      {spans} spans  {:?}  {bytes} bytes", begun.elapsed());
}
