//! Branch and bound over the shared cost: a tool that is used twice is paid once.

use std::{cmp::Reverse, collections::BTreeSet};

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

/// Nodes times tools that the search may look at, so that a huge inventory takes no longer than a
/// large one: with 10,000 nodes, an inventory of 400 tools.
const WORK_MAX: usize = 4_000_000;

/// Open choices on one path: each is a frame of the stack.
const DEPTH_MAX: u32 = 512;

/// Finds the cheapest set of tools, beginning with the cheapest trees. Everything wanted has one.
pub(super) fn search(
    graph: &Graph<'_>,
    wanted: &BTreeSet<usize>,
    trees: &[Option<Best>],
    nodes_max: u32,
) -> Found {
    let makers = Makers::new(graph, wanted, trees);
    let nodes_max = nodes_max.min(u32::try_from(WORK_MAX / makers.count.max(1)).unwrap_or(u32::MAX)).max(1);
    let (producers, weight) = first_solution(graph, wanted, trees);
    let mut search = Search {
        graph,
        makers,
        chosen: vec![false; graph.tools.len()],
        producers: vec![None; graph.artifacts.len()],
        best: (weight, producers),
        nodes_left: nodes_max,
        depth: 0,
        exhausted: false,
    };
    let open = wanted.iter().copied().filter(|at| graph.artifacts[*at].given.is_none()).collect();
    search.expand(open, 0);
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
    makers: Makers,
    /// Tools that the node at hand uses.
    chosen: Vec<bool>,
    /// Invariant: following the needs of these tools never comes round.
    producers: Vec<Option<usize>>,
    best: (Weight, Vec<Option<usize>>),
    nodes_left: u32,
    depth: u32,
    exhausted: bool,
}

/// A decision on the way to a node, to be taken back.
struct Taken {
    artifact: usize,
    tool: usize,
    is_new: bool,
}

impl Search<'_> {
    /// Tries every way to make what is `open`, given tools that weigh `spent` already.
    fn expand(&mut self, mut open: BTreeSet<usize>, mut spent: Weight) {
        if self.nodes_left == 0 || self.depth == DEPTH_MAX {
            self.exhausted = true;
            return;
        }
        self.nodes_left -= 1;
        self.depth += 1;
        let mut forced = Vec::new();
        if let Some(choice) = self.force(&mut open, &mut spent, &mut forced) {
            self.branch(choice, &open, spent);
        }
        while let Some(taken) = forced.pop() {
            self.take_back(&taken);
        }
        self.depth -= 1;
    }

    /// Follows what can be made in one way only. Returns the artifact to choose a producer for;
    /// `None` if this is a solution, or none comes of it.
    fn force(
        &mut self,
        open: &mut BTreeSet<usize>,
        spent: &mut Weight,
        forced: &mut Vec<Taken>,
    ) -> Option<usize> {
        loop {
            let Some(artifact) = self.narrowest(open) else {
                if *spent < self.best.0 {
                    self.best = (*spent, self.producers.clone());
                }
                return None;
            };
            let Some(tool) = self.makers.only(self.graph, artifact) else { return Some(artifact) };
            if *spent >= self.best.0 || self.rests_on(tool, artifact) {
                return None;
            }
            forced.push(self.take(artifact, tool, open, spent));
        }
    }

    fn branch(&mut self, artifact: usize, open: &BTreeSet<usize>, spent: Weight) {
        let branches = knuth::branches(self.graph, &self.makers.usable, &self.chosen);
        if spent + self.lower_bound(open, &branches) >= self.best.0 {
            return;
        }
        for tool in self.candidates(artifact, &branches) {
            let (mut open, mut spent) = (open.clone(), spent);
            let taken = self.take(artifact, tool, &mut open, &mut spent);
            self.expand(open, spent);
            self.take_back(&taken);
            if self.exhausted {
                return;
            }
        }
    }

    /// Lets the tool make the artifact, and opens what it needs.
    fn take(
        &mut self,
        artifact: usize,
        tool: usize,
        open: &mut BTreeSet<usize>,
        spent: &mut Weight,
    ) -> Taken {
        open.remove(&artifact);
        self.producers[artifact] = Some(tool);
        let is_new = !std::mem::replace(&mut self.chosen[tool], true);
        if is_new {
            *spent += self.graph.tools[tool].weight;
            let unmade =
                |at: &usize| self.graph.artifacts[*at].given.is_none() && self.producers[*at].is_none();
            open.extend(self.graph.tools[tool].needs.iter().copied().filter(unmade));
        }
        Taken { artifact, tool, is_new }
    }

    fn take_back(&mut self, taken: &Taken) {
        self.producers[taken.artifact] = None;
        self.chosen[taken.tool] = !taken.is_new;
    }

    /// Returns the open artifact with the fewest producers: one is no choice at all.
    fn narrowest(&self, open: &BTreeSet<usize>) -> Option<usize> {
        open.iter().copied().min_by_key(|at| self.makers.of(self.graph, *at).count())
    }

    /// Returns the tools that can make the artifact without needing it, those that are paid for
    /// first, then the cheapest, then by name.
    fn candidates(&self, artifact: usize, branches: &[Option<Best>]) -> Vec<usize> {
        let estimate = |tool: usize| {
            let inputs = self.graph.tools[tool].needs.iter();
            let inputs: Weight = inputs.filter_map(|at| branches[*at]).map(|best| best.weight).sum();
            inputs + if self.chosen[tool] { 0 } else { self.graph.tools[tool].weight }
        };
        let ways = self.makers.of(self.graph, artifact).filter(|tool| !self.rests_on(*tool, artifact));
        let mut tools: Vec<(Weight, usize)> = ways.map(|tool| (estimate(tool), tool)).collect();
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

    /// Returns what making everything open must add at least: the sum over artifacts that have no
    /// tool in common, each with its costliest branch, or with its cheapest producer.
    fn lower_bound(&self, open: &BTreeSet<usize>, branches: &[Option<Best>]) -> Weight {
        let mut by_branch: Vec<(Weight, usize)> =
            open.iter().filter_map(|at| Some((branches[*at]?.weight, *at))).collect();
        by_branch.sort_unstable_by_key(|(weight, at)| (Reverse(*weight), *at));
        let mut claimed = vec![false; self.chosen.len()];
        let mut deep: Weight = 0;
        for (weight, artifact) in by_branch {
            let behind = || self.makers.behind[artifact].iter().filter(|tool| !self.chosen[**tool]);
            if behind().all(|tool| !claimed[*tool]) {
                behind().for_each(|tool| claimed[*tool] = true);
                deep += weight;
            }
        }
        claimed.fill(false);
        let mut near: Weight = 0;
        for &artifact in open {
            let producers = || self.makers.of(self.graph, artifact);
            if producers().all(|tool| !claimed[tool] && !self.chosen[tool]) {
                producers().for_each(|tool| claimed[tool] = true);
                near += producers().map(|tool| self.graph.tools[tool].weight).min().unwrap_or(0);
            }
        }
        deep.max(near)
    }
}

