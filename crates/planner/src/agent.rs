//! The agent: takes requests from the bus, lets planners answer them.

use std::sync::Arc;

use foreplan_bus::{
    Bus,
    service::{self, Handle, StartError},
};
use foreplan_core::{goal::PlannerSpec, id::RunId, tool::InventorySource};
use foreplan_protocol::{Message, PlanRequest, Reply, Subject};
use futures::future::{BoxFuture, FutureExt as _};

use crate::{Planned, Planners};

/// Starts a planner that serves [`Subject::Planner`].
///
/// # Errors
///
/// If its actors do not start.
pub async fn spawn(
    bus: Arc<dyn Bus>,
    planners: Planners,
    inventory: Arc<dyn InventorySource>,
) -> Result<Handle, StartError> {
    service::spawn(bus, Agent { planners, inventory }).await
}

struct Agent {
    planners: Planners,
    inventory: Arc<dyn InventorySource>,
}

impl service::Agent for Agent {
    type Request = PlanRequest;

    fn subject(&self) -> Subject {
        Subject::Planner
    }

    fn request(&self, message: Message) -> Option<(RunId, Arc<PlanRequest>)> {
        match message {
            Message::Plan(request) => Some((request.run, request)),
            _ => None,
        }
    }

    fn answer(&self, request: Arc<PlanRequest>) -> BoxFuture<'_, Reply> {
        async move {
            let planned = match self.planners.get(&request.spec.planner) {
                Ok(planner) => {
                    planner
                        .plan(Arc::clone(&request), self.inventory.inventory_of(&request.spec.project))
                        .await
                }
                Err(none) => *none,
            };
            reply(&request, planned)
        }
        .boxed()
    }

    fn panicked(&self, request: &PlanRequest, why: &str) -> Reply {
        let by = request.spec.planner.name();
        let message = format!("the planner `{by}` panicked ({why}); this is a bug in it");
        reply(request, Planned::none("planner_panicked", message))
    }
}

fn reply(request: &PlanRequest, planned: Planned) -> Reply {
    let Planned { outcome, usage, calls } = planned;
    let by = match &request.spec.planner {
        PlannerSpec::Model { model } => model.clone(),
        planner => planner.name().to_owned(),
    };
    Reply::Plan { request: request.request, by, outcome, usage, calls }
}
