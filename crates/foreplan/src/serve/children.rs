//! Child runs of a deployment: whichever tracker has their shard carries them on.
//!
//! What a tracker tells them goes into the queue of their shard, under a lease that only trackers can
//! make. There it waits for its tracker, whatever becomes of this one.

use std::sync::Arc;

use foreplan_bus::{Bus as _, Error};
use foreplan_core::{
    goal::RunSpec,
    id::RunId,
    input::{Command, Input},
};
use foreplan_nats::NatsBus;
use foreplan_protocol::{Message, Subject};
use foreplan_tracker::Children;
use futures::future::BoxFuture;

/// The child runs of a deployment.
pub(super) struct Offspring(pub(super) NatsBus);

impl Offspring {
    /// Sends until it is known whether it was taken: an attempt whose child run may begin later must not
    /// be given up. Its id makes a repetition harmless.
    async fn tell(&self, run: RunId, input: Input) -> Result<(), Error> {
        loop {
            let message = Message::Input { run, input: input.clone() };
            match self.0.publish(Subject::Tracker(run), message).await {
                Err(error @ Error::Server { .. }) => {
                    tracing::warn!(%run, %error, "a child run could not be told yet");
                }
                told => return told,
            }
        }
    }
}

impl Children for Offspring {
    fn begin(&self, run: RunId, spec: Arc<RunSpec>, by: String) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let told = self.tell(run, Input::Submit { spec, by, kept: Vec::new() }).await;
            told.map_err(|error| error.to_string())
        })
    }

    fn command(&self, run: RunId, command: Command) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = self.tell(run, Input::Command(command)).await {
                tracing::warn!(%run, %error, "a child run was not told");
            }
        })
    }
}
