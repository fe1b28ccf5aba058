//! Steps that wait for a pool without a living worker.
//!
//! They wait in the queue, where whoever scales the pool sees them. After a while each is taken back
//! and answered as unserved. Its run decides: it offers the step again, until its patience ends. Any
//! tracker may do that for any run, since a request is taken back once. Announced tools that cannot be
//! used are kept as dead here too.

use std::time::Duration;

use foreplan_bus::Bus as _;
use foreplan_core::{
    failure::{EffectState, Failure, FailureKind, UNSERVED},
    id::Capability,
};
use foreplan_protocol::{Frame, Message, Subject, wire::Worker};

use crate::{
    Error, NatsBus, Registry,
    error::chain,
    work::{failed, now},
};

/// How often pools are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// How long a step waits before its run is told: longer than a pool takes to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests of one pool that are taken back at one look.
const TAKEN_MAX: usize = 500;

/// Looks after pools without a worker until dropped.
pub(crate) async fn keep(bus: NatsBus, registry: Registry) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        for (about, tool) in registry.rejected() {
            bus.inner.bury("invalid_tool", &about, &tool).await;
        }
        for (project, capability) in registry.unserved() {
            if let Err(error) = sweep(&bus, &project, &capability).await {
                tracing::debug!(%error, project, %capability, "a pool without a worker could not be looked at");
            }
        }
    }
}

async fn sweep(bus: &NatsBus, project: &str, capability: &Capability) -> Result<(), Error> {
    let refused = |reason: String| Error::server("an unserved pool is looked at", reason);
    let names = &bus.inner.connection.names;
    let worker = Worker::Executor { project: project.to_owned(), capability: capability.clone() };
    let stream = bus.inner.connection.stream("WORK").await?;
    let queue = stream.consumer_info(names.work_consumer(&worker)).await;
    let queue = queue.map_err(|e| refused(chain(&e)))?;
    // What was delivered comes again, and is answered as lost, once a worker is there.
    let mut from = queue.delivered.stream_sequence + 1;
    let due = now().0 / 1_000_000 - PATIENCE.as_secs().cast_signed();
    for _ in 0..queue.num_pending.min(TAKEN_MAX as u64) {
        let Ok(found) = stream.get_first_raw_message_by_subject(names.work_of(&worker), from).await else {
            return Ok(());
        };
        if found.time.unix_timestamp() > due {
            return Ok(());
        }
        from = found.sequence + 1;
        let Ok(Frame { body: Message::Step(request), .. }) = Frame::decode(&found.payload) else { continue };
        // Only one tracker succeeds in this.
        if !stream.delete_message(found.sequence).await.is_ok_and(|is_taken| is_taken) {
            continue;
        }
        let why = format!(
            "no worker serves `{capability}` of the project `{project}`; start one: foreplan serve --roles executor"
        );
        let failure = Failure::new(FailureKind::Unserved, UNSERVED, why).effect(EffectState::None);
        let (run, reply) = (request.run, failed(&request, &bus.inner.options.worker, failure));
        if let Err(error) = bus.publish(Subject::Tracker(run), Message::Reply { run, reply }).await {
            // The tracker's own timer notices it.
            tracing::warn!(%run, %error, "a run was not told that nobody serves its step");
        }
    }
    Ok(())
}
