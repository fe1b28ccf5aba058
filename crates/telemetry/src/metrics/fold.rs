//! Journals as metrics: each entry counted once, whoever tells of it and how often.

use std::collections::VecDeque;

use foreplan_core::{
    event::{Entry, Event},
    id::{RunId, StepId},
    map::IdMap,
    time::Timestamp,
};

use super::{Metrics, often::Often};

/// Ended runs whose last entries are known: what is told twice, or late, is about one that has just ended.
const ENDED_MAX: usize = 10_000;

/// Counts the entries of runs in their order. What came before the first that it sees of a run was
/// counted by another process.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    often: Often,
    metrics: Metrics,
    runs: IdMap<RunId, Watched>,
    ended: VecDeque<RunId>,
}

/// A run of which entries were seen.
#[derive(Clone, Debug)]
struct Watched {
    next: u64,
    /// Since when steps wait for room.
    waiting: IdMap<StepId, Timestamp>,
}

/// Entries were missed: they must be counted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub from: u64,
}

impl Fold {
    /// Counts an entry. One that was counted before changes nothing.
    ///
    /// # Errors
    ///
    /// A [`Gap`] if entries before it were missed; nothing is counted then.
    pub fn observe(&mut self, run: RunId, entry: &Entry) -> Result<(), Gap> {
        let fresh = || Watched { next: entry.seq, waiting: IdMap::default() };
        let watched = self.runs.entry(run).or_insert_with(fresh);
        if entry.seq < watched.next {
            return Ok(());
        }
        if entry.seq > watched.next {
            return Err(Gap { from: watched.next });
        }
        watched.next += 1;
        let mut is_over = false;
        for event in &entry.events {
            match event {
                Event::StepReady { step } => {
                    watched.waiting.insert(step.clone(), entry.at);
                }
                Event::AttemptStarted { step, .. } => {
                    let since = watched.waiting.remove(step).unwrap_or(entry.at);
                    let waited = entry.at.since(since).as_millis();
                    self.often.waited(u64::try_from(waited).unwrap_or(u64::MAX));
                }
                Event::StepSkipped { step, .. } | Event::StepFailed { step, .. } => {
                    watched.waiting.remove(step);
                }
                Event::PlanAdopted { .. } => watched.waiting.clear(),
                Event::RunSucceeded
                | Event::RunFailed { .. }
                | Event::RunCancelled { .. }
                | Event::RunRejected { .. } => is_over = true,
                _ => {}
            }
        }
        self.often.observe(entry);
        self.metrics.observe(entry);
        if is_over {
            watched.waiting.clear();
            self.ended.push_back(run);
        }
        if self.ended.len() > ENDED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.runs.remove(&oldest);
        }
        Ok(())
    }

    /// Returns what was counted.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let mut metrics = self.metrics.clone();
        self.often.tell(&mut metrics);
        metrics
    }

    /// Returns how long the step has waited that waits for room the longest.
    #[must_use]
    pub fn queue_age(&self, now: Timestamp) -> std::time::Duration {
        let oldest = self.runs.values().flat_map(|run| run.waiting.values()).min();
        oldest.map_or(std::time::Duration::ZERO, |since| now.since(*since))
    }

    /// Returns the entry of a run that is counted next; `None` if none of it was.
    #[must_use]
    pub fn next(&self, run: RunId) -> Option<u64> {
        self.runs.get(&run).map(|watched| watched.next)
    }

    /// Stops watching runs that others carry on, or that ended unseen.
    pub fn retain(&mut self, is_open: impl Fn(RunId) -> bool) {
        self.runs.retain(|run, _| is_open(*run));
    }
}

#[cfg(test)]
mod tests {
    use foreplan_core::{
        budget::Usage,
        event::VERSION,
        failure::{Failure, FailureKind, UNSERVED},
        input::{Input, ReviewReply, Verdicts},
        review::ReviewOutcome,
    };

    use super::*;
    use crate::metrics::{CALLS, ENDED, REPLANS, TOKENS, WAIT, WAITED};

    fn entry(seq: u64, at: i64, events: Vec<Event>) -> Entry {
        Entry { v: VERSION, seq, at: Timestamp(at), cause: Input::Wake, events }
    }

    fn id(step: &str) -> StepId {
        step.parse().unwrap()
    }

    #[test]
    fn an_entry_counts_once_and_a_gap_is_named() {
        let (mut fold, run) = (Fold::default(), RunId(uuid::Uuid::from_u128(1)));
        let adopted = |seq, version| entry(seq, 0, vec![Event::PlanAdopted { version }]);
        assert_eq!(fold.observe(run, &adopted(4, 2)), Ok(()));
        assert_eq!(fold.observe(run, &adopted(4, 2)), Ok(()));
        assert_eq!(fold.observe(run, &adopted(7, 3)), Err(Gap { from: 5 }));
        assert_eq!(fold.metrics().get(REPLANS, ""), 1);
        assert_eq!(fold.next(run), Some(5));
        assert_eq!(fold.observe(run, &entry(5, 0, vec![Event::RunSucceeded])), Ok(()));
        assert_eq!(fold.observe(run, &entry(5, 0, vec![Event::RunSucceeded])), Ok(()));
        assert_eq!((fold.metrics().get(ENDED, "succeeded"), fold.next(run)), (1, Some(6)));
    }

    #[test]
    fn what_a_reviewer_used_is_counted_too() {
        let usage = Usage { model_calls: 1, tool_calls: 2, input_tokens: 30, ..Usage::default() };
        let review = ReviewReply {
            review: 1,
            by: "m".to_owned(),
            outcome: ReviewOutcome::Failed(Failure::new(FailureKind::Unserved, UNSERVED, "nobody")),
            usage,
            calls: Vec::new(),
            verdicts: Verdicts::default(),
        };
        let mut fold = Fold::default();
        let cause = Input::Reviewed(review);
        let entry = Entry { v: VERSION, seq: 0, at: Timestamp(0), cause, events: Vec::new() };
        fold.observe(RunId(uuid::Uuid::from_u128(1)), &entry).unwrap();
        let metrics = fold.metrics();
        let used = [(CALLS, "model"), (CALLS, "tool"), (TOKENS, "input"), (TOKENS, "output")];
        assert_eq!(used.map(|(metric, label)| metrics.get(metric, label)), [1, 2, 30, 0]);
    }

    #[test]
    fn the_queue_is_as_old_as_the_step_that_waits_longest() {
        let (mut fold, run) = (Fold::default(), RunId(uuid::Uuid::from_u128(1)));
        let ready = |step| Event::StepReady { step: id(step) };
        fold.observe(run, &entry(0, 1_000_000, vec![ready("a")])).unwrap();
        fold.observe(run, &entry(1, 3_000_000, vec![ready("b")])).unwrap();
        assert_eq!(fold.queue_age(Timestamp(4_000_000)).as_secs(), 3);
        let started = Event::AttemptStarted { step: id("a"), attempt: 1, verify: false };
        fold.observe(run, &entry(2, 5_000_000, vec![started])).unwrap();
        assert_eq!(fold.queue_age(Timestamp(6_000_000)).as_secs(), 3);
        assert_eq!((fold.metrics().get(WAIT, ""), fold.metrics().get(WAITED, "")), (4_000, 1));
        fold.retain(|_| false);
        assert_eq!(fold.queue_age(Timestamp(6_000_000)).as_secs(), 0);
    }
}
