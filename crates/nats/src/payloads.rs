//! Payloads in an object store: `{run}/{digest}`, verified on read.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::object_store::{GetErrorKind, InfoErrorKind, ObjectStore};
use foreplan_core::{digest::Digest, id::RunId, payload::PayloadRef};
use foreplan_journal::{Error, Payloads};
use futures::{StreamExt as _, future::BoxFuture};
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, time::Instant};

use crate::{
    Connection,
    bus::{OUTAGE_MAX, OUTAGE_PAUSE},
    error::chain,
};

/// Two writers of the same value may replace each other's chunks under a reader, who then finds
/// them gone, and looks again.
const READ_PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

/// Why a payload could not be read.
enum Unread {
    /// The server does not answer: it may restart, or choose a leader.
    Unreachable(String),
    /// It is not there, or is not what was written.
    Unfit(String),
}

/// Payloads in the object store of a deployment. A server that does not answer is asked again for a
/// while: a step fails for what its tool did, not for a restart.
#[derive(Clone)]
pub struct NatsPayloads {
    objects: Arc<ObjectStore>,
}

impl NatsPayloads {
    /// Opens the payloads of a deployment.
    ///
    /// # Errors
    ///
    /// If there is no such store.
    pub async fn open(connection: &Connection) -> Result<Self, crate::Error> {
        let bucket = connection.names.stream("PAYLOADS");
        let objects = connection.js.get_object_store(&bucket).await;
        let objects = objects.map_err(|e| crate::Error::server("the payloads are opened", chain(&e)))?;
        Ok(Self { objects: Arc::new(objects) })
    }

    /// Deletes the payloads of a run, and returns how many bytes they had.
    pub(crate) async fn remove(&self, run: RunId) -> Result<u64, crate::Error> {
        let failed = |e: &dyn std::fmt::Display| crate::Error::server("payloads are deleted", e);
        let prefix = format!("{run}/");
        let mut bytes = 0;
        let mut listed = self.objects.list().await.map_err(|e| failed(&e))?;
        let mut names = Vec::new();
        while let Some(object) = listed.next().await {
            let object = object.map_err(|e| failed(&e))?;
            if object.name.starts_with(&prefix) && !object.deleted {
                bytes += object.size as u64;
                names.push(object.name);
            }
        }
        for name in names {
            self.objects.delete(&name).await.map_err(|e| failed(&e))?;
        }
        Ok(bytes)
    }

    /// Returns how many bytes all payloads have.
    pub(crate) async fn bytes(&self) -> Result<u64, crate::Error> {
        let failed = |e: &dyn std::fmt::Display| crate::Error::server("payloads are listed", e);
        let mut listed = self.objects.list().await.map_err(|e| failed(&e))?;
        let mut bytes = 0;
        while let Some(object) = listed.next().await {
            bytes += object.map_err(|e| failed(&e))?.size as u64;
        }
        Ok(bytes)
    }

    async fn store(&self, run: RunId, value: &Value) -> Result<PayloadRef, Error> {
        let bytes = serde_json::to_vec(value).map_err(|e| failed("a payload is written", e))?;
        let payload = PayloadRef { sha256: Digest::of_bytes(&bytes), bytes: bytes.len() as u64 };
        let name = name(run, payload);
        if self.objects.info(&name).await.is_ok_and(|info| !info.deleted) {
            return Ok(payload);
        }
        let end = Instant::now() + OUTAGE_MAX;
        let mut is_answering = false;
        loop {
            let Err(error) = self.objects.put(name.as_str(), &mut bytes.as_slice()).await else {
                return Ok(payload);
            };
            // What fails as an outage ends is tried once more.
            let was_answering = std::mem::replace(&mut is_answering, self.is_answering(&name).await);
            if Instant::now() > end || (was_answering && is_answering) {
                return Err(failed("a payload is written", chain(&error)));
            }
            tokio::time::sleep(OUTAGE_PAUSE).await;
        }
    }

    async fn is_answering(&self, name: &str) -> bool {
        self.objects.info(name).await.map_or_else(|e| e.kind() == InfoErrorKind::NotFound, |_| true)
    }

    async fn load(&self, run: RunId, payload: PayloadRef) -> Result<Value, Unread> {
        let object = self.objects.get(name(run, payload)).await;
        let mut object = object.map_err(|error| match error.kind() {
            GetErrorKind::NotFound | GetErrorKind::InvalidName | GetErrorKind::BucketLink => {
                Unread::Unfit(chain(&error))
            }
            GetErrorKind::ConsumerCreate | GetErrorKind::Other | GetErrorKind::TimedOut => {
                Unread::Unreachable(chain(&error))
            }
        })?;
        let mut bytes = Vec::with_capacity(usize::try_from(payload.bytes).unwrap_or(0).min(64 << 20));
        object.read_to_end(&mut bytes).await.map_err(|e| Unread::Unfit(e.to_string()))?;
        if bytes.len() as u64 != payload.bytes || Digest::of_bytes(&bytes) != payload.sha256 {
            return Err(Unread::Unfit("it is not what was written".to_owned()));
        }
        serde_json::from_slice(&bytes).map_err(|e| Unread::Unfit(e.to_string()))
    }
}

impl Payloads for NatsPayloads {
    fn put(&self, run: RunId, value: Arc<Value>) -> BoxFuture<'_, Result<PayloadRef, Error>> {
        Box::pin(async move { self.store(run, &value).await })
    }

    fn get(&self, run: RunId, payload: PayloadRef) -> BoxFuture<'_, Result<Arc<Value>, Error>> {
        Box::pin(async move {
            let end = Instant::now() + OUTAGE_MAX;
            let mut pauses = READ_PAUSES.into_iter();
            loop {
                let (reason, pause) = match self.load(run, payload).await {
                    Ok(value) => return Ok(Arc::new(value)),
                    Err(Unread::Unreachable(reason)) => {
                        (reason, (Instant::now() < end).then_some(OUTAGE_PAUSE))
                    }
                    Err(Unread::Unfit(reason)) => (reason, pauses.next()),
                };
                let Some(pause) = pause else { return Err(Error::Payload { payload, reason }) };
                tracing::debug!(%run, reason, "a payload is read again");
                tokio::time::sleep(pause).await;
            }
        })
    }
}

fn name(run: RunId, payload: PayloadRef) -> String {
    // A digest reads `sha256:…`; names bear no colon.
    format!("{run}/{}", payload.sha256.to_string().replace(':', "-"))
}

fn failed(doing: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Store { doing, source: source.into() }
}
