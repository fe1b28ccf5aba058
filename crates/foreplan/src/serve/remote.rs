//! A deployment as its clients see it.

use std::sync::Arc;

use foreplan_core::{
    goal::RunSpec,
    id::RunId,
    input::Command,
    tool::{Inventory, InventorySource as _},
};
use foreplan_journal::Store;
use foreplan_nats::{Answer, Client, Connection, NatsJournal, Refusal, Registry};
use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};

use crate::system::{Deployment, Error, InHand};

/// A deployment over a NATS server.
pub struct Remote {
    client: Client,
    registry: Registry,
}

impl Remote {
    /// Makes the client's side of a connection.
    #[must_use]
    pub fn new(connection: Connection, registry: Registry) -> Self {
        Self { client: Client::new(connection), registry }
    }
}

/// Returns a deployment's store, and what is known of its workers and tools: as it stands now, until somebody
/// follows a run.
///
/// # Errors
///
/// If the deployment is not set up.
pub async fn store(connection: &Connection) -> Result<(Store, Registry), foreplan_nats::Error> {
    connection.verify().await?;
    let journal = NatsJournal::open(connection).await.map_err(|error| connection.explain(error))?;
    let payloads = Arc::new(journal.payloads().clone());
    let registry = Registry::look(connection).await.map_err(|error| connection.explain(error))?;
    Ok((Store::shared(Arc::new(journal), payloads), registry))
}

impl Deployment for Remote {
    fn submit<'a>(
        &'a self,
        run: RunId,
        spec: Arc<RunSpec>,
        by: &'a str,
    ) -> BoxFuture<'a, Result<RunId, Error>> {
        Box::pin(async move {
            match self.client.submit(run, spec, by).await {
                Ok(Answer::Accepted) => Ok(run),
                Ok(Answer::Refused(Refusal::Exists(first))) => Ok(first),
                Ok(Answer::Refused(refusal)) => Err(refused(refusal)),
                Err(error) => Err(Error::Deployment(error.to_string())),
            }
        })
    }

    fn command(&self, run: RunId, command: Command) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            match self.client.command(run, command).await {
                Ok(Answer::Accepted) => Ok(()),
                Ok(Answer::Refused(refusal)) => Err(refused(refusal)),
                Err(error) => Err(Error::Deployment(error.to_string())),
            }
        })
    }

    fn news(&self, run: RunId) -> BoxFuture<'_, Result<BoxStream<'static, ()>, Error>> {
        Box::pin(async move {
            let failed = |error: foreplan_nats::Error| Error::Deployment(error.to_string());
            self.registry.follow().await.map_err(failed)?;
            let news = self.client.news(run).await.map_err(failed)?;
            Ok(news.boxed())
        })
    }

    fn inventory_of(&self, project: &str) -> Arc<Inventory> {
        self.registry.inventory_of(project)
    }

    fn in_hand(&self, run: RunId) -> Vec<InHand> {
        let steps = self.registry.in_hand(run).into_iter();
        let in_hand = steps.map(|(worker, step)| InHand {
            step: step.step,
            attempt: step.attempt,
            worker,
            since: step.since,
        });
        in_hand.collect()
    }
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Rejected(rejection) => Error::Rejected(rejection),
        Refusal::NoRun(run) => Error::NoRun(run),
        Refusal::Exists(_) | Refusal::Fork(_) | Refusal::Busy(_) | Refusal::Stuck(_) => {
            Error::Refused(refusal.to_string())
        }
    }
}
