//! The plan: what people read, edit and approve, and models write. Immutable once adopted.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    digest::Digest,
    id::{Capability, StepId, ToolName},
    json, time,
};

mod compiled;

pub use compiled::{CompiledPlan, Node};

/// The version of the plan format that this crate reads and writes.
pub const FORMAT: u32 = 1;

/// Turns of an agent step that does not say how many it may take.
pub const ITERATIONS_DEFAULT: u32 = 8;

/// A list over which a `for_each` runs may have this many items unless the step says otherwise.
pub const ITEMS_MAX_DEFAULT: u32 = 100;

/// A goal taken apart into steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Always [`FORMAT`].
    pub format: u32,
    /// Where an editor finds the schema of plans.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What the plan is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub goal: String,
    /// Why these steps, in the planner's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
    /// Read-only checks that run before approval.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumptions: Vec<Assumption>,
    /// The steps; their order here is only how people read them.
    pub steps: Vec<Step>,
    /// CEL over steps and params: ends the run early when the goal is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_when: Option<String>,
    /// The run's result, with markers. Absent: the only sink's output, else an object by step id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

impl Plan {
    /// Reads a plan from JSON text, refusing duplicate keys and integers beyond ±(2^53−1).
    ///
    /// # Errors
    ///
    /// With the path inside the document, and line and column where they are known.
    pub fn parse(text: &str) -> Result<Self, json::Error> {
        json::parse(text)
    }

    /// Returns the SHA-256 of the canonical JSON: what identifies the plan.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }
}

/// A read-only check of the world that the plan relies on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assumption {
    /// What is assumed, in words.
    pub text: String,
    /// The read tool that looks.
    pub tool: ToolName,
    /// Its input; markers may name params only.
    #[serde(default = "empty_object")]
    pub input: Value,
    /// CEL over `output` and `params` that must hold.
    pub expect: String,
}

/// One step: exactly one of `tool`, `agent`, `human` and `goal` says how it is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique within the plan.
    pub id: StepId,
    /// What the step does, in a few words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// What the step must show, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Steps that must be done first although nothing of them is referenced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<StepId>,
    /// CEL over steps and params; false skips the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Runs the step once for each item of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<Box<ForEach>>,
    /// The pool of executors; absent: the one that serves the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Capability>,
    /// One typed call, no model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolName>,
    /// A bounded loop of a model over the tools that it lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Box<Agent>>,
    /// A question to a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub human: Option<Box<Human>>,
    /// A goal of its own, planned and run as a child run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Box<SubGoal>>,
    /// The input, with markers: `{"$ref": …}`, `{"$template": …}`, `{"$literal": …}`.
    #[serde(default = "empty_object", skip_serializing_if = "is_empty_object")]
    pub input: Value,
    /// JSON Schema that the output must fit, besides the tool's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Box<Value>>,
    /// CEL over `output`, `input` and `params` that must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// What happens when an attempt fails.
    #[serde(default, skip_serializing_if = "OnFailure::is_default")]
    pub on_failure: OnFailure,
    /// How long an attempt may take.
    #[serde(default, with = "time::text::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
    /// Whether a person must approve the step before it starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approval: bool,
    /// Whether a reviewer judges the output.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub review: bool,
    /// What an agent step may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Box<StepBudget>>,
}

impl Step {
    /// Returns how the step is done; `None` if it does not say exactly one way.
    #[must_use]
    pub fn kind(&self) -> Option<StepKind<'_>> {
        match (&self.tool, &self.agent, &self.human, &self.goal) {
            (Some(tool), None, None, None) => Some(StepKind::Tool(tool)),
            (None, Some(agent), None, None) => Some(StepKind::Agent(agent)),
            (None, None, Some(human), None) => Some(StepKind::Human(human)),
            (None, None, None, Some(goal)) => Some(StepKind::Goal(goal)),
            _ => None,
        }
    }

    /// Returns the title, or the id where there is none.
    #[must_use]
    pub fn label(&self) -> &str {
        if self.title.is_empty() { self.id.as_str() } else { &self.title }
    }

    /// Returns the digest of what the step computes: all that can change its output, and nothing
    /// that cannot (its title, its order, how often it is tried).
    #[must_use]
    pub fn definition_digest(&self) -> Digest {
        Digest::of(&serde_json::json!({
            "when": self.when, "for_each": self.for_each, "capability": self.capability,
            "tool": self.tool, "agent": self.agent, "human": self.human, "goal": self.goal,
            "input": self.input, "output": self.output, "expect": self.expect,
        }))
    }
}

/// How a step is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepKind<'a> {
    /// One typed call.
    Tool(&'a ToolName),
    /// A bounded loop of a model.
    Agent(&'a Agent),
    /// A question to a person.
    Human(&'a Human),
    /// A child run.
    Goal(&'a SubGoal),
}

/// A bounded loop of a model over some tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// What the model is told.
    pub instructions: String,
    /// The only tools that it may call.
    #[serde(default)]
    pub tools: Vec<ToolName>,
}

/// A question to a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Human {
    /// The question; a minijinja template over steps and params.
    pub question: String,
    /// JSON Schema of the answer; absent: text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
}

/// A goal that is planned and run as a child run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubGoal {
    /// What the child run is for.
    pub text: String,
    /// The artifacts that it must produce, for `derive`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub produce: Vec<String>,
}

/// Runs a step once for each item of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForEach {
    /// The list: a literal or a marker.
    #[serde(rename = "in")]
    pub list: Value,
    /// A longer list fails the step.
    #[serde(default = "items_max_default")]
    pub max: u32,
    /// How many items run at once; absent: as many as the run allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// What becomes of the step when an item fails.
    #[serde(default)]
    pub on_item_failure: OnItemFailure,
}

/// What becomes of a `for_each` step when one of its items fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnItemFailure {
    /// The step fails.
    #[default]
    Fail,
    /// The item's place in the output is null.
    Skip,
}

/// What happens when an attempt fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnFailure {
    /// How many attempts there are before `then`; at least 1.
    pub attempts: u32,
    /// The wait before the second attempt; doubled for each further one, with jitter.
    #[serde(with = "time::text")]
    #[schemars(with = "String")]
    pub backoff: Duration,
    /// What happens when no attempt is left.
    pub then: Then,
}

impl OnFailure {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for OnFailure {
    fn default() -> Self {
        Self { attempts: 1, backoff: Duration::from_secs(1), then: Then::Replan }
    }
}

/// What happens when no attempt of a step is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The replanner is asked, as the run's policy says.
    #[default]
    Replan,
    /// The run fails.
    Fail,
    /// The step counts as skipped.
    Skip,
    /// A person is asked.
    Ask,
}

/// What an agent step may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepBudget {
    /// Turns of the loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u32>,
    /// Input and output tokens together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Micro-dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_microusd: Option<u64>,
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}

fn items_max_default() -> u32 {
    ITEMS_MAX_DEFAULT
}
