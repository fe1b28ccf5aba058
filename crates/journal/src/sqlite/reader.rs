//! Reading, beside the writer: a few connections, each used on a thread that may block.

use std::{path::Path, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::schema;
use crate::Error;

/// Most connections that read at a time.
const READERS_MAX: usize = 4;

/// The connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    free: Semaphore,
}

impl Readers {
    /// Makes the first connection, to see that the store can be read.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, Error> {
        let first = schema::open_reader(path)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            idle: Mutex::new(vec![first]),
            free: Semaphore::new(READERS_MAX),
        }))
    }

    /// Runs `work` with a connection, in a transaction so that all it reads is of one moment.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let _permit = self.free.acquire().await.map_err(|e| Error::store(doing, e))?;
        let readers = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let idle = readers.idle.lock().pop();
            let conn = idle.map_or_else(|| schema::open_reader(&readers.path), Ok)?;
            let result = conn
                .unchecked_transaction()
                .and_then(|_tx| work(&conn))
                .map_err(|e| schema::error(&readers.path, doing, e));
            readers.idle.lock().push(conn);
            result
        });
        read.await.map_err(|e| Error::store(doing, e))?
    }

    /// Closes the connections, so that the writer is the last and copies its log back.
    pub(super) fn close(&self) {
        self.idle.lock().clear();
    }
}
