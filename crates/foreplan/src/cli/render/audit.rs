//! The record of a run as a person reads it: who decided what, when and why.

use std::{fmt::Write as _, sync::Arc};

use foreplan_core::{
    diff::{PlanDiff, kind_of},
    event::{Entry, Event, Gate, ReviewOf, RunFailure},
    fork::Origin,
    input::{AttemptOutcome, Command, CommandKind, Input, Proposal},
    plan::Step,
    view::RunView,
};

use super::{Look, calls, diff, evidence, indent};
use crate::cli::{
    history::{self, Version},
    paint::{Tone, clean, clock, count, moment, span},
};

/// Returns the record: a heading, one block for each entry, and where the chain ends.
#[must_use]
pub fn record(look: &Look, view: &RunView, entries: &[Arc<Entry>]) -> String {
    let versions = history::versions(entries);
    let mut text = String::new();
    let _ = writeln!(text, "{}", look.paint.paint(Tone::Strong, &format!("Record of run {}", view.run)));
    let _ = writeln!(text, "{} in {}, {}", clean(&view.goal), clean(&view.project), view.status.as_str());
    let _ = writeln!(text, "times are UTC, from {}\n", moment(view.created_at));
    for entry in entries {
        block(look, entry, &versions, &mut text);
    }
    text.push_str(&evidence::cards(look, view, entries, &versions));
    let all = entries.len();
    let _ = write!(text, "\n{all} {}", if all == 1 { "entry" } else { "entries" });
    match view.journal.head {
        Some(head) => {
            let _ = writeln!(text, ", head {head}");
        }
        None => text.push('\n'),
    }
    text
}

fn block(look: &Look, entry: &Entry, versions: &[Version], text: &mut String) {
    let mut place = format!("{:>4}  {}", entry.seq, clock(entry.at));
    let mut lines: Vec<String> = Vec::new();
    if let Some(cause) = cause(&entry.cause) {
        lines.push(cause);
    }
    lines.extend(calls::lines(entry.cause.used().1));
    for event in &entry.events {
        lines.extend(sentence(look, event, &entry.cause));
        if let Event::PlanProposed { version, .. } = event {
            lines.extend(changes(look, *version, entry.seq, versions));
        }
    }
    let blank = " ".repeat(place.chars().count());
    for line in lines {
        let _ = writeln!(text, "{}  {line}", look.paint.paint(Tone::Dim, &place));
        place.clone_from(&blank);
    }
}

/// What came in, where the events alone do not say it.
fn cause(input: &Input) -> Option<String> {
    match input {
        Input::Submit { spec, by, kept } => {
            let params = if spec.params.is_empty() {
                String::new()
            } else {
                format!(", params {}", serde_json::Value::Object(spec.params.clone()))
            };
            let origin = spec.origin.map_or_else(String::new, |Origin { run, seq, .. }| {
                format!(", from run {run} at entry {seq} with {} of it", count(kept.len(), "result"))
            });
            Some(clean(&format!("{by} asks: {}{params}{origin}", spec.goal)))
        }
        Input::Planned(reply) => {
            Some(clean(&format!("planner {} answers: {}", reply.by, proposal(&reply.proposal))))
        }
        Input::Replanned(reply) => {
            let (by, decision, reason) = (&reply.by, reply.decision.name(), &reply.reason);
            Some(clean(&format!("replanner {by} decides: {decision}, {reason}")))
        }
        Input::Result(reply) => {
            let outcome = match &reply.outcome {
                AttemptOutcome::Output(output) => format!("output sha256:{}", output.digest().short()),
                AttemptOutcome::Failure(failure) => format!("{} failure, {failure}", failure.kind.as_str()),
            };
            let took = span(reply.ended_at.since(reply.started_at));
            let (step, attempt, worker) = (&reply.step, reply.attempt, &reply.worker);
            let input = reply
                .input
                .as_ref()
                .map_or_else(String::new, |input| format!("input sha256:{}, ", input.digest().short()));
            Some(clean(&format!(
                "worker {worker} answers {step} attempt {attempt} after {took}: {input}{outcome}"
            )))
        }
        Input::Permit { step, attempt, call: None, .. } => {
            Some(format!("{step} attempt {attempt} asks for its permit"))
        }
        Input::Permit { step, attempt, call: Some(call), .. } => {
            Some(format!("{step} attempt {attempt} asks for a permit to call {}", call.tool))
        }
        Input::Child { step, attempt, waits } => {
            let stands = if *waits { "waits" } else { "goes on" };
            Some(format!("the run of {step} attempt {attempt} {stands}"))
        }
        Input::Reviewed(reply) => {
            let said = if reply.outcome.accepts() { "accepts" } else { "does not accept" };
            let reasons = reply.outcome.reasons().join("; ");
            let why = if reasons.is_empty() { String::new() } else { format!(": {reasons}") };
            Some(clean(&format!("reviewer {} {said}{why}", reply.by)))
        }
        Input::Command(command) => Some(clean(&commanded(command))),
        Input::Wake => None,
        Input::Evaluated { .. } => None,
        Input::Takeover { by } => Some(clean(&format!("{by} takes the run over"))),
    }
}

