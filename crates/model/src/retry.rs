//! When a request is sent again, and how long it waits before.

use std::time::Duration;

/// How transient errors are tried again: 408, 429, 5xx and broken connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often at most, after the first time.
    pub max: u32,
    /// The wait before the first repetition; each further one waits twice as long.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Default for Retries {
    /// Four repetitions, after about 0.5, 1, 2 and 4 s: a short outage passes, a long one is
    /// reported while somebody still watches.
    fn default() -> Self {
        Self { max: 4, first: Duration::from_millis(500), longest: Duration::from_secs(60) }
    }
}

impl Retries {
    /// Returns how long repetition `number` (from 1) waits: `asked` (`Retry-After`) if the server
    /// said so, else twice as long as the one before, of which `jitter` (0 to 1) takes up to half
    /// away so that many clients do not come back at once. Nothing if the server asks for longer
    /// than the longest wait, or if it was tried often enough.
    pub(crate) fn wait(&self, number: u32, asked: Option<Duration>, jitter: f64) -> Option<Duration> {
        if number > self.max {
            return None;
        }
        match asked {
            Some(asked) => (asked <= self.longest).then_some(asked),
            None => {
                let doubled = self.first.saturating_mul(2_u32.saturating_pow(number.saturating_sub(1)));
                Some(doubled.min(self.longest).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRIES: Retries =
        Retries { max: 3, first: Duration::from_millis(100), longest: Duration::from_millis(250) };

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<_> = (1..=4).map(|n| RETRIES.wait(n, None, 0.0).map(|w| w.as_millis())).collect();
        assert_eq!(waits, [Some(100), Some(200), Some(250), None]);
    }

    #[test]
    fn jitter_takes_up_to_half_away() {
        assert_eq!(RETRIES.wait(1, None, 1.0), Some(Duration::from_millis(50)));
    }

    #[test]
    fn what_the_server_asks_for_is_kept_if_it_is_not_too_long() {
        let ms = Duration::from_millis;
        assert_eq!(RETRIES.wait(1, Some(ms(240)), 1.0), Some(ms(240)));
        assert_eq!(RETRIES.wait(1, Some(ms(251)), 1.0), None);
        assert_eq!(RETRIES.wait(4, Some(ms(1)), 0.0), None);
    }
}
