//! The runbook planner: a plan that somebody wrote, with params.

use std::sync::Arc;

use foreplan_core::{action::Trigger, goal::PlannerSpec, tool::Inventory};
use foreplan_protocol::PlanRequest;
use futures::future::{BoxFuture, FutureExt as _, ready};

use crate::{Planned, Planner};

/// Answers with the plan of the run's spec. Params change what it does; a failure does not change
/// the plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runbook;

impl Planner for Runbook {
    fn name(&self) -> &str {
        "runbook"
    }

    fn plan(&self, request: Arc<PlanRequest>, _: Arc<Inventory>) -> BoxFuture<'_, Planned> {
        ready(answer(&request)).boxed()
    }
}

fn answer(request: &PlanRequest) -> Planned {
    let PlannerSpec::Runbook { plan } = &request.spec.planner else {
        return Planned::none("wrong_planner", "the run names no runbook; give it a plan file");
    };
    match request.context.as_ref().map(|context| context.trigger.as_ref()) {
        None | Some(Trigger::GoalRevised) => Planned::plan(Arc::clone(plan)),
        Some(Trigger::StepFailed { step, .. }) => Planned::none(
            "runbook_unchanged",
            format!(
                "the runbook holds only the plan in which `{step}` failed; add a replan rule for this \
                 failure, or edit the plan"
            ),
        ),
        Some(Trigger::PlanRefused { message }) => Planned::none(
            "runbook_unchanged",
            format!("the runbook holds only the plan that was refused ({message}); edit it"),
        ),
    }
}
