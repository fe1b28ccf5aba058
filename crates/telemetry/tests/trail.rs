//! What is true of every trace.

#![allow(clippy::unwrap_used, reason = "tests may")]

#[path = "../../core/tests/run/support/mod.rs"]
mod support;

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use foreplan_core::{
    digest::Digest,
    event::Entry,
    goal::{Approval, ApprovalMode, Parent},
    input::{CommandKind, Resolution},
    payload::Output,
    policy::ReplanDecision,
    time::Timestamp,
    trace::SpanId,
};
use foreplan_telemetry::{AuditSpan, Options, Record, Redact, Service, Trace, derive, to_json, tree};
use serde_json::json;
use support::{Harness, broken, hopeless, run_id, spec};

/// Returns the records of a journal; the hash of an entry stands for that of its stored bytes.
fn records(entries: &[Entry]) -> Vec<Record> {
    let record = |entry: &Entry| Record { entry: Arc::new(entry.clone()), hash: Digest::of(entry) };
    entries.iter().map(record).collect()
}

fn spans(h: &Harness) -> Vec<AuditSpan> {
    derive(run_id(), &records(&h.entries), &Options::default())
}

fn asking() -> foreplan_core::goal::RunSpec {
    let approval = Approval {
        mode: ApprovalMode::Always,
        timeout: Duration::from_secs(48 * 3600),
        ..Approval::default()
    };
    foreplan_core::goal::RunSpec { approval, ..spec() }
}

/// A run in which nearly everything happens.
fn eventful() -> Harness {
    let plan = json!([
        {"id": "ask", "human": {"question": "the planted secret?"}},
        {"id": "each", "tool": "read", "for_each": {"in": [1, 2]}, "on_failure": {"attempts": 2}},
        {"id": "send", "tool": "send", "needs": ["each"]},
        {"id": "last", "tool": "put", "needs": ["ask", "send"]},
    ]);
    let (mut h, _) = Harness::planned(asking(), &plan);
    h.advance(60);
    h.approve();
    h.go();
    h.advance(1);
    h.answer("ask", json!("the planted secret"));
    h.fails("each~0", 1, broken());
    h.wake();
    h.ok("each~0", 2);
    h.advance(2);
    h.ok("each~1", 1);
    h.go();
    h.permit("send", 1);
    h.takeover();
    h.advance(30);
    h.resolve("send", Resolution::Happened(Output::inline(json!("the planted secret"))));
    h.fails("last", 1, hopeless());
    h.decide(ReplanDecision::Retry, None);
    h.go();
    h.command(CommandKind::Pause);
    h.command(CommandKind::Resume);
    h.advance(3);
    h.ok_with("last", 2, json!("the planted secret"));
    h
}

/// Journals that end in every way.
fn journals() -> Vec<(&'static str, Harness)> {
    let plan = json!([{"id": "a", "tool": "read"}, {"id": "b", "tool": "put", "needs": ["a"]}]);
    let (mut cancelled, _) = Harness::started(spec(), &plan);
    cancelled.cancel();
    let (mut rejected, _) = Harness::planned(asking(), &plan);
    rejected.command(CommandKind::Reject { reason: "the planted secret".to_owned() });
    let (mut patched, _) = Harness::started(spec(), &plan);
    patched.fails("a", 1, hopeless());
    patched.patch(&json!([{"id": "c", "tool": "read"}, {"id": "b", "tool": "put", "needs": ["c"]}]));
    patched.go();
    patched.ok("c", 1);
    patched.ok("b", 1);
    let (mut again, _) = Harness::started(spec(), &plan);
    again.fails("a", 1, hopeless());
    again.decide(ReplanDecision::Fail { reason: "the planted secret".to_owned() }, None);
    again.retry(None);
    again.go();
    again.ok("a", 2);
    again.ok("b", 1);
    let (mut edited, _) = Harness::planned(asking(), &plan);
    edited.edit(1, &json!([{"id": "a", "tool": "read"}]));
    edited.approve();
    edited.go();
    edited.ok("a", 1);
    let (mut late, _) = Harness::started(spec(), &json!([{"id": "send", "tool": "send"}]));
    late.permit("send", 1);
    late.takeover();
    late.ok("send", 1);
    let (mut verified, _) = Harness::started(spec(), &json!([{"id": "pay", "tool": "pay"}]));
    verified.permit("pay", 1);
    verified.takeover();
    verified.ok_with("pay", 2, support::happened(true));
    let (mut goal, _) =
        Harness::started(spec(), &json!([{"id": "a", "goal": {"text": "the planted secret"}}]));
    goal.child("a", 1, true);
    goal.fails("a", 1, hopeless());
    goal.decide(ReplanDecision::Fail { reason: "the planted secret".to_owned() }, None);
    let (mut unplanned, _) = Harness::submit(spec());
    unplanned.cancel();
    vec![
        ("eventful", eventful()),
        ("unplanned", unplanned),
        ("goal", goal),
        ("cancelled", cancelled),
        ("rejected", rejected),
        ("patched", patched),
        ("again", again),
        ("edited", edited),
        ("late", late),
        ("verified", verified),
    ]
}

