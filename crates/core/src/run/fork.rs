//! Forks: what a new run takes over from a point of another, and how it begins with it.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value};

use super::{
    adopt::{mentions_params, references, tool_digest},
    state::{PlanVersion, Previous, Run, StepRun, StepState},
};
use crate::{
    digest::Digest,
    event::{Entry, Event, ReviewOf},
    fork::{DoneCall, Kept, Origin, Refusal},
    goal::RunSpec,
    id::{RunId, StepId, ToolName},
    input::Input,
    plan::Plan,
    tool::Effect,
};

/// A run at the point where another begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Fork {
    /// The point.
    pub origin: Origin,
    /// What the run was asked for there.
    pub spec: Arc<RunSpec>,
    /// The plan in force there, or the one that was proposed.
    pub plan: Option<Arc<Plan>>,
    kept: Vec<Kept>,
}

impl Fork {
    /// Looks at a run where it was after the entry `seq`. Of what came later only irreversible
    /// calls count: they have happened.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if a new run could make a call a second time.
    pub fn at(run: RunId, entries: &[Arc<Entry>], seq: u64) -> Result<Self, Refusal> {
        let last = (entries.len() as u64).saturating_sub(1);
        let no_entry = Refusal::NoEntry { seq, last };
        if seq > last {
            return Err(no_entry);
        }
        let upto = |seq: u64| {
            let count = usize::try_from(seq).map_or(entries.len(), |seq| seq + 1);
            Run::replay(run, entries.iter().take(count).map(AsRef::as_ref))
        };
        let (Some(there), Some(now)) = (upto(seq), upto(last)) else { return Err(no_entry) };
        if let Some(unsettled) = there.unsettled(Effect::Idempotent) {
            let (before, after) = settled_around(run, entries, seq);
            return Err(match unsettled {
                Unsettled::InHand(step) => Refusal::InHand { step, seq, before, after },
                Unsettled::Unknown(step) => Refusal::Unknown { step, before, after },
            });
        }
        match now.unsettled(Effect::Irreversible) {
            Some(Unsettled::InHand(step)) => return Err(Refusal::Busy { step }),
            Some(Unsettled::Unknown(step)) => return Err(Refusal::Unresolved { step }),
            None => {}
        }
        let inputs = inputs(entries);
        let mut kept = there.kept(&inputs);
        let is_new = |later: &Kept| later.call.is_some() && kept.iter().all(|k| k.step != later.step);
        let later: Vec<Kept> = now.kept(&inputs).into_iter().filter(is_new).collect();
        kept.extend(later);
        let version = there.current().or_else(|| there.proposed());
        Ok(Self {
            origin: Origin { run, seq, keeps_plan: version.is_some() },
            spec: Arc::clone(there.spec()),
            plan: version.map(|version| Arc::clone(version.plan.plan())),
            kept,
        })
    }

    /// Returns the results that a run with these params takes over.
    #[must_use]
    pub fn kept(&self, params: &Map<String, Value>) -> Vec<Kept> {
        let is_same = *params == self.spec.params;
        let taken = |kept: &Kept| {
            let definition = kept.definition.filter(|_| is_same || !kept.mentions_params);
            let counts = definition.is_some() || kept.call.is_some();
            counts.then(|| Kept { definition, ..kept.clone() })
        };
        self.kept.iter().filter_map(taken).collect()
    }
}

/// What must be settled before another run can begin.
enum Unsettled {
    InHand(StepId),
    Unknown(StepId),
}

/// Returns the nearest entries before and after `seq` at which a run can be forked.
fn settled_around(run: RunId, entries: &[Arc<Entry>], seq: u64) -> (Option<u64>, Option<u64>) {
    let (mut before, mut after) = (None, None);
    let Some(first) = entries.first() else { return (None, None) };
    let Some(mut there) = Run::replay(run, [first.as_ref()]) else { return (None, None) };
    for entry in entries {
        if entry.seq > 0 {
            there.fold(entry);
        }
        let is_settled = there.unsettled(Effect::Idempotent).is_none();
        if is_settled && entry.seq < seq {
            before = Some(entry.seq);
        }
        if is_settled && entry.seq > seq && after.is_none() {
            after = Some(entry.seq);
        }
    }
    (before, after)
}

/// Returns the digests of what successful attempts were given, by step.
fn inputs(entries: &[Arc<Entry>]) -> HashMap<StepId, Digest> {
    let of = |entry: &Arc<Entry>| {
        let Input::Result(reply) = &entry.cause else { return None };
        // What a reviewer judges is done in a later entry, if it is.
        let is_success = |event: &Event| match event {
            Event::AttemptSucceeded { step, .. }
            | Event::ReviewRequested { of: ReviewOf::Output { step, .. }, .. } => *step == reply.step,
            _ => false,
        };
        entry.events.iter().find(|event| is_success(event))?;
        Some((reply.step.clone(), reply.input.as_ref()?.digest()))
    };
    entries.iter().filter_map(of).collect()
}

