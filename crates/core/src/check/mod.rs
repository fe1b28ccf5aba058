//! A plan against the inventory: everything that can be known to be wrong before anything runs.
//!
//! Planners, editors and the tracker call [`check()`]; it never stops at the first finding. What it
//! cannot decide it leaves to the run, where every value is checked again.

mod advice;
mod fits;
mod input;
mod literal;
mod rules;
mod schema;
mod steps;
mod writers;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

pub use fits::{Fits, fits};
pub use rules::rules;

use crate::{
    budget::Limits,
    envelope::{Envelope, SealedAgent, SealedTool},
    finding::Finding,
    goal::{PlannerSpec, Review, RunSpec},
    id::ToolName,
    plan::{CompiledPlan, FORMAT, Plan, Step},
    policy::Rule,
    tool::Inventory,
};

/// Items that a `for_each` may ask for: their expansion is one event, and an event has to stay
/// small enough to be sent.
pub const ITEMS_MAX: u32 = 10_000;

/// How a step is done, as a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One typed call.
    Tool,
    /// A bounded loop of a model.
    Agent,
    /// A question to a person.
    Human,
    /// A child run.
    Goal,
}

/// The kinds of steps that this build can execute.
pub const EXECUTABLE: [Kind; 4] = [Kind::Tool, Kind::Agent, Kind::Human, Kind::Goal];

/// The kinds of steps that can be executed where nobody carries out child runs.
pub const WITHOUT_GOALS: [Kind; 3] = [Kind::Tool, Kind::Agent, Kind::Human];

/// What a plan is checked against.
#[derive(Clone, Copy, Debug)]
pub struct CheckContext<'a> {
    /// The tools that there are.
    pub inventory: &'a Inventory,
    /// The run's limits.
    pub limits: &'a Limits,
    /// The run's params.
    pub params: &'a Map<String, Value>,
    /// The run's answers to known failures.
    pub rules: &'a [Rule],
    /// Who plans: goal steps are planned too.
    pub planner: &'a PlannerSpec,
    /// Who gives an opinion of plans and outputs.
    pub review: Option<&'a Review>,
    /// The kinds of steps that can be executed: [`EXECUTABLE`].
    pub executable: &'a [Kind],
}

impl<'a> CheckContext<'a> {
    /// Returns what a plan of a run is checked against.
    #[must_use]
    pub fn of(spec: &'a RunSpec, inventory: &'a Inventory) -> Self {
        Self {
            inventory,
            limits: &spec.limits,
            params: &spec.params,
            rules: &spec.replan.rules,
            planner: &spec.planner,
            review: spec.review.as_ref(),
            executable: &EXECUTABLE,
        }
    }
}

/// A plan that was checked.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The plan with its graph, if it has one; it may be adopted only if no finding is an error.
    pub compiled: Option<CompiledPlan>,
    /// Everything found: errors first, each group in the order of the steps.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// Returns whether nothing keeps the plan from being adopted.
    #[must_use]
    pub fn is_adoptable(&self) -> bool {
        self.compiled.is_some() && !self.findings.iter().any(Finding::is_error)
    }
}

/// Checks a plan.
#[must_use]
pub fn check(plan: &Arc<Plan>, context: &CheckContext<'_>) -> Checked {
    let mut findings = Vec::new();
    let compiled = match CompiledPlan::compile(Arc::clone(plan)) {
        Ok(compiled) => Some(compiled),
        Err(errors) => {
            findings.extend(errors);
            None
        }
    };
    whole(plan, context, &mut findings);
    steps::check(plan, compiled.as_ref(), context, &mut findings);
    if let Some(compiled) = &compiled {
        writers::check(compiled, context.inventory, &mut findings);
        advice::check(compiled, context.inventory, &mut findings);
    }
    findings.extend(rules(context));
    findings.sort_by_key(|finding| finding.severity);
    Checked { compiled, findings }
}

fn whole(plan: &Plan, context: &CheckContext<'_>, findings: &mut Vec<Finding>) {
    if plan.format != FORMAT {
        let message = format!(
            "this is format {}, and {FORMAT} is what this version reads; convert the plan",
            plan.format
        );
        findings.push(Finding::error("format", message).field("format"));
    }
    if plan.steps.is_empty() {
        findings.push(Finding::error("no_steps", "a plan needs at least one step").field("steps"));
    }
    let most = context.limits.steps;
    if plan.steps.len() > most as usize {
        let message = format!(
            "the plan has {} steps, and {most} are allowed; use `for_each`, or raise `limits.steps`",
            plan.steps.len()
        );
        findings.push(Finding::error("too_many_steps", message).field("steps"));
    }
}

/// Returns what an approval of this plan covers: the plan, every tool that it or a rule can use,
/// and the limits. Tools that the inventory does not have are left out; [`check()`] names them.
#[must_use]
pub fn envelope(compiled: &CompiledPlan, context: &CheckContext<'_>) -> Envelope {
    let mut tools = BTreeMap::new();
    let mut seal = |name: &str| {
        let mut next = Some(name.to_owned());
        while let Some(tool) = next.take().and_then(|name| context.inventory.get(&name)) {
            if tools.insert(tool.name.clone(), SealedTool::from(tool.as_ref())).is_none() {
                next = tool.verify.as_ref().map(ToString::to_string);
            }
        }
    };
    for step in compiled.steps() {
        tools_of(step).for_each(|tool| seal(tool.as_str()));
    }
    compiled.plan().assumptions.iter().for_each(|assumption| seal(assumption.tool.as_str()));
    rules::tools(context.rules).iter().for_each(|tool| seal(tool));
    let agents = compiled.steps().iter().filter_map(|step| {
        let agent = context.inventory.agent_for(step)?;
        let sealed = SealedAgent { capability: agent.capability.clone(), digest: agent.digest };
        Some((step.id.clone(), sealed))
    });
    Envelope {
        plan: compiled.digest(),
        params: context.params.clone(),
        tools,
        agents: agents.collect(),
        limits: context.limits.clone(),
    }
}

fn tools_of(step: &Step) -> impl Iterator<Item = &ToolName> {
    step.tool.iter().chain(step.agent.iter().flat_map(|agent| &agent.tools))
}
