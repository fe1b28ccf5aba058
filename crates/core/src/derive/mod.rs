//! Typed planning: from the artifacts wanted, backwards over the tools' typed outputs, to a plan.
//!
//! Owns the search for the cheapest set of tools and the plan that comes of it. The planner and the
//! `derive` replanner call [`derive()`]. It asks no model and no person, reads no clock, and gives
//! the same plan for the same request.
//!
//! An output field of a tool makes the artifact of that name, or of the name that the tool's
//! `artifacts` give it; a required input field needs the artifact of its name. Which tools to use
//! is an AND/OR problem: an artifact needs one of its producers, a tool all of its inputs.
//!
//! ```text
//!  inventory ─▶ graph ─▶ knuth (bound, first solution) ─▶ search (shared cost) ─▶ plan
//!                 └────▶ explain, where something wanted cannot be made
//! ```

mod again;
mod explain;
mod graph;
mod knuth;
mod plan;
mod search;
mod types;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::{
    expr::Path,
    id::ToolName,
    plan::{Plan, Step},
    tool::{Inventory, ToolDescriptor},
};

pub use again::{Progress, derive_again};
pub use explain::{Link, Missing, NoProducer, Obstacle};

/// Nodes that the search may expand. Optimal plans over shared cost are NP-hard to find; this many
/// take well under a second, and what was found by then is a plan all the same.
pub const NODES_MAX: u32 = 10_000;

/// What is wanted, and what there is to make it from.
#[derive(Clone, Debug)]
pub struct DeriveRequest<'a> {
    /// The goal in words, for the plan.
    pub goal: &'a str,
    /// The tools.
    pub inventory: &'a Inventory,
    /// The artifacts wanted.
    pub produce: &'a [String],
    /// The run's params: an artifact with the name of a param is there already.
    pub params: &'a Map<String, Value>,
    /// What earlier steps have made.
    pub have: Have,
    /// Tools that must not be used.
    pub avoid: BTreeSet<ToolName>,
    /// Nodes that the search may expand: [`NODES_MAX`].
    pub nodes_max: u32,
}

impl<'a> DeriveRequest<'a> {
    /// Makes a request for a first plan.
    #[must_use]
    pub fn new(inventory: &'a Inventory, produce: &'a [String], params: &'a Map<String, Value>) -> Self {
        Self {
            goal: "",
            inventory,
            produce,
            params,
            have: Have::default(),
            avoid: BTreeSet::new(),
            nodes_max: NODES_MAX,
        }
    }
}

/// What earlier steps have made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Have {
    /// Where each artifact stands: a field of one of `steps`.
    pub artifacts: BTreeMap<String, Path>,
    /// Steps that are done, as they are defined. The plan keeps them all, unchanged and first.
    pub steps: Vec<Step>,
}

/// A plan, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Derived {
    /// The plan.
    pub plan: Plan,
    /// Whether no cheaper set of tools makes what is wanted.
    pub optimal: bool,
    /// The costs of the tools that the plan adds.
    pub cost: u64,
    /// Nodes that the search expanded.
    pub nodes_expanded: u32,
}

/// Why nothing was derived.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing is wanted.
    #[error("`produce` names no artifact; name at least one that a tool makes")]
    NothingWanted,
    /// Something that is wanted cannot be made.
    #[error(transparent)]
    NoProducer(NoProducer),
    /// Two tools mean different things by one artifact.
    #[error(
        "`{artifact}` is {first_type} for `{first}` and {second_type} for `{second}`; rename one with \
         `as`, or give both tools the same type"
    )]
    Conflict {
        /// The artifact.
        artifact: String,
        /// A tool.
        first: ToolName,
        /// Its type of the artifact.
        first_type: String,
        /// Another tool.
        second: ToolName,
        /// Its type of the artifact.
        second_type: String,
    },
}

impl Error {
    /// Returns the stable word for the record.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NothingWanted => "nothing_wanted",
            Self::NoProducer(_) => "no_producer",
            Self::Conflict { .. } => "artifact_conflict",
        }
    }
}

/// Derives the cheapest plan that makes what is wanted.
///
/// Irreversible tools are used only for what `produce` names; optional inputs are not sought. Of
/// plans with equal cost the one with fewer irreversible steps is taken, then the one with fewer
/// steps, then the first by the names of its tools.
///
/// # Errors
///
/// See [`Error`].
pub fn derive(request: &DeriveRequest<'_>) -> Result<Derived, Error> {
    if request.produce.is_empty() {
        return Err(Error::NothingWanted);
    }
    let graph = graph::Graph::build(request);
    let wanted = graph.wanted(request.produce);
    let tree = knuth::trees(&graph);
    let unmet = |artifact: &usize| tree[*artifact].is_none();
    if wanted.len() < request.produce.len() || wanted.iter().any(unmet) {
        return Err(Error::NoProducer(explain::explain(request, &graph, &tree)));
    }
    types::check(&graph, &wanted, &tree)?;
    let found = search::search(&graph, &wanted, &tree, request.nodes_max);
    Ok(Derived {
        plan: plan::build(request, &graph, &wanted, &found),
        optimal: found.optimal,
        cost: found.cost,
        nodes_expanded: found.nodes_expanded,
    })
}

/// An artifact that a tool makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The field of the tool's output.
    pub field: String,
    /// The artifact's name.
    pub artifact: String,
}

/// Returns the artifacts that a tool makes, in the order of its output schema. A field `text` that
/// nobody renamed is none: every tool that prints has one. Nor is a field that no reference can
/// name.
#[must_use]
pub fn made_by(tool: &ToolDescriptor) -> Vec<Made> {
    let Some(fields) =
        types::resolve(&tool.output, &tool.output).get("properties").and_then(Value::as_object)
    else {
        return Vec::new();
    };
    fields
        .keys()
        .filter(|field| can_be_named(field))
        .filter_map(|field| {
            let artifact = match tool.artifacts.get(field) {
                Some(renamed) => renamed,
                None if field == "text" => return None,
                None => field,
            };
            Some(Made { field: field.clone(), artifact: artifact.clone() })
        })
        .collect()
}

/// Returns the artifacts that a tool cannot do without: its required inputs.
#[must_use]
pub fn needed_by(tool: &ToolDescriptor) -> Vec<String> {
    let required = types::resolve(&tool.input, &tool.input).get("required").and_then(Value::as_array);
    let mut needs: Vec<String> =
        required.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    needs.sort_unstable();
    needs.dedup();
    needs
}

fn can_be_named(field: &str) -> bool {
    !field.is_empty() && !field.contains(['.', '['])
}
