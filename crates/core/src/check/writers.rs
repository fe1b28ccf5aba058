//! Steps that may write the same thing at the same time.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    expr::{Marker, marker},
    finding::Finding,
    plan::{CompiledPlan, Step},
    tool::Inventory,
};

/// Steps that are looked at to find orders between writers: enough for every plan within the default
/// limits, and a bound on larger ones.
const VISITS_MAX: usize = 5_000_000;

/// Reports each pair of steps without an order between them whose tools declare the same write.
pub(super) fn check(compiled: &CompiledPlan, inventory: &Inventory, findings: &mut Vec<Finding>) {
    let mut groups: BTreeMap<(String, bool), Vec<u32>> = BTreeMap::new();
    for (at, step) in compiled.steps().iter().enumerate() {
        let Some(tool) = step.tool.as_ref().and_then(|t| inventory.get(t.as_str())) else { continue };
        for template in &tool.writes {
            let write = render(template, &step.input);
            alone(step, &write, findings);
            let members = groups.entry(write).or_default();
            if members.last() != Some(&(at as u32)) {
                members.push(at as u32);
            }
        }
    }
    groups.retain(|_, members| members.len() > 1);
    if groups.is_empty() {
        return;
    }
    let mut orders = Orders::new(compiled);
    for ((write, certain), mut members) in groups {
        members.sort_unstable_by_key(|at| orders.rank[*at as usize]);
        // If each comes before the next, all are in order.
        for pair in members.windows(2) {
            match orders.before(pair[0], pair[1]) {
                Some(true) => {}
                Some(false) => findings.push(unordered(compiled, &write, certain, pair)),
                None => {
                    let message =
                        "the plan has too many steps that write to compare them all; order them by hand";
                    return findings.push(Finding::advice("unordered_writes", message));
                }
            }
        }
    }
}

fn unordered(compiled: &CompiledPlan, write: &str, certain: bool, pair: &[u32]) -> Finding {
    let (first, second) = (&compiled.step(pair[0]).id, &compiled.step(pair[1]).id);
    let finding = if certain {
        let message =
            format!("`{first}` and `{second}` both write `{write}` in no order; let one need the other");
        Finding::error("unordered_writes", message)
    } else {
        let message = format!(
            "`{first}` and `{second}` run in no order and may both write the same `{write}`; if so, let one need \
             the other"
        );
        Finding::advice("unordered_writes", message)
    };
    finding.at(second)
}

/// Items of one step are unordered among themselves.
fn alone(step: &Step, (write, certain): &(String, bool), findings: &mut Vec<Finding>) {
    let Some(for_each) = &step.for_each else { return };
    if *certain && for_each.max > 1 && for_each.max_parallel != Some(1) {
        let message = format!("all items write `{write}` at once; set `max_parallel` to 1");
        findings
            .push(Finding::error("unordered_writes", message).at(&step.id).field("for_each.max_parallel"));
    }
}

/// Returns what a call writes, and whether the input says it all.
fn render(template: &str, input: &Value) -> (String, bool) {
    let mut text = String::new();
    let mut certain = true;
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else { break };
        text.push_str(before);
        match literal(input, name) {
            Some(value) => text.push_str(&value),
            None => {
                certain = false;
                text.extend(["{", name, "}"]);
            }
        }
        rest = tail;
    }
    text.push_str(rest);
    (text, certain)
}

fn literal(input: &Value, name: &str) -> Option<String> {
    let mut value = input;
    for field in name.trim().split('.') {
        let fields = value.as_object()?;
        value = match marker(fields).ok()? {
            Marker::None => fields.get(field)?,
            Marker::Literal(literal) => literal.get(field)?,
            Marker::Ref { .. } | Marker::Template(_) => return None,
        };
    }
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Object(fields) => match marker(fields).ok()? {
            Marker::Literal(Value::String(text)) => Some(text.clone()),
            _ => None,
        },
        Value::Null | Value::Array(_) => None,
    }
}

/// Answers whether one step always comes before another.
struct Orders<'a> {
    compiled: &'a CompiledPlan,
    rank: Vec<u32>,
    seen: Vec<u32>,
    round: u32,
    visits: usize,
}

impl<'a> Orders<'a> {
    fn new(compiled: &'a CompiledPlan) -> Self {
        let mut rank = vec![0; compiled.steps().len()];
        for (place, at) in compiled.topological().into_iter().enumerate() {
            rank[at as usize] = place as u32;
        }
        Self { compiled, seen: vec![0; rank.len()], rank, round: 0, visits: 0 }
    }

    fn before(&mut self, first: u32, second: u32) -> Option<bool> {
        self.round += 1;
        let mut open = vec![second];
        while let Some(at) = open.pop() {
            for &dep in &self.compiled.node(at).deps {
                if dep == first {
                    return Some(true);
                }
                let after_first = self.rank[dep as usize] > self.rank[first as usize];
                if after_first && self.seen[dep as usize] != self.round {
                    self.seen[dep as usize] = self.round;
                    open.push(dep);
                }
                self.visits += 1;
            }
            if self.visits > VISITS_MAX {
                return None;
            }
        }
        Some(false)
    }
}
