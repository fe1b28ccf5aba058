//! What a plan can use at most, said before anything runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    budget::StepMax,
    envelope::Envelope,
    goal::Review,
    id::StepId,
    plan::{CompiledPlan, Step},
};

/// What a plan can use at most. Replans are not in it: they are another plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    /// The longest chain of steps that wait for one another: how long the run takes at least, in
    /// steps.
    pub critical_path: Vec<StepId>,
    /// Calls to models.
    pub model_calls_max: u32,
    /// Input and output tokens together.
    pub tokens_max: u64,
    /// Micro-dollars. The least is nothing: no price is known before a model has answered.
    pub cost_microusd_max: u64,
}

/// Returns what a plan can use at most, within the limits of its envelope and with its reviewer.
#[must_use]
pub fn forecast(plan: &CompiledPlan, envelope: &Envelope, review: Option<&Review>) -> Forecast {
    let limits = &envelope.limits;
    let sum = |of: &dyn Fn(&Step) -> u64| plan.steps().iter().map(of).fold(0, u64::saturating_add);
    let is_reviewed = |step: &Step| review.is_some_and(|review| review.judges(step));
    let calls = sum(&|step| model_calls(step, is_reviewed(step)));
    let bounded = |of: &dyn Fn(&Step) -> u64, limit: u64| {
        // What a review uses is known only to the reviewer.
        let most = |step: &Step| {
            if is_reviewed(step) { limit } else { of(step).saturating_mul(times(step)) }
        };
        sum(&most).min(limit)
    };
    Forecast {
        critical_path: critical_path(plan),
        model_calls_max: u32::try_from(calls).unwrap_or(u32::MAX).min(limits.model_calls),
        tokens_max: bounded(&|step| StepMax::of(step).tokens, limits.tokens),
        cost_microusd_max: bounded(&|step| StepMax::of(step).cost_microusd, limits.cost_microusd),
    }
}

/// Returns how many calls to models a step can make: its turns, and its reviews.
fn model_calls(step: &Step, is_reviewed: bool) -> u64 {
    let turns = u64::from(StepMax::of(step).model_calls);
    (turns + u64::from(is_reviewed)).saturating_mul(times(step))
}

/// Returns how many attempts there are at most, over all items.
fn times(step: &Step) -> u64 {
    let items = step.for_each.as_ref().map_or(1, |each| u64::from(each.max));
    items.saturating_mul(u64::from(step.on_failure.attempts.max(1)))
}

fn critical_path(plan: &CompiledPlan) -> Vec<StepId> {
    let mut longest: Vec<(u32, Option<u32>)> = vec![(0, None); plan.steps().len()];
    for at in plan.topological() {
        let before = plan.node(at).deps.iter().map(|dep| (longest[*dep as usize].0, *dep));
        // Of equal chains the one through the step that stands first.
        let before = before.max_by_key(|(length, dep)| (*length, std::cmp::Reverse(*dep)));
        longest[at as usize] = (before.map_or(0, |(length, _)| length) + 1, before.map(|(_, dep)| dep));
    }
    let last = (0..longest.len()).max_by_key(|at| (longest[*at].0, std::cmp::Reverse(*at)));
    let mut path = Vec::new();
    let mut next = last.map(|at| at as u32);
    while let Some(at) = next {
        path.push(plan.step(at).id.clone());
        next = longest[at as usize].1;
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::budget::Limits;

    fn of(steps: Value) -> Forecast {
        let plan = serde_json::from_value(json!({"format": 1, "steps": steps})).unwrap();
        let plan = CompiledPlan::compile(Arc::new(plan)).unwrap();
        let envelope = Envelope {
            plan: plan.digest(),
            params: Default::default(),
            tools: Default::default(),
            agents: Default::default(),
            limits: Limits { model_calls: 50, tokens: 10_000, cost_microusd: 700, ..Limits::default() },
        };
        let review = Review { model: "m".to_owned(), plans: true, results: false };
        forecast(&plan, &envelope, Some(&review))
    }

    fn agent(id: &str, more: Value) -> Value {
        let mut step = json!({"id": id, "agent": {"instructions": "do it"}});
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    }

    #[test]
    fn a_plan_of_tools_uses_no_model() {
        let forecast = of(json!([{"id": "a", "tool": "t"}, {"id": "b", "tool": "t"}]));
        assert_eq!((forecast.model_calls_max, forecast.tokens_max, forecast.cost_microusd_max), (0, 0, 0));
    }

    #[test]
    fn the_critical_path_is_the_longest_chain_of_steps_that_wait() {
        let forecast = of(json!([
            {"id": "a", "tool": "t"}, {"id": "b", "tool": "t", "needs": ["a"]},
            {"id": "c", "tool": "t", "needs": ["a", "b"]}, {"id": "d", "tool": "t"},
        ]));
        let path: Vec<&str> = forecast.critical_path.iter().map(StepId::as_str).collect();
        assert_eq!(path, ["a", "b", "c"]);
    }

    #[test]
    fn turns_count_for_every_attempt_at_every_item_and_reviews_too() {
        let budget = json!({"iterations": 2, "tokens": 100, "cost_microusd": 5});
        let forecast = of(json!([
            agent("a", json!({"budget": budget, "on_failure": {"attempts": 2}, "for_each": {"in": [1], "max": 3}})),
            {"id": "b", "tool": "t", "review": true},
        ]));
        assert_eq!(forecast.model_calls_max, 2 * 2 * 3 + 1);
        assert_eq!(
            (forecast.tokens_max, forecast.cost_microusd_max),
            (10_000, 700),
            "the review has no bound of its own"
        );
    }

    #[test]
    fn no_plan_uses_more_than_the_limits_of_its_run() {
        let many: Vec<Value> = (0..20).map(|at| agent(&format!("a{at}"), json!({}))).collect();
        let forecast = of(json!(many));
        assert_eq!((forecast.model_calls_max, forecast.tokens_max), (50, 10_000));
    }
}
