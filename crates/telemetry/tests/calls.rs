//! What workers say of their calls: spans of models and tools, as OpenTelemetry names them.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be set up is a failed test")]

#[path = "../../core/tests/run/support/mod.rs"]
mod support;

use std::{sync::Arc, time::Duration};

use foreplan_core::{
    budget::Usage,
    call::{Call, ModelCall, Purpose, Target, Tokens, ToolCall},
    digest::Digest,
    event::Entry,
    input::{AttemptOutcome, Input, PlanReply, ReplanReply},
    payload::Output,
    policy::ReplanDecision,
    time::Timestamp,
    tool::Effect,
    trace::SpanId,
};
use foreplan_telemetry::{AuditSpan, Options, Record, Redact, derive, to_json};
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value as Any,
    trace::v1::{span::SpanKind, status::StatusCode},
};
use serde_json::{Value, json};
use support::{Harness, hopeless, id, run_id, spec};

const SAID: &str = "the tickets are about invoices";

fn records(h: &Harness) -> Vec<Record> {
    let record = |entry: &Entry| Record { entry: Arc::new(entry.clone()), hash: Digest::of(entry) };
    h.entries.iter().map(record).collect()
}

fn call(target: Target, from: Timestamp, millis: u64) -> Call {
    let ended_at = from.plus(Duration::from_millis(millis));
    Call { started_at: from, ended_at, target, failure: None }
}

fn model(purpose: Purpose) -> Target {
    Target::Model(Box::new(ModelCall {
        model: "local/qwen".to_owned(),
        purpose,
        answered_by: Some("qwen-3".to_owned()),
        prompt: Digest([1; 32]),
        request: Digest([2; 32]),
        answer: Some(Output::inline(json!({"text": SAID}))),
        finish: Some("stop".to_owned()),
        tokens: Tokens { input: 100, cached: 40, output: 20, reasoning: 5 },
        cost_microusd: 7,
        retries: 1,
    }))
}

fn tool(output: Option<Value>) -> Target {
    Target::Tool(Box::new(ToolCall {
        tool: "read".into(),
        tool_digest: Digest([3; 32]),
        effect: Effect::Read,
        input: Output::inline(json!({"path": "tickets.json"})),
        output: output.map(Output::inline),
    }))
}

fn used() -> Usage {
    Usage { model_calls: 1, input_tokens: 100, output_tokens: 20, cost_microusd: 7, ..Usage::default() }
}

/// A run that a model planned, whose agent step called a model, a tool, and the model again; and
/// whose replan a model decided.
fn journal() -> Harness {
    let (mut h, _) = Harness::submit(spec());
    let plan = json!([
        {"id": "write", "agent": {"instructions": "Read, then write", "tools": ["read"]}},
        {"id": "check", "tool": "read", "needs": ["write"]},
    ]);
    let proposal = h.proposal(&plan);
    h.advance(1);
    let calls = vec![call(model(Purpose::Plan), h.now, 10)];
    h.handle(Input::Planned(PlanReply {
        request: 1,
        by: "local/qwen".to_owned(),
        proposal,
        usage: used(),
        calls,
    }));
    h.go();
    h.advance(1);
    let mut failed = call(tool(None), h.now, 5);
    failed.failure = Some(hopeless());
    // The worker's clock went back during this one.
    let mut turned = call(tool(Some(json!({"rows": 3}))), h.now, 5);
    turned.ended_at = Timestamp(turned.started_at.0 - 1_000_000);
    let mut reply = h.reply("write", 1, AttemptOutcome::Output(Output::inline(json!({"text": SAID}))));
    reply.calls =
        vec![call(model(Purpose::Act), h.now, 20), failed, turned, call(model(Purpose::Act), h.now, 20)];
    reply.usage = Usage { model_calls: 2, tool_calls: 2, ..used() };
    h.handle(Input::Result(reply));
    h.fails("check", 1, hopeless());
    h.advance(1);
    let basis = h.basis().unwrap();
    let calls = vec![call(model(Purpose::Replan), h.now, 30)];
    h.handle(Input::Replanned(ReplanReply {
        basis,
        by: "local/qwen".to_owned(),
        reason: "nothing helps".to_owned(),
        decision: ReplanDecision::Fail { reason: "nothing helps".to_owned() },
        proposal: None,
        rule: None,
        usage: used(),
        calls,
    }));
    h
}