#[test]
fn a_fixed_journal_gives_the_bytes_that_another_process_wrote() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let found = spans(&eventful());
    check(&golden.join("eventful.json"), &(to_json(&found).unwrap() + "\n"));
    check(&golden.join("eventful.txt"), &tree(&found));
}

/// Compares with a file, or writes it if `UPDATE_GOLDEN` says so.
fn check(path: &Path, text: &str) {
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|v| v == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == text,
        "{} says something else; run again with UPDATE_GOLDEN=1\n{text}",
        path.display()
    );
}

#[test]
fn wherever_an_exporter_stops_the_spans_are_the_same() {
    for (name, h) in journals() {
        let records = records(&h.entries);
        let whole = derive(run_id(), &records, &Options::default());
        for stop in 0..records.len() {
            let mut found = derive(run_id(), &records[..stop], &Options::default());
            let mut again = Trace::new(run_id(), Options::default());
            for record in &records {
                let made = again.feed(record);
                if record.entry.seq >= stop as u64 {
                    found.extend(made);
                }
            }
            assert_eq!(found, whole, "{name} stopped before {stop}");
        }
    }
}

#[test]
fn ids_are_unique_and_parents_and_links_lead_to_spans_of_the_trace() {
    for (name, h) in journals() {
        let spans = spans(&h);
        assert!(h.run.status().is_ended() || name == "late", "{name}: {:?}", h.run.status());
        let ids: HashSet<&[u8]> = spans.iter().map(|s| s.span.span_id.as_slice()).collect();
        assert_eq!(ids.len(), spans.len(), "{name}\n{}", tree(&spans));
        for one in &spans {
            let span = &one.span;
            assert_eq!(span.trace_id, run_id().0.as_bytes(), "{name}");
            assert!(span.end_time_unix_nano > span.start_time_unix_nano, "{name}: {}", span.name);
            let is_root = span.name == "run accepted";
            assert!(is_root == span.parent_span_id.is_empty(), "{name}: {}", span.name);
            assert!(
                is_root || ids.contains(span.parent_span_id.as_slice()),
                "{name}: parent of {}",
                span.name
            );
            for link in span.links.iter().filter(|link| link.trace_id == span.trace_id) {
                assert!(
                    ids.contains(link.span_id.as_slice()),
                    "{name}: a link of {}\n{}",
                    span.name,
                    tree(&spans)
                );
            }
        }
    }
}

#[test]
fn nothing_is_shown_before_it_is_closed_and_all_is_once_the_run_has_ended() {
    let h = eventful();
    let records = records(&h.entries);
    let mut trace = Trace::new(run_id(), Options::default());
    for record in &records {
        for span in trace.feed(record) {
            assert_eq!(span.seq, record.entry.seq);
            assert!(span.span.end_time_unix_nano <= u64::try_from(record.entry.at.0).unwrap() * 1_000 + 1);
        }
    }
    let names: BTreeSet<String> = spans(&h).iter().map(|s| s.span.name.clone()).collect();
    for name in [
        "run accepted",
        "invoke_workflow test",
        "plan test",
        "approval requested",
        "approval",
        "question asked ask",
        "question ask",
        "outcome unknown send",
        "outcome send",
        "invoke_agent pool",
        "replan decision",
    ] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
}

#[test]
fn a_lost_worker_has_one_span_and_the_next_attempt_links_to_it() {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "a", "tool": "read"}]));
    h.takeover();
    h.wake();
    h.ok("a", 2);
    let spans = spans(&h);
    let lost: Vec<_> = spans.iter().filter(|s| s.text("foreplan.outcome") == Some("worker_lost")).collect();
    assert_eq!(lost.len(), 1, "{}", tree(&spans));
    let next = spans.iter().find(|s| s.span.links.iter().any(|l| l.span_id == lost[0].span.span_id));
    assert_eq!(next.and_then(|s| s.text("foreplan.outcome")), Some("succeeded"));
}

