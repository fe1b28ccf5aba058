//! Messages that are sent at about the same time leave in one write.
//!
//! A send wakes the connection's task. Tokio runs the task that was woken last next (its LIFO slot), so that
//! each message would be written alone, before the next sender has its turn. Of two tasks that are woken one after
//! the other, the second takes that slot and the first goes to the end of the queue, behind those who are about
//! to send. So whoever sends then wakes a task that does nothing. With nobody else at work it costs no time.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// The task that does nothing. Copies are the same one, which ends with the last of them.
#[derive(Clone)]
pub(crate) struct Gather {
    woken: Arc<Notify>,
    _idler: Arc<AbortOnDropHandle<()>>,
}

impl Gather {
    pub(crate) fn start() -> Self {
        let woken = Arc::new(Notify::new());
        let idler = tokio::spawn({
            let woken = Arc::clone(&woken);
            async move {
                loop {
                    woken.notified().await;
                }
            }
        });
        Self { woken, _idler: Arc::new(AbortOnDropHandle::new(idler)) }
    }

    /// Lets others send before the connection writes what this task has just sent.
    pub(crate) fn others(&self) {
        self.woken.notify_one();
    }
}
