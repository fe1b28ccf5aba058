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

use crate::system::{Deployment, Error};

/// A deployment over a NATS server.
pub struct Remote {
    client: Client,
}

impl Remote {
    /// Makes the client's side of a connection.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { client: Client::new(connection) }
    }
}

/// Returns a deployment's store, and the tools that runs of a project can use there now.
///
/// # Errors
///
/// If the deployment is not set up.
pub async fn store(
    connection: &Connection,
    project: &str,
) -> Result<(Store, Arc<Inventory>), foreplan_nats::Error> {
    connection.verify().await?;
    let journal = NatsJournal::open(connection).await?;
    let payloads = Arc::new(journal.payloads().clone());
    let registry = Registry::open(connection).await?;
    Ok((Store::shared(Arc::new(journal), payloads), registry.inventory_of(project)))
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
            let news = self.client.news(run).await.map_err(|e| Error::Deployment(e.to_string()))?;
            Ok(news.boxed())
        })
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
