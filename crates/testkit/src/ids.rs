//! Ids that are the same at every run.

use foreplan_core::id::RunId;
use uuid::Uuid;

/// When the first seeded run was made: 2026-01-01T00:00:00Z, in milliseconds.
const FIRST_RUN_MS: u64 = 1_767_225_600_000;

/// Makes ids from a seed: one stream for each kind, so that one more command does not renumber the
/// runs.
#[derive(Clone, Debug)]
pub struct Ids {
    runs: Stream,
    commands: Stream,
}

impl Ids {
    /// Starts the streams of a seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { runs: Stream::new(seed, 1), commands: Stream::new(seed, 2) }
    }

    /// Returns the next run's id: a UUID v7, one second after the one before.
    pub fn run(&mut self) -> RunId {
        RunId(self.runs.uuid())
    }

    /// Returns the next command's id.
    pub fn command(&mut self) -> Uuid {
        self.commands.uuid()
    }
}

/// A stream of pseudo-random numbers: SplitMix64 (Steele, Lea and Flood 2014), which needs no crate
/// and never changes.
#[derive(Clone, Debug)]
struct Stream {
    state: u64,
    made: u64,
}

impl Stream {
    fn new(seed: u64, kind: u64) -> Self {
        let mut stream = Self { state: seed ^ (kind << 56), made: 0 };
        stream.next();
        stream
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uuid(&mut self) -> Uuid {
        let random = (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&random[..10]);
        let at = FIRST_RUN_MS + self.made * 1_000;
        self.made += 1;
        uuid::Builder::from_unix_timestamp_millis(at, &tail).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_ids_at_every_run() {
        let (mut a, mut b, mut other) = (Ids::seeded(1), Ids::seeded(1), Ids::seeded(2));
        let first = a.run();
        assert_eq!(first, b.run());
        assert_ne!(first, other.run());
        assert_ne!(first, a.run());
        assert_eq!(first.to_string(), "019b76da-a800-7a84-b87f-178db88fb576");
    }

    #[test]
    fn one_more_command_does_not_renumber_the_runs() {
        let (mut a, mut b) = (Ids::seeded(1), Ids::seeded(1));
        a.command();
        assert_eq!(a.run(), b.run());
    }

    #[test]
    fn run_ids_sort_by_the_order_they_were_made_in() {
        let mut ids = Ids::seeded(9);
        let runs: Vec<_> = (0..100).map(|_| ids.run()).collect();
        assert!(runs.is_sorted());
        assert_eq!(runs[0].0.get_version_num(), 7);
    }
}
