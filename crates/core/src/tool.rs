//! What the planner and the checker know of a tool: never how it is called.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    digest::Digest,
    id::{Capability, ToolName},
    plan::Step,
    time,
};

/// What a call does to the world.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: it may be repeated and dropped at will.
    Read,
    /// Repeating the call with the same key changes nothing more.
    Idempotent,
    /// Every call counts. What nobody declared is this.
    #[default]
    Irreversible,
}

impl Effect {
    /// Returns the name that people read and write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Idempotent => "idempotent",
            Self::Irreversible => "irreversible",
        }
    }
}

/// A tool as the inventory lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ToolDescriptor {
    /// Unique within the inventory.
    pub name: ToolName,
    /// What it does, for planners and people.
    pub description: String,
    /// JSON Schema of the input: an object.
    pub input: Value,
    /// JSON Schema of the output.
    pub output: Value,
    /// What a call does to the world.
    pub effect: Effect,
    /// The pools that serve it; a step without a capability goes to the first.
    pub capabilities: Vec<Capability>,
    /// Changes whenever the schemas, the effect, the command, the URL or a named file change.
    /// Covers no secret.
    pub digest: Digest,
    /// The relative cost of a call, for `derive`.
    pub cost: u64,
    /// What a call writes, as templates over its input: two unordered steps must not write the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<String>,
    /// The read tool that tells whether a call of this one happened. It gets the same input and
    /// returns `{"happened": bool, "output": …}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<ToolName>,
    /// Artifact names of output fields where they differ from the field: field → artifact.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, String>,
    /// How long a call may take, if the tool says so.
    #[serde(default, with = "time::text::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
}

/// The tools that can be planned with at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Inventory {
    tools: BTreeMap<ToolName, Arc<ToolDescriptor>>,
    /// Not part of the JSON, which is the tools by name.
    #[serde(skip)]
    agents: BTreeMap<Capability, AgentDescriptor>,
}

/// A specialist that carries out agent steps, as the planner and the checker know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AgentDescriptor {
    /// The specialist.
    pub capability: Capability,
    /// The model that it asks: `provider/name`.
    pub model: String,
    /// Changes whenever the model or the specialist's own instructions change.
    pub digest: Digest,
}

impl Inventory {
    /// Returns the tool of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<ToolDescriptor>> {
        self.tools.get(name)
    }

    /// Returns all tools in the order of their names.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<ToolDescriptor>> {
        self.tools.values()
    }

    /// Adds the specialists that carry out agent steps.
    #[must_use]
    pub fn with_agents(mut self, agents: impl IntoIterator<Item = AgentDescriptor>) -> Self {
        self.agents.extend(agents.into_iter().map(|agent| (agent.capability.clone(), agent)));
        self
    }

    /// Returns the specialists that carry out agent steps, in the order of their names.
    pub fn agents(&self) -> impl Iterator<Item = &AgentDescriptor> {
        self.agents.values()
    }

    /// Returns the specialist that carries out an agent step: the one that the step names, else the
    /// first that serves all its tools.
    #[must_use]
    pub fn agent_for(&self, step: &Step) -> Option<&AgentDescriptor> {
        let agent = step.agent.as_ref()?;
        let serves = |capability: &Capability| {
            let serves = |tool: &ToolName| {
                self.get(tool.as_str()).is_some_and(|tool| tool.capabilities.contains(capability))
            };
            agent.tools.iter().all(serves)
        };
        match &step.capability {
            Some(capability) => self.agents.get(capability).filter(|_| serves(capability)),
            None => self.agents.values().find(|agent| serves(&agent.capability)),
        }
    }

    /// Returns whether a pool of this name serves any tool.
    #[must_use]
    pub fn serves(&self, capability: &str) -> bool {
        self.tools.values().any(|t| t.capabilities.iter().any(|c| c.as_str() == capability))
    }
}

impl FromIterator<ToolDescriptor> for Inventory {
    fn from_iter<I: IntoIterator<Item = ToolDescriptor>>(tools: I) -> Self {
        let tools = tools.into_iter().map(|t| (t.name.clone(), Arc::new(t))).collect();
        Self { tools, agents: BTreeMap::new() }
    }
}

/// Tells which tools there are now: the toolbox of this process, or what a server lists.
pub trait InventorySource: Send + Sync + 'static {
    /// Returns the inventory as it is at this moment.
    fn inventory(&self) -> Arc<Inventory>;

    /// Returns the tools that runs of a project can use: all, where there is one project only.
    fn inventory_of(&self, project: &str) -> Arc<Inventory> {
        let _ = project;
        self.inventory()
    }
}

impl<F: Fn() -> Arc<Inventory> + Send + Sync + 'static> InventorySource for F {
    fn inventory(&self) -> Arc<Inventory> {
        self()
    }
}
