//! The derive planner: from the wanted artifacts backwards over the tools' types.

use std::{collections::BTreeSet, sync::Arc};

use foreplan_core::{
    action::Trigger,
    derive::{self, DeriveRequest, Have},
    finding::Finding,
    goal::PlannerSpec,
    id::ToolName,
    tool::Inventory,
};
use foreplan_protocol::{PlanRequest, ReplanContext};
use futures::future::{BoxFuture, FutureExt as _};

use crate::{Planned, Planner};

/// Searches over larger inventories leave the async threads: up to here they take microseconds.
const INLINE_TOOLS_MAX: usize = 16;

/// Derives the cheapest plan. Asked again, it keeps what is done and avoids what failed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Derive;

impl Planner for Derive {
    fn name(&self) -> &str {
        "derive"
    }

    fn plan(&self, request: Arc<PlanRequest>, inventory: Arc<Inventory>) -> BoxFuture<'_, Planned> {
        async move {
            if inventory.tools().nth(INLINE_TOOLS_MAX).is_none() {
                return answer(&request, &inventory);
            }
            match tokio::task::spawn_blocking(move || answer(&request, &inventory)).await {
                Ok(planned) => planned,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => {
                        Planned::none("stopped", "the process stopped while it planned; resume the run")
                    }
                },
            }
        }
        .boxed()
    }
}

fn answer(request: &PlanRequest, inventory: &Inventory) -> Planned {
    let spec = &request.spec;
    let PlannerSpec::Derive { produce } = &spec.planner else {
        return Planned::none("wrong_planner", "the run names no artifacts; give it `produce`");
    };
    let mut wanted =
        DeriveRequest { goal: &spec.goal, ..DeriveRequest::new(inventory, produce, &spec.params) };
    if let Some(context) = &request.context {
        wanted.have = context
            .plan
            .as_ref()
            .map_or_else(Have::default, |plan| Have::of(inventory, plan, &context.outputs));
        wanted.avoid = failed_tools(context);
    }
    match derive::derive(&wanted) {
        Ok(derived) => Planned::plan(Arc::new(derived.plan)),
        Err(error) => Planned::none(error.code(), error.to_string()).findings(findings(&error)),
    }
}

fn failed_tools(context: &ReplanContext) -> BTreeSet<ToolName> {
    let mut failed: BTreeSet<ToolName> = context.failed_tools.iter().cloned().collect();
    if let (Trigger::StepFailed { step, .. }, Some(plan)) = (context.trigger.as_ref(), &context.plan) {
        let id = step.as_item().map_or(step.as_str(), |(parent, _)| parent);
        failed.extend(plan.position(id).and_then(|at| plan.step(at).tool.clone()));
    }
    failed
}

fn findings(error: &derive::Error) -> Vec<Finding> {
    match error {
        derive::Error::NoProducer(why) => {
            why.missing.iter().map(|missing| Finding::error(error.code(), missing.to_string())).collect()
        }
        derive::Error::NothingWanted | derive::Error::Conflict { .. } => {
            vec![Finding::error(error.code(), error.to_string())]
        }
    }
}
