//! A clock that tests set.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use foreplan_core::time::Timestamp;

/// A clock that stands still until a test moves it, or moves by the same span at every look. Copies
/// show the same time.
#[derive(Clone, Debug)]
pub struct TestClock {
    micros: Arc<AtomicI64>,
    step: i64,
}

impl TestClock {
    /// Makes a clock that stands still.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self { micros: Arc::new(AtomicI64::new(start.0)), step: 0 }
    }

    /// Makes a clock that moves by `step` after every look.
    #[must_use]
    pub fn ticking(start: Timestamp, step: Duration) -> Self {
        let step = Timestamp::default().plus(step).0;
        Self { step, ..Self::at(start) }
    }

    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.micros.fetch_add(self.step, Ordering::SeqCst))
    }

    /// Moves the clock.
    pub fn advance(&self, span: Duration) {
        self.micros.fetch_add(Timestamp::default().plus(span).0, Ordering::SeqCst);
    }

    /// Returns the clock in the form that the agents take.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_clock_show_the_same_time() {
        let clock = TestClock::at(Timestamp(5));
        let reader = clock.reader();
        assert_eq!((clock.now(), reader()), (Timestamp(5), Timestamp(5)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(reader(), Timestamp(1_000_005));
    }

    #[test]
    fn a_ticking_clock_moves_at_every_look() {
        let clock = TestClock::ticking(Timestamp(0), Duration::from_millis(1));
        assert_eq!([clock.now(), clock.now(), clock.now()], [0, 1_000, 2_000].map(Timestamp));
    }
}
