//! A plan as a person reviews it before anything happens.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use foreplan_core::{
    envelope::Envelope,
    finding::Finding,
    forecast::{Forecast, forecast},
    goal,
    plan::{CompiledPlan, Plan, Step, StepKind},
    tool::Effect,
};

use super::{Cell, Look, indent, table};
use crate::cli::paint::{Tone, clean, count, cut, dollars, span};

/// A plan under review.
#[derive(Clone, Copy, Debug)]
pub struct Review<'a> {
    /// What the run is for.
    pub goal: &'a str,
    /// The plan.
    pub plan: &'a Plan,
    /// What an approval covers; absent where `check` found no valid plan.
    pub envelope: Option<&'a Envelope>,
    /// Who made the plan.
    pub by: &'a str,
    /// Who judges what steps return.
    pub reviewer: Option<&'a goal::Review>,
    /// What `check` says of it.
    pub findings: &'a [Finding],
}

/// Returns the plan as numbered steps, what `check` says, and the summary line.
#[must_use]
pub fn review(look: &Look, review: &Review<'_>) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", look.paint.paint(Tone::Strong, &clean(review.goal)));
    if let Some(rationale) = &review.plan.rationale {
        let _ = writeln!(text, "{}", look.paint.paint(Tone::Dim, &clean(rationale)));
    }
    for assumption in &review.plan.assumptions {
        let _ = writeln!(text, "Assumes: {} ({})", clean(&assumption.text), clean(assumption.tool.as_str()));
    }
    text.push('\n');
    text.push_str(&indent(&steps(look, review), "  "));
    if !review.findings.is_empty() {
        text.push('\n');
        text.push_str(&findings(look, review.findings));
    }
    text.push('\n');
    let _ = writeln!(text, "{}", look.paint.paint(Tone::Strong, &summary(review)));
    if let Some(forecast) = forecast_of(review) {
        let _ = writeln!(text, "{}", look.paint.paint(Tone::Dim, &bounds(&forecast)));
    }
    if let Some(envelope) = review.envelope {
        let _ = writeln!(text, "{}", look.paint.paint(Tone::Dim, &format!("Envelope {}", envelope.digest())));
    }
    text
}

/// Returns `Plan: 7 steps (1 irreversible), up to 3 model calls, by derive`.
#[must_use]
pub fn summary(review: &Review<'_>) -> String {
    let plan = review.plan;
    let irreversible = plan.steps.iter().filter(|s| effect(review, s) == Some(Effect::Irreversible)).count();
    let people = plan.steps.iter().filter(|s| s.human.is_some() || s.approval).count();
    let mut inside = Vec::new();
    if irreversible > 0 {
        inside.push(format!("{irreversible} irreversible"));
    }
    if people > 0 {
        inside.push(format!("{people} ask a person"));
    }
    let inside = if inside.is_empty() { String::new() } else { format!(" ({})", inside.join(", ")) };
    format!(
        "Plan: {}{inside}, up to {}, by {}",
        count(plan.steps.len(), "step"),
        count(forecast_of(review).map_or(0, |forecast| forecast.model_calls_max) as usize, "model call"),
        clean(review.by),
    )
}

/// Returns what a valid plan can use at most.
fn forecast_of(review: &Review<'_>) -> Option<Forecast> {
    let compiled = CompiledPlan::compile(Arc::new(review.plan.clone())).ok()?;
    Some(forecast(&compiled, review.envelope?, review.reviewer))
}

/// Returns `Critical path: 3 steps; at most 20000 tokens and $1.50`.
fn bounds(forecast: &Forecast) -> String {
    let mut text = format!("Critical path: {}", count(forecast.critical_path.len(), "step"));
    if forecast.model_calls_max > 0 {
        let _ = write!(
            text,
            "; at most {} tokens and {}",
            forecast.tokens_max,
            dollars(forecast.cost_microusd_max)
        );
    }
    text
}

