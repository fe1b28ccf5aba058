//! How much is asked of one provider: requests at a time, and within a minute.

use std::{collections::VecDeque, num::NonZeroU32, time::Duration};

use tokio::{
    sync::{Mutex, Semaphore, SemaphorePermit},
    time::Instant,
};

/// The window of the rate limit.
const WINDOW: Duration = Duration::from_secs(60);

/// The limits of one provider, shared by all its models.
#[derive(Debug)]
pub(crate) struct Limits {
    permits: Semaphore,
    rate: Option<Rate>,
}

/// Lets so many requests begin within any window.
#[derive(Debug)]
struct Rate {
    per_window: usize,
    /// Invariant: at most `per_window` entries, oldest first.
    begun: Mutex<VecDeque<Instant>>,
}

impl Limits {
    pub(crate) fn new(concurrency: NonZeroU32, rate_per_minute: Option<NonZeroU32>) -> Self {
        let rate = rate_per_minute.map(|n| Rate { per_window: n.get() as usize, begun: Mutex::default() });
        Self { permits: Semaphore::new(concurrency.get() as usize), rate }
    }

    /// Waits until a request may begin. It counts as running until the permit is dropped.
    ///
    /// # Panics
    ///
    /// Never: the semaphore is not closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place in the queue back.
    pub(crate) async fn enter(&self) -> SemaphorePermit<'_> {
        let permit = self.permits.acquire().await.expect("an open semaphore");
        if let Some(rate) = &self.rate {
            rate.wait().await;
        }
        permit
    }
}

impl Rate {
    async fn wait(&self) {
        // The lock is held while waiting, so that requests begin in the order in which they came.
        let mut begun = self.begun.lock().await;
        if begun.len() >= self.per_window
            && let Some(oldest) = begun.front().copied()
        {
            tokio::time::sleep_until(oldest + WINDOW).await;
            begun.pop_front();
        }
        begun.push_back(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(concurrency: u32, rate: Option<u32>) -> Limits {
        Limits::new(NonZeroU32::new(concurrency).unwrap(), rate.and_then(NonZeroU32::new))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_beyond_the_rate_waits_for_the_oldest_to_leave_the_window() {
        let limits = limits(8, Some(2));
        let start = Instant::now();
        drop(limits.enter().await);
        tokio::time::advance(Duration::from_secs(20)).await;
        drop(limits.enter().await);
        drop(limits.enter().await);
        assert_eq!(start.elapsed().as_secs(), 60);
        drop(limits.enter().await);
        assert_eq!(start.elapsed().as_secs(), 80);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_while_it_waits_takes_no_place() {
        let limits = limits(8, Some(1));
        let start = Instant::now();
        drop(limits.enter().await);
        assert!(tokio::time::timeout(Duration::from_secs(5), limits.enter()).await.is_err());
        drop(limits.enter().await);
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_run_than_allowed() {
        let limits = limits(2, None);
        let (first, _second) = (limits.enter().await, limits.enter().await);
        assert!(tokio::time::timeout(Duration::from_secs(1), limits.enter()).await.is_err());
        drop(first);
        assert!(tokio::time::timeout(Duration::from_secs(1), limits.enter()).await.is_ok());
    }
}
