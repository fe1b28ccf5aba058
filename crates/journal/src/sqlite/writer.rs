//! Who writes. A job that comes alone is written where it comes from. Jobs that come together are queued
//! for a thread, which writes them in one transaction, and answers each caller once that is durable.
//!
//! To hand a lone job to another thread and its answer back costs two wake-ups, a third of what the disk takes
//! to confirm it. A job is alone if nothing is queued, no other process writes, and commits are quick: what
//! runs on the same thread waits for this one.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{heads::Heads, schema};
use crate::Error;

/// Most jobs in one transaction, so that the first of them does not wait long for the last.
const BATCH_MAX: usize = 1024;

/// Most jobs that wait. Beyond that, whoever appends waits for room.
const QUEUE_MAX: usize = 8192;

/// How long transactions may take, on average, for one to be written where its job comes from: as long as a
/// thread with other work may be kept from it.
const AT_ONCE_MAX: Duration = Duration::from_millis(1);

/// Transactions over which the average is taken, so that one slow commit changes nothing.
const AVERAGE_OVER: u32 = 8;

/// Something to write.
pub(super) trait Job: Send {
    /// Writes, inside the batch's transaction. An `Err` of SQLite ends the whole batch; what
    /// concerns this job alone is kept for [`Job::answer`].
    fn write(&mut self, conn: &Connection, heads: &mut Heads) -> rusqlite::Result<()>;

    /// Tells the caller how it went: `failure` if the batch is not durable.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

/// The pen, and the thread that has it when jobs are queued.
#[derive(Debug)]
pub(super) struct Writer {
    pen: Arc<Pen>,
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

/// What it takes to write, for one at a time.
#[derive(Debug)]
struct Pen {
    held: Mutex<Held>,
    /// Whether the thread has a job and wants the pen.
    is_wanted: AtomicBool,
}

#[derive(Debug)]
struct Held {
    conn: Connection,
    path: PathBuf,
    heads: Heads,
    /// How long a transaction took on average.
    usual: Duration,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(conn: Connection, path: PathBuf) -> Result<Self, Error> {
        let held = Held { conn, path, heads: Heads::default(), usual: Duration::ZERO };
        let pen = Arc::new(Pen { held: Mutex::new(held), is_wanted: AtomicBool::new(false) });
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let writing = Arc::clone(&pen);
        let thread = std::thread::Builder::new()
            .name("foreplan-journal".to_owned())
            .spawn(move || writing.write_queued(jobs))
            .map_err(|e| Error::store("the journal's thread is started", e))?;
        Ok(Self { pen, queue: Some(queue), thread: Some(thread) })
    }

    /// Writes a job of a few rows, and returns what it answers.
    pub(super) async fn submit<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Box<dyn Job>,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue()?;
        let is_alone = queue.capacity() == queue.max_capacity();
        let queued = if is_alone { self.pen.write_at_once(job(reply)) } else { Some(job(reply)) };
        if let Some(job) = queued {
            self.enqueue(job).await?;
        }
        answer.await.map_err(|_| gone())?
    }

    /// Writes a rare thing, of any length: `work` runs inside a batch, and alone is undone if it fails.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let work = Work { doing, work: Some(work), result: None, reply };
        self.enqueue(Box::new(work)).await?;
        answer.await.map_err(|_| gone())?
    }

    async fn enqueue(&self, job: Box<dyn Job>) -> Result<(), Error> {
        self.queue()?.send(job).await.map_err(|_| gone())
    }

    fn queue(&self) -> Result<&mpsc::Sender<Box<dyn Job>>, Error> {
        self.queue.as_ref().ok_or_else(gone)
    }
}

