//! A journal decided again: with what was recorded of planners, workers and people, and with this
//! program's rules of decision, or with another policy.
//!
//! Nothing is asked again and nothing happens. Each entry's cause is handed to the state machine in
//! the state that the entries before it lead to, and what it decides now is compared with what is on
//! record. So one difference does not lead to others.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    action::{Action, Trigger},
    budget::Limits,
    call::{Purpose, Target},
    digest::Digest,
    event::{Entry, Event},
    goal::{ApprovalMode, RunSpec},
    id::RunId,
    input::{Input, ReplanReply},
    policy::{
        ReplanDecision, ReplanPolicy,
        rules::{self, Situation},
    },
    run::{Found, Run},
};

/// A policy to decide by, in the place of the recorded one.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// When a person is asked.
    pub approval: ApprovalMode,
    /// What happens when reality disagrees with the plan.
    pub replan: ReplanPolicy,
    /// What the run may use.
    pub limits: Limits,
}

/// An entry that would be another one now.
#[derive(Clone, Debug, PartialEq)]
pub struct Otherwise {
    /// The entry.
    pub seq: u64,
    /// What would be otherwise.
    pub what: What,
}

/// What would be otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Other events would follow from the same cause.
    Events {
        /// What is on record.
        recorded: Vec<Event>,
        /// What would be decided now.
        now: Vec<Event>,
    },
    /// The cause would be sent back.
    Refused {
        /// Why.
        why: String,
    },
    /// The rules would answer otherwise.
    Rules {
        /// What is on record: which replanner decided what.
        recorded: String,
        /// What the rules say now.
        now: String,
    },
}

/// A call of a model with a prompt that this program does not have any more: what the model would
/// answer now, nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reworded {
    /// The entry that has the answer.
    pub seq: u64,
    /// What the model was asked for.
    pub purpose: Purpose,
    /// Which model was asked.
    pub model: String,
    /// The digest of the prompt.
    pub prompt: Digest,
}

/// Returns what models were asked with other prompts than these, once for each entry and prompt.
#[must_use]
pub fn reworded(entries: &[Arc<Entry>], prompts: &[Digest]) -> Vec<Reworded> {
    let mut found: Vec<Reworded> = Vec::new();
    for entry in entries {
        for call in entry.cause.used().1 {
            let Target::Model(call) = &call.target else { continue };
            let (seq, purpose, prompt) = (entry.seq, call.purpose, call.prompt);
            let is_known = prompts.contains(&prompt);
            if !is_known && !found.iter().any(|one| one.seq == seq && one.prompt == prompt) {
                found.push(Reworded { seq, purpose, model: call.model.clone(), prompt });
            }
        }
    }
    found
}

/// Decides every entry of a journal again. Returns those that would be others, in order; none, if the
/// journal does not begin with a submission.
#[must_use]
pub fn replay(id: RunId, entries: &[Arc<Entry>], policy: Option<&Policy>) -> Vec<Otherwise> {
    let mut found = Vec::new();
    let Some(first) = entries.first() else { return found };
    let first = Arc::new(Entry { cause: with_policy(&first.cause, policy), ..first.as_ref().clone() });
    let Some((_, decision)) = Run::submit(id, first.at, &first.cause) else { return found };
    found.extend(compare(&first, decision.events));
    let Some(mut run) = Run::replay(id, [first.as_ref()]) else { return found };
    for entry in &entries[1..] {
        if let (Input::Replanned(reply), Some(policy)) = (&entry.cause, policy) {
            found.extend(by_rules(&run, entry.seq, reply, policy));
        }
        found.extend(decide(&run, entry));
        run.fold(entry);
    }
    found
}

fn with_policy(cause: &Input, policy: Option<&Policy>) -> Input {
    let (Input::Submit { spec, by, kept }, Some(policy)) = (cause, policy) else { return cause.clone() };
    let mut spec =
        RunSpec { replan: policy.replan.clone(), limits: policy.limits.clone(), ..spec.as_ref().clone() };
    spec.approval.mode = policy.approval;
    Input::Submit { spec: Arc::new(spec), by: by.clone(), kept: kept.clone() }
}

fn decide(run: &Run, entry: &Entry) -> Option<Otherwise> {
    let mut again = run.clone();
    let decided = match again.handle(entry.at, &entry.cause) {
        Ok(decision) => decision.events,
        Err(rejection) => {
            return Some(Otherwise { seq: entry.seq, what: What::Refused { why: rejection.to_string() } });
        }
    };
    if decided == entry.events {
        return None;
    }
    // A process that was about to end dispatched nothing any more; that is not on record.
    let mut held = run.clone();
    held.hold();
    match held.handle(entry.at, &entry.cause) {
        Ok(decision) if decision.events == entry.events => None,
        _ => compare(entry, decided),
    }
}

fn compare(entry: &Entry, now: Vec<Event>) -> Option<Otherwise> {
    let recorded = entry.events.clone();
    (recorded != now).then_some(Otherwise { seq: entry.seq, what: What::Events { recorded, now } })
}

/// Asks the rules of a policy what a replanner was asked.
fn by_rules(run: &Run, seq: u64, reply: &ReplanReply, policy: &Policy) -> Option<Otherwise> {
    let trigger = run.outstanding().into_iter().find_map(|action| match action {
        Action::RequestReplan { trigger, .. } => Some(trigger),
        _ => None,
    })?;
    let Trigger::StepFailed { step: id, failure } = trigger.as_ref() else { return None };
    let version = run.current()?;
    let name = id.as_item().map_or(id.as_str(), |(each, _)| each);
    let step = version.plan.step(version.plan.position(name)?);
    let (mut statuses, mut outputs) = (BTreeMap::new(), BTreeMap::new());
    for step in run.steps() {
        statuses.insert(step.id.clone(), run.step_status(&step.state).as_str().to_owned());
        if let Found::Output(output) = run.output(step.id.as_str()) {
            outputs.insert(step.id.clone(), output.clone());
        }
    }
    let situation = Situation {
        failure,
        step,
        effect: step.tool.as_ref().and_then(|tool| Some(version.envelope.tools.get(tool)?.effect)),
        attempts: run.step(id.as_str()).map_or(0, |step| step.attempts),
        plan: version.plan.plan(),
        statuses: &statuses,
        outputs: &outputs,
        params: &run.spec().params,
        rule_uses: run.rule_uses(),
    };
    let now = rules::answer(&policy.replan.rules, &situation).answer.map(|answer| answer.decision);
    let was = (reply.by == "rules").then_some(&reply.decision);
    if now.as_ref() == was {
        return None;
    }
    let said =
        |decision: Option<&ReplanDecision>| decision.map_or("no rule matches", |d| d.name()).to_owned();
    let recorded = format!("{} decided {}", reply.by, reply.decision.name());
    let what = What::Rules { recorded, now: said(now.as_ref()) };
    Some(Otherwise { seq, what })
}
