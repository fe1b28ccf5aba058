//! One run: where it stands, what it waits for, what came of it.

use std::fmt::Write as _;

use foreplan_core::{
    id::{PLAN_STEP, StepId},
    tool::Effect,
    view::{PlanStepView, ReviewView, RunView, Status, StepStatus, StepView, UsageView, WaitKind, WaitView},
};

use super::{Cell, Look, indent, table, value};
use crate::cli::paint::{Tone, clean, clean_lines, count, cut, dollars, moment, span};

/// Longest remark about a step.
const REMARK_COLUMNS: usize = 70;

/// Longest output that `--context` shows of a step.
const CONTEXT_COLUMNS: usize = 400;

/// Returns everything that `show` prints.
#[must_use]
pub fn show(look: &Look, view: &RunView, context: bool) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}  {}",
        look.paint.status_word(view.status),
        look.paint.paint(Tone::Strong, &format!("run {}", view.run))
    );
    text.push('\n');
    text.push_str(&table(&head(view)));
    if let Some(plan) = &view.plan {
        let done = view.steps.iter().filter(|s| is_done(s.status)).count();
        let _ = writeln!(
            text,
            "\nPlan version {}, {done} of {} done",
            plan.version,
            count(view.steps.len().max(plan.steps.len()), "step")
        );
        text.push_str(&indent(&steps(look, view), "  "));
    }
    for replan in &view.replans {
        let step = replan.step.as_ref().map_or_else(String::new, |s| format!(" at {s}"));
        let _ = writeln!(
            text,
            "Version {}: {}{step}, {} by {}: {}",
            replan.version,
            clean(&replan.trigger.replace('_', " ")),
            clean(&replan.decision),
            clean(&replan.by),
            clean(&replan.reason)
        );
    }
    for review in &view.reviews {
        let _ = writeln!(text, "{}", opinion(look, review));
    }
    if context {
        text.push_str(&context_of(look, view));
    }
    if let Some(result) = &view.result {
        let _ = write!(text, "\nResult\n{}", indent(&value(result), "  "));
    }
    if let Some(reason) = view.reason.as_deref().filter(|_| view.status != Status::Succeeded) {
        let _ = writeln!(text, "\n{}", look.paint.paint(Tone::Bad, &format!("Why: {}", clean_lines(reason))));
    }
    text.push_str(&tail(look, view));
    text
}

fn head(view: &RunView) -> Vec<Vec<Cell>> {
    let row = |name: &str, value: String| vec![Cell::new(name), Cell::new(&value)];
    let mut rows = vec![row("project", view.project.clone()), row("goal", view.goal.clone())];
    if !view.params.is_empty() {
        let params: Vec<String> = view
            .params
            .iter()
            .map(|(name, value)| match value {
                serde_json::Value::String(text) => format!("{name} = {text}"),
                other => format!("{name} = {other}"),
            })
            .collect();
        rows.push(row("params", params.join(", ")));
    }
    if let Some(origin) = view.origin {
        rows.push(row("forked", format!("from run {} at entry {}", origin.run, origin.seq)));
    }
    if let Some(parent) = &view.parent {
        rows.push(row("step of", format!("run {}, {} attempt {}", parent.run, parent.step, parent.attempt)));
    }
    let began = moment(view.created_at);
    rows.push(match view.ended_at {
        Some(end) => row("started", format!("{began}, took {}", span(end.since(view.created_at)))),
        None => row("started", began),
    });
    rows
}

fn tail(look: &Look, view: &RunView) -> String {
    let mut text = String::from("\n");
    text.push_str(&receipt(&view.usage));
    let entries = view.journal.entries;
    let _ = write!(text, ", {entries} journal {}", if entries == 1 { "entry" } else { "entries" });
    if let Some(head) = view.journal.head {
        let _ = write!(text, ", head sha256:{}", head.short());
    }
    text.push('\n');
    if !view.waiting.is_empty() {
        text.push('\n');
        text.push_str(&waiting(look, view));
    } else if let Some(next) = look.hints.next(view) {
        let _ = writeln!(text, "\nNext: {next}");
    }
    text
}

