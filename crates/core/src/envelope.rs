//! What an approval covers: the plan, its params, the tools that it or a rule can use, and the limits.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    sync::OnceLock,
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{
    budget::Limits,
    digest::Digest,
    id::{Capability, StepId, ToolName},
    plan::Step,
    time,
    tool::{Effect, ToolDescriptor},
};

/// What an approval covers. Its digest is what a person approves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Envelope {
    /// The plan's digest.
    pub plan: Digest,
    /// The values that the plan refers to: the same plan with another version is another deploy.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// Every tool that the plan or a rule can use.
    pub tools: BTreeMap<ToolName, SealedTool>,
    /// The specialists that carry out its agent steps, by step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<StepId, SealedAgent>,
    /// What the run may use.
    pub limits: Limits,
}

/// An envelope that changes no more, so that its digest is found once however many runs share it.
#[derive(Clone, Debug)]
pub struct SealedEnvelope {
    envelope: Envelope,
    digest: OnceLock<Digest>,
}

impl SealedEnvelope {
    /// Returns the SHA-256 of the canonical JSON.
    #[must_use]
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| self.envelope.digest())
    }
}

impl From<Envelope> for SealedEnvelope {
    fn from(envelope: Envelope) -> Self {
        Self { envelope, digest: OnceLock::new() }
    }
}

impl Deref for SealedEnvelope {
    type Target = Envelope;

    fn deref(&self) -> &Envelope {
        &self.envelope
    }
}

impl PartialEq for SealedEnvelope {
    fn eq(&self, other: &Self) -> bool {
        self.envelope == other.envelope
    }
}

impl Serialize for SealedEnvelope {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.envelope.serialize(to)
    }
}

impl<'de> Deserialize<'de> for SealedEnvelope {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Envelope::deserialize(from).map(Self::from)
    }
}

/// A specialist as it was when the plan was approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SealedAgent {
    /// The specialist.
    pub capability: Capability,
    /// The descriptor's digest; an executor refuses any other.
    pub digest: Digest,
}

/// A tool as it was when the plan was approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SealedTool {
    /// The descriptor's digest; an executor refuses any other.
    pub digest: Digest,
    /// What a call does to the world.
    pub effect: Effect,
    /// The pools that serve it.
    pub capabilities: Vec<Capability>,
    /// Whether its output schema says anything, so that an output that fits it is verified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gated: bool,
    /// The read tool that tells whether a call happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<ToolName>,
    /// How long a call may take.
    #[serde(default, with = "time::text::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
}

impl From<&ToolDescriptor> for SealedTool {
    fn from(tool: &ToolDescriptor) -> Self {
        Self {
            digest: tool.digest,
            effect: tool.effect,
            capabilities: tool.capabilities.clone(),
            gated: !is_trivial(&tool.output),
            verify: tool.verify.clone(),
            timeout: tool.timeout,
        }
    }
}

fn is_trivial(schema: &Value) -> bool {
    schema.as_bool() == Some(true) || schema.as_object().is_some_and(serde_json::Map::is_empty)
}

impl Envelope {
    /// Returns the SHA-256 of the canonical JSON.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }

    /// Returns what a step does to the world: of an agent step, the most that one of its tools does.
    /// `None` if it calls no tool.
    #[must_use]
    pub fn effect_of(&self, step: &Step) -> Option<Effect> {
        let listed = step.agent.iter().flat_map(|agent| &agent.tools);
        step.tool.iter().chain(listed).filter_map(|tool| self.tools.get(tool)).map(|tool| tool.effect).max()
    }

    /// Returns what changes whenever a step is done in another way: the digest of its tool, or of its
    /// specialist with the tools that it lists.
    #[must_use]
    pub fn means_of(&self, step: &Step) -> Option<Digest> {
        if let Some(tool) = &step.tool {
            return self.tools.get(tool).map(|sealed| sealed.digest);
        }
        let agent = step.agent.as_ref()?;
        let tools: Vec<_> = agent.tools.iter().map(|tool| self.tools.get(tool).map(|t| t.digest)).collect();
        Some(Digest::of(&(self.agents.get(&step.id).map(|sealed| sealed.digest), tools)))
    }

    /// Returns the names of params that `now` has with another value, or no longer has.
    #[must_use]
    pub fn stale_params(&self, now: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.params.keys().chain(now.params.keys()).collect();
        names.into_iter().filter(|name| self.params.get(*name) != now.params.get(*name)).cloned().collect()
    }

    /// Returns the names of tools that `now` has with another digest, or no longer has.
    #[must_use]
    pub fn stale_tools(&self, now: &Self) -> Vec<ToolName> {
        self.tools
            .iter()
            .filter(|(name, sealed)| now.tools.get(*name).is_none_or(|t| t.digest != sealed.digest))
            .map(|(name, _)| name.clone())
            .collect()
    }
}
