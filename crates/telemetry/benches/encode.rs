//! How long it takes to derive 20,000 spans and to write them as OTLP.
//!
//! The spans are those of runs of 400 steps, in batches of 512 as an exporter sends them.
//!
//! * `derive`: journals as spans;
//! * `protobuf`: what goes to a collector;
//! * `json`: the lines of a trace file.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up has no figures")]

#[path = "../../core/tests/run/support/mod.rs"]
mod support;

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foreplan_core::{digest::Digest, event::Entry};
use foreplan_telemetry::{AuditSpan, Batch, Options, Record, derive, to_json};
use serde_json::json;
use support::{Harness, run_id, spec};

/// Steps of a run: as many as a trace has that reads well.
const STEPS: usize = 400;

/// What is measured: the target is 150 ms.
const SPANS: usize = 20_000;

/// Spans of a batch.
const BATCH: usize = 512;

fn journal() -> Vec<Record> {
    let plan: Vec<_> = (0..STEPS).map(|at| json!({"id": format!("s{at}"), "tool": "read"})).collect();
    let (mut h, _) = Harness::started(spec(), &json!(plan));
    for at in 0..STEPS {
        h.ok(&format!("s{at}"), 1);
    }
    let record = |entry: &Entry| Record { entry: Arc::new(entry.clone()), hash: Digest::of(entry) };
    h.entries.iter().map(record).collect()
}

fn encode(c: &mut Criterion) {
    let (records, options) = (journal(), Options::default());
    let of_one = derive(run_id(), &records, &options).len();
    let spans = || -> Vec<AuditSpan> {
        let runs = SPANS.div_ceil(of_one);
        let mut all: Vec<_> = (0..runs).flat_map(|_| derive(run_id(), &records, &options)).collect();
        all.truncate(SPANS);
        all
    };
    let batches: Vec<Batch> =
        spans().chunks(BATCH).map(|spans| Batch { run: run_id(), spans: spans.to_vec() }).collect();

    let mut group = c.benchmark_group("20000 spans");
    group.throughput(Throughput::Elements(SPANS as u64)).sample_size(20);
    group.measurement_time(Duration::from_secs(5));
    group.bench_function("derive", |b| b.iter(|| black_box(spans())));
    group.bench_function("protobuf", |b| {
        b.iter(|| batches.iter().map(|batch| black_box(batch.to_protobuf()).len()).sum::<usize>());
    });
    group.bench_function("json", |b| {
        b.iter(|| batches.iter().map(|batch| black_box(to_json(&batch.spans).unwrap()).len()).sum::<usize>());
    });
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