/// Returns what the models cost, beside what a step-by-step agent would have asked them.
fn receipt(usage: &UsageView) -> String {
    let mut text = count(usage.model_calls as usize, "model call");
    let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
    if tokens > 0 {
        let _ = write!(text, ", {tokens} tokens, {}", dollars(usage.cost_microusd));
    }
    if usage.react_calls_at_least > 0 {
        let _ = write!(text, " (a step-by-step agent: at least {})", usage.react_calls_at_least);
    }
    text
}

fn is_done(status: StepStatus) -> bool {
    match status {
        StepStatus::Succeeded | StepStatus::Skipped => true,
        StepStatus::Pending
        | StepStatus::Running
        | StepStatus::Waiting
        | StepStatus::Failed
        | StepStatus::Superseded
        | StepStatus::Cancelled => false,
    }
}

/// Returns the steps of the plan, each where it stands.
#[must_use]
pub fn steps(look: &Look, view: &RunView) -> String {
    let planned = |id: &StepId| {
        let id = id.as_item().map_or(id.as_str(), |(parent, _)| parent);
        view.plan.as_ref()?.steps.iter().find(|s| s.id.as_str() == id)
    };
    let mut rows = Vec::new();
    for step in &view.steps {
        let tool = planned(&step.id).and_then(|p| p.tool.as_ref()).map_or("", |t| t.as_str());
        let took = match (step.started_at, step.ended_at) {
            (Some(began), Some(ended)) => span(ended.since(began)),
            (Some(began), None) if step.status == StepStatus::Running => span(look.now.since(began)),
            _ => String::new(),
        };
        rows.push(vec![
            Cell::painted(look.paint.step(step.status), 12),
            Cell::toned(look.paint, Tone::Strong, step.id.as_str()),
            Cell::new(tool),
            Cell::toned(look.paint, Tone::Dim, &took),
            Cell::new(&cut(&clean(&remarks(step)), REMARK_COLUMNS)),
        ]);
    }
    if rows.is_empty() {
        rows.extend(view.plan.iter().flat_map(|plan| &plan.steps).map(|step| proposed(look, step)));
    }
    table(&rows)
}

/// Returns a step of a plan that is not in force yet.
fn proposed(look: &Look, step: &PlanStepView) -> Vec<Cell> {
    vec![
        Cell::painted(look.paint.step(StepStatus::Pending), 12),
        Cell::toned(look.paint, Tone::Strong, step.id.as_str()),
        Cell::new(step.tool.as_ref().map_or("", |tool| tool.as_str())),
        Cell::toned(look.paint, Tone::Dim, step.effect.map_or("", Effect::as_str)),
        Cell::new(&cut(&clean(&step.title), REMARK_COLUMNS)),
    ]
}

fn remarks(step: &StepView) -> String {
    let mut remarks = Vec::new();
    if step.attempts > 1 {
        remarks.push(count(step.attempts as usize, "attempt"));
    }
    if let Some(worker) = step.worker.as_ref().filter(|_| is_in_flight(step)) {
        remarks.push(format!("at {worker}"));
    }
    if step.status == StepStatus::Succeeded && !step.verified {
        remarks.push("unverified".to_owned());
    }
    if let Some(child) = step.child {
        remarks.push(format!("run {child}"));
    }
    if let Some(reason) = &step.reason {
        remarks.push(reason.clone());
    }
    if let Some(failure) = step.failure.as_ref().filter(|_| step.status != StepStatus::Succeeded) {
        remarks.push(failure.to_string());
    }
    remarks.join("; ")
}

fn is_in_flight(step: &StepView) -> bool {
    step.status == StepStatus::Running && step.attempts > 0 && step.ended_at.is_none()
}

