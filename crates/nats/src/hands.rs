//! What this process has in hand: the lease that its answer must return, and, of steps that take
//! longer than a moment, the news for those who look.
//!
//! What others hear goes with the worker's sign of life, never with a step of its own, so that short
//! steps cost nothing.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use foreplan_core::{
    id::{RunId, StepId},
    time::Timestamp,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// How long a step is in hand before others are told: most are done by then.
const SHORT: Duration = Duration::from_millis(200);

/// Steps that one worker tells of at most: its sign of life stays small.
const TOLD_MAX: usize = 64;

/// A step that a worker has in hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InHand {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// The attempt.
    pub attempt: u32,
    /// Since when.
    pub since: Timestamp,
}

/// A piece of work as its messages name it: run, task, number.
pub(crate) type Piece = (RunId, String, u64);

/// What a process has in hand. Copies are the same.
#[derive(Clone, Default)]
pub(crate) struct Hands {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    pieces: Mutex<HashMap<Piece, Held>>,
    changed: Notify,
}

struct Held {
    lease: Option<String>,
    taken: Instant,
    step: Option<InHand>,
    /// How often it is in hand: a request may come again before its first delivery is dealt with.
    count: u32,
}

/// Keeps a piece in hand until dropped.
pub(crate) struct Holding {
    hands: Hands,
    piece: Piece,
}

impl Hands {
    /// Takes a piece in hand; `step` is what others may hear of it.
    pub(crate) fn take(&self, piece: Piece, lease: Option<String>, step: Option<InHand>) -> Holding {
        let is_told = step.is_some();
        let held = Held { lease, taken: Instant::now(), step, count: 0 };
        self.inner.pieces.lock().entry(piece.clone()).or_insert(held).count += 1;
        if is_told {
            self.inner.changed.notify_one();
        }
        Holding { hands: self.clone(), piece }
    }

    /// Returns the lease of a piece in hand.
    pub(crate) fn lease(&self, piece: &Piece) -> Option<String> {
        self.inner.pieces.lock().get(piece)?.lease.clone()
    }

    /// Waits until what others are told may differ.
    pub(crate) async fn changed(&self) {
        self.inner.changed.notified().await;
        tokio::time::sleep(SHORT).await;
    }

    /// Returns what others are told, in a fixed order, and makes [`Hands::changed`] return again if a
    /// step may become old enough.
    pub(crate) fn told(&self) -> Vec<InHand> {
        let pieces = self.inner.pieces.lock();
        let mut told = Vec::new();
        let mut is_young = false;
        for held in pieces.values() {
            let Some(step) = &held.step else { continue };
            if held.taken.elapsed() < SHORT {
                is_young = true;
            } else {
                told.push(step.clone());
            }
        }
        if is_young {
            self.inner.changed.notify_one();
        }
        told.sort_by(|a, b| (a.since, a.run.0, &a.step).cmp(&(b.since, b.run.0, &b.step)));
        told.truncate(TOLD_MAX);
        told
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut pieces = self.hands.inner.pieces.lock();
        let Some(held) = pieces.get_mut(&self.piece) else { return };
        held.count -= 1;
        let is_told = held.step.is_some();
        if held.count == 0 {
            pieces.remove(&self.piece);
        }
        drop(pieces);
        if is_told {
            self.hands.inner.changed.notify_one();
        }
    }
}
