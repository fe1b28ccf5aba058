//! A plan with its graph: what the state machine and the shell work on.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Plan, Step};
use crate::{
    digest::Digest,
    expr::{self, Cel},
    finding::Finding,
    id::{RESERVED_STEP_IDS, StepId},
    map::IdMap,
};

/// Findings that come with the nearest name.
const HINTS_MAX: usize = 20;

/// A plan whose steps have one kind each, whose references resolve, and which has no cycle.
#[derive(Clone, Debug)]
pub struct CompiledPlan {
    plan: Arc<Plan>,
    digest: Digest,
    nodes: Vec<Node>,
    index: IdMap<StepId, u32>,
    done_when: Option<Cel>,
}

/// A step's place in the graph. Positions are those of [`Plan::steps`].
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Steps that must be settled first, each once.
    pub deps: Vec<u32>,
    /// Steps that wait for this one, each once.
    pub dependents: Vec<u32>,
    /// Those of `deps` whose values this step uses.
    pub refs: Vec<u32>,
    /// Those of `refs` that have no default: if one is skipped, so is this step.
    pub required: Vec<u32>,
    /// The step's `when`.
    pub when: Option<Cel>,
    /// The step's `expect`.
    pub expect: Option<Cel>,
}

impl CompiledPlan {
    /// Builds the graph.
    ///
    /// # Errors
    ///
    /// Every reason why there is none: two steps with one id, a step of no or of several kinds, a
    /// reference to a step that does not exist, an expression that does not parse, a cycle.
    pub fn compile(plan: Arc<Plan>) -> Result<Self, Vec<Finding>> {
        let mut findings = Vec::new();
        let index = index_steps(&plan, &mut findings);
        let mut nodes: Vec<Node> = plan.steps.iter().map(|step| node(step, &index, &mut findings)).collect();
        for at in 0..nodes.len() {
            for dep in nodes[at].deps.clone() {
                nodes[dep as usize].dependents.push(at as u32);
            }
        }
        if let Some(cycle) = find_cycle(&nodes) {
            findings.push(cycle_finding(&plan, &cycle));
        }
        let done_when = plan.done_when.as_deref().and_then(|source| done_when(source, &index, &mut findings));
        if !findings.is_empty() {
            return Err(findings);
        }
        let digest = plan.digest();
        Ok(Self { plan, digest, nodes, index, done_when })
    }

    /// Returns the plan as it was written.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Returns the plan's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the steps.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.plan.steps
    }

    /// Returns the step at a position.
    ///
    /// # Panics
    ///
    /// If the position is not one of this plan.
    #[must_use]
    pub fn step(&self, at: u32) -> &Step {
        &self.plan.steps[at as usize]
    }

    /// Returns the place in the graph of the step at a position.
    ///
    /// # Panics
    ///
    /// If the position is not one of this plan.
    #[must_use]
    pub fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    /// Returns the position of a step.
    #[must_use]
    pub fn position(&self, id: &str) -> Option<u32> {
        self.index.get(id).copied()
    }

    /// Returns the compiled `done_when`.
    #[must_use]
    pub fn done_when(&self) -> Option<&Cel> {
        self.done_when.as_ref()
    }

    /// Returns the positions of all steps, each after its dependencies.
    #[must_use]
    pub fn topological(&self) -> Vec<u32> {
        sort(&self.nodes)
    }
}

impl PartialEq for CompiledPlan {
    fn eq(&self, other: &Self) -> bool {
        self.plan == other.plan
    }
}

impl Serialize for CompiledPlan {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.plan.serialize(to)
    }
}

impl<'de> Deserialize<'de> for CompiledPlan {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::compile(Arc::new(Plan::deserialize(from)?)).map_err(|findings| {
            let all: Vec<_> = findings.iter().map(ToString::to_string).collect();
            serde::de::Error::custom(all.join("; "))
        })
    }
}

fn index_steps(plan: &Plan, findings: &mut Vec<Finding>) -> IdMap<StepId, u32> {
    let mut index = IdMap::default();
    index.reserve(plan.steps.len());
    for (at, step) in plan.steps.iter().enumerate() {
        if step.id.as_item().is_some() {
            findings.push(
                Finding::error("step_id", "an id with `~` names an item of a for_each; drop it").at(&step.id),
            );
        }
        if RESERVED_STEP_IDS.contains(&step.id.as_str()) {
            findings.push(
                Finding::error("step_id", "this name has a meaning in expressions; take another")
                    .at(&step.id),
            );
        }
        if let Some(first) = index.insert(step.id.clone(), at as u32) {
            findings.push(
                Finding::error(
                    "duplicate_step",
                    format!("steps {} and {} have the same id; rename one", first + 1, at + 1),
                )
                .at(&step.id),
            );
        }
    }
    index
}

fn node(step: &Step, index: &IdMap<StepId, u32>, findings: &mut Vec<Finding>) -> Node {
    let mut node = Node::default();
    if step.kind().is_none() {
        findings.push(
            Finding::error("step_kind", "a step has exactly one of `tool`, `agent`, `human` and `goal`")
                .at(&step.id),
        );
    }
    for need in &step.needs {
        match index.get(need) {
            Some(&at) => node.deps.push(at),
            None => {
                let finding = unknown_step("needs", need.as_str(), index, findings.len()).at(&step.id);
                findings.push(finding);
            }
        }
    }
    match expr::analyze(step) {
        Ok(expr::Analysis { references, when, expect }) => {
            node.when = when;
            node.expect = expect;
            for reference in references {
                let Some(&at) = index.get(reference.step.as_str()) else {
                    let finding = unknown_step(&reference.field, &reference.step, index, findings.len());
                    findings.push(finding.at(&step.id));
                    continue;
                };
                node.deps.push(at);
                node.refs.push(at);
                if !reference.optional {
                    node.required.push(at);
                }
            }
        }
        Err(errors) => findings.extend(errors.into_iter().map(|f| f.at(&step.id))),
    }
    for list in [&mut node.deps, &mut node.refs, &mut node.required] {
        list.sort_unstable();
        list.dedup();
    }
    node
}