/// The tools that may take part: their inputs can be made, and they lead to what is wanted.
struct Makers {
    usable: Vec<bool>,
    count: usize,
    /// For every artifact that may be needed, the tools that may take part in making it.
    behind: Vec<Vec<usize>>,
}

impl Makers {
    fn new(graph: &Graph<'_>, wanted: &BTreeSet<usize>, trees: &[Option<Best>]) -> Self {
        let grounded: Vec<bool> =
            graph.tools.iter().map(|tool| tool.needs.iter().all(|need| trees[*need].is_some())).collect();
        let mut usable = vec![false; graph.tools.len()];
        let relevant = tools_behind(graph, wanted.iter().copied().collect(), &grounded);
        relevant.iter().for_each(|tool| usable[*tool] = true);
        let mut behind = vec![Vec::new(); graph.artifacts.len()];
        let needed = relevant.iter().flat_map(|tool| &graph.tools[*tool].needs).chain(wanted);
        for artifact in needed.copied().collect::<BTreeSet<usize>>() {
            behind[artifact] = tools_behind(graph, vec![artifact], &usable);
        }
        Self { usable, count: relevant.len(), behind }
    }

    /// Returns the tools that can make the artifact.
    fn of<'a>(&'a self, graph: &'a Graph<'_>, artifact: usize) -> impl Iterator<Item = usize> + 'a {
        graph.artifacts[artifact].producers.iter().copied().filter(|tool| self.usable[*tool])
    }

    /// Returns the tool that makes the artifact, if it is the only one that can.
    fn only(&self, graph: &Graph<'_>, artifact: usize) -> Option<usize> {
        let mut ways = self.of(graph, artifact);
        ways.next().filter(|_| ways.next().is_none())
    }
}

fn tools_behind(graph: &Graph<'_>, mut open: Vec<usize>, usable: &[bool]) -> Vec<usize> {
    let mut seen = vec![false; graph.artifacts.len()];
    let mut tools = BTreeSet::new();
    while let Some(artifact) = open.pop() {
        if graph.artifacts[artifact].given.is_some() || std::mem::replace(&mut seen[artifact], true) {
            continue;
        }
        for &tool in graph.artifacts[artifact].producers.iter().filter(|tool| usable[**tool]) {
            if tools.insert(tool) {
                open.extend(&graph.tools[tool].needs);
            }
        }
    }
    tools.into_iter().collect()
}
