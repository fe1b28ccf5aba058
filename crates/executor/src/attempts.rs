//! The table of attempts in hand: how a cancellation or a permit finds the worker it concerns.
//!
//! Written once when a request is accepted and once when it is answered. It is sharded, since every
//! attempt of every run passes through it.

use std::{
    collections::hash_map,
    sync::atomic::{AtomicUsize, Ordering},
};

use foreplan_core::{
    id::{ClaimId, RunId, StepId},
    map::IdMap,
};
use foreplan_protocol::PermitAnswer;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How many parts the table has: a few times the cores of a large machine.
const SHARDS: usize = 32;

/// Names one attempt over all runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttemptKey {
    pub(crate) run: RunId,
    pub(crate) step: StepId,
    pub(crate) attempt: u32,
}

struct InHand {
    cancel: CancellationToken,
    permit: Option<Awaited>,
}

/// A permit that a worker waits for.
struct Awaited {
    call: u32,
    claim: ClaimId,
    answer: oneshot::Sender<bool>,
}

/// The attempts that this executor has accepted and not yet answered.
#[derive(Default)]
pub(crate) struct Attempts {
    shards: [Mutex<IdMap<AttemptKey, InHand>>; SHARDS],
    count: AtomicUsize,
}

impl Attempts {
    /// Takes an attempt in hand and returns the token that cancels it; `None` if it is in hand
    /// already.
    pub(crate) fn admit(&self, key: &AttemptKey) -> Option<CancellationToken> {
        match self.shard(key).lock().entry(key.clone()) {
            hash_map::Entry::Occupied(_) => None,
            hash_map::Entry::Vacant(place) => {
                let cancel = CancellationToken::new();
                place.insert(InHand { cancel: cancel.clone(), permit: None });
                self.count.fetch_add(1, Ordering::Relaxed);
                Some(cancel)
            }
        }
    }

    /// Lets go of an attempt.
    pub(crate) fn release(&self, key: &AttemptKey) {
        if self.shard(key).lock().remove(key).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Returns where the answer to the attempt's permit request for a call will arrive. One call at a
    /// time is waited for.
    pub(crate) fn expect_permit(
        &self,
        key: &AttemptKey,
        call: u32,
        claim: ClaimId,
    ) -> oneshot::Receiver<bool> {
        let (answer, receiver) = oneshot::channel();
        if let Some(in_hand) = self.shard(key).lock().get_mut(key) {
            in_hand.permit = Some(Awaited { call, claim, answer });
        }
        receiver
    }

    /// Hands a permit answer to the worker that asked. An answer that nobody waits for is dropped, and
    /// one for another claim: that the attempt is in hand here does not say that it was asked for here.
    pub(crate) fn answer_permit(&self, answer: PermitAnswer) {
        let PermitAnswer { run, step, attempt, call, claim, granted } = answer;
        let key = AttemptKey { run, step, attempt };
        // Earlier trackers do not say which claim they mean.
        let is_meant = |of: &mut Awaited| of.call == call && claim.is_none_or(|claim| of.claim == claim);
        let mut shard = self.shard(&key).lock();
        let waiting = shard.get_mut(&key).and_then(|in_hand| in_hand.permit.take_if(is_meant));
        if let Some(Awaited { answer, .. }) = waiting {
            // The worker may have given up a moment ago; its reply says so.
            let _ = answer.send(granted);
        }
    }

    /// Cancels an attempt, if it is in hand here.
    pub(crate) fn cancel(&self, key: &AttemptKey) {
        let cancel = self.shard(key).lock().get(key).map(|in_hand| in_hand.cancel.clone());
        if let Some(cancel) = cancel {
            cancel.cancel();
        }
    }

    /// Cancels every attempt in hand.
    pub(crate) fn cancel_all(&self) {
        for shard in &self.shards {
            let cancels: Vec<_> = shard.lock().values().map(|in_hand| in_hand.cancel.clone()).collect();
            cancels.iter().for_each(CancellationToken::cancel);
        }
    }

    /// Returns how many attempts are in hand.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the part of the table that has this attempt: the random tail of the run's id spreads
    /// runs, the end of the step's id spreads the steps of one.
    fn shard(&self, key: &AttemptKey) -> &Mutex<IdMap<AttemptKey, InHand>> {
        let run = key.run.0.as_bytes()[15];
        let step = key.step.as_str().bytes().next_back().unwrap_or(0);
        &self.shards[usize::from(run ^ step) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(step: &str, attempt: u32) -> AttemptKey {
        AttemptKey { run: RunId(uuid::Uuid::from_u128(7)), step: step.parse().unwrap(), attempt }
    }

    #[test]
    fn an_attempt_is_in_hand_once() {
        let attempts = Attempts::default();
        assert!(attempts.admit(&key("a", 1)).is_some());
        assert!(attempts.admit(&key("a", 1)).is_none());
        assert!(attempts.admit(&key("a", 2)).is_some());
        attempts.release(&key("a", 1));
        attempts.release(&key("a", 1));
        assert_eq!(attempts.len(), 1);
        assert!(attempts.admit(&key("a", 1)).is_some());
    }

    #[test]
    fn a_cancellation_reaches_its_attempt_only() {
        let attempts = Attempts::default();
        let first = attempts.admit(&key("a", 1)).unwrap();
        let second = attempts.admit(&key("a", 2)).unwrap();
        attempts.cancel(&key("a", 2));
        attempts.cancel(&key("b", 1));
        assert!(!first.is_cancelled());
        assert!(second.is_cancelled());
    }

    fn claim(number: u128) -> ClaimId {
        ClaimId(uuid::Uuid::from_u128(number))
    }

    /// Says that a call of the first attempt of `a` may be made.
    fn granted(call: u32, claim: Option<ClaimId>) -> PermitAnswer {
        let AttemptKey { run, step, attempt } = key("a", 1);
        PermitAnswer { run, step, attempt, call, claim, granted: true }
    }

    #[test]
    fn a_permit_that_nobody_waits_for_is_dropped() {
        let attempts = Attempts::default();
        attempts.admit(&key("a", 1)).unwrap();
        attempts.answer_permit(granted(0, Some(claim(1))));
        let mut answer = attempts.expect_permit(&key("a", 1), 0, claim(1));
        assert!(answer.try_recv().is_err());
        attempts.answer_permit(granted(0, Some(claim(1))));
        assert_eq!(answer.try_recv(), Ok(true));
    }

    #[test]
    fn a_permit_for_another_claim_is_dropped() {
        let attempts = Attempts::default();
        attempts.admit(&key("a", 1)).unwrap();
        let mut answer = attempts.expect_permit(&key("a", 1), 0, claim(2));
        attempts.answer_permit(granted(0, Some(claim(1))));
        assert!(answer.try_recv().is_err());
        attempts.answer_permit(granted(0, None));
        assert_eq!(answer.try_recv(), Ok(true), "an earlier tracker does not say which");
    }

    #[test]
    fn the_permit_of_one_call_is_none_for_the_next() {
        let attempts = Attempts::default();
        attempts.admit(&key("a", 1)).unwrap();
        drop(attempts.expect_permit(&key("a", 1), 1, claim(1)));
        let mut answer = attempts.expect_permit(&key("a", 1), 2, claim(1));
        attempts.answer_permit(granted(1, Some(claim(1))));
        assert!(answer.try_recv().is_err());
        attempts.answer_permit(granted(2, Some(claim(1))));
        assert_eq!(answer.try_recv(), Ok(true));
    }
}