fn proposal(proposal: &Proposal) -> String {
    match proposal {
        Proposal::Valid { plan, findings, .. } => {
            let advice =
                if findings.is_empty() { String::new() } else { format!(", {} advice", findings.len()) };
            format!("a plan of {}{advice}", count(plan.steps().len(), "step"))
        }
        Proposal::Invalid { findings, .. } => {
            let all: Vec<String> =
                findings.iter().filter(|f| f.is_error()).map(ToString::to_string).collect();
            format!("a plan that cannot be adopted: {}", all.join("; "))
        }
        Proposal::Question { question } => format!("a question: {question}"),
        Proposal::None { code, message } => format!("no plan ({code}): {message}"),
    }
}

fn commanded(command: &Command) -> String {
    let by = &command.by;
    match &command.kind {
        CommandKind::Approve { step: Some(step), digest } => {
            format!("{by} approves step {step}, digest {digest}")
        }
        CommandKind::Approve { step: None, digest } => format!("{by} approves the plan, digest {digest}"),
        CommandKind::Reject { reason } => format!("{by} rejects: {reason}"),
        CommandKind::Edit { parent, proposal: edited } => {
            format!("{by} edits version {parent}: {}", proposal(edited))
        }
        CommandKind::Answer { step, value, .. } => format!("{by} answers {step}: {value}"),
        CommandKind::Resolve { step, resolution, .. } => {
            let what = match resolution {
                foreplan_core::input::Resolution::Happened(_) => "it happened",
                foreplan_core::input::Resolution::NotHappened => "it did not happen",
                foreplan_core::input::Resolution::Fail => "it failed",
            };
            format!("{by} resolves {step}: {what}")
        }
        CommandKind::Revise { goal, produce, params } => {
            let mut what = Vec::new();
            what.extend(goal.as_ref().map(|goal| format!("goal {goal}")));
            what.extend(produce.as_ref().map(|all| format!("produce {}", all.join(", "))));
            if !params.is_empty() {
                what.push(format!("params {}", serde_json::Value::Object(params.clone())));
            }
            format!("{by} revises: {}", what.join("; "))
        }
        CommandKind::Pause => format!("{by} pauses"),
        CommandKind::Resume => format!("{by} resumes"),
        CommandKind::Cancel { reason: Some(reason) } => format!("{by} cancels: {reason}"),
        CommandKind::Cancel { reason: None } => format!("{by} cancels"),
        CommandKind::Retry { from: Some(step) } => format!("{by} retries from {step}"),
        CommandKind::Fork { run, .. } => format!("{by} forks it as run {run}"),
        CommandKind::Retry { from: None } => format!("{by} retries"),
    }
}

