//! The AND/OR graph: artifacts, the tools that make them, and what those need.

use std::collections::BTreeSet;

use super::{DeriveRequest, can_be_named, made_by, needed_by};
use crate::tool::{Effect, ToolDescriptor};

/// What a tool adds to a plan: its cost, then whether it is irreversible, then one step, in digits
/// of one number. Never zero, so that a chain of free tools still costs more than its parts.
pub(super) type Weight = u128;

const STEP: Weight = 1;
const IRREVERSIBLE: Weight = 1 << 24;
const COST: Weight = 1 << 48;

/// Everything that can be made, and how. Positions are in the order of names.
pub(super) struct Graph<'a> {
    pub artifacts: Vec<Artifact>,
    pub tools: Vec<Tool<'a>>,
}

/// Something that tools make and need.
pub(super) struct Artifact {
    pub name: String,
    /// The reference to it, if it is there already.
    pub given: Option<String>,
    pub producers: Vec<usize>,
    pub consumers: Vec<usize>,
}

/// A tool that may be used.
pub(super) struct Tool<'a> {
    pub descriptor: &'a ToolDescriptor,
    pub weight: Weight,
    pub needs: Vec<usize>,
    /// What it makes, with the field that holds it.
    pub makes: Vec<(usize, String)>,
}

impl<'a> Graph<'a> {
    pub(super) fn build(request: &DeriveRequest<'a>) -> Self {
        let usable: Vec<_> = request
            .inventory
            .tools()
            .filter(|tool| !request.avoid.contains(&tool.name))
            .map(|tool| (tool.as_ref(), makes(request, tool), needed_by(tool)))
            .collect();
        let mut names: BTreeSet<&str> = request.produce.iter().map(String::as_str).collect();
        for (_, makes, needs) in &usable {
            names.extend(makes.iter().map(|(artifact, _)| artifact.as_str()));
            names.extend(needs.iter().map(String::as_str));
        }
        let mut graph = Self {
            artifacts: names.into_iter().map(|name| artifact(request, name)).collect(),
            tools: Vec::with_capacity(usable.len()),
        };
        for (descriptor, makes, needs) in usable {
            graph.add(descriptor, &makes, &needs);
        }
        graph
    }

    fn add(&mut self, descriptor: &'a ToolDescriptor, makes: &[(String, String)], needs: &[String]) {
        let at = self.tools.len();
        let needs: Vec<usize> = needs.iter().filter_map(|name| self.position(name)).collect();
        let makes: Vec<(usize, String)> =
            makes.iter().filter_map(|(name, field)| Some((self.position(name)?, field.clone()))).collect();
        for &artifact in &needs {
            self.artifacts[artifact].consumers.push(at);
        }
        for (artifact, _) in &makes {
            self.artifacts[*artifact].producers.push(at);
        }
        self.tools.push(Tool { descriptor, weight: weight(descriptor), needs, makes });
    }

    /// Returns the position of an artifact.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.artifacts.binary_search_by(|artifact| artifact.name.as_str().cmp(name)).ok()
    }

    /// Returns the positions of the artifacts wanted, each once.
    pub(super) fn wanted(&self, produce: &[String]) -> BTreeSet<usize> {
        produce.iter().filter_map(|name| self.position(name)).collect()
    }

    /// Returns the cost of a weight.
    pub(super) fn cost(weight: Weight) -> u64 {
        u64::try_from(weight / COST).unwrap_or(u64::MAX)
    }
}

fn artifact(request: &DeriveRequest<'_>, name: &str) -> Artifact {
    let param = (request.params.contains_key(name) && can_be_named(name)).then(|| format!("params.{name}"));
    let given = param.or_else(|| request.have.artifacts.get(name).map(ToString::to_string));
    Artifact { name: name.to_owned(), given, producers: Vec::new(), consumers: Vec::new() }
}

/// Returns what a tool may be used for, each artifact once.
fn makes(request: &DeriveRequest<'_>, tool: &ToolDescriptor) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    made_by(tool)
        .into_iter()
        .filter(|made| tool.effect != Effect::Irreversible || request.produce.contains(&made.artifact))
        .filter(|made| seen.insert(made.artifact.clone()))
        .map(|made| (made.artifact, made.field))
        .collect()
}

fn weight(tool: &ToolDescriptor) -> Weight {
    let irreversible = if tool.effect == Effect::Irreversible { IRREVERSIBLE } else { 0 };
    Weight::from(tool.cost) * COST + irreversible + STEP
}
