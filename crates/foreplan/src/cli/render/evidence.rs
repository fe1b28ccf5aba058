//! The evidence that each step leaves: its goal, its plan, what was observed, what was checked for
//! failure, and how the result was judged.

use std::{fmt::Write as _, sync::Arc};

use foreplan_core::{
    event::{Entry, Event},
    failure::Failure,
    id::StepId,
    input::{AttemptOutcome, AttemptReply, Input},
    plan::Step,
    view::{RunView, StepStatus, StepView},
};

use super::Look;
use crate::cli::{
    history::Version,
    paint::{Tone, clean, count, span},
};

/// Returns the evidence of every step of the plan in force, then what the run used.
#[must_use]
pub fn cards(look: &Look, view: &RunView, entries: &[Arc<Entry>], versions: &[Version]) -> String {
    let mut text = String::new();
    let Some(version) = versions.iter().rev().find(|v| v.adopted) else { return text };
    let _ = writeln!(text, "\n{}", look.paint.paint(Tone::Strong, "Evidence"));
    for step in &view.steps {
        let name = step.id.as_item().map_or(step.id.as_str(), |(each, _)| each);
        if let Some(definition) = version.plan().steps.iter().find(|s| s.id.as_str() == name) {
            card(look, Card { step, definition, version, tries: tries(entries, &step.id) }, &mut text);
        }
    }
    let usage = &view.usage;
    let _ = writeln!(
        text,
        "\nused: {}, {} tokens in, {} out, {} micro-dollars",
        count(usage.model_calls as usize, "model call"),
        usage.input_tokens,
        usage.output_tokens,
        usage.cost_microusd
    );
    text
}

struct Card<'a> {
    step: &'a StepView,
    definition: &'a Step,
    version: &'a Version,
    tries: Vec<Try<'a>>,
}

/// What is on record of an attempt.
struct Try<'a> {
    attempt: u32,
    reply: Option<&'a AttemptReply>,
    failure: Option<&'a Failure>,
}

fn tries<'a>(entries: &'a [Arc<Entry>], of: &StepId) -> Vec<Try<'a>> {
    let mut tries = Vec::new();
    for entry in entries {
        let reply = match &entry.cause {
            Input::Result(reply) if reply.step == *of => Some(reply),
            _ => None,
        };
        for event in &entry.events {
            match event {
                Event::AttemptSucceeded { step, attempt } if step == of => {
                    tries.push(Try { attempt: *attempt, reply, failure: None });
                }
                Event::AttemptFailed { step, attempt, failure } if step == of => {
                    let own = reply.and_then(|reply| match &reply.outcome {
                        AttemptOutcome::Failure(failure) => Some(failure),
                        AttemptOutcome::Output(_) => reply.verdicts.gate.as_ref(),
                    });
                    tries.push(Try { attempt: *attempt, reply, failure: failure.as_ref().or(own) });
                }
                _ => {}
            }
        }
    }
    tries
}

fn card(look: &Look, card: Card<'_>, text: &mut String) {
    let Card { step, definition, version, tries } = &card;
    let title = format!("{}  {}", step.id, step.status.as_str());
    let _ = writeln!(text, "  {}", look.paint.paint(Tone::Strong, &title));
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "    {}{}", look.paint.paint(Tone::Dim, &format!("{name:<15}")), clean(&what));
    };
    line("goal", definition.outcome.clone().unwrap_or_else(|| definition.label().to_owned()));
    line("plan", planned(definition, version, step));
    line("observation", observed(step, tries));
    line("failure check", checked(tries));
    line("evaluation", evaluated(step, definition));
}

fn planned(definition: &Step, version: &Version, step: &StepView) -> String {
    let of = if step.plan_version == 0 { version.number } else { step.plan_version };
    let done = foreplan_core::diff::kind_of(definition);
    match definition.tool.as_ref().map(|tool| (tool, version.envelope.tools.get(tool))) {
        Some((tool, Some(sealed))) => {
            format!(
                "version {of}, tool {tool} ({}, sha256:{})",
                sealed.effect.as_str(),
                sealed.digest.short()
            )
        }
        Some((tool, None)) => format!("version {of}, tool {tool}"),
        None => format!("version {of}, {done}"),
    }
}

fn observed(step: &StepView, tries: &[Try<'_>]) -> String {
    let Some((one, reply)) = tries.iter().rev().find_map(|one| Some((one, one.reply?))) else {
        return match (&step.output, &step.reason) {
            (Some(_), _) => format!("answered by {}", step.worker.as_deref().unwrap_or("a person")),
            (None, Some(reason)) => reason.clone(),
            (None, None) => "nothing yet".to_owned(),
        };
    };
    let input = reply
        .input
        .as_ref()
        .map_or_else(String::new, |input| format!("input sha256:{}, ", input.digest().short()));
    let output = match &reply.outcome {
        AttemptOutcome::Output(output) => format!("output sha256:{}", output.digest().short()),
        AttemptOutcome::Failure(failure) => format!("failure {}", failure.code),
    };
    let took = span(reply.ended_at.since(reply.started_at));
    format!("{input}{output}, by worker {} in {took}, attempt {}", reply.worker, one.attempt)
}

fn checked(tries: &[Try<'_>]) -> String {
    let failed: Vec<String> = tries
        .iter()
        .filter_map(|one| {
            Some(format!("attempt {}: {} {}", one.attempt, one.failure?.kind.as_str(), one.failure?))
        })
        .collect();
    match (tries.len(), failed.len()) {
        (0, _) => "no attempt".to_owned(),
        (all, 0) => format!("{}, none failed", count(all, "attempt")),
        (all, _) => format!("{} of {all} failed: {}", failed.len(), failed.join("; ")),
    }
}

fn evaluated(step: &StepView, definition: &Step) -> String {
    let expect = definition.expect.as_ref().map(|expect| format!("`{expect}`"));
    match (step.status, step.verified, expect) {
        (StepStatus::Succeeded, true, Some(expect)) => format!("verified: {expect} holds"),
        (StepStatus::Succeeded, true, None) => "verified: it fits its schema".to_owned(),
        (StepStatus::Succeeded, false, _) => "unverified: no gate looks at the output".to_owned(),
        (StepStatus::Failed, _, _) => "failed for good".to_owned(),
        (status, _, _) => format!("none: {}", status.as_str()),
    }
}
