//! What a fork takes over: read from its origin's journal, checked there, and copied under its own id.

use std::sync::Arc;

use foreplan_core::{
    budget::Usage,
    fork::Kept,
    goal::RunSpec,
    id::RunId,
    payload::{Output, PayloadRef},
    run::Fork,
};
use foreplan_protocol::{Message, PlanOutcome, Reply, Subject};
use serde_json::Value;

use crate::{handle::SubmitError, shared::Shared};

/// Who answers a fork's first plan request when it keeps the plan of its origin.
const BY: &str = "fork";

/// Returns what a run takes over from its origin, with every payload where the run finds it; nothing
/// if it has none.
///
/// # Errors
///
/// If the origin cannot be read, or cannot be forked there.
pub(crate) async fn kept(shared: &Shared, run: RunId, spec: &RunSpec) -> Result<Vec<Kept>, SubmitError> {
    let Some(origin) = spec.origin else { return Ok(Vec::new()) };
    let entries = shared.journal.read(origin.run, 0).await?;
    let kept = Fork::at(origin.run, &entries, origin.seq)?.kept(&spec.params);
    let mut payloads = Vec::new();
    for one in &kept {
        match &one.output {
            Output::Payload(payload) => payloads.push(*payload),
            Output::Inline(value) => references(value, &mut payloads),
        }
    }
    for payload in payloads {
        let value = shared.payloads.get(origin.run, payload).await?;
        let copied = shared.payloads.put(run, value).await?;
        if copied != payload {
            let reason = "it has other bytes when it is written again".to_owned();
            return Err(foreplan_journal::Error::Payload { payload, reason }.into());
        }
    }
    Ok(kept)
}

fn references(value: &Value, found: &mut Vec<PayloadRef>) {
    if let Some(payload) = PayloadRef::from_value(value) {
        return found.push(payload);
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| references(field, found)),
        _ => {}
    }
}

/// Answers a fork's first plan request with the plan that its origin had there.
pub(crate) async fn propose(shared: Arc<Shared>, run: RunId, request: u32, spec: Arc<RunSpec>) {
    let outcome = match plan(&shared, &spec).await {
        Ok(outcome) => outcome,
        Err(error) => none(format!("the run that this one was forked from cannot be read: {error}")),
    };
    let reply =
        Reply::Plan { request, by: BY.to_owned(), outcome, usage: Usage::default(), calls: Vec::new() };
    shared.publish(Subject::Tracker(run), Message::Reply { run, reply }).await;
}

async fn plan(shared: &Shared, spec: &RunSpec) -> Result<PlanOutcome, SubmitError> {
    let Some(origin) = spec.origin else { return Ok(none("the run was not forked".to_owned())) };
    let entries = shared.journal.read(origin.run, 0).await?;
    let plan = Fork::at(origin.run, &entries, origin.seq)?.plan;
    Ok(plan.map_or_else(|| none("there was no plan where it was forked".to_owned()), PlanOutcome::Plan))
}

fn none(message: String) -> PlanOutcome {
    PlanOutcome::None { code: "no_origin".to_owned(), message, findings: Vec::new() }
}