fn gone() -> Error {
    Error::store("the journal is written", "its thread has ended")
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Pen {
    /// Writes what is queued, until nobody can queue any more.
    fn write_queued(&self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while let Some(first) = jobs.blocking_recv() {
            self.is_wanted.store(true, Ordering::Relaxed);
            let mut held = self.held.lock();
            self.is_wanted.store(false, Ordering::Relaxed);
            batch.push(first);
            while batch.len() < BATCH_MAX
                && let Ok(next) = jobs.try_recv()
            {
                batch.push(next);
            }
            let began = Instant::now();
            let written = execute(&held.conn, "begin immediate").and_then(|()| held.write(&mut batch));
            held.end(began, batch.drain(..), written);
        }
    }

    /// Writes a job now, and returns it if it has to be queued.
    fn write_at_once(&self, job: Box<dyn Job>) -> Option<Box<dyn Job>> {
        if self.is_wanted.load(Ordering::Relaxed) {
            return Some(job);
        }
        let Some(mut held) = self.held.try_lock() else { return Some(job) };
        let began = Instant::now();
        if held.usual > AT_ONCE_MAX || !held.begins_at_once() {
            return Some(job);
        }
        let mut batch = [job];
        let written = held.write(&mut batch);
        held.end(began, batch.into_iter(), written);
        None
    }
}

impl Held {
    /// Begins a transaction, unless another process has one.
    fn begins_at_once(&self) -> bool {
        let begin = || {
            self.conn.busy_timeout(Duration::ZERO)?;
            execute(&self.conn, "begin immediate")
        };
        let has_begun = begin().is_ok();
        let _ = self.conn.busy_timeout(schema::BUSY_TIMEOUT);
        has_begun
    }

    /// Writes and commits what has begun.
    fn write(&mut self, batch: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
        batch.iter_mut().try_for_each(|job| job.write(&self.conn, &mut self.heads))?;
        execute(&self.conn, "commit")
    }

    /// Undoes what was not written, and answers.
    fn end(
        &mut self,
        began: Instant,
        batch: impl ExactSizeIterator<Item = Box<dyn Job>>,
        written: rusqlite::Result<()>,
    ) {
        self.usual = (self.usual * (AVERAGE_OVER - 1) + began.elapsed()) / AVERAGE_OVER;
        let failure = written.err().map(|e| {
            self.heads.forget();
            tracing::warn!(jobs = batch.len(), "a batch was not written: {e}");
            schema::error(&self.path, "the journal is written", e)
        });
        if !self.conn.is_autocommit()
            && let Err(e) = execute(&self.conn, "rollback")
        {
            tracing::warn!("a batch that was not written could not be undone: {e}");
        }
        for job in batch {
            job.answer(failure.as_ref().map(Error::again));
        }
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use futures::FutureExt as _;

    use super::*;
    use crate::Options;

    /// Writes nothing, and says on which thread.
    struct Note(oneshot::Sender<Result<Option<String>, Error>>);

    impl Job for Note {
        fn write(&mut self, _: &Connection, _: &mut Heads) -> rusqlite::Result<()> {
            Ok(())
        }

        fn answer(self: Box<Self>, _: Option<Error>) {
            let thread = std::thread::current().name().map(str::to_owned);
            let _ = self.0.send(Ok(thread));
        }
    }

    fn note(writer: &Writer) -> impl Future<Output = Result<Option<String>, Error>> {
        writer.submit(|reply| Box::new(Note(reply)))
    }

    fn writer(dir: &tempfile::TempDir) -> Writer {
        let path = dir.path().join("journal.db");
        Writer::start(schema::open_writer(&path, &Options::default()).unwrap(), path).unwrap()
    }

    #[tokio::test]
    async fn a_job_that_comes_alone_is_written_where_it_comes_from() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(&dir);
        let here = std::thread::current().name().map(str::to_owned);
        assert_eq!(note(&writer).now_or_never().unwrap().unwrap(), here);
    }

    #[tokio::test]
    async fn where_commits_are_slow_a_thread_makes_them() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(&dir);
        writer.pen.held.lock().usual = AT_ONCE_MAX * 2;
        assert_eq!(note(&writer).await.unwrap().as_deref(), Some("foreplan-journal"));
    }

    #[tokio::test]
    async fn while_another_process_writes_the_thread_waits_and_not_the_caller() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(&dir);
        let other = schema::open_writer(&dir.path().join("journal.db"), &Options::default()).unwrap();
        other.execute_batch("begin immediate").unwrap();
        let mut noted = Box::pin(note(&writer));
        let began = Instant::now();
        assert!((&mut noted).now_or_never().is_none());
        assert!(began.elapsed() < schema::BUSY_TIMEOUT / 2);
        other.execute_batch("commit").unwrap();
        assert_eq!(noted.await.unwrap().as_deref(), Some("foreplan-journal"));
    }
}
