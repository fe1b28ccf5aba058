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

#[cfg(test)]
mod tests {
    use tokio::{sync::mpsc, task::yield_now};

    use super::*;

    /// Returns how many messages were there each time that the connection had its turn, of two tasks that send
    /// one after the other.
    async fn turns(gather: Option<Gather>) -> Vec<usize> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let connection = tokio::spawn(async move {
            let mut turns = Vec::new();
            while receiver.recv().await.is_some() {
                turns.push(1 + std::iter::from_fn(|| receiver.try_recv().ok()).count());
            }
            turns
        });
        // The connection waits now, and so does the task that does nothing.
        yield_now().await;
        for message in 0..2 {
            let (sender, gather) = (sender.clone(), gather.clone());
            tokio::spawn(async move {
                sender.send(message).expect("the connection listens");
                gather.iter().for_each(Gather::others);
            });
        }
        drop(sender);
        connection.await.expect("the connection ends")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_two_tasks_send_waits_for_the_connection_together() {
        let on_one_worker = tokio::spawn(async { (turns(None).await, turns(Some(Gather::start())).await) });
        let (alone, gathered) = on_one_worker.await.expect("both are counted");
        assert_eq!(alone, [1, 1], "tokio runs the connection before the second");
        assert_eq!(gathered, [2]);
    }
}
