//! Folding: the journal is the truth, in whatever form it was kept.

#![allow(clippy::unwrap_used, reason = "tests may")]

#[path = "run/support/mod.rs"]
mod support;

use foreplan_core::{
    event::Entry,
    input::{CommandKind, Resolution},
    payload::Output,
    policy::ReplanDecision,
    run::Run,
};
use serde_json::json;
use support::{Harness, broken, hopeless, run_id, spec};

/// A run in which nearly everything happens.
fn eventful() -> Harness {
    let plan = json!([
        {"id": "ask", "human": {"question": "?"}},
        {"id": "each", "tool": "read", "for_each": {"in": [1, 2]}, "on_failure": {"attempts": 2}},
        {"id": "send", "tool": "send", "needs": ["each"]},
        {"id": "last", "tool": "put", "needs": ["ask", "send"]},
    ]);
    let (mut h, _) = Harness::started(spec(), &plan);
    h.answer("ask", json!("yes"));
    h.fails("each~0", 1, broken());
    h.wake();
    h.ok("each~0", 2);
    h.ok("each~1", 1);
    h.go();
    h.permit("send", 1);
    h.takeover();
    h.resolve("send", Resolution::Happened(Output::inline(json!(1))));
    h.fails("last", 1, hopeless());
    h.decide(ReplanDecision::Retry, None);
    h.go();
    h.command(CommandKind::Pause);
    h.command(CommandKind::Resume);
    h.revise("x", json!(1));
    h.plan(2, &plan);
    h.ok("last", 2);
    h
}

#[test]
fn every_prefix_of_a_journal_folds() {
    let h = eventful();
    for end in 1..=h.entries.len() {
        let run = Run::replay(run_id(), &h.entries[..end]).unwrap();
        assert_eq!(run.seq(), end as u64);
        assert_eq!(run.at(), h.entries[end - 1].at);
    }
    assert_eq!(Run::replay(run_id(), &h.entries).as_ref(), Some(&h.run));
    assert!(h.run.status().is_ended());
}

#[test]
fn entries_are_numbered_without_a_gap() {
    let h = eventful();
    let numbers: Vec<u64> = h.entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(numbers, (0..h.entries.len() as u64).collect::<Vec<_>>());
}

#[test]
fn an_entry_reads_back_from_json_as_it_was() {
    for entry in eventful().entries {
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry, "{text}");
    }
}

#[test]
fn a_journal_that_does_not_begin_with_a_submission_is_none() {
    let h = eventful();
    assert_eq!(Run::replay(run_id(), &h.entries[1..]), None);
    assert_eq!(Run::replay(run_id(), &[]), None);
}

#[test]
fn an_output_stands_once_in_its_entry() {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "a", "tool": "read"}]));
    h.ok_with("a", 1, json!("a value that is found again"));
    let text = serde_json::to_string(h.entries.last().unwrap()).unwrap();
    assert_eq!(text.matches("found again").count(), 1);
}
