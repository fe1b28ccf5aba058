//! What a journal says about plan versions: each with its plan, its cause, and what was done by
//! then.

use std::{collections::BTreeSet, sync::Arc};

use foreplan_core::{
    envelope::Envelope,
    event::{Entry, Event},
    finding::Finding,
    goal,
    id::StepId,
    input::{Command, CommandKind, Input, Proposal},
    plan::{CompiledPlan, Plan},
    time::Timestamp,
};

use super::render::plan::Review;

/// A plan that was proposed.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its number, from 1.
    pub number: u32,
    /// The version that it replaces.
    pub parent: Option<u32>,
    /// The entry that proposed it.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The plan.
    pub plan: Arc<CompiledPlan>,
    /// What an approval of it covers.
    pub envelope: Envelope,
    /// Advice about it.
    pub findings: Vec<Finding>,
    /// Who made it.
    pub by: String,
    /// Who judges what its steps return.
    pub reviewer: Option<goal::Review>,
    /// Why.
    pub why: String,
    /// Whether it was adopted.
    pub adopted: bool,
    /// The steps that were done when it was proposed.
    pub done: BTreeSet<StepId>,
}

impl Version {
    /// Returns the version as it is reviewed.
    #[must_use]
    pub fn review<'a>(&'a self, goal: &'a str) -> Review<'a> {
        Review {
            goal,
            plan: self.plan(),
            envelope: Some(&self.envelope),
            by: &self.by,
            reviewer: self.reviewer.as_ref(),
            findings: &self.findings,
        }
    }

    /// Returns the plan as it was written.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.plan.plan()
    }
}

/// Returns every plan version that a journal proposes, in order. A version that was proposed
/// again takes the place of the earlier proposal.
#[must_use]
pub fn versions(entries: &[Arc<Entry>]) -> Vec<Version> {
    let mut versions: Vec<Version> = Vec::new();
    let mut done = BTreeSet::new();
    let mut trigger = String::new();
    let reviewer = entries.first().and_then(|entry| match &entry.cause {
        Input::Submit { spec, .. } => spec.review.clone(),
        _ => None,
    });
    for entry in entries {
        for event in &entry.events {
            match event {
                Event::GoalRevised { by } => trigger = format!("goal revised by {by}"),
                Event::ReplanRequested { step: Some(step) } => trigger = format!("{step} failed"),
                Event::PlanProposed { version, parent, .. } => {
                    let Some(mut proposed) = proposed(entry, *version, *parent, &done) else { continue };
                    proposed.reviewer.clone_from(&reviewer);
                    if proposed.why.is_empty() {
                        proposed.why = std::mem::take(&mut trigger);
                    }
                    versions.retain(|v| v.adopted || v.number != *version);
                    versions.push(proposed);
                }
                Event::PlanAdopted { version } => {
                    for found in versions.iter_mut().filter(|v| v.number == *version) {
                        found.adopted = true;
                    }
                }
                Event::AttemptSucceeded { step, .. } | Event::StepSucceeded { step } => {
                    done.insert(step.clone());
                }
                Event::StepRetried { step } | Event::StepFailed { step, .. } => {
                    done.remove(step);
                }
                _ => {}
            }
        }
    }
    versions
}

fn proposed(entry: &Entry, number: u32, parent: Option<u32>, done: &BTreeSet<StepId>) -> Option<Version> {
    let (proposal, by, why) = match &entry.cause {
        Input::Planned(reply) => (Some(&reply.proposal), reply.by.clone(), String::new()),
        Input::Replanned(reply) => (
            reply.proposal.as_ref(),
            reply.by.clone(),
            format!("{}: {}", reply.decision.name(), reply.reason),
        ),
        Input::Command(Command { by, kind: CommandKind::Edit { proposal, .. }, .. }) => {
            (Some(proposal), by.clone(), "edited by a person".to_owned())
        }
        _ => (None, String::new(), String::new()),
    };
    let Some(Proposal::Valid { plan, envelope, findings }) = proposal else { return None };
    Some(Version {
        number,
        parent,
        seq: entry.seq,
        at: entry.at,
        plan: plan.clone(),
        envelope: Envelope::clone(envelope),
        findings: findings.clone(),
        by,
        reviewer: None,
        why,
        adopted: false,
        done: done.clone(),
    })
}
