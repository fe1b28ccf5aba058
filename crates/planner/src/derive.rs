//! The derive planner: from the wanted artifacts backwards over the tools' types.

use std::sync::Arc;

use foreplan_core::{
    derive::{self, DeriveRequest, Progress},
    finding::Finding,
    goal::PlannerSpec,
    tool::Inventory,
};
use foreplan_protocol::PlanRequest;
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
    let wanted = DeriveRequest { goal: &spec.goal, ..DeriveRequest::new(inventory, produce, &spec.params) };
    let progress = request.context.as_ref().and_then(|context| {
        Some(Progress {
            plan: context.plan.as_ref()?,
            outputs: &context.outputs,
            failed_tools: &context.failed_tools,
            failed_step: context.trigger.step(),
        })
    });
    let derived = match progress {
        Some(progress) => derive::derive_again(&wanted, &progress),
        None => derive::derive(&wanted),
    };
    match derived {
        Ok(derived) => Planned::plan(Arc::new(derived.plan)),
        Err(error) => Planned::none(error.code(), error.to_string()).findings(findings(&error)),
    }
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
