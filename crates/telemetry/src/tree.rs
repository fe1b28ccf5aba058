//! A trace as text: what a person reads where there is no page to open.

use std::{collections::BTreeMap, fmt::Write as _};

use foreplan_core::{id::RunId, trace::SpanId};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use uuid::Uuid;

use crate::{AuditSpan, semconv};

/// What a line tells of a span beside its name, where the span has it.
const TOLD: [&str; 9] = [
    semconv::STEP,
    semconv::ATTEMPT,
    semconv::TRIGGER,
    semconv::DECISION,
    semconv::OUTCOME,
    semconv::FAILURE_CODE,
    semconv::BY,
    semconv::WORKER,
    semconv::PLAN_VERSION,
];

/// Returns the spans as a tree, each with its service, when it began since the run did, how long it
/// took, what came of it, and where it links to.
#[must_use]
pub fn tree(spans: &[AuditSpan]) -> String {
    let begun = spans.iter().map(|s| s.span.start_time_unix_nano).min().unwrap_or(0);
    let names: BTreeMap<SpanId, String> = spans.iter().map(|s| (s.id(), label(s))).collect();
    let mut children: BTreeMap<&[u8], Vec<&AuditSpan>> = BTreeMap::new();
    for span in spans {
        let parent = &span.span.parent_span_id;
        let known = spans.iter().any(|s| s.span.span_id == *parent);
        children.entry(if known { parent } else { &[] }).or_default().push(span);
    }
    for siblings in children.values_mut() {
        siblings.sort_by_key(|s| (s.span.start_time_unix_nano, s.seq));
    }
    let mut text = String::new();
    branch(&children, &[], "", begun, &names, &mut text);
    text
}

fn branch(
    children: &BTreeMap<&[u8], Vec<&AuditSpan>>,
    parent: &[u8],
    indent: &str,
    begun: u64,
    names: &BTreeMap<SpanId, String>,
    text: &mut String,
) {
    let Some(siblings) = children.get(parent) else { return };
    for (at, span) in siblings.iter().enumerate() {
        let is_last = at + 1 == siblings.len();
        let (fork, below) = match (parent.is_empty(), is_last) {
            (true, _) => ("", ""),
            (false, false) => ("├─ ", "│  "),
            (false, true) => ("└─ ", "   "),
        };
        let inner = &span.span;
        let since = inner.start_time_unix_nano.saturating_sub(begun);
        let took = inner.end_time_unix_nano.saturating_sub(inner.start_time_unix_nano);
        let _ = writeln!(
            text,
            "{indent}{fork}{}  [{}]  +{}  {}{}",
            inner.name,
            span.service.name(),
            time(since),
            time(took),
            told(span)
        );
        let indent = format!("{indent}{below}");
        for link in &inner.links {
            let mut id = [0; 8];
            id.copy_from_slice(link.span_id.get(..8).unwrap_or(&[0; 8]));
            let what = link.attributes.iter().find_map(|a| match a.value.as_ref()?.value.as_ref()? {
                Value::StringValue(text) if a.key == semconv::LINK => Some(text.as_str()),
                _ => None,
            });
            let elsewhere = || match <[u8; 16]>::try_from(link.trace_id.as_slice()) {
                Ok(trace) => format!("run {}", RunId(Uuid::from_bytes(trace))),
                Err(_) => format!("span {}", SpanId(id)),
            };
            let to = names.get(&SpanId(id)).cloned().unwrap_or_else(elsewhere);
            let has_children = children.contains_key(inner.span_id.as_slice());
            let bar = if has_children { "│" } else { " " };
            let _ = writeln!(text, "{indent}{bar}    → {}: {to}", what.unwrap_or("link"));
        }
        branch(children, &inner.span_id, &indent, begun, names, text);
    }
}

fn label(span: &AuditSpan) -> String {
    match (span.text(semconv::STEP), number(span, semconv::ATTEMPT)) {
        (Some(step), Some(attempt)) => format!("{step} attempt {attempt}"),
        _ => match number(span, semconv::PLAN_VERSION).filter(|_| span.span.name.starts_with("plan ")) {
            Some(version) => format!("{} version {version}", span.span.name),
            None => span.span.name.clone(),
        },
    }
}

fn number(span: &AuditSpan, key: &str) -> Option<i64> {
    let found = span.span.attributes.iter().find(|a| a.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::IntValue(number) => Some(*number),
        _ => None,
    }
}

fn told(span: &AuditSpan) -> String {
    let mut text = String::new();
    for key in TOLD {
        let value = span.text(key).map(str::to_owned).or_else(|| number(span, key).map(|n| n.to_string()));
        if let Some(value) = value {
            let name = key.trim_start_matches("foreplan.");
            let _ = write!(text, "  {name}={value}");
        }
    }
    text
}

fn time(nanos: u64) -> String {
    let micros = nanos / 1_000;
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => format!("{}ms", micros / 1_000),
        _ => format!("{}.{:03}s", micros / 1_000_000, micros / 1_000 % 1_000),
    }
}
