//! Many runs that are read at once, as by a tracker that takes over from another. On a server, the entries
//! of a run lie between those of all the others; to look for each run's would take the square of the time.
//! So those of a shard are read together, once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::consumer::DeliverPolicy;
use foreplan_core::id::RunId;
use foreplan_protocol::wire::shard;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use crate::{
    journal::Inner,
    read::{self, Read, Wanted},
};

/// Runs that are being read from which on they are read together.
const MANY: usize = 64;

/// Messages of a shard for each of its runs that is wanted, at most: more are those of other runs.
const MESSAGES_MAX: usize = 256;

/// Shards that are read at a time: their messages are in memory at once.
const SHARDS_AT_ONCE: usize = 4;

/// A shard is read once nobody has asked for a run of it for so long.
const GATHER: Duration = Duration::from_millis(50);

/// Who reads what.
pub(crate) struct Together {
    reading: AtomicUsize,
    asked: Mutex<HashMap<u8, Vec<Asked>>>,
    turns: Semaphore,
}

struct Asked {
    subject: String,
    until: u64,
    answer: oneshot::Sender<Vec<Read>>,
}

impl Default for Together {
    fn default() -> Self {
        Self {
            reading: AtomicUsize::default(),
            asked: Mutex::default(),
            turns: Semaphore::new(SHARDS_AT_ONCE),
        }
    }
}

/// Counts a read until dropped.
pub(crate) struct Reading<'a>(&'a AtomicUsize);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Together {
    pub(crate) fn begin(&self) -> Reading<'_> {
        self.reading.fetch_add(1, Ordering::Relaxed);
        Reading(&self.reading)
    }
}

impl Inner {
    /// Returns the messages of a run up to a sequence; `None` if it is to be read alone.
    pub(crate) async fn among_others(self: &Arc<Self>, run: RunId, until: u64) -> Option<Vec<Read>> {
        if self.together.reading.load(Ordering::Relaxed) < MANY {
            return None;
        }
        let (answer, messages) = oneshot::channel();
        let is_first = {
            let mut asked = self.together.asked.lock();
            let asked = asked.entry(shard(run)).or_default();
            asked.push(Asked { subject: self.subject(run), until, answer });
            asked.len() == 1
        };
        if is_first {
            // On its own, so that nobody waits for one that was dropped.
            tokio::spawn(Arc::clone(self).read_shard(shard(run)));
        }
        messages.await.ok()
    }

    /// Reads a shard for those who have asked. Who gets no answer reads alone.
    async fn read_shard(self: Arc<Self>, shard: u8) {
        let mut known = 0;
        loop {
            tokio::time::sleep(GATHER).await;
            let asked = self.together.asked.lock().get(&shard).map_or(0, Vec::len);
            if asked == known {
                break;
            }
            known = asked;
        }
        let Ok(_turn) = self.together.turns.acquire().await else { return };
        let asked = self.together.asked.lock().remove(&shard).unwrap_or_default();
        let wanted = Wanted {
            subject: self.connection.names.shard_runs(shard),
            from: DeliverPolicy::All,
            headers_only: false,
            until: None,
        };
        let read = match read::read_at_most(&self.runs, wanted, asked.len() * MESSAGES_MAX).await {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(error) => return tracing::debug!(shard, %error, "runs are read one by one"),
        };
        let mut runs: HashMap<String, Vec<Read>> = HashMap::new();
        for one in read {
            match runs.get_mut(&one.subject) {
                Some(run) => run.push(one),
                None => drop(runs.insert(one.subject.clone(), vec![one])),
            }
        }
        for Asked { subject, until, answer } in asked {
            let Some(mut run) = runs.remove(&subject) else { continue };
            run.retain(|one| one.sequence <= until);
            if run.last().is_some_and(|last| last.sequence == until) {
                // Who no longer waits needs no answer.
                let _ = answer.send(run);
            }
        }
    }
}