impl Run {
    /// Returns a step whose call, with at least this effect, may be made or may have been.
    fn unsettled(&self, effect: Effect) -> Option<Unsettled> {
        for (at, step) in self.steps.iter().enumerate() {
            let own = self.effect_of(at as u32);
            let is_running = matches!(step.state, StepState::Running { verify: false, .. }) && own >= effect;
            // What a child run does is not known here.
            if is_running || matches!(step.state, StepState::Child { .. }) {
                return Some(Unsettled::InHand(step.id.clone()));
            }
            if own < effect {
                continue;
            }
            if own == Effect::Irreversible && step.permit.is_some() && !is_done(step) {
                return Some(Unsettled::Unknown(step.id.clone()));
            }
        }
        let aside = self.earlier_items.values().find(|earlier| earlier.is_spent && !is_done(&earlier.item));
        aside.map(|earlier| Unsettled::Unknown(earlier.item.id.clone()))
    }

    /// Returns the results that stand, or may stand again.
    fn kept(&self, inputs: &HashMap<StepId, Digest>) -> Vec<Kept> {
        let Some(version) = self.versions.last() else { return self.kept_aside() };
        let mut kept = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            let StepState::Succeeded(output) = &step.state else { continue };
            let of = step.parent.map_or(at as u32, |(parent, _)| parent);
            if step.parent.is_some() && is_done(&self.steps[of as usize]) {
                continue;
            }
            let definition = version.plan.step(of);
            let is_irreversible = self.effect_of(at as u32) == Effect::Irreversible;
            let own = inputs.get(&step.id).copied().or_else(|| self.done_input(&step.id));
            let call = |tool: &ToolName| Some(DoneCall { tool: tool.clone(), input: own? });
            kept.push(Kept {
                step: step.id.clone(),
                definition: Some(definition.definition_digest()),
                means: tool_digest(version, definition),
                refs: references(version, of, &self.steps),
                mentions_params: mentions_params(definition),
                output: output.clone(),
                call: definition.tool.as_ref().filter(|_| is_irreversible).and_then(call),
                worker: step.worker.clone(),
                started_at: step.started_at,
                ended_at: step.ended_at,
            });
        }
        let stands = |aside: &Kept| kept.iter().all(|one: &Kept| one.step != aside.step);
        let aside: Vec<Kept> = self.kept_aside().into_iter().filter(stands).collect();
        kept.extend(aside);
        kept
    }

    /// Returns the results that do not stand now but may stand again.
    fn kept_aside(&self) -> Vec<Kept> {
        let mut kept: Vec<Kept> = self
            .previous
            .values()
            .filter_map(|previous| {
                let StepState::Succeeded(output) = &previous.step.state else { return None };
                let done = self.done_calls.iter().find(|done| done.step == previous.step.id);
                Some(Kept {
                    step: previous.step.id.clone(),
                    definition: Some(previous.definition),
                    means: previous.tool,
                    refs: previous.refs.clone(),
                    mentions_params: previous.mentions_params,
                    output: output.clone(),
                    call: done.and_then(|done| done.call.clone()),
                    worker: previous.step.worker.clone(),
                    started_at: previous.step.started_at,
                    ended_at: previous.step.ended_at,
                })
            })
            .collect();
        kept.sort_by(|a, b| a.step.cmp(&b.step));
        kept
    }

    fn done_input(&self, step: &StepId) -> Option<Digest> {
        let done = self.done_calls.iter().find(|done| done.step == *step)?;
        done.call.as_ref().map(|call| call.input)
    }

    /// Begins with what another run had found out.
    pub(super) fn take_over(&mut self, kept: &[Kept]) {
        for result in kept {
            let Some(definition) = result.definition else { continue };
            let mut step = StepRun::new(result.step.clone(), None, 0, 1, 1);
            step.state = StepState::Succeeded(result.output.clone());
            step.worker.clone_from(&result.worker);
            step.started_at = result.started_at;
            step.ended_at = result.ended_at;
            let previous = Previous {
                definition,
                tool: result.means,
                refs: result.refs.clone(),
                mentions_params: result.mentions_params,
                step,
            };
            self.previous.insert(result.step.clone(), previous);
        }
        self.done_calls = kept.iter().filter(|kept| kept.call.is_some()).cloned().collect();
    }

    /// Returns the result of an item that the run this one was forked from had, if it still stands.
    pub(super) fn inherited_item(&mut self, parent: u32, item: &StepId) -> Option<StepRun> {
        self.spec.origin?;
        let previous = self.previous.remove(item)?;
        let version = self.versions.last()?;
        self.fits(version, parent, &previous).then_some(previous.step)
    }

    /// Returns whether a step is defined as it was when it had an earlier result, and refers to the
    /// same values.
    pub(super) fn fits(&self, version: &PlanVersion, at: u32, previous: &Previous) -> bool {
        let step = version.plan.step(at);
        previous.definition == step.definition_digest()
            && previous.tool == tool_digest(version, step)
            && previous.refs == references(version, at, &self.steps)
    }

    /// Returns the irreversible calls that the run this one was forked from has made: they are not
    /// made again, whatever a step is called.
    #[must_use]
    pub fn done_calls(&self) -> &[Kept] {
        &self.done_calls
    }
}

fn is_done(step: &StepRun) -> bool {
    matches!(step.state, StepState::Succeeded(_))
}
