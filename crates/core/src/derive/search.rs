//! Branch and bound over the shared cost: a tool that is used twice is paid once.

use std::collections::BTreeSet;

use super::{
    graph::{Graph, Weight},
    knuth::{self, Best},
};

/// The set of tools that was found, and which makes what.
pub(super) struct Found {
    /// The tool that makes each artifact that is used and not there already.
    pub producers: Vec<Option<usize>>,
    pub cost: u64,
    pub optimal: bool,
    pub nodes_expanded: u32,
}

/// Finds the cheapest set of tools, beginning with the cheapest trees. Everything wanted has one.
pub(super) fn search(
    graph: &Graph<'_>,
    wanted: &BTreeSet<usize>,
    trees: &[Option<Best>],
    nodes_max: u32,
) -> Found {
    let usable: Vec<bool> =
        graph.tools.iter().map(|tool| tool.needs.iter().all(|need| trees[*need].is_some())).collect();
    let (producers, weight) = first_solution(graph, wanted, trees);
    let mut search = Search {
        graph,
        usable,
        chosen: vec![false; graph.tools.len()],
        producers: vec![None; graph.artifacts.len()],
        best: (weight, producers),
        nodes_left: nodes_max,
        exhausted: false,
    };
    let open = wanted.iter().copied().filter(|at| graph.artifacts[*at].given.is_none()).collect();
    search.expand(&open, 0);
    Found {
        cost: Graph::cost(search.best.0),
        producers: search.best.1,
        optimal: !search.exhausted,
        nodes_expanded: nodes_max - search.nodes_left,
    }
}

fn first_solution(
    graph: &Graph<'_>,
    wanted: &BTreeSet<usize>,
    trees: &[Option<Best>],
) -> (Vec<Option<usize>>, Weight) {
    let mut producers = vec![None; graph.artifacts.len()];
    let mut chosen = BTreeSet::new();
    let mut open: Vec<usize> = wanted.iter().copied().collect();
    while let Some(artifact) = open.pop() {
        let Some(tool) = trees[artifact].and_then(|best| best.tool) else { continue };
        if producers[artifact].replace(tool).is_none() && chosen.insert(tool) {
            open.extend(&graph.tools[tool].needs);
        }
    }
    let weight = chosen.iter().map(|at| graph.tools[*at].weight).sum();
    (producers, weight)
}

struct Search<'g> {
    graph: &'g Graph<'g>,
    /// Tools whose inputs can be made at all.
    usable: Vec<bool>,
    /// Tools that the node at hand uses.
    chosen: Vec<bool>,
    /// Invariant: following the needs of these tools never comes round.
    producers: Vec<Option<usize>>,
    best: (Weight, Vec<Option<usize>>),
    nodes_left: u32,
    exhausted: bool,
}

impl Search<'_> {
    /// Tries every way to make what is `open`, given tools that weigh `spent` already.
    fn expand(&mut self, open: &BTreeSet<usize>, spent: Weight) {
        if self.nodes_left == 0 {
            self.exhausted = true;
            return;
        }
        self.nodes_left -= 1;
        let Some(artifact) = self.narrowest(open) else {
            if spent < self.best.0 {
                self.best = (spent, self.producers.clone());
            }
            return;
        };
        let branches = knuth::branches(self.graph, &self.usable, &self.chosen);
        if spent + self.lower_bound(open, &branches) >= self.best.0 {
            return;
        }
        for tool in self.candidates(artifact, &branches) {
            let mut rest = open.clone();
            rest.remove(&artifact);
            let new = !std::mem::replace(&mut self.chosen[tool], true);
            if new {
                let unmade =
                    |at: &usize| self.graph.artifacts[*at].given.is_none() && self.producers[*at].is_none();
                rest.extend(self.graph.tools[tool].needs.iter().copied().filter(unmade));
            }
            self.producers[artifact] = Some(tool);
            let weight = if new { self.graph.tools[tool].weight } else { 0 };
            self.expand(&rest, spent + weight);
            self.producers[artifact] = None;
            self.chosen[tool] = !new;
            if self.exhausted {
                return;
            }
        }
    }

    /// Returns the open artifact with the fewest producers: one is no choice at all.
    fn narrowest(&self, open: &BTreeSet<usize>) -> Option<usize> {
        let choices = |at: &usize| {
            self.graph.artifacts[*at].producers.iter().filter(|tool| self.usable[**tool]).count()
        };
        open.iter().copied().min_by_key(choices)
    }

    /// Returns the tools that can make the artifact without needing it, those that are paid for
    /// first, then the cheapest, then by name.
    fn candidates(&self, artifact: usize, branches: &[Option<Best>]) -> Vec<usize> {
        let estimate = |tool: usize| {
            let inputs = self.graph.tools[tool].needs.iter();
            let inputs: Weight = inputs.filter_map(|at| branches[*at]).map(|best| best.weight).sum();
            inputs + if self.chosen[tool] { 0 } else { self.graph.tools[tool].weight }
        };
        let mut tools: Vec<(Weight, usize)> = self.graph.artifacts[artifact]
            .producers
            .iter()
            .filter(|tool| self.usable[**tool] && !self.rests_on(**tool, artifact))
            .map(|tool| (estimate(*tool), *tool))
            .collect();
        tools.sort_unstable();
        tools.into_iter().map(|(_, tool)| tool).collect()
    }

    /// Returns whether the tool, with the producers chosen so far, needs the artifact in the end.
    fn rests_on(&self, tool: usize, artifact: usize) -> bool {
        let mut seen = BTreeSet::from([tool]);
        let mut left = vec![tool];
        while let Some(tool) = left.pop() {
            for &need in &self.graph.tools[tool].needs {
                if need == artifact {
                    return true;
                }
                left.extend(self.producers[need].filter(|producer| seen.insert(*producer)));
            }
        }
        false
    }

    /// Returns what making everything open must add: its costliest branch, or the cheapest
    /// producers of artifacts that share none.
    fn lower_bound(&self, open: &BTreeSet<usize>, branches: &[Option<Best>]) -> Weight {
        let costliest = open.iter().filter_map(|at| branches[*at]).map(|best| best.weight).max();
        let mut claimed = BTreeSet::new();
        let mut apart: Weight = 0;
        for &artifact in open {
            let producers: Vec<usize> = self.graph.artifacts[artifact]
                .producers
                .iter()
                .copied()
                .filter(|t| self.usable[*t])
                .collect();
            if producers.iter().any(|tool| self.chosen[*tool] || claimed.contains(tool)) {
                continue;
            }
            apart += producers.iter().map(|tool| self.graph.tools[*tool].weight).min().unwrap_or(0);
            claimed.extend(producers);
        }
        costliest.unwrap_or(0).max(apart)
    }
}
