//! Which runs have new entries, for one who asks now and then. To tell him of every entry would keep
//! them all in memory until he has looked, and wake him for each.

use std::collections::HashSet;

use foreplan_core::id::RunId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Runs with entries that nobody has heard of.
#[derive(Debug, Default)]
pub struct News {
    runs: Mutex<HashSet<RunId>>,
    come: Notify,
}

impl News {
    pub(crate) fn tell(&self, run: RunId) {
        let mut runs = self.runs.lock();
        let is_first = runs.is_empty();
        runs.insert(run);
        drop(runs);
        if is_first {
            self.come.notify_one();
        }
    }

    /// Returns the runs that have got an entry since they were last taken.
    pub fn take(&self) -> Vec<RunId> {
        self.runs.lock().drain().collect()
    }

    /// Returns once a run has got an entry, also if that was before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn come(&self) {
        loop {
            if !self.runs.lock().is_empty() {
                return;
            }
            self.come.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn run(number: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn a_run_is_told_once_however_many_entries_it_got() {
        let news = News::default();
        assert_eq!(news.come().now_or_never(), None);
        news.tell(run(1));
        news.tell(run(2));
        news.tell(run(1));
        assert_eq!(news.come().now_or_never(), Some(()));
        let mut told = news.take();
        told.sort();
        assert_eq!(told, [run(1), run(2)]);
        assert_eq!((news.take().len(), news.come().now_or_never()), (0, None));
        news.tell(run(1));
        assert_eq!(news.come().now_or_never(), Some(()));
    }
}
