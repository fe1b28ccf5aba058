//! One heap of timers for all runs, in memory or not.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

use foreplan_core::{id::RunId, time::Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::shared::Shared;

/// The longest sleep, so that a clock that jumps is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// When runs want to be woken. A run has one timer: its earliest.
#[derive(Default)]
pub(crate) struct Timers {
    heap: Mutex<Heap>,
    changed: Notify,
}

#[derive(Default)]
struct Heap {
    due: BinaryHeap<Reverse<(Timestamp, RunId)>>,
    wanted: HashMap<RunId, Timestamp>,
}

impl Timers {
    /// Wakes the run at `at`, and no longer when it was to be woken before.
    pub(crate) fn set(&self, run: RunId, at: Option<Timestamp>) {
        let mut heap = self.heap.lock();
        let is_first = match at {
            None => {
                heap.wanted.remove(&run);
                false
            }
            Some(at) if heap.wanted.get(&run) == Some(&at) => false,
            Some(at) => {
                heap.wanted.insert(run, at);
                heap.due.push(Reverse((at, run)));
                heap.due.peek() == Some(&Reverse((at, run)))
            }
        };
        drop(heap);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Returns the runs whose time has come.
    fn take_due(&self, now: Timestamp) -> Vec<RunId> {
        let mut heap = self.heap.lock();
        let mut runs = Vec::new();
        while let Some(Reverse((at, run))) = heap.due.peek().copied() {
            let is_wanted = heap.wanted.get(&run) == Some(&at);
            if is_wanted && at > now {
                break;
            }
            heap.due.pop();
            if is_wanted {
                heap.wanted.remove(&run);
                runs.push(run);
            }
        }
        runs
    }

    fn next(&self) -> Option<Timestamp> {
        self.heap.lock().due.peek().map(|Reverse((at, _))| *at)
    }
}

/// Calls `wake` for every run whose time has come, until dropped.
pub(crate) async fn keep_time(shared: Arc<Shared>, wake: impl Fn(RunId)) {
    loop {
        for run in shared.timers.take_due(shared.now()) {
            wake(run);
        }
        let sleep = shared.timers.next().map_or(SLEEP_MAX, |at| shared.until(at)).min(SLEEP_MAX);
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = shared.timers.changed.notified() => {}
        }
    }
}
