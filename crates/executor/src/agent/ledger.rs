//! What an agent step has used, and what it repeats. Pure.

use std::collections::HashMap;

use foreplan_core::{
    budget::{StepMax, Usage},
    digest::Digest,
    failure::{Failure, FailureKind},
};
use serde_json::Value;

/// The same call with the same result, so often: a model that learns nothing from it never will.
const REPEATS_MAX: u32 = 3;

/// The account of one attempt.
pub(super) struct Ledger {
    max: StepMax,
    /// Equal calls so far, by tool and input.
    asked: HashMap<(String, Digest), u32>,
    /// Results, and how often in a row they came of the same call.
    results: HashMap<(String, Digest), (Digest, u32)>,
}

impl Ledger {
    pub(super) fn new(max: StepMax) -> Self {
        Self { max, asked: HashMap::new(), results: HashMap::new() }
    }

    /// Returns an error if nothing is left for another turn.
    pub(super) fn next_turn(&self, used: &Usage) -> Result<(), Failure> {
        let over = [
            (u64::from(used.model_calls), u64::from(self.max.model_calls), "iterations"),
            (used.input_tokens.saturating_add(used.output_tokens), self.max.tokens, "tokens"),
            (used.cost_microusd, self.max.cost_microusd, "cost_microusd"),
        ];
        match over.into_iter().find(|(used, max, _)| used >= max) {
            None => Ok(()),
            Some((used, max, what)) => {
                let message =
                    format!("the step used {used} of {max} {what} and is not done; raise `budget.{what}`");
                Err(Failure::new(FailureKind::Budget, format!("step_{what}"), message))
            }
        }
    }

    /// Returns how many tokens are left.
    pub(super) fn tokens_left(&self, used: &Usage) -> u64 {
        self.max.tokens.saturating_sub(used.input_tokens.saturating_add(used.output_tokens))
    }

    /// Returns how many equal calls there were before this one.
    pub(super) fn occurrence(&mut self, tool: &str, input: &Value) -> u32 {
        let count = self.asked.entry((tool.to_owned(), Digest::of(input))).or_default();
        *count += 1;
        *count - 1
    }

    /// Notes what came of a call. Returns an error if that is always the same.
    pub(super) fn seen(&mut self, tool: &str, input: &Value, result: &Value) -> Result<(), Failure> {
        let result = Digest::of(result);
        let (last, count) = self.results.entry((tool.to_owned(), Digest::of(input))).or_insert((result, 0));
        if *last != result {
            (*last, *count) = (result, 0);
        }
        *count += 1;
        if *count < REPEATS_MAX {
            return Ok(());
        }
        let message = format!("the model called `{tool}` {count} times with the same input and result");
        Err(Failure::new(FailureKind::Model, "repeating", message).retryable(false))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(StepMax { model_calls: 2, tokens: 100, cost_microusd: 10 })
    }

    #[test]
    fn each_budget_ends_the_step() {
        let ledger = ledger();
        assert!(ledger.next_turn(&Usage::default()).is_ok());
        for (used, code) in [
            (Usage { model_calls: 2, ..Usage::default() }, "step_iterations"),
            (Usage { input_tokens: 60, output_tokens: 40, ..Usage::default() }, "step_tokens"),
            (Usage { cost_microusd: 11, ..Usage::default() }, "step_cost_microusd"),
        ] {
            let failure = ledger.next_turn(&used).unwrap_err();
            assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Budget, code));
        }
    }

    #[test]
    fn the_third_equal_call_with_an_equal_result_ends_the_step() {
        let mut ledger = ledger();
        let mut see = |input: i32, result: i32| ledger.seen("t", &json!(input), &json!(result)).is_ok();
        assert_eq!(
            [see(1, 1), see(1, 1), see(1, 2), see(2, 2), see(1, 2), see(1, 2)],
            [true, true, true, true, true, false]
        );
    }

    #[test]
    fn equal_calls_are_counted_from_zero() {
        let mut ledger = ledger();
        let mut nth = |input: i32| ledger.occurrence("t", &json!(input));
        assert_eq!([nth(1), nth(2), nth(1)], [0, 0, 1]);
    }
}
