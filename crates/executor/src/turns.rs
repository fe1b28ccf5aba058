//! In which order a pool takes what waits for it: the runs take turns.
//!
//! A run that has begun is carried on before one that has not, while what belongs to it is still in the
//! processor's caches; yet one with a thousand steps does not keep the others waiting. See decision 0023.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use foreplan_core::{id::RunId, map::IdMap};
use ractor::factory::{DiscardHandler, Job, queues::Queue};

use crate::{attempt::Attempt, pool::JobKey};

/// What is taken of one run before the next has its turn: more than most plans have steps, and few enough that
/// a turn is over soon.
const TURN: usize = 16;

/// Runs of which nothing waits whose turns are remembered. One that is forgotten queues up anew.
const IDLE_MAX: usize = 1_024;

/// What waits, by run.
pub(crate) struct Turns<J> {
    lines: IdMap<RunId, Line<J>>,
    /// The runs of which something waits, by their places.
    order: BTreeMap<u64, RunId>,
    next_place: u64,
    waiting: usize,
}

/// What waits of one run.
struct Line<J> {
    /// The smaller, the sooner it is its turn.
    place: u64,
    /// What may still be taken in this turn.
    left: usize,
    waiting: VecDeque<J>,
}

impl<J> Default for Turns<J> {
    fn default() -> Self {
        Self { lines: IdMap::default(), order: BTreeMap::new(), next_place: 0, waiting: 0 }
    }
}

impl<J> Turns<J> {
    fn push(&mut self, run: RunId, job: J) {
        if self.lines.len() > self.order.len() + IDLE_MAX {
            self.lines.retain(|_, line| !line.waiting.is_empty());
        }
        let line = self.lines.entry(run).or_insert_with(|| {
            let place = self.next_place;
            self.next_place += 1;
            Line { place, left: TURN, waiting: VecDeque::new() }
        });
        if line.waiting.is_empty() {
            self.order.insert(line.place, run);
        }
        line.waiting.push_back(job);
        self.waiting += 1;
    }

    fn pop(&mut self) -> Option<J> {
        let (_, run) = self.order.pop_first()?;
        let line = self.lines.get_mut(&run)?;
        let job = line.waiting.pop_front()?;
        self.waiting -= 1;
        line.left -= 1;
        if line.left == 0 {
            (line.place, line.left) = (self.next_place, TURN);
            self.next_place += 1;
        }
        if line.waiting.is_empty() {
            line.waiting.shrink_to(TURN);
        } else {
            self.order.insert(line.place, run);
        }
        Some(job)
    }

    fn first(&self) -> Option<&J> {
        let (_, run) = self.order.first_key_value()?;
        self.lines.get(run)?.waiting.front()
    }
}

impl Queue<JobKey, Attempt> for Turns<Job<JobKey, Attempt>> {
    fn len(&self) -> usize {
        self.waiting
    }

    fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    fn pop_front(&mut self) -> Option<Job<JobKey, Attempt>> {
        self.pop()
    }

    fn discard_oldest(&mut self) -> Option<Job<JobKey, Attempt>> {
        self.pop()
    }

    fn peek(&self) -> Option<&Job<JobKey, Attempt>> {
        self.first()
    }

    fn push_back(&mut self, job: Job<JobKey, Attempt>) {
        self.push(job.msg.request.run, job);
    }

    /// An attempt does not expire here: the tracker keeps its time.
    fn remove_expired_items(&mut self, _: &Option<Arc<dyn DiscardHandler<JobKey, Attempt>>>) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use foreplan_testkit::Ids;

    use super::*;

    fn drained(turns: &mut Turns<(char, usize)>) -> Vec<(char, usize)> {
        std::iter::from_fn(|| turns.pop()).collect()
    }

    #[test]
    fn a_run_that_has_begun_goes_before_one_that_has_not() {
        let (mut turns, mut ids) = (Turns::default(), Ids::seeded(1));
        let (a, b) = (ids.run(), ids.run());
        turns.push(a, ('a', 1));
        turns.push(b, ('b', 1));
        assert_eq!(turns.first(), Some(&('a', 1)));
        assert_eq!(turns.pop(), Some(('a', 1)));
        turns.push(a, ('a', 2));
        assert_eq!(drained(&mut turns), [('a', 2), ('b', 1)]);
        assert_eq!(turns.waiting, 0);
    }

    #[test]
    fn what_waits_of_one_run_stays_in_order_and_lets_the_others_pass() {
        let (mut turns, mut ids) = (Turns::default(), Ids::seeded(1));
        let (many, one) = (ids.run(), ids.run());
        let expected: Vec<_> = (0..3 * TURN).map(|n| ('m', n)).collect();
        for job in &expected {
            turns.push(many, *job);
        }
        turns.push(one, ('o', 0));
        let mut taken = drained(&mut turns);
        assert_eq!(taken.remove(TURN), ('o', 0), "it has its turn after one of the other");
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_run_that_never_stops_does_not_keep_a_place_of_its_own() {
        let (mut turns, mut ids) = (Turns::default(), Ids::seeded(1));
        let (endless, late) = (ids.run(), ids.run());
        turns.push(endless, ('e', 0));
        turns.push(late, ('l', 0));
        let mut taken = 0;
        while let Some((run, _)) = turns.pop() {
            if run == 'l' {
                break;
            }
            taken += 1;
            turns.push(endless, ('e', taken));
        }
        assert_eq!(taken, TURN);
    }

    #[test]
    fn runs_of_which_nothing_waits_are_forgotten_in_time() {
        let (mut turns, mut ids) = (Turns::default(), Ids::seeded(1));
        for n in 0..10 * IDLE_MAX {
            turns.push(ids.run(), ('r', n));
            assert_eq!(turns.pop(), Some(('r', n)));
            assert!(turns.lines.len() <= IDLE_MAX + 2);
        }
    }
}
