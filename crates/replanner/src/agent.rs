//! The agent: takes requests from the bus, lets the chain of replanners answer them.

use std::sync::Arc;

use foreplan_bus::{
    Bus,
    service::{self, Handle, StartError},
};
use foreplan_core::{id::RunId, tool::InventorySource};
use foreplan_protocol::{Message, ReplanRequest, Reply, Subject};
use futures::future::{BoxFuture, FutureExt as _};

use crate::{
    Replanned, Replanners,
    chain::{Answer, STRATEGY},
};

/// Starts a replanner that serves [`Subject::Replanner`].
///
/// # Errors
///
/// If its actors do not start.
pub async fn spawn(
    bus: Arc<dyn Bus>,
    replanners: Replanners,
    inventory: Arc<dyn InventorySource>,
) -> Result<Handle, StartError> {
    service::spawn(bus, Agent { replanners, inventory }).await
}

struct Agent {
    replanners: Replanners,
    inventory: Arc<dyn InventorySource>,
}

impl service::Agent for Agent {
    type Request = ReplanRequest;

    fn subject(&self) -> Subject {
        Subject::Replanner
    }

    fn request(&self, message: Message) -> Option<(RunId, Arc<ReplanRequest>)> {
        match message {
            Message::Replan(request) => Some((request.run, request)),
            _ => None,
        }
    }

    fn answer(&self, request: Arc<ReplanRequest>) -> BoxFuture<'_, Reply> {
        async move {
            let answer =
                self.replanners.answer(&request, &self.inventory.inventory_of(&request.spec.project)).await;
            reply(&request, answer)
        }
        .boxed()
    }

    fn panicked(&self, request: &ReplanRequest, why: &str) -> Reply {
        let replanned = Replanned::pass(format!("the replanner panicked ({why}); this is a bug in it"));
        reply(request, Answer { by: STRATEGY.to_owned(), replanned })
    }
}

fn reply(request: &ReplanRequest, Answer { by, replanned }: Answer) -> Reply {
    let Replanned { decision, reason, rule, usage, calls } = replanned;
    Reply::Replan { basis: request.basis, by, reason, decision, rule, usage, calls }
}