/// What happened; `None` where the line of the cause says it all.
fn sentence(look: &Look, event: &Event, input: &Input) -> Option<String> {
    let paint = |tone, text: String| Some(look.paint.paint(tone, &clean(&text)));
    match event {
        Event::RunAccepted => paint(Tone::Plain, "run accepted".into()),
        Event::PlanRequested { request } => paint(Tone::Plain, format!("planner asked, request {request}")),
        Event::PlanRefused { reason } => paint(Tone::Bad, format!("✗ plan refused: {reason}")),
        Event::PlanProposed { version, plan, envelope, .. } => {
            paint(Tone::Strong, format!("plan version {version} proposed, {plan}, envelope {envelope}"))
        }
        Event::ApprovalRequested { gate, digest } => {
            paint(Tone::Warn, format!("? approval asked for {}, digest {digest}", self::gate(gate)))
        }
        Event::ApprovalGranted { gate, by } => {
            paint(Tone::Good, format!("✓ {} approved by {by}", self::gate(gate)))
        }
        Event::PlanAdopted { version } => paint(Tone::Good, format!("✓ plan version {version} adopted")),
        Event::StepSkipped { step, reason } => paint(Tone::Dim, format!("» {step} skipped: {reason}")),
        Event::StepExpanded { step, items } => {
            paint(Tone::Plain, format!("{step} becomes {}", count(*items as usize, "item")))
        }
        Event::StepReady { .. } => None,
        Event::StepReused { step } => paint(Tone::Good, format!("= {step} keeps its result")),
        Event::QuestionAsked { step, question } => {
            let question = question.as_deref().unwrap_or("(the step's question)");
            paint(Tone::Warn, format!("? {step} asks: {question}"))
        }
        Event::QuestionAnswered { step, by } => paint(Tone::Good, format!("✓ {step} answered by {by}")),
        Event::AttemptStarted { step, attempt, verify: false } => {
            paint(Tone::Busy, format!("▶ {step} attempt {attempt} started"))
        }
        Event::AttemptStarted { step, attempt, verify: true } => {
            paint(Tone::Busy, format!("▶ {step} attempt {attempt}: its verify tool is asked"))
        }
        Event::EffectPermitted { step, attempt, call: None } => {
            paint(Tone::Warn, format!("● {step} attempt {attempt} may make its irreversible call"))
        }
        Event::EffectPermitted { step, attempt, call: Some(call) } => {
            paint(Tone::Warn, format!("● {step} attempt {attempt} may call {}", call.tool))
        }
        Event::AttemptSucceeded { step, attempt } => {
            paint(Tone::Good, format!("✓ {step} attempt {attempt} succeeded"))
        }
        Event::AttemptFailed { step, attempt, failure } => {
            let why = failure.as_ref().map_or_else(|| why(input), |f| format!(": {f}"));
            paint(Tone::Bad, format!("✗ {step} attempt {attempt} failed{why}"))
        }
        other => outcome(look, other),
    }
}

