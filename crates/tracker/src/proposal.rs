//! A plan becomes a proposal: checked against the inventory, with the envelope of its approval.

use std::{collections::VecDeque, sync::Arc};

use foreplan_core::{
    check::{self, CheckContext},
    goal::RunSpec,
    input::Proposal,
    plan::Plan,
    policy::{Patch, ReplanDecision},
    tool::Inventory,
};
use parking_lot::Mutex;

/// Plans with more steps are checked off the actor.
pub(crate) const STEPS_CHECKED_INLINE: usize = 64;

/// What a plan is checked against.
#[derive(Clone, Copy)]
pub struct Planning<'a> {
    /// What was asked for.
    pub spec: &'a RunSpec,
    /// The tools.
    pub inventory: &'a Inventory,
    /// Whether somebody carries out goal steps.
    pub goals: bool,
}

/// Checks a plan.
#[must_use]
pub fn propose(plan: &Arc<Plan>, planning: Planning<'_>) -> Proposal {
    let mut context = CheckContext::of(planning.spec, planning.inventory);
    if !planning.goals {
        context.executable = &check::WITHOUT_GOALS;
    }
    let checked = check::check(plan, &context);
    let is_adoptable = checked.is_adoptable();
    match checked.compiled {
        Some(compiled) if is_adoptable => {
            let envelope = Arc::new(check::envelope(&compiled, &context).into());
            Proposal::Valid { plan: Arc::new(compiled), envelope, findings: checked.findings }
        }
        _ => Proposal::Invalid { plan: Arc::clone(plan), findings: checked.findings },
    }
}

/// How many proposals are remembered: plans of that many projects, or versions, at once.
const REMEMBERED_MAX: usize = 16;

/// The last proposals. Checking is pure, so that a plan which many runs have is checked once.
#[derive(Default)]
pub(crate) struct Proposals {
    known: Mutex<VecDeque<Remembered>>,
}

struct Remembered {
    plan: Arc<Plan>,
    spec: Arc<RunSpec>,
    inventory: Arc<Inventory>,
    proposal: Proposal,
}

impl Remembered {
    /// Returns whether checking `plan` would give the same proposal.
    fn answers(&self, plan: &Arc<Plan>, spec: &RunSpec, inventory: &Arc<Inventory>) -> bool {
        Arc::ptr_eq(&self.inventory, inventory)
            && (Arc::ptr_eq(&self.plan, plan) || self.plan == *plan)
            && self.spec.limits == spec.limits
            && self.spec.params == spec.params
            && self.spec.replan.rules == spec.replan.rules
            && self.spec.review == spec.review
            && self.spec.planner.name() == spec.planner.name()
    }
}

impl Proposals {
    /// Returns the proposal of a plan that was checked before.
    pub(crate) fn find(
        &self,
        plan: &Arc<Plan>,
        spec: &RunSpec,
        inventory: &Arc<Inventory>,
    ) -> Option<Proposal> {
        let known = self.known.lock();
        known.iter().find(|known| known.answers(plan, spec, inventory)).map(|known| known.proposal.clone())
    }

    /// Checks a plan and remembers the proposal.
    pub(crate) fn make(
        &self,
        plan: Arc<Plan>,
        spec: Arc<RunSpec>,
        inventory: Arc<Inventory>,
        goals: bool,
    ) -> Proposal {
        let proposal = propose(&plan, Planning { spec: &spec, inventory: &inventory, goals });
        let mut known = self.known.lock();
        known.truncate(REMEMBERED_MAX - 1);
        known.push_front(Remembered { plan, spec, inventory, proposal: proposal.clone() });
        proposal
    }
}

/// Returns the plan that a replanner's decision makes of `current`, if it makes one.
pub(crate) fn decided_plan(decision: &ReplanDecision, current: &Plan) -> Option<Result<Arc<Plan>, String>> {
    match decision {
        ReplanDecision::Patch(patch) => Some(apply(patch, current)),
        ReplanDecision::NewPlan { plan } => Some(Ok(Arc::clone(plan))),
        ReplanDecision::Retry
        | ReplanDecision::Skip
        | ReplanDecision::FullReplan
        | ReplanDecision::Finish
        | ReplanDecision::Fail { .. }
        | ReplanDecision::Ask { .. }
        | ReplanDecision::Pass => None,
    }
}

fn apply(patch: &Patch, current: &Plan) -> Result<Arc<Plan>, String> {
    patch.apply(current).map(Arc::new).map_err(|e| e.to_string())
}
