//! What nearly every entry counts: numbers, which get their names when somebody looks.

use foreplan_core::event::{Entry, Event};

use super::{ATTEMPTS, CALLS, COST, Metrics, TOKENS, WAIT, WAITED};

/// Counts that need no looking up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Often {
    wait_ms: u64,
    begun: u64,
    succeeded: u64,
    model_calls: u64,
    tool_calls: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost_microusd: u64,
}

impl Often {
    /// Counts an attempt that began after it had waited so long for room.
    pub(super) fn waited(&mut self, wait_ms: u64) {
        add(&mut self.wait_ms, wait_ms);
        add(&mut self.begun, 1);
    }

    /// Counts what an entry says.
    pub(super) fn observe(&mut self, entry: &Entry) {
        let succeeded = entry.events.iter().filter(|event| matches!(event, Event::AttemptSucceeded { .. }));
        add(&mut self.succeeded, succeeded.count() as u64);
        let (usage, _) = entry.cause.used();
        add(&mut self.model_calls, usage.model_calls.into());
        add(&mut self.tool_calls, usage.tool_calls.into());
        add(&mut self.input_tokens, usage.input_tokens);
        add(&mut self.output_tokens, usage.output_tokens);
        add(&mut self.cost_microusd, usage.cost_microusd);
    }

    /// Adds it all to what is counted under names.
    pub(super) fn tell(&self, metrics: &mut Metrics) {
        metrics.add(WAIT, "", self.wait_ms);
        metrics.add(WAITED, "", self.begun);
        metrics.add(ATTEMPTS, "succeeded", self.succeeded);
        metrics.add(CALLS, "model", self.model_calls);
        metrics.add(CALLS, "tool", self.tool_calls);
        metrics.add(TOKENS, "input", self.input_tokens);
        metrics.add(TOKENS, "output", self.output_tokens);
        metrics.add(COST, "", self.cost_microusd);
    }
}

fn add(value: &mut u64, more: u64) {
    *value = value.saturating_add(more);
}