fn spans(options: &Options) -> Vec<AuditSpan> {
    derive(run_id(), &records(&journal()), options)
}

fn number(span: &AuditSpan, key: &str) -> Option<i64> {
    let found = span.span.attributes.iter().find(|a| a.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Any::IntValue(number) => Some(*number),
        _ => None,
    }
}

#[test]
fn a_call_of_a_model_is_a_chat_span_under_what_it_was_made_for() {
    let spans = spans(&Options::default());
    let chats: Vec<&AuditSpan> = spans.iter().filter(|s| s.span.name == "chat qwen").collect();
    let services: Vec<String> = chats.iter().map(|s| s.service.name()).collect();
    let executor = "foreplan-executor-writers";
    assert_eq!(services, ["foreplan-planner", executor, executor, "foreplan-replanner"]);
    let parents: Vec<&AuditSpan> = chats
        .iter()
        .map(|chat| spans.iter().find(|s| s.span.span_id == chat.span.parent_span_id).unwrap())
        .collect();
    let names: Vec<&str> = parents.iter().map(|s| s.span.name.as_str()).collect();
    assert_eq!(names, ["plan local/qwen", "invoke_agent writers", "invoke_agent writers", "replan decision"]);
    assert_eq!(chats[1].span.parent_span_id, SpanId::work(run_id(), &id("write"), 1).0);

    let chat = chats[1];
    assert_eq!(chat.span.kind, SpanKind::Client as i32);
    let texts =
        ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model"];
    let texts = texts.map(|key| chat.text(key).unwrap());
    assert_eq!(texts, ["chat", "local", "qwen", "qwen-3"]);
    assert_eq!(chat.text("foreplan.purpose"), Some("act"));
    let numbers = ["input_tokens", "cache_read.input_tokens", "output_tokens", "reasoning.output_tokens"];
    let numbers = numbers.map(|key| number(chat, &format!("gen_ai.usage.{key}")).unwrap());
    assert_eq!(numbers, [100, 40, 20, 5]);
    assert_eq!(number(chat, "foreplan.usage.cost_microusd"), Some(7));
    assert_eq!(chat.span.end_time_unix_nano - chat.span.start_time_unix_nano, 20_000_000);
}

#[test]
fn a_call_of_a_tool_is_an_execute_tool_span_also_if_it_failed() {
    let spans = spans(&Options::default());
    let work = SpanId::work(run_id(), &id("write"), 1).0;
    let calls: Vec<&AuditSpan> = spans
        .iter()
        .filter(|s| s.span.name == "execute_tool read" && s.span.parent_span_id == work)
        .collect();
    assert_eq!(calls.len(), 2);
    let failed = calls[0].span.status.as_ref().unwrap();
    assert_eq!(failed.code, StatusCode::Error as i32);
    assert_eq!(calls[0].text("foreplan.failure.code"), Some("broken"));
    assert_eq!(calls[0].text("foreplan.output.digest"), None);
    assert_eq!(calls[1].span.status, None);
    assert!(calls[1].text("foreplan.output.digest").is_some());
    assert_eq!(
        calls[1].span.end_time_unix_nano - calls[1].span.start_time_unix_nano,
        1,
        "a clock that jumps back makes no span that ends before it begins"
    );
}

#[test]
fn what_was_said_is_exported_only_if_it_is_wanted_and_cleaned_then() {
    let without = to_json(&spans(&Options::default())).unwrap();
    assert!(!without.contains("invoices") && !without.contains("tickets.json"), "{without}");
    let redact = Redact::new(&["inv[a-z]+".to_owned()]).unwrap();
    let with = to_json(&spans(&Options { content: true, redact })).unwrap();
    assert!(with.contains("gen_ai.output.messages") && with.contains("gen_ai.tool.call.arguments"));
    assert!(with.contains("tickets.json") && !with.contains("invoices"), "{with}");
}
