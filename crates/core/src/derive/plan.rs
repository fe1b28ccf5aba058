//! The plan that a set of tools makes: one step for each, in an order that works.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{DeriveRequest, graph::Graph, search::Found};
use crate::{
    id::{RESERVED_STEP_IDS, STEP_ID_BYTES_MAX, StepId},
    plan::{FORMAT, OnFailure, Plan, Step},
    tool::ToolDescriptor,
};

/// Builds the plan.
pub(super) fn build(
    request: &DeriveRequest<'_>,
    graph: &Graph<'_>,
    wanted: &BTreeSet<usize>,
    found: &Found,
) -> Plan {
    let used = used_artifacts(graph, wanted, found);
    let order = order(graph, &used, found);
    let mut taken: BTreeSet<StepId> = request.have.steps.iter().map(|step| step.id.clone()).collect();
    let mut ids: BTreeMap<usize, StepId> = BTreeMap::new();
    for &tool in &order {
        ids.insert(tool, step_id(graph.tools[tool].descriptor.name.as_str(), &mut taken));
    }
    let reference = |artifact: usize| reference(graph, found, &ids, artifact);
    let mut steps = request.have.steps.clone();
    for tool in order {
        let used = used.iter().filter(|at| found.producers[**at] == Some(tool));
        let made: Vec<String> = used.map(|at| format!("`{}`", graph.artifacts[*at].name)).collect();
        let needs = graph.tools[tool].needs.iter();
        let input = needs.map(|at| (graph.artifacts[*at].name.clone(), reference(*at))).collect();
        steps.push(step(graph.tools[tool].descriptor, ids[&tool].clone(), &made, input));
    }
    let result = match request.produce {
        [one] => graph.position(one).map(reference),
        several => Some(Value::Object(
            several.iter().filter_map(|n| Some((n.clone(), reference(graph.position(n)?)))).collect(),
        )),
    };
    Plan {
        format: FORMAT,
        schema: None,
        goal: request.goal.to_owned(),
        rationale: Some(rationale(request, found)),
        assumptions: Vec::new(),
        steps,
        done_when: None,
        result,
    }
}

/// Returns the artifacts that the result or a step of the plan takes from another step.
fn used_artifacts(graph: &Graph<'_>, wanted: &BTreeSet<usize>, found: &Found) -> BTreeSet<usize> {
    let mut used = BTreeSet::new();
    let mut open: Vec<usize> = wanted.iter().copied().collect();
    while let Some(artifact) = open.pop() {
        if graph.artifacts[artifact].given.is_some() {
            continue;
        }
        if let Some(tool) = found.producers[artifact].filter(|_| used.insert(artifact)) {
            open.extend(&graph.tools[tool].needs);
        }
    }
    used
}

/// Returns the tools, each after those whose artifacts it needs, and else by name.
fn order(graph: &Graph<'_>, used: &BTreeSet<usize>, found: &Found) -> Vec<usize> {
    let mut left: BTreeSet<usize> = used.iter().filter_map(|at| found.producers[*at]).collect();
    let mut order = Vec::with_capacity(left.len());
    let waits = |tool: usize, left: &BTreeSet<usize>| {
        let producers = graph.tools[tool].needs.iter().filter(|at| used.contains(at));
        producers.filter_map(|at| found.producers[*at]).any(|producer| left.contains(&producer))
    };
    while let Some(next) = left.iter().copied().find(|tool| !waits(*tool, &left)) {
        left.remove(&next);
        order.push(next);
    }
    order
}

fn reference(graph: &Graph<'_>, found: &Found, ids: &BTreeMap<usize, StepId>, artifact: usize) -> Value {
    if let Some(given) = &graph.artifacts[artifact].given {
        return json!({ "$ref": given });
    }
    let made = found.producers[artifact].and_then(|tool| {
        let (_, field) = graph.tools[tool].makes.iter().find(|(made, _)| *made == artifact)?;
        Some(json!({ "$ref": format!("{}.{field}", ids.get(&tool)?) }))
    });
    made.unwrap_or(Value::Null)
}

fn step(tool: &ToolDescriptor, id: StepId, made: &[String], input: Map<String, Value>) -> Step {
    Step {
        id,
        title: title(tool),
        outcome: Some(format!("produces {}", list(made))),
        needs: Vec::new(),
        when: None,
        for_each: None,
        capability: None,
        tool: Some(tool.name.clone()),
        agent: None,
        human: None,
        goal: None,
        input: Value::Object(input),
        output: None,
        expect: None,
        on_failure: OnFailure::default(),
        timeout: None,
        approval: false,
        review: false,
        budget: None,
    }
}

/// Returns the first sentence of the tool's description, or its name.
fn title(tool: &ToolDescriptor) -> String {
    let text = tool.description.trim();
    let end = [". ", "\n"].iter().filter_map(|stop| text.find(stop)).min().unwrap_or(text.len());
    let sentence = text[..end].trim_end().trim_end_matches('.');
    if sentence.is_empty() { tool.name.as_str().to_owned() } else { sentence.to_owned() }
}

fn rationale(request: &DeriveRequest<'_>, found: &Found) -> String {
    let wanted: Vec<String> = request.produce.iter().map(|name| format!("`{name}`")).collect();
    let proof = if found.optimal {
        "no cheaper set of tools does".to_owned()
    } else {
        format!("a cheaper set of tools may exist: the search ended after {} nodes", found.nodes_expanded)
    };
    format!("derived from the types of the tools: makes {} at cost {}; {proof}", list(&wanted), found.cost)
}

fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Returns a free step id that resembles the tool's name, and takes it.
fn step_id(tool: &str, taken: &mut BTreeSet<StepId>) -> StepId {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let mut name: String =
        tool.chars().map(|c| c.to_ascii_lowercase()).map(|c| if fits(c) { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, "step_");
    }
    if RESERVED_STEP_IDS.contains(&name.as_str()) {
        name.push_str("_step");
    }
    for count in 1_u32.. {
        let suffix = if count == 1 { String::new() } else { format!("_{count}") };
        let kept = name.len().min(STEP_ID_BYTES_MAX - suffix.len());
        if let Ok(id) = format!("{}{suffix}", &name[..kept]).parse::<StepId>()
            && taken.insert(id.clone())
        {
            return id;
        }
    }
    unreachable!("there are more suffixes than tools")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_name_becomes_a_step_id_of_its_own() {
        let mut taken = BTreeSet::new();
        let mut id = |name: &str| step_id(name, &mut taken).to_string();
        assert_eq!(id("count_intents"), "count_intents");
        assert_eq!(id("Count.Intents"), "count_intents_2");
        assert_eq!(id("9lives"), "step_9lives");
        assert_eq!(id("input"), "input_step");
        assert_eq!(id("ä"), "step__");
        assert_eq!(id(&"x".repeat(80)), "x".repeat(63));
        assert_eq!(id(&"x".repeat(80)), format!("{}_2", "x".repeat(61)));
    }
}
