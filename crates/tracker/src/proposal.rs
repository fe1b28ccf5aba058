//! A plan becomes a proposal: checked against the inventory, with the envelope of its approval.

use std::sync::Arc;

use foreplan_core::{
    check::{self, CheckContext},
    goal::RunSpec,
    input::Proposal,
    plan::Plan,
    policy::{Patch, ReplanDecision},
    tool::Inventory,
};

/// Plans with more steps are checked off the actor.
pub(crate) const STEPS_CHECKED_INLINE: usize = 64;

/// What a plan is checked against.
#[derive(Clone, Copy)]
pub struct Planning<'a> {
    /// What was asked for.
    pub spec: &'a RunSpec,
    /// The tools.
    pub inventory: &'a Inventory,
}

/// Checks a plan.
#[must_use]
pub fn propose(plan: &Arc<Plan>, planning: Planning<'_>) -> Proposal {
    let context = CheckContext {
        inventory: planning.inventory,
        limits: &planning.spec.limits,
        params: &planning.spec.params,
        rules: &planning.spec.replan.rules,
        executable: &check::EXECUTABLE,
    };
    let checked = check::check(plan, &context);
    let is_adoptable = checked.is_adoptable();
    match checked.compiled {
        Some(compiled) if is_adoptable => {
            let envelope = Box::new(check::envelope(&compiled, &context));
            Proposal::Valid { plan: Arc::new(compiled), envelope, findings: checked.findings }
        }
        _ => Proposal::Invalid { plan: Arc::clone(plan), findings: checked.findings },
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
