//! The one thread that writes. It takes whatever is queued, writes it in one transaction, and
//! answers each caller once that is durable. A lone append never waits for company.

use std::{path::PathBuf, thread::JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{heads::Heads, schema};
use crate::Error;

/// Most jobs in one transaction, so that the first of them does not wait long for the last.
const BATCH_MAX: usize = 1024;

/// Most jobs that wait. Beyond that, whoever appends waits for room.
const QUEUE_MAX: usize = 8192;

/// Something to write.
pub(super) trait Job: Send {
    /// Writes, inside the batch's transaction. An `Err` of SQLite ends the whole batch; what
    /// concerns this job alone is kept for [`Job::answer`].
    fn write(&mut self, conn: &Connection, heads: &mut Heads) -> rusqlite::Result<()>;

    /// Tells the caller how it went: `failure` if the batch is not durable.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

/// The thread and its queue.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(conn: Connection, path: PathBuf) -> Result<Self, Error> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("foreplan-journal".to_owned())
            .spawn(move || write_all(&conn, &path, jobs))
            .map_err(|e| Error::store("the journal's thread is started", e))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues a job and returns what it answers.
    pub(super) async fn submit<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Box<dyn Job>,
    ) -> Result<T, Error> {
        let gone = || Error::store("the journal is written", "its thread has ended");
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(job(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Writes a rare thing: `work` runs inside a batch, and alone is undone if it fails.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Error> {
        self.submit(|reply| Box::new(Work { doing, work: Some(work), result: None, reply })).await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all(conn: &Connection, path: &std::path::Path, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    let mut heads = Heads::default();
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while jobs.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let failure = write_batch(conn, &mut heads, &mut batch).err();
        if let Some(e) = &failure {
            tracing::warn!(jobs = batch.len(), "a batch was not written: {e}");
        }
        let failure = failure.map(|e| schema::error(path, "the journal is written", e));
        for job in batch.drain(..) {
            job.answer(failure.as_ref().map(Error::again));
        }
    }
}

fn write_batch(conn: &Connection, heads: &mut Heads, batch: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    let written = execute(conn, "begin immediate")
        .and_then(|()| batch.iter_mut().try_for_each(|job| job.write(conn, heads)))
        .and_then(|()| execute(conn, "commit"));
    if written.is_err() {
        heads.forget();
        if !conn.is_autocommit() {
            execute(conn, "rollback")?;
        }
    }
    written
}

fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(drop)
}

/// Why some work was not done.
pub(super) enum Failed {
    /// What the caller is told.
    Refused(Error),
    /// SQLite's reason.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e)
    }
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

struct Work<T, F> {
    doing: &'static str,
    work: Option<F>,
    result: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T: Send, F: FnOnce(&Connection) -> Result<T, Failed> + Send> Job for Work<T, F> {
    fn write(&mut self, conn: &Connection, _: &mut Heads) -> rusqlite::Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        execute(conn, "savepoint work")?;
        let result = work(conn);
        if result.is_err() && !conn.is_autocommit() {
            execute(conn, "rollback to work")?;
        }
        match result {
            Ok(value) => self.result = Some(Ok(value)),
            Err(Failed::Refused(e)) => self.result = Some(Err(e)),
            Err(Failed::Sqlite(e)) => return Err(e),
        }
        execute(conn, "release work")
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let Self { doing, result, reply, .. } = *self;
        let lost = || Err(Error::store(doing, "it was not written"));
        let _ = reply.send(failure.map_or_else(|| result.unwrap_or_else(lost), Err));
    }
}
