//! The actor: takes requests from the bus, lets replanners work on tasks of their own, and answers
//! the tracker.

use std::sync::Arc;

use foreplan_bus::{Bus, publish_patiently};
use foreplan_core::tool::InventorySource;
use foreplan_protocol::{Message, ReplanRequest, Reply, Subject};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use crate::{Replanned, Replanners, chain::Answer};

/// Requests that are worked on or queued at once: more than the runs that one process carries.
pub const REQUESTS_MAX: usize = 8 * 1024;

/// Why the replanner did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its actor did not.
    #[error("starting the replanner's actor")]
    Spawn(#[source] ractor::SpawnErr),
}

/// A replanner that runs. Dropping it lets the replanner go on.
#[derive(Clone, Debug)]
pub struct ReplannerHandle {
    actor: ActorRef<Asked>,
}

impl ReplannerHandle {
    /// Leaves the bus, drops what is being decided, and returns once the actor has ended. Trackers
    /// ask again for what was dropped.
    pub async fn stop(&self) {
        if let Err(error) = self.actor.stop_and_wait(None, None).await {
            tracing::debug!(%error, "the replanner had stopped already");
        }
    }
}

/// Starts a replanner that serves [`Subject::Replanner`].
///
/// # Errors
///
/// If its actor does not start.
pub async fn spawn(
    bus: Arc<dyn Bus>,
    replanners: Replanners,
    inventory: Arc<dyn InventorySource>,
) -> Result<ReplannerHandle, Error> {
    let agent = Arc::new(Agent { bus, replanners, inventory });
    let (actor, _) = Actor::spawn(None, ReplannerActor, agent).await.map_err(Error::Spawn)?;
    Ok(ReplannerHandle { actor })
}

/// A request, and its place among [`REQUESTS_MAX`].
struct Asked {
    request: Arc<ReplanRequest>,
    /// Counted, never read: a request holds it until it is answered.
    _place: Arc<()>,
}

/// What all requests share.
struct Agent {
    bus: Arc<dyn Bus>,
    replanners: Replanners,
    inventory: Arc<dyn InventorySource>,
}

struct ReplannerActor;

struct State {
    agent: Arc<Agent>,
    /// Requests that are worked on; dropped with the actor.
    work: JoinSet<()>,
}

impl Actor for ReplannerActor {
    type Msg = Asked;
    type State = State;
    type Arguments = Arc<Agent>;

    async fn pre_start(&self, me: ActorRef<Asked>, agent: Arc<Agent>) -> Result<State, ActorProcessingErr> {
        let places = Arc::new(());
        agent.bus.serve(Subject::Replanner, Box::new(move |message| deliver(&me, &places, message)));
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
        state.agent.bus.leave(&Subject::Replanner);
        Ok(())
    }
}

/// Queues a request. Anything else on this subject comes from somebody who does not know it.
fn deliver(to: &ActorRef<Asked>, places: &Arc<()>, message: Message) -> Result<(), foreplan_bus::Error> {
    let Message::Replan(request) = message else {
        tracing::warn!(?message, "the replanner was sent something that is no request for a replan");
        return Ok(());
    };
    if Arc::strong_count(places) > REQUESTS_MAX {
        return Err(foreplan_bus::Error::Busy(Subject::Replanner.to_string()));
    }
    to.cast(Asked { request, _place: Arc::clone(places) })
        .map_err(|_| foreplan_bus::Error::Gone(Subject::Replanner.to_string()))
}

impl Agent {
    async fn answer(self: Arc<Self>, asked: Asked) {
        let request = &asked.request;
        let Answer { by, replanned } = self.replanners.answer(request, &self.inventory.inventory()).await;
        let Replanned { decision, reason, rule, usage, calls } = replanned;
        let reply = Reply::Replan { basis: request.basis, by, reason, decision, rule, usage, calls };
        let message = Message::Reply { run: request.run, reply };
        if let Err(error) = publish_patiently(self.bus.as_ref(), Subject::Tracker(request.run), message).await
        {
            tracing::warn!(run = %request.run, %error, "nobody took the decision; the run asks again when resumed");
        }
    }
}
