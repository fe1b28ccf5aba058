//! The derive replanner: derives again around what failed, from what is there already.

use std::sync::Arc;

use foreplan_core::{
    derive::{self, DeriveRequest, Progress},
    goal::PlannerSpec,
    policy::ReplanDecision,
    tool::Inventory,
};
use foreplan_protocol::ReplanRequest;
use futures::future::{BoxFuture, FutureExt as _};

use crate::{Replanned, Replanner};

/// Derives a new plan that keeps the steps that are done and avoids the tools that failed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Derive;

impl Replanner for Derive {
    fn name(&self) -> &str {
        "derive"
    }

    fn replan(&self, request: Arc<ReplanRequest>, inventory: Arc<Inventory>) -> BoxFuture<'_, Replanned> {
        async move {
            match tokio::task::spawn_blocking(move || answer(&request, &inventory)).await {
                Ok(replanned) => replanned,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Replanned::pass("the process stopped while it derived"),
                },
            }
        }
        .boxed()
    }
}

fn answer(request: &ReplanRequest, inventory: &Inventory) -> Replanned {
    let (spec, context) = (&request.spec, &request.context);
    let (PlannerSpec::Derive { produce }, Some(plan)) = (&spec.planner, &context.plan) else {
        return Replanned::pass("the plan was not derived");
    };
    let wanted = DeriveRequest { goal: &spec.goal, ..DeriveRequest::new(inventory, produce, &spec.params) };
    let progress = Progress {
        plan,
        outputs: &context.outputs,
        failed_tools: &context.failed_tools,
        failed_step: context.trigger.step(),
    };
    match derive::derive_again(&wanted, &progress) {
        Ok(derived) if derived.plan.steps == plan.plan().steps => {
            Replanned::pass("there is no other way than the plan in force")
        }
        Ok(derived) => {
            let is_new = |id: &str| plan.position(id).is_none();
            let added: Vec<String> = derived
                .plan
                .steps
                .iter()
                .filter(|step| is_new(step.id.as_str()))
                .map(|step| format!("`{}`", step.id))
                .collect();
            let how =
                if added.is_empty() { "without it".to_owned() } else { format!("by {}", added.join(", ")) };
            let around = context.trigger.step().map_or_else(String::new, |step| format!(" around `{step}`"));
            let reason = format!("derived again{around}, {how}, at cost {}", derived.cost);
            Replanned::new(ReplanDecision::NewPlan { plan: Arc::new(derived.plan) }, reason)
        }
        Err(error) => Replanned::pass(error.to_string()),
    }
}
