//! Journals decided again.

#![allow(clippy::unwrap_used, reason = "tests may")]

#[path = "run/support/mod.rs"]
mod support;

use std::sync::Arc;

use foreplan_core::{
    budget::Limits,
    call::{Call, ModelCall, Purpose, Target, Tokens},
    digest::Digest,
    event::{Entry, Event},
    goal::ApprovalMode,
    input::{AttemptOutcome, CommandKind, Input},
    payload::Output,
    policy::{ReplanDecision, ReplanPolicy, Rule},
    replay::{self, Otherwise, Policy, Reworded, What, replay},
};
use serde_json::json;
use support::{Harness, broken, hopeless, run_id, spec};

fn entries(h: &Harness) -> Vec<Arc<Entry>> {
    h.entries.iter().cloned().map(Arc::new).collect()
}

fn policy() -> Policy {
    Policy { approval: ApprovalMode::Auto, replan: ReplanPolicy::default(), limits: Limits::default() }
}

/// A run with retries, an unknown outcome, a replan and a pause.
fn eventful() -> Harness {
    let plan = json!([
        {"id": "a", "tool": "read", "on_failure": {"attempts": 2}},
        {"id": "send", "tool": "send", "needs": ["a"]},
    ]);
    let (mut h, _) = Harness::started(spec(), &plan);
    h.fails("a", 1, broken());
    h.wake();
    h.takeover();
    h.wake();
    h.fails("a", 3, hopeless());
    h.decide(ReplanDecision::Retry, None);
    h.go();
    h.command(CommandKind::Pause);
    h.command(CommandKind::Resume);
    h.ok("a", 4);
    h.permit("send", 1);
    h.ok("send", 1);
    assert!(h.run.status().is_ended());
    h
}

#[test]
fn a_journal_that_is_decided_again_is_the_same() {
    assert_eq!(replay(run_id(), &entries(&eventful()), None), []);
}

#[test]
fn a_decision_that_would_not_be_made_now_is_named_and_leads_to_no_others() {
    let mut entries = entries(&eventful());
    let at = entries
        .iter()
        .position(|e| e.events.iter().any(|e| matches!(e, Event::RetryScheduled { .. })))
        .unwrap();
    let changed = Arc::make_mut(&mut entries[at]);
    for event in &mut changed.events {
        if let Event::RetryScheduled { at, .. } = event {
            at.0 += 1;
        }
    }
    let found = replay(run_id(), &entries, None);
    assert_eq!(found.first().map(|o| o.seq), Some(at as u64), "{found:?}");
    assert!(matches!(found[0].what, What::Events { .. }));
    assert!(found.len() <= 2, "{found:?}");
}

#[test]
fn a_mode_that_asks_would_have_asked() {
    let strict = Policy { approval: ApprovalMode::Always, ..policy() };
    let found = replay(run_id(), &entries(&eventful()), Some(&strict));
    let Some(Otherwise { what: What::Events { now, .. }, .. }) = found.first() else { panic!("{found:?}") };
    assert!(now.iter().any(|e| matches!(e, Event::ApprovalRequested { .. })), "{now:?}");
}

#[test]
fn rules_that_were_changed_say_what_they_would_have_decided() {
    let rule = Rule {
        when: "failure.code == \"broken\"".to_owned(),
        times: None,
        retry: false,
        skip: true,
        insert: None,
        replace: None,
        full_replan: false,
        finish: false,
        fail: None,
        ask: None,
    };
    let replan = ReplanPolicy { rules: vec![rule], ..ReplanPolicy::default() };
    let found = replay(run_id(), &entries(&eventful()), Some(&Policy { replan, ..policy() }));
    let rules = found.iter().find_map(|o| match &o.what {
        What::Rules { recorded, now } => Some((recorded.as_str(), now.as_str())),
        _ => None,
    });
    assert_eq!(rules, Some(("test decided retry", "skip")), "{found:?}");
}

#[test]
fn answers_to_prompts_that_are_others_now_are_named_once_for_each_entry() {
    let (mut h, _) = Harness::started(spec(), &json!([{"id": "a", "tool": "read"}]));
    let call = |prompt: u8| Call {
        started_at: h.now,
        ended_at: h.now,
        target: Target::Model(Box::new(ModelCall {
            model: "local/qwen".to_owned(),
            purpose: Purpose::Act,
            answered_by: None,
            prompt: Digest([prompt; 32]),
            request: Digest([9; 32]),
            answer: None,
            finish: None,
            tokens: Tokens::default(),
            cost_microusd: 0,
            retries: 0,
        })),
        failure: None,
    };
    let calls = [1, 2, 1, 3].map(call).to_vec();
    let mut reply = h.reply("a", 1, AttemptOutcome::Output(Output::inline(json!(1))));
    reply.calls = calls;
    h.handle(Input::Result(reply));
    let entries = entries(&h);
    let seq = entries.last().unwrap().seq;
    let reworded = |seq, prompt: u8| Reworded {
        seq,
        purpose: Purpose::Act,
        model: "local/qwen".to_owned(),
        prompt: Digest([prompt; 32]),
    };
    let today = [Digest([2; 32])];
    assert_eq!(replay::reworded(&entries, &today), [reworded(seq, 1), reworded(seq, 3)]);
    assert_eq!(replay::reworded(&entries, &[1, 2, 3].map(|prompt| Digest([prompt; 32]))), []);
}
