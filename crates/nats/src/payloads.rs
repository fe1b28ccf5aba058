//! Payloads in an object store: `{run}/{digest}`, verified on read.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::object_store::ObjectStore;
use foreplan_core::{digest::Digest, id::RunId, payload::PayloadRef};
use foreplan_journal::{Error, Payloads};
use futures::{StreamExt as _, future::BoxFuture};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::{Connection, error::chain};

/// Two writers of the same value may replace each other's chunks under a reader, who then finds
/// them gone, and looks again.
const READ_PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

/// Payloads in the object store of a deployment.
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
        let stored = self.objects.put(name.as_str(), &mut bytes.as_slice()).await;
        stored.map_err(|e| failed("a payload is written", chain(&e)))?;
        Ok(payload)
    }

    async fn load(&self, run: RunId, payload: PayloadRef) -> Result<Value, String> {
        let mut object = self.objects.get(name(run, payload)).await.map_err(|e| chain(&e))?;
        let mut bytes = Vec::with_capacity(usize::try_from(payload.bytes).unwrap_or(0).min(64 << 20));
        object.read_to_end(&mut bytes).await.map_err(|e| e.to_string())?;
        if bytes.len() as u64 != payload.bytes || Digest::of_bytes(&bytes) != payload.sha256 {
            return Err("it is not what was written".to_owned());
        }
        serde_json::from_slice(&bytes).map_err(|e| e.to_string())
    }
}

impl Payloads for NatsPayloads {
    fn put(&self, run: RunId, value: Arc<Value>) -> BoxFuture<'_, Result<PayloadRef, Error>> {
        Box::pin(async move { self.store(run, &value).await })
    }

    fn get(&self, run: RunId, payload: PayloadRef) -> BoxFuture<'_, Result<Arc<Value>, Error>> {
        Box::pin(async move {
            for pause in READ_PAUSES {
                match self.load(run, payload).await {
                    Ok(value) => return Ok(Arc::new(value)),
                    Err(reason) => tracing::debug!(%run, reason, "a payload is read again"),
                }
                tokio::time::sleep(pause).await;
            }
            let loaded = self.load(run, payload).await;
            loaded.map(Arc::new).map_err(|reason| Error::Payload { payload, reason })
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