fn effect(review: &Review<'_>, step: &Step) -> Option<Effect> {
    review.envelope?.effect_of(step)
}

fn steps(look: &Look, review: &Review<'_>) -> String {
    let digits = review.plan.steps.len().to_string().len();
    let mut rows = Vec::new();
    for (at, step) in review.plan.steps.iter().enumerate() {
        let what = match step.kind() {
            Some(StepKind::Tool(tool)) => tool.to_string(),
            Some(StepKind::Agent(_)) => "(agent)".to_owned(),
            Some(StepKind::Human(_)) => "(person)".to_owned(),
            Some(StepKind::Goal(_)) => "(child run)".to_owned(),
            None => "?".to_owned(),
        };
        let effect = match effect(review, step) {
            Some(effect) => Cell::painted(look.paint.effect(effect), 14),
            None => Cell::new(""),
        };
        rows.push(vec![
            Cell::new(&format!("{:>digits$}.", at + 1)),
            Cell::toned(look.paint, Tone::Strong, step.id.as_str()),
            Cell::new(&what),
            effect,
            Cell::new(&waits_for(review.plan, step)),
            Cell::toned(look.paint, Tone::Dim, &cut(&remarks(step), 60)),
        ]);
    }
    table(&rows)
}

/// Returns `after 1, 3`: what the step waits for, by number.
fn waits_for(plan: &Plan, step: &Step) -> String {
    let mut needs: BTreeSet<usize> = BTreeSet::new();
    let mut add = |id: &str| needs.extend(plan.steps.iter().position(|s| s.id.as_str() == id));
    for need in &step.needs {
        add(need.as_str());
    }
    if let Ok(references) = foreplan_core::expr::references(step) {
        for reference in references {
            add(&reference.step);
        }
    }
    if needs.is_empty() {
        return String::new();
    }
    let numbers: Vec<String> = needs.iter().map(|at| (at + 1).to_string()).collect();
    format!("after {}", numbers.join(", "))
}

/// Returns what the step does and under which conditions.
fn remarks(step: &Step) -> String {
    let mut remarks = Vec::new();
    if !step.title.is_empty() {
        remarks.push(step.title.clone());
    }
    if let Some(each) = &step.for_each {
        remarks.push(format!("for each item, at most {}", each.max));
    }
    if let Some(when) = &step.when {
        remarks.push(format!("when {when}"));
    }
    if step.approval {
        remarks.push("asks before it starts".to_owned());
    }
    if step.on_failure.attempts > 1 {
        remarks.push(format!("{} attempts", step.on_failure.attempts));
    }
    if let Some(timeout) = step.timeout {
        remarks.push(format!("at most {}", span(timeout)));
    }
    remarks.join("; ")
}

/// Returns findings, errors first, each at its place.
#[must_use]
pub fn findings(look: &Look, findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|f| f.severity);
    let mut text = String::new();
    for finding in sorted {
        let severity = look.paint.severity(finding.severity);
        let code = look.paint.paint(Tone::Dim, &format!("[{}]", clean(&finding.code)));
        let _ = writeln!(text, "{severity} {} {code}", clean(&finding.to_string()));
    }
    text
}

/// Returns `2 errors, 1 advice`, or that there is nothing to say.
#[must_use]
pub fn findings_summary(look: &Look, findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|f| f.is_error()).count();
    let advice = findings.len() - errors;
    match (errors, advice) {
        (0, 0) => look.paint.paint(Tone::Good, "✓ no findings"),
        (0, advice) => look.paint.paint(Tone::Good, &format!("✓ valid, {advice} advice")),
        (errors, 0) => look.paint.paint(Tone::Bad, &format!("✗ {}", count(errors, "error"))),
        (errors, advice) => {
            look.paint.paint(Tone::Bad, &format!("✗ {}, {advice} advice", count(errors, "error")))
        }
    }
}
