//! Why something wanted cannot be made: the chain from what was asked for to what is missing.

use std::{collections::BTreeSet, fmt};

use super::{DeriveRequest, graph::Graph, knuth::Best, made_by};
use crate::id::ToolName;

/// Names that are offered where one may be misspelt: more do not help.
const NEAREST_MAX: usize = 3;

/// Something wanted that the tools cannot make.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NoProducer {
    /// Everything that is missing, each with the chain that wants it; never empty.
    pub missing: Vec<Missing>,
}

/// An artifact that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The artifact.
    pub artifact: String,
    /// From what was asked for to what needs the artifact; empty if that was asked for.
    pub chain: Vec<Link>,
    /// What stands in the way.
    pub obstacle: Obstacle,
}

/// One step from something wanted to what it is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The artifact.
    pub artifact: String,
    /// The tool that could make it, if it had its inputs.
    pub tool: ToolName,
}

/// What stands in the way of making an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No tool makes it.
    Nobody {
        /// Artifacts and params with similar names.
        nearest: Vec<String>,
    },
    /// Only tools that failed make it.
    Avoided {
        /// Those tools.
        tools: Vec<ToolName>,
    },
    /// Only irreversible tools make it, and `produce` does not name it.
    Irreversible {
        /// Those tools.
        tools: Vec<ToolName>,
    },
    /// Making it needs it.
    Cycle {
        /// The artifacts on the way round, the first one again at the end.
        around: Vec<String>,
    },
}

/// Explains why not everything wanted can be made. `trees` has a gap for what cannot.
pub(super) fn explain(request: &DeriveRequest<'_>, graph: &Graph<'_>, trees: &[Option<Best>]) -> NoProducer {
    let mut search = Explanation { request, graph, trees, seen: BTreeSet::new(), missing: Vec::new() };
    for at in graph.wanted(request.produce) {
        if trees[at].is_none() {
            search.visit(at, &mut Vec::new());
        }
    }
    NoProducer { missing: search.missing }
}

struct Explanation<'g, 'r> {
    request: &'g DeriveRequest<'r>,
    graph: &'g Graph<'r>,
    trees: &'g [Option<Best>],
    seen: BTreeSet<usize>,
    missing: Vec<Missing>,
}

impl Explanation<'_, '_> {
    /// Looks behind an artifact that cannot be made. `path` holds how it came to be wanted.
    fn visit(&mut self, artifact: usize, path: &mut Vec<(usize, usize)>) {
        if let Some(start) = path.iter().position(|(earlier, _)| *earlier == artifact) {
            let round = path[start..].iter().map(|(at, _)| *at).chain([artifact]);
            let around = round.map(|at| self.graph.artifacts[at].name.clone()).collect();
            return self.report(artifact, &path[..start], Obstacle::Cycle { around });
        }
        if !self.seen.insert(artifact) {
            return;
        }
        let unmet =
            |tool: usize| self.graph.tools[tool].needs.iter().copied().filter(|at| self.trees[*at].is_none());
        let producers = self.graph.artifacts[artifact].producers.iter().copied();
        // The tool that lacks least is the one that the person most likely meant.
        let Some(tool) = producers.min_by_key(|tool| unmet(*tool).count()) else {
            let obstacle = self.obstacle(artifact);
            return self.report(artifact, path, obstacle);
        };
        let needs: Vec<usize> = unmet(tool).collect();
        path.push((artifact, tool));
        for need in needs {
            self.visit(need, path);
        }
        path.pop();
    }

    fn report(&mut self, artifact: usize, path: &[(usize, usize)], obstacle: Obstacle) {
        let chain = path.iter().map(|(at, tool)| Link {
            artifact: self.graph.artifacts[*at].name.clone(),
            tool: self.graph.tools[*tool].descriptor.name.clone(),
        });
        let artifact = self.graph.artifacts[artifact].name.clone();
        self.missing.push(Missing { artifact, chain: chain.collect(), obstacle });
    }

    fn obstacle(&self, artifact: usize) -> Obstacle {
        let name = &self.graph.artifacts[artifact].name;
        let makers =
            self.request.inventory.tools().filter(|t| made_by(t).iter().any(|m| m.artifact == *name));
        let (avoided, irreversible): (Vec<ToolName>, Vec<ToolName>) =
            makers.map(|tool| tool.name.clone()).partition(|tool| self.request.avoid.contains(tool));
        if !irreversible.is_empty() {
            return Obstacle::Irreversible { tools: irreversible };
        }
        if !avoided.is_empty() {
            return Obstacle::Avoided { tools: avoided };
        }
        Obstacle::Nobody { nearest: self.nearest(name) }
    }

    fn nearest(&self, name: &str) -> Vec<String> {
        let made = self.graph.artifacts.iter().filter(|a| !a.producers.is_empty()).map(|a| a.name.as_str());
        let known: BTreeSet<&str> = made.chain(self.request.params.keys().map(String::as_str)).collect();
        let mut near: Vec<(usize, &str)> = known
            .into_iter()
            .map(|other| (strsim::damerau_levenshtein(other, name), other))
            .filter(|(distance, _)| *distance <= 2 + name.len() / 4)
            .collect();
        near.sort_unstable();
        near.into_iter().take(NEAREST_MAX).map(|(_, other)| other.to_owned()).collect()
    }
}

impl fmt::Display for NoProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, missing) in self.missing.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            missing.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let artifact = &self.artifact;
        if self.chain.is_empty() {
            write!(f, "`{artifact}` is wanted")?;
        }
        for (at, link) in self.chain.iter().enumerate() {
            let next = self.chain.get(at + 1).map_or(artifact, |next| &next.artifact);
            let subject = if at == 0 { format!("`{}`", link.artifact) } else { ", which".to_owned() };
            write!(f, "{subject} needs `{next}` (by `{}`)", link.tool)?;
        }
        match &self.obstacle {
            Obstacle::Nobody { nearest } if nearest.is_empty() => {
                write!(f, ", which no tool makes; add a tool that does, or a param `{artifact}`")
            }
            Obstacle::Nobody { nearest } => {
                write!(f, ", which no tool makes; nearest names: {}", quoted(nearest))
            }
            Obstacle::Avoided { tools } => {
                write!(f, ", which only {} could make, and that failed", quoted(tools))
            }
            Obstacle::Irreversible { tools } => write!(
                f,
                ", which only {} could make; irreversible tools are used only for what `produce` names, so \
                 name `{artifact}` there if it is meant",
                quoted(tools)
            ),
            Obstacle::Cycle { around } => write!(
                f,
                ", which cannot be made without itself ({}); add a tool that makes one of them from something \
                 else, or a param",
                around.join(" ← ")
            ),
        }
    }
}

fn quoted<T: fmt::Display>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