fn context_of(look: &Look, view: &RunView) -> String {
    let mut text = String::from("\nWhat each step added\n");
    for step in &view.steps {
        let Some(output) = &step.output else { continue };
        let added = cut(&clean(&output.to_string()), CONTEXT_COLUMNS);
        let _ = writeln!(text, "  {}: {added}", look.paint.paint(Tone::Strong, step.id.as_str()));
    }
    text
}

/// Returns what a reviewer said, in one line.
#[must_use]
pub fn opinion(look: &Look, review: &ReviewView) -> String {
    let about = match (&review.version, &review.step, review.attempt) {
        (Some(version), ..) => format!("plan version {version}"),
        (None, Some(step), Some(attempt)) => format!("{step} attempt {attempt}"),
        _ => "?".to_owned(),
    };
    let (tone, said) =
        if review.accepts { (Tone::Good, "✓ accepted") } else { (Tone::Bad, "✗ not accepted") };
    let reasons = review.reasons.join("; ");
    let why = if reasons.is_empty() { String::new() } else { format!(": {}", clean(&reasons)) };
    format!("Review of {about}: {} by {}{why}", look.paint.paint(tone, said), clean(&review.by))
}

/// Returns what a run waits for, each with the commands that answer it.
#[must_use]
pub fn waiting(look: &Look, view: &RunView) -> String {
    let mut text = String::new();
    for wait in &view.waiting {
        let head = look.paint.paint(Tone::Warn, &format!("? {}", what(wait)));
        let _ = writeln!(text, "{head} (for {})", span(look.now.since(wait.since)));
        if let Some(schema) = wait.schema.as_ref().filter(|_| wait.kind == WaitKind::Question) {
            let _ = writeln!(text, "  The answer must fit {}", cut(&clean(&schema.to_string()), 200));
        }
        for command in look.hints.answers(view.run, wait) {
            let _ = writeln!(text, "  {command}");
        }
    }
    text
}

/// Returns what is waited for in one line.
#[must_use]
pub fn what(wait: &WaitView) -> String {
    let step = wait.step.as_ref().map_or("?", |s| s.as_str());
    match wait.kind {
        WaitKind::PlanApproval => "The plan waits for your approval".to_owned(),
        WaitKind::ReplanApproval => "The changed plan waits for your approval".to_owned(),
        WaitKind::StepApproval => format!("Step {step} waits for your approval"),
        WaitKind::Question if step == PLAN_STEP => {
            format!("The planner asks: {}", clean(wait.question.as_deref().unwrap_or("?")))
        }
        WaitKind::Question => {
            format!("Step {step} asks: {}", clean(wait.question.as_deref().unwrap_or("?")))
        }
        WaitKind::ChildRun => {
            format!("Step {step} waits: {}", clean(wait.question.as_deref().unwrap_or("?")))
        }
        WaitKind::UnknownOutcome => {
            format!("Nobody knows whether {step} happened; it is irreversible and was not repeated")
        }
    }
}

/// Returns the one line that ends the progress of a run.
#[must_use]
pub fn ending(look: &Look, view: &RunView) -> String {
    let done = view.steps.iter().filter(|s| is_done(s.status)).count();
    let all = view.steps.len();
    let mut line = format!("{} run {}", look.paint.status_word(view.status), view.run);
    if all > 0 {
        let _ = write!(line, ", {done} of {} done", count(all, "step"));
    }
    if !view.replans.is_empty() {
        let _ = write!(line, ", {}", count(view.replans.len(), "replan"));
    }
    if let Some(end) = view.ended_at {
        let _ = write!(line, ", {}", span(end.since(view.created_at)));
    }
    if view.ended_at.is_some() && view.usage.model_calls > 0 {
        let _ = write!(line, "\n  {}", receipt(&view.usage));
    }
    if let Some(reason) = view.reason.as_deref().filter(|_| view.status != Status::Succeeded) {
        let _ = write!(line, "\n  {}", clean_lines(reason));
    }
    line
}
