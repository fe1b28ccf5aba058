//! What a planner is, and which ones there are.

use std::{collections::BTreeMap, sync::Arc};

use foreplan_core::{
    budget::Usage, call::Call, finding::Finding, goal::PlannerSpec, plan::Plan, tool::Inventory,
};
use foreplan_protocol::{PlanOutcome, PlanRequest};
use futures::future::BoxFuture;

use crate::{Derive, Runbook};

/// Makes plans. The tracker checks what it answers; a planner that panics has no plan.
pub trait Planner: Send + Sync + 'static {
    /// Returns the name under which a run asks for it, and which the record shows.
    fn name(&self) -> &str;

    /// Makes a plan, or says why there is none.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the process stops; the request is then made again.
    fn plan(&self, request: Arc<PlanRequest>, inventory: Arc<Inventory>) -> BoxFuture<'_, Planned>;
}

/// What a planner answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The plan, or why there is none.
    pub outcome: PlanOutcome,
    /// What planning used.
    pub usage: Usage,
    /// The calls that were made for it.
    pub calls: Vec<Call>,
}

impl Planned {
    /// Answers with a plan that used no model.
    #[must_use]
    pub fn plan(plan: Arc<Plan>) -> Self {
        Self { outcome: PlanOutcome::Plan(plan), usage: Usage::default(), calls: Vec::new() }
    }

    /// Answers that there is no plan: a stable word, and why with what to do.
    pub fn none(code: &str, message: impl Into<String>) -> Self {
        let outcome =
            PlanOutcome::None { code: code.to_owned(), message: message.into(), findings: Vec::new() };
        Self { outcome, usage: Usage::default(), calls: Vec::new() }
    }

    /// Adds details to an answer that there is no plan.
    #[must_use]
    pub fn findings(mut self, details: Vec<Finding>) -> Self {
        if let PlanOutcome::None { findings, .. } = &mut self.outcome {
            *findings = details;
        }
        self
    }
}

/// The planners that there are, by name.
#[derive(Clone)]
pub struct Planners {
    by_name: BTreeMap<String, Arc<dyn Planner>>,
}

impl Default for Planners {
    /// Returns those that need no model: [`Derive`] and [`Runbook`].
    fn default() -> Self {
        Self { by_name: BTreeMap::new() }.with(Derive).with(Runbook)
    }
}

impl Planners {
    /// Adds a planner, in the place of one with the same name.
    #[must_use]
    pub fn with(mut self, planner: impl Planner) -> Self {
        self.by_name.insert(planner.name().to_owned(), Arc::new(planner));
        self
    }

    /// Returns the planner that a run asks for.
    ///
    /// # Errors
    ///
    /// The answer that there is none of this name.
    pub(crate) fn get(&self, spec: &PlannerSpec) -> Result<Arc<dyn Planner>, Box<Planned>> {
        self.by_name.get(spec.name()).cloned().ok_or_else(|| {
            let known: Vec<String> = self.by_name.keys().map(|name| format!("`{name}`")).collect();
            let known = known.join(", ");
            let message = match spec {
                PlannerSpec::Custom { name } => {
                    format!("no planner is registered as `{name}`; there are {known}")
                }
                PlannerSpec::Model { model } => {
                    format!("`{model}` cannot be asked: this process has no models; plan with one of {known}")
                }
                PlannerSpec::Derive { .. } | PlannerSpec::Runbook { .. } => {
                    format!(
                        "planner kind `{}` is not available in this build; take one of {known}",
                        spec.name()
                    )
                }
            };
            Box::new(Planned::none("planner_unavailable", message))
        })
    }
}