fn outcome(look: &Look, event: &Event) -> Option<String> {
    let paint = |tone, text: String| Some(look.paint.paint(tone, &clean(&text)));
    match event {
        Event::ReviewRequested { review, of } => {
            paint(Tone::Plain, format!("reviewer asked about {}, review {review}", reviewed(of)))
        }
        Event::Reviewed { review, accepts: true } => paint(Tone::Good, format!("✓ review {review} passed")),
        Event::Reviewed { review, accepts: false } => {
            paint(Tone::Bad, format!("✗ review {review} not passed"))
        }
        Event::ChildWaits { step, attempt } => {
            paint(Tone::Warn, format!("? the run of {step} attempt {attempt} waits"))
        }
        Event::ChildGoesOn { step, attempt } => {
            paint(Tone::Busy, format!("▶ the run of {step} attempt {attempt} goes on"))
        }
        Event::LateResultRecorded { step, attempt } => {
            paint(Tone::Dim, format!("{step} attempt {attempt} came late; recorded, not used"))
        }
        Event::RetryScheduled { step, at } => {
            paint(Tone::Warn, format!("{step} is tried again at {}", clock(*at)))
        }
        Event::OutcomeUnknown { step } => {
            paint(Tone::Warn, format!("? nobody knows whether {step} happened"))
        }
        Event::OutcomeResolved { step, happened, by } => {
            let what = match happened {
                Some(true) => "happened",
                Some(false) => "did not happen",
                None => "counts as failed",
            };
            paint(Tone::Good, format!("✓ {step} {what}, says {by}"))
        }
        Event::StepSucceeded { step } => paint(Tone::Good, format!("✓ {step} done")),
        Event::StepFailed { step, failure } => {
            paint(Tone::Bad, format!("✗ {step} failed for good: {failure}"))
        }
        Event::StepRetried { step } => paint(Tone::Warn, format!("{step} gets new attempts")),
        Event::ReplanRequested { step: Some(step) } => {
            paint(Tone::Warn, format!("↻ replanner asked about {step}"))
        }
        Event::ReplanRequested { step: None } => paint(Tone::Warn, "↻ replanner asked".into()),
        Event::ReplanDecided { decision } => paint(Tone::Plain, format!("decision in force: {decision}")),
        Event::ReplanRefused { reason } => paint(Tone::Bad, format!("✗ decision refused: {reason}")),
        Event::GoalRevised { by } => paint(Tone::Plain, format!("goal revised by {by}")),
        Event::RunPaused { by } => paint(Tone::Warn, format!("‖ paused: {by}")),
        Event::RunResumed { by } => paint(Tone::Busy, format!("▶ resumed by {by}")),
        Event::RunReopened { by } => paint(Tone::Busy, format!("▶ reopened by {by}")),
        Event::RunForked { run, seq, by } => {
            paint(Tone::Plain, format!("⑂ forked at entry {seq} as run {run}, by {by}"))
        }
        Event::OwnerChanged { by } => paint(Tone::Plain, format!("carried on by {by}")),
        Event::RunSucceeded => paint(Tone::Good, "✓ run succeeded".into()),
        Event::RunFailed { reason } => paint(Tone::Bad, format!("✗ run failed: {}", failure(reason))),
        Event::RunCancelled { by, reason } => {
            let why = reason.as_ref().map_or_else(String::new, |r| format!(": {r}"));
            paint(Tone::Bad, format!("■ run cancelled by {by}{why}"))
        }
        Event::RunRejected { by, reason } => paint(Tone::Bad, format!("⊘ rejected by {by}: {reason}")),
        _ => None,
    }
}

fn why(input: &Input) -> String {
    match input {
        Input::Result(reply) => match (&reply.verdicts.gate, &reply.outcome) {
            (Some(failure), _) | (None, AttemptOutcome::Failure(failure)) => format!(": {failure}"),
            (None, AttemptOutcome::Output(_)) => String::new(),
        },
        _ => String::new(),
    }
}

fn reviewed(of: &ReviewOf) -> String {
    match of {
        ReviewOf::Plan { version } => format!("plan version {version}"),
        ReviewOf::Output { step, attempt } => format!("the output of {step} attempt {attempt}"),
    }
}

fn gate(gate: &Gate) -> String {
    match gate {
        Gate::Plan => "the plan".to_owned(),
        Gate::Replan => "the changed plan".to_owned(),
        Gate::Step(step) => format!("step {step}"),
    }
}

/// Returns why a run failed, for people.
#[must_use]
pub fn failure(reason: &RunFailure) -> String {
    match reason {
        RunFailure::NoPlan { message, .. } => message.clone(),
        RunFailure::Step { step, message } => format!("{step}: {message}"),
        RunFailure::Decided { step: Some(step), message } => format!("{step}: {message}"),
        RunFailure::Decided { step: None, message } => message.clone(),
        RunFailure::Budget { limit } => format!("the limit `{limit}` was reached"),
        RunFailure::ApprovalTimeout => "nobody approved or answered in time".to_owned(),
    }
}

fn does(step: &Step) -> &str {
    step.tool.as_ref().map_or_else(|| kind_of(step), |tool| tool.as_str())
}

fn changes(look: &Look, number: u32, seq: u64, versions: &[Version]) -> Vec<String> {
    let Some(at) = versions.iter().position(|v| v.number == number && v.seq == seq) else {
        return Vec::new();
    };
    let (before, new) = (&versions[..at], &versions[at]);
    let parent = new.parent.and_then(|parent| before.iter().rfind(|v| v.number == parent));
    let body = match parent.or(before.last()) {
        Some(old) => diff::body(look, &PlanDiff::between(old.plan(), new.plan(), &new.done)),
        None => new.plan().steps.iter().map(|s| format!("{}  {}\n", s.id, clean(does(s)))).collect(),
    };
    indent(&body, "  ").lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
}
