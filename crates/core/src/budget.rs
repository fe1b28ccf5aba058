//! Limits, what has been used of them, and what is reserved for work in flight.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    plan::{ITERATIONS_DEFAULT, Step},
    time,
};

/// What a run may use. Every limit has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Steps of a plan, items of a `for_each` not counted.
    pub steps: u32,
    /// Steps in flight at once.
    pub in_flight: u32,
    /// Attempts of one step that its plan may ask for.
    pub attempts: u32,
    /// Automatic replans, refused ones included.
    pub replans: u32,
    /// Calls to models.
    pub model_calls: u32,
    /// Input and output tokens together.
    pub tokens: u64,
    /// Micro-dollars.
    pub cost_microusd: u64,
    /// Active time, without waiting for people.
    #[serde(with = "time::text")]
    #[schemars(with = "String")]
    pub wall_time: Duration,
    /// Time from acceptance to the end, waiting included.
    #[serde(with = "time::text::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Duration>,
    /// How long an attempt may take where neither step nor tool says.
    #[serde(with = "time::text")]
    #[schemars(with = "String")]
    pub step_timeout: Duration,
    /// How long a step waits for a worker of its capability before the replanner is asked.
    #[serde(with = "time::text")]
    #[schemars(with = "String")]
    pub unserved: Duration,
    /// Bytes of one output.
    pub payload_bytes: u64,
    /// Child runs below this one.
    pub depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A person cannot review more, and folding stays instant.
            steps: 2_000,
            // Keeps one run from filling every pool.
            in_flight: 64,
            // Beyond this a failure is not transient.
            attempts: 20,
            // A plan that was wrong three times is not repaired by a fourth.
            replans: 2,
            model_calls: 50,
            tokens: 500_000,
            // Ten dollars.
            cost_microusd: 10_000_000,
            wall_time: Duration::from_secs(60 * 60),
            deadline: None,
            step_timeout: Duration::from_secs(10 * 60),
            unserved: Duration::from_secs(5 * 60),
            // A value that larger belongs into a file that a tool names.
            payload_bytes: 64 * 1024 * 1024,
            depth: 2,
        }
    }
}

/// How deep goals may lie within goals, whatever the limits say: who looks for a cause must be able
/// to follow.
pub const GOAL_DEPTH_MAX: u32 = 2;

/// Tokens of an agent step that names no budget, both ways together: every turn sends the whole
/// conversation again.
pub const STEP_TOKENS_DEFAULT: u64 = 50_000;

/// Micro-dollars of an agent step that names no budget: one dollar.
pub const STEP_COST_DEFAULT: u64 = 1_000_000;

/// The most that one attempt of a step may use: reserved when it is dispatched, settled when it
/// answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StepMax {
    /// Calls to models: the turns of its loop.
    pub model_calls: u32,
    /// Input and output tokens together.
    pub tokens: u64,
    /// Micro-dollars.
    pub cost_microusd: u64,
}

impl StepMax {
    /// Returns what a step asks for: nothing, unless it is an agent step or a goal.
    #[must_use]
    pub fn of(step: &Step) -> Self {
        let default = match (&step.agent, &step.goal) {
            (None, None) => return Self::default(),
            (Some(_), _) => Self::AGENT,
            (None, Some(_)) => Self::GOAL,
        };
        let budget = step.budget.as_ref();
        Self {
            model_calls: budget.and_then(|b| b.iterations).unwrap_or(default.model_calls),
            tokens: budget.and_then(|b| b.tokens).unwrap_or(default.tokens),
            cost_microusd: budget.and_then(|b| b.cost_microusd).unwrap_or(default.cost_microusd),
        }
    }

    /// An agent step that names no budget.
    const AGENT: Self = Self {
        model_calls: ITERATIONS_DEFAULT,
        tokens: STEP_TOKENS_DEFAULT,
        cost_microusd: STEP_COST_DEFAULT,
    };

    /// A goal that names no budget: a plan, a replan, and an agent step.
    const GOAL: Self = Self {
        model_calls: 2 + ITERATIONS_DEFAULT,
        tokens: 2 * STEP_TOKENS_DEFAULT,
        cost_microusd: 2 * STEP_COST_DEFAULT,
    };

    /// Returns whether nothing is asked for.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the smaller of both in each respect.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            model_calls: self.model_calls.min(other.model_calls),
            tokens: self.tokens.min(other.tokens),
            cost_microusd: self.cost_microusd.min(other.cost_microusd),
        }
    }

    /// Adds what another attempt may use.
    pub fn add(&mut self, other: Self) {
        self.model_calls = self.model_calls.saturating_add(other.model_calls);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.cost_microusd = self.cost_microusd.saturating_add(other.cost_microusd);
    }

    /// Takes back what another attempt might have used.
    pub fn subtract(&mut self, other: Self) {
        self.model_calls = self.model_calls.saturating_sub(other.model_calls);
        self.tokens = self.tokens.saturating_sub(other.tokens);
        self.cost_microusd = self.cost_microusd.saturating_sub(other.cost_microusd);
    }
}

/// What was used: by one reply, or by a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Usage {
    /// Calls to models.
    pub model_calls: u32,
    /// Calls to tools.
    pub tool_calls: u32,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Micro-dollars.
    pub cost_microusd: u64,
}

impl Usage {
    /// Adds what one reply used.
    pub fn add(&mut self, other: &Self) {
        self.model_calls = self.model_calls.saturating_add(other.model_calls);
        self.tool_calls = self.tool_calls.saturating_add(other.tool_calls);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost_microusd = self.cost_microusd.saturating_add(other.cost_microusd);
    }

    /// Returns the name of the first limit that this use exceeds.
    #[must_use]
    pub fn exceeds(&self, limits: &Limits) -> Option<&'static str> {
        if self.model_calls > limits.model_calls {
            return Some("model_calls");
        }
        if self.input_tokens.saturating_add(self.output_tokens) > limits.tokens {
            return Some("tokens");
        }
        (self.cost_microusd > limits.cost_microusd).then_some("cost_microusd")
    }

    /// Returns what is left of the limits when `reserved` is used as well.
    #[must_use]
    pub fn left(&self, limits: &Limits, reserved: StepMax) -> StepMax {
        let tokens = self.input_tokens.saturating_add(self.output_tokens).saturating_add(reserved.tokens);
        let cost = self.cost_microusd.saturating_add(reserved.cost_microusd);
        StepMax {
            model_calls: limits
                .model_calls
                .saturating_sub(self.model_calls)
                .saturating_sub(reserved.model_calls),
            tokens: limits.tokens.saturating_sub(tokens),
            cost_microusd: limits.cost_microusd.saturating_sub(cost),
        }
    }

    /// Returns whether nothing was used.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}