fn done_when(source: &str, index: &IdMap<StepId, u32>, findings: &mut Vec<Finding>) -> Option<Cel> {
    match expr::condition(source, "done_when", &["params"]) {
        Ok((cel, references)) => {
            for reference in references.iter().filter(|r| !index.contains_key(r.step.as_str())) {
                findings.push(unknown_step("done_when", &reference.step, index, findings.len()));
            }
            Some(cel)
        }
        Err(errors) => {
            findings.extend(errors);
            None
        }
    }
}

fn unknown_step(field: &str, name: &str, index: &IdMap<StepId, u32>, before: usize) -> Finding {
    // Beyond the first few findings nobody reads a hint, and each costs a look at every step.
    let candidates = index.keys().take(if before < HINTS_MAX { usize::MAX } else { 0 });
    let nearest = candidates
        .map(|id| (strsim::damerau_levenshtein(id.as_str(), name), id))
        .min()
        .filter(|(distance, _)| *distance <= 2 + name.len() / 4);
    let hint = nearest.map_or_else(String::new, |(_, id)| format!("; did you mean `{id}`?"));
    Finding::error("unknown_step", format!("there is no step `{name}`{hint}")).field(field)
}

/// Kahn's algorithm (1962). Steps that stand on or behind a cycle are missing from the answer.
fn sort(nodes: &[Node]) -> Vec<u32> {
    let mut missing: Vec<usize> = nodes.iter().map(|n| n.deps.len()).collect();
    let mut order: Vec<u32> =
        missing.iter().enumerate().filter(|(_, m)| **m == 0).map(|(at, _)| at as u32).collect();
    let mut next = 0;
    while let Some(&at) = order.get(next) {
        next += 1;
        for &dependent in &nodes[at as usize].dependents {
            missing[dependent as usize] -= 1;
            if missing[dependent as usize] == 0 {
                order.push(dependent);
            }
        }
    }
    order
}

fn find_cycle(nodes: &[Node]) -> Option<Vec<u32>> {
    let order = sort(nodes);
    if order.len() == nodes.len() {
        return None;
    }
    let mut sorted = vec![false; nodes.len()];
    for at in order {
        sorted[at as usize] = true;
    }
    // Every unsorted step has an unsorted dependency: following them must come round.
    let mut path: Vec<u32> = vec![sorted.iter().position(|s| !s)? as u32];
    loop {
        let last = *path.last()?;
        let dep = *nodes[last as usize].deps.iter().find(|d| !sorted[**d as usize])?;
        if let Some(start) = path.iter().position(|at| *at == dep) {
            let mut cycle = path.split_off(start);
            cycle.reverse();
            return Some(cycle);
        }
        path.push(dep);
    }
}

fn cycle_finding(plan: &Plan, cycle: &[u32]) -> Finding {
    let id = |at: &u32| plan.steps[*at as usize].id.as_str();
    let mut names: Vec<&str> = cycle.iter().map(id).collect();
    names.extend(cycle.first().map(id));
    Finding::error("cycle", format!("these steps wait for each other: {}", names.join(" → ")))
        .at(&plan.steps[cycle[0] as usize].id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(steps: serde_json::Value) -> Result<CompiledPlan, Vec<Finding>> {
        let plan = serde_json::json!({"format": 1, "steps": steps});
        CompiledPlan::compile(Arc::new(serde_json::from_value(plan).unwrap()))
    }

    fn codes(steps: serde_json::Value) -> Vec<String> {
        compile(steps).unwrap_err().into_iter().map(|f| f.to_string()).collect()
    }

    #[test]
    fn a_reference_implies_the_dependency() {
        let plan = compile(serde_json::json!([
            {"id": "b", "tool": "t", "input": {"x": {"$ref": "a.y"}, "z": {"$ref": "a.z", "default": 1}}},
            {"id": "a", "tool": "t"},
            {"id": "c", "tool": "t", "needs": ["b"], "input": {"x": {"$ref": "a", "default": null}}},
        ]))
        .unwrap();
        assert_eq!(plan.node(0).deps, [1]);
        assert_eq!(plan.node(0).required, [1]);
        assert_eq!(plan.node(2).deps, [0, 1]);
        assert_eq!(plan.node(2).required, [] as [u32; 0]);
        assert_eq!(plan.topological(), [1, 0, 2]);
    }

    #[test]
    fn a_cycle_is_named_in_order() {
        let found = codes(serde_json::json!([
            {"id": "a", "tool": "t", "needs": ["c"]},
            {"id": "b", "tool": "t", "needs": ["a"]},
            {"id": "c", "tool": "t", "needs": ["b"]},
            {"id": "d", "tool": "t", "needs": ["c"]},
        ]));
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("wait for each other"), "{found:?}");
        assert!(
            found[0].contains("a → b → c")
                || found[0].contains("b → c → a")
                || found[0].contains("c → a → b")
        );
    }

    #[test]
    fn every_reason_is_named_at_its_place() {
        let found = codes(serde_json::json!([
            {"id": "load", "tool": "t"},
            {"id": "load", "tool": "t"},
            {"id": "x", "tool": "t", "needs": ["laod"]},
            {"id": "y", "tool": "t", "human": {"question": "?"}},
            {"id": "item", "tool": "t"},
        ]));
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found.iter().any(|f| f.contains("did you mean `load`?")));
    }
}
