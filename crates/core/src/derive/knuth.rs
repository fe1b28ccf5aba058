//! Knuth's generalization of Dijkstra's algorithm (1977): the cheapest derivation of every
//! artifact, where a tool costs its own weight and, of what it needs, the sum or the maximum.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::graph::{Graph, Weight};

/// How an artifact is derived at the least cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Best {
    pub weight: Weight,
    /// The tool that makes it; `None` if it is there already.
    pub tool: Option<usize>,
}

/// Returns for every artifact its cheapest tree of tools, where a tool that is used twice is paid
/// twice: an upper bound of the shared cost, and a first solution. `None` where there is no tree.
pub(super) fn trees(graph: &Graph<'_>) -> Vec<Option<Best>> {
    generalized(graph, |_| true, |at| graph.tools[at].weight, Weight::saturating_add)
}

/// Returns for every artifact a weight that no set of tools can stay under, where the tools that
/// are `chosen` are paid for already: that of its costliest branch.
pub(super) fn branches(graph: &Graph<'_>, usable: &[bool], chosen: &[bool]) -> Vec<Option<Best>> {
    let weight = |at: usize| if chosen[at] { 0 } else { graph.tools[at].weight };
    generalized(graph, |at| usable[at], weight, Weight::max)
}

fn generalized(
    graph: &Graph<'_>,
    usable: impl Fn(usize) -> bool,
    weight: impl Fn(usize) -> Weight,
    join: fn(Weight, Weight) -> Weight,
) -> Vec<Option<Best>> {
    let mut best: Vec<Option<Best>> = vec![None; graph.artifacts.len()];
    let mut missing: Vec<usize> = graph.tools.iter().map(|tool| tool.needs.len()).collect();
    let mut inputs: Vec<Weight> = vec![0; graph.tools.len()];
    let mut queue = BinaryHeap::new();
    // Of equal weights the artifact and then the tool that come first by name.
    let offer = |queue: &mut BinaryHeap<_>, at: usize, inputs: Weight| {
        if usable(at) {
            let total = inputs.saturating_add(weight(at));
            queue.extend(graph.tools[at].makes.iter().map(|(made, _)| Reverse((total, *made, Some(at)))));
        }
    };
    for (at, artifact) in graph.artifacts.iter().enumerate() {
        if artifact.given.is_some() {
            queue.push(Reverse((0, at, None)));
        }
    }
    for (at, _) in missing.iter().enumerate().filter(|(_, missing)| **missing == 0) {
        offer(&mut queue, at, 0);
    }
    while let Some(Reverse((weight, artifact, tool))) = queue.pop() {
        if best[artifact].is_some() {
            continue;
        }
        best[artifact] = Some(Best { weight, tool });
        for &consumer in &graph.artifacts[artifact].consumers {
            inputs[consumer] = join(inputs[consumer], weight);
            missing[consumer] -= 1;
            if missing[consumer] == 0 {
                offer(&mut queue, consumer, inputs[consumer]);
            }
        }
    }
    best
}
