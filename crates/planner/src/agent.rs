//! The actor: takes requests from the bus, lets planners work on tasks of their own, and answers
//! the tracker.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use foreplan_bus::{Bus, publish_patiently};
use foreplan_core::tool::InventorySource;
use foreplan_protocol::{Message, PlanRequest, Reply, Subject};
use futures::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use crate::{Planned, Planners};

/// Requests that are worked on or queued at once: more than the runs that one process carries.
pub const REQUESTS_MAX: usize = 8 * 1024;

/// Why the planner did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its actor did not.
    #[error("starting the planner's actor")]
    Spawn(#[source] ractor::SpawnErr),
}

/// A planner that runs. Dropping it lets the planner go on.
#[derive(Clone, Debug)]
pub struct PlannerHandle {
    actor: ActorRef<Asked>,
}

impl PlannerHandle {
    /// Leaves the bus, drops what is being planned, and returns once the actor has ended. Trackers
    /// ask again for what was dropped.
    pub async fn stop(&self) {
        if let Err(error) = self.actor.stop_and_wait(None, None).await {
            tracing::debug!(%error, "the planner had stopped already");
        }
    }
}

/// Starts a planner that serves [`Subject::Planner`].
///
/// # Errors
///
/// If its actor does not start.
pub async fn spawn(
    bus: Arc<dyn Bus>,
    planners: Planners,
    inventory: Arc<dyn InventorySource>,
) -> Result<PlannerHandle, Error> {
    let agent = Arc::new(Agent { bus, planners, inventory });
    let (actor, _) = Actor::spawn(None, PlannerActor, agent).await.map_err(Error::Spawn)?;
    Ok(PlannerHandle { actor })
}

/// A request, and its place among [`REQUESTS_MAX`].
struct Asked {
    request: Arc<PlanRequest>,
    /// Counted, never read: a request holds it until it is answered.
    _place: Arc<()>,
}

/// What all requests share.
struct Agent {
    bus: Arc<dyn Bus>,
    planners: Planners,
    inventory: Arc<dyn InventorySource>,
}

struct PlannerActor;

struct State {
    agent: Arc<Agent>,
    /// Requests that are worked on; dropped with the actor.
    work: JoinSet<()>,
}

impl Actor for PlannerActor {
    type Msg = Asked;
    type State = State;
    type Arguments = Arc<Agent>;

    async fn pre_start(&self, me: ActorRef<Asked>, agent: Arc<Agent>) -> Result<State, ActorProcessingErr> {
        let places = Arc::new(());
        agent.bus.serve(Subject::Planner, Box::new(move |message| deliver(&me, &places, message)));
        Ok(State { agent, work: JoinSet::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<Asked>,
        asked: Asked,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        while state.work.try_join_next().is_some() {}
        state.work.spawn(Arc::clone(&state.agent).answer(asked));
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Asked>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.agent.bus.leave(&Subject::Planner);
        Ok(())
    }
}

/// Queues a request. Anything else on this subject comes from somebody who does not know it.
fn deliver(to: &ActorRef<Asked>, places: &Arc<()>, message: Message) -> Result<(), foreplan_bus::Error> {
    let Message::Plan(request) = message else {
        tracing::warn!(?message, "the planner was sent something that is no request for a plan");
        return Ok(());
    };
    if Arc::strong_count(places) > REQUESTS_MAX {
        return Err(foreplan_bus::Error::Busy(Subject::Planner.to_string()));
    }
    to.cast(Asked { request, _place: Arc::clone(places) })
        .map_err(|_| foreplan_bus::Error::Gone(Subject::Planner.to_string()))
}

impl Agent {
    async fn answer(self: Arc<Self>, asked: Asked) {
        let request = &asked.request;
        let by = request.spec.planner.name();
        let planned = match AssertUnwindSafe(self.plan(request)).catch_unwind().await {
            Ok(planned) => planned,
            Err(panic) => panicked(by, panic.as_ref()),
        };
        let Planned { outcome, usage, calls } = planned;
        let reply = Reply::Plan { request: request.request, by: by.to_owned(), outcome, usage, calls };
        let message = Message::Reply { run: request.run, reply };
        if let Err(error) = publish_patiently(self.bus.as_ref(), Subject::Tracker(request.run), message).await
        {
            tracing::warn!(run = %request.run, %error, "nobody took the plan; the run asks again when resumed");
        }
    }

    async fn plan(&self, request: &Arc<PlanRequest>) -> Planned {
        match self.planners.get(&request.spec.planner) {
            Ok(planner) => planner.plan(Arc::clone(request), self.inventory.inventory()).await,
            Err(none) => *none,
        }
    }
}

fn panicked(by: &str, panic: &(dyn Any + Send)) -> Planned {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message");
    Planned::none("planner_panicked", format!("the planner `{by}` panicked ({text}); this is a bug in it"))
}
