//! How long steps wait between the entry that dispatches them and their worker's first breath, as their
//! journals tell it.

use std::collections::HashMap;

use foreplan_core::{
    event::{Entry, Event},
    id::StepId,
    input::Input,
    time::Timestamp,
};

/// The waits of steps, in microseconds.
#[derive(Default)]
pub(crate) struct Starts(Vec<u64>);

impl Starts {
    /// Adds those of a run.
    pub(crate) fn add<'a>(&mut self, entries: impl IntoIterator<Item = &'a Entry>) {
        let mut dispatched: HashMap<(&StepId, u32), Timestamp> = HashMap::new();
        for entry in entries {
            if let Input::Result(reply) = &entry.cause
                && let Some(at) = dispatched.remove(&(&reply.step, reply.attempt))
            {
                self.0.push(reply.started_at.since(at).as_micros() as u64);
            }
            for event in &entry.events {
                if let Event::AttemptStarted { step, attempt, .. } = event {
                    dispatched.insert((step, *attempt), entry.at);
                }
            }
        }
    }

    /// Returns the median and the 99th percentile.
    pub(crate) fn percentiles_us(mut self) -> Option<(u64, u64)> {
        self.0.sort_unstable();
        Some((*self.0.get(self.0.len() / 2)?, *self.0.get(self.0.len() * 99 / 100)?))
    }
}
