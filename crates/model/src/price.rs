//! What tokens cost.

use std::{collections::BTreeMap, sync::OnceLock};

use foreplan_core::call::Tokens;
use serde::{Deserialize, Serialize};

/// Dollars per million tokens, which is micro-dollars per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of tokens sent.
    pub input: f64,
    /// Of tokens received, reasoning included.
    pub output: f64,
    /// Of tokens sent that the provider had in its cache; absent: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<f64>,
}

impl Price {
    /// Returns whether every part is a number from 0 on.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        [Some(self.input), Some(self.output), self.cached]
            .into_iter()
            .flatten()
            .all(|dollars| dollars.is_finite() && dollars >= 0.0)
    }

    /// Returns what `tokens` cost, in micro-dollars, rounded up.
    #[must_use]
    pub fn cost_microusd(&self, tokens: &Tokens) -> u64 {
        let cached = tokens.cached.min(tokens.input);
        let sent =
            (tokens.input - cached) as f64 * self.input + cached as f64 * self.cached.unwrap_or(self.input);
        (sent + tokens.output as f64 * self.output).ceil() as u64
    }
}

/// Prices that came with this version of the crate.
#[derive(Debug, Deserialize)]
pub struct PriceTable {
    /// When they were noted, as `YYYY-MM-DD`.
    pub date: String,
    /// By `provider/name`. A name stands for all models whose name begins with it and goes on with
    /// a date or a version (`-2025…`, `-latest`, `@…`).
    pub prices: BTreeMap<String, Price>,
}

impl PriceTable {
    /// Returns the built-in table.
    ///
    /// # Panics
    ///
    /// Never: a test reads the same file.
    #[must_use]
    pub fn built_in() -> &'static Self {
        static TABLE: OnceLock<PriceTable> = OnceLock::new();
        TABLE.get_or_init(|| serde_json::from_str(include_str!("prices.json")).expect("a valid price table"))
    }

    /// Returns the price of `provider/name`; nothing if it is unknown.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<Price> {
        let fits = |known: &str| {
            model.strip_prefix(known).is_some_and(|rest| {
                rest.is_empty()
                    || rest.starts_with('@')
                    || rest == "-latest"
                    || rest.strip_prefix('-').is_some_and(|r| r.starts_with("20") && r.len() >= 8)
            })
        };
        self.prices
            .iter()
            .filter(|(known, _)| fits(known))
            .max_by_key(|(known, _)| known.len())
            .map(|(_, price)| *price)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_have_their_own_price() {
        let price = Price { input: 2.0, output: 10.0, cached: Some(0.5) };
        let tokens = Tokens { input: 1_000, cached: 400, output: 100, reasoning: 50 };
        assert_eq!(price.cost_microusd(&tokens), 1_200 + 200 + 1_000);
        assert_eq!(Price { cached: None, ..price }.cost_microusd(&tokens), 3_000);
    }

    #[test]
    fn parts_of_a_micro_dollar_count_as_one() {
        let price = Price { input: 0.1, output: 0.3, cached: None };
        assert_eq!(price.cost_microusd(&Tokens { input: 1, ..Tokens::default() }), 1);
        assert_eq!(price.cost_microusd(&Tokens::default()), 0);
    }

    #[test]
    fn a_dated_model_has_the_price_of_its_family_member() {
        let table = PriceTable::built_in();
        let plain = table.of("openai/gpt-4o-mini");
        assert!(plain.is_some());
        assert_eq!(table.of("openai/gpt-4o-mini-2024-07-18"), plain);
        assert_ne!(table.of("openai/gpt-4o"), plain);
        assert_eq!(table.of("openai/gpt-4o-mini-audio"), None);
        assert_eq!(table.of("local/qwen"), None);
    }
}