#[test]
fn a_child_run_and_its_step_link_to_each_other_and_the_wait_for_it_is_shown() {
    let plan = json!([{"id": "a", "goal": {"text": "find it"}}]);
    let (mut h, _) = Harness::started(spec(), &plan);
    h.child("a", 1, true);
    h.child("a", 1, false);
    h.ok("a", 1);
    let spans = spans(&h);
    let child = run_id().child(&support::id("a"), 1);
    let attempt = spans.iter().find(|s| s.text("foreplan.step") == Some("a")).unwrap();
    let out: Vec<_> = attempt.span.links.iter().filter(|l| l.trace_id != attempt.span.trace_id).collect();
    assert_eq!(out.len(), 1, "{}", tree(&spans));
    assert_eq!(
        (&out[0].trace_id[..], &out[0].span_id[..]),
        (&child.0.as_bytes()[..], &SpanId::root(child).0[..])
    );
    assert_eq!(attempt.text("foreplan.child_run"), Some(child.to_string().as_str()));
    let workflow = spans.iter().find(|s| s.span.name.starts_with("invoke_workflow")).unwrap();
    let notes: Vec<&str> = workflow.span.events.iter().map(|e| e.name.as_str()).collect();
    assert!(notes.contains(&"child run waits") && notes.contains(&"child run goes on"), "{notes:?}");

    let parent = Parent { run: run_id(), step: support::id("a"), attempt: 1 };
    let spec = foreplan_core::goal::RunSpec { parent: Some(parent), ..spec() };
    let (h, _) = Harness::started(spec, &json!([{"id": "b", "tool": "read"}]));
    let root = &self::spans(&h)[0].span;
    let back = &root.links[0];
    let attempt = SpanId::attempt(run_id(), &support::id("a"), 1);
    assert_eq!((&back.trace_id[..], &back.span_id[..]), (&run_id().0.as_bytes()[..], &attempt.0[..]));
}

#[test]
fn an_approval_that_takes_thirty_hours_is_seen_from_its_first_minute() {
    let (mut h, _) = Harness::planned(asking(), &json!([{"id": "a", "tool": "read"}]));
    let waiting: Vec<String> = spans(&h).iter().map(|s| s.span.name.clone()).collect();
    assert_eq!(waiting, ["run accepted", "approval requested"]);
    h.advance(30 * 3600);
    h.approve();
    let spans = spans(&h);
    let approval = spans.iter().find(|s| s.span.name == "approval").unwrap();
    let took = approval.span.end_time_unix_nano - approval.span.start_time_unix_nano;
    assert_eq!(Duration::from_nanos(took), Duration::from_secs(30 * 3600));
    assert_eq!(
        (approval.text("foreplan.by"), approval.text("foreplan.outcome")),
        (Some("ann"), Some("approved"))
    );
}

#[test]
fn a_clock_that_jumps_back_makes_no_span_that_ends_before_it_begins() {
    let (mut h, _) = Harness::planned(asking(), &json!([{"id": "a", "tool": "read"}]));
    h.advance(60);
    h.approve();
    h.now = Timestamp(h.now.0 - 3_600_000_000);
    h.go();
    h.ok("a", 1);
    assert!(h.run.status().is_ended());
    let spans = spans(&h);
    let begun = spans[0].span.start_time_unix_nano;
    for one in &spans {
        let span = &one.span;
        assert!(span.end_time_unix_nano > span.start_time_unix_nano, "{}\n{}", span.name, tree(&spans));
        let is_own = one.service == Service::Tracker;
        assert!(!is_own || span.start_time_unix_nano >= begun, "{}\n{}", span.name, tree(&spans));
    }
}

#[test]
fn content_is_exported_only_if_it_is_wanted() {
    let export = |h: &Harness, content, redact: &[&str]| {
        let options = Options { content, redact: Redact::new(redact).unwrap() };
        to_json(&derive(run_id(), &records(&h.entries), &options)).unwrap()
    };
    for (name, h) in journals() {
        assert!(!export(&h, false, &[]).contains("planted secret"), "{name}");
        assert!(!export(&h, false, &[]).contains("it broke"), "{name}");
        assert!(!export(&h, true, &["planted \\w+"]).contains("planted secret"), "{name}");
    }
    assert!(export(&eventful(), true, &[]).contains("planted secret"));
}

#[test]
fn an_entry_of_another_place_changes_nothing() {
    let records = records(&eventful().entries);
    let mut trace = Trace::new(run_id(), Options::default());
    assert_eq!(trace.feed(&records[3]), []);
    let first = trace.feed(&records[0]);
    assert!(!first.is_empty());
    assert_eq!(trace.feed(&records[0]), []);
    assert_eq!(trace.next(), 1);
}

#[test]
fn counters_follow_from_the_entries() {
    let mut fold = foreplan_telemetry::metrics::Fold::default();
    for entry in &eventful().entries {
        fold.observe(run_id(), entry).unwrap();
        fold.observe(run_id(), entry).unwrap();
    }
    let text = fold.metrics().to_prometheus();
    for line in [
        "foreplan_attempts_total{outcome=\"succeeded\"} 3",
        "foreplan_attempts_total{outcome=\"tool\"} 2",
        "foreplan_attempts_total{outcome=\"worker_lost\"} 1",
        "foreplan_runs_ended_total{outcome=\"succeeded\"} 1",
        "foreplan_approvals_total{outcome=\"granted\"} 1",
        "foreplan_plans_total{outcome=\"adopted\"} 1",
        "foreplan_replans_total 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}
