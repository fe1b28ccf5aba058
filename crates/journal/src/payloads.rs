//! Where large values are kept: one payload for each value of a run, named by its digest.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use foreplan_core::{digest::Digest, id::RunId, payload::PayloadRef};
use futures::future::BoxFuture;
use parking_lot::RwLock;
use serde_json::Value;

use crate::{Error, Payloads};

/// Payloads in memory.
#[derive(Debug, Default)]
pub struct MemoryPayloads {
    runs: RwLock<HashMap<RunId, HashMap<Digest, Arc<Value>>>>,
}

impl MemoryPayloads {
    /// Forgets the payloads of a run and returns how many bytes they had.
    pub(crate) fn remove(&self, run: RunId) -> u64 {
        let removed = self.runs.write().remove(&run).unwrap_or_default();
        removed.values().map(|value| value.to_string().len() as u64).sum()
    }

    /// Returns how many bytes all payloads have.
    pub(crate) fn bytes(&self) -> u64 {
        let runs = self.runs.read();
        runs.values().flat_map(HashMap::values).map(|value| value.to_string().len() as u64).sum()
    }
}

impl Payloads for MemoryPayloads {
    fn put(&self, run: RunId, value: Arc<Value>) -> BoxFuture<'_, Result<PayloadRef, Error>> {
        Box::pin(async move {
            let (_, payload) = to_bytes(&value)?;
            self.runs.write().entry(run).or_default().insert(payload.sha256, value);
            Ok(payload)
        })
    }

    fn get(&self, run: RunId, payload: PayloadRef) -> BoxFuture<'_, Result<Arc<Value>, Error>> {
        Box::pin(async move {
            let runs = self.runs.read();
            let value = runs.get(&run).and_then(|values| values.get(&payload.sha256));
            value.cloned().ok_or_else(|| Error::Payload { payload, reason: "there is none".to_owned() })
        })
    }
}

/// Payloads as files: `{dir}/{run}/{sha256}`, each written beside its place and then moved there, so
/// that a file under a digest is whole.
#[derive(Clone, Debug)]
pub struct FilePayloads {
    dir: Arc<Path>,
}

impl FilePayloads {
    /// Keeps payloads under `dir`, which is made when it is first needed.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into().into() }
    }

    /// Deletes the payloads of a run and returns how many bytes they had. Blocks.
    pub(crate) fn remove(&self, run: RunId) -> io::Result<u64> {
        let folder = self.folder(run);
        let bytes = files_bytes(&folder)?;
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(bytes),
        }
    }

    /// Returns how many bytes all payloads have. Blocks.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for folder in entries_of(&self.dir)? {
            bytes += files_bytes(&folder)?;
        }
        Ok(bytes)
    }

    fn folder(&self, run: RunId) -> PathBuf {
        self.dir.join(run.to_string())
    }

    fn file(&self, run: RunId, payload: PayloadRef) -> PathBuf {
        self.folder(run).join(hex::encode(payload.sha256.0))
    }

    fn write(&self, run: RunId, value: &Value) -> Result<PayloadRef, Error> {
        let (bytes, payload) = to_bytes(value)?;
        let file = self.file(run, payload);
        if !file.exists() {
            write_whole(&file, &bytes).map_err(write_error)?;
        }
        Ok(payload)
    }

    fn read(&self, run: RunId, payload: PayloadRef) -> Result<Value, Error> {
        let failed = |reason: String| Error::Payload { payload, reason };
        let path = self.file(run, payload);
        let bytes = fs::read(&path).map_err(|e| failed(format!("{}: {e}", path.display())))?;
        if bytes.len() as u64 != payload.bytes || Digest::of_bytes(&bytes) != payload.sha256 {
            return Err(failed(format!("{} is not what was written", path.display())));
        }
        serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))
    }
}

impl Payloads for FilePayloads {
    fn put(&self, run: RunId, value: Arc<Value>) -> BoxFuture<'_, Result<PayloadRef, Error>> {
        let payloads = self.clone();
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || payloads.write(run, &value)).await;
            written.map_err(|e| Error::store("a payload is written", e))?
        })
    }

    fn get(&self, run: RunId, payload: PayloadRef) -> BoxFuture<'_, Result<Arc<Value>, Error>> {
        let payloads = self.clone();
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || payloads.read(run, payload)).await;
            read.map_err(|e| Error::store("a payload is read", e))?.map(Arc::new)
        })
    }
}

fn to_bytes(value: &Value) -> Result<(Vec<u8>, PayloadRef), Error> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::store("a payload is written", e))?;
    let payload = PayloadRef { sha256: Digest::of_bytes(&bytes), bytes: bytes.len() as u64 };
    Ok((bytes, payload))
}

fn write_whole(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder)?;
    let draft = folder.join(format!(".{}", uuid::Uuid::now_v7()));
    let written = File::create_new(&draft).and_then(|mut out| {
        out.write_all(bytes)?;
        out.sync_all()
    });
    if let Err(e) = written.and_then(|()| fs::rename(&draft, file)) {
        let _ = fs::remove_file(&draft);
        return Err(e);
    }
    File::open(folder)?.sync_all()
}

fn write_error(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::PermissionDenied => Error::Full(e.to_string()),
        _ => Error::store("a payload is written", e),
    }
}

fn files_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for file in entries_of(folder)? {
        bytes += fs::metadata(file)?.len();
    }
    Ok(bytes)
}

fn entries_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|e| e.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run() -> RunId {
        RunId(uuid::Uuid::now_v7())
    }

    #[tokio::test]
    async fn a_value_reads_back_and_is_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let (files, memory, run) = (FilePayloads::new(dir.path()), MemoryPayloads::default(), run());
        let value = Arc::new(json!({"b": [1.5, null], "a": "ä"}));
        for payloads in [&files as &dyn Payloads, &memory] {
            let payload = payloads.put(run, value.clone()).await.unwrap();
            assert_eq!(payloads.put(run, value.clone()).await.unwrap(), payload);
            assert_eq!(payloads.get(run, payload).await.unwrap(), value);
        }
        assert_eq!(files.bytes().unwrap(), value.to_string().len() as u64);
        assert_eq!(memory.bytes(), value.to_string().len() as u64);
    }

    #[tokio::test]
    async fn a_payload_that_was_edited_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (files, run) = (FilePayloads::new(dir.path()), run());
        let payload = files.put(run, Arc::new(json!("before"))).await.unwrap();
        fs::write(files.file(run, payload), "\"beyond\"").unwrap();
        let error = files.get(run, payload).await.unwrap_err();
        assert!(matches!(&error, Error::Payload { reason, .. } if reason.contains("not what was written")));
    }

    #[tokio::test]
    async fn a_missing_payload_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let payload = PayloadRef { sha256: Digest::of_bytes(b"x"), bytes: 1 };
        for payloads in [&FilePayloads::new(dir.path()) as &dyn Payloads, &MemoryPayloads::default()] {
            assert!(matches!(payloads.get(run(), payload).await, Err(Error::Payload { .. })));
        }
    }
}
