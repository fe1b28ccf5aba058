//! What a step's expressions can see: outputs of other steps, params, and the item of a `for_each`.

use std::sync::Arc;

use foreplan_core::{
    digest::Digest,
    expr::{Scope, StepValue},
    goal::RunSpec,
    id::StepId,
    map::IdMap,
    payload::{Output, PayloadRef},
    run::{Found, Run},
};
use serde_json::{Map, Value};

/// A snapshot of values, so that evaluation can leave the actor.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    spec: Arc<RunSpec>,
    steps: IdMap<StepId, Known>,
    loaded: IdMap<Digest, Arc<Value>>,
    item: Option<(Value, u32)>,
}

#[derive(Clone, Debug)]
enum Known {
    Output(Output),
    Skipped,
}

impl Values {
    pub(crate) fn new(run: &Run) -> Self {
        Self { spec: Arc::clone(run.spec()), steps: IdMap::default(), loaded: IdMap::default(), item: None }
    }

    /// Adds what a reference to the step finds.
    pub(crate) fn see(&mut self, run: &Run, id: &StepId) {
        let known = match run.output(id.as_str()) {
            Found::Output(output) => Known::Output(output.clone()),
            Found::Skipped => Known::Skipped,
            Found::Absent => return,
        };
        self.steps.entry(id.clone()).or_insert(known);
    }

    /// Adds what a step of the plan in force refers to.
    pub(crate) fn see_references(&mut self, run: &Run, at: u32) {
        let Some(version) = run.current() else { return };
        for dep in &version.plan.node(at).refs {
            self.see(run, &version.plan.step(*dep).id);
        }
    }

    /// Adds every step that is settled.
    pub(crate) fn see_all(&mut self, run: &Run) {
        for step in run.steps() {
            self.see(run, &step.id);
        }
    }

    /// Adds an output that the run does not have yet.
    pub(crate) fn set(&mut self, id: StepId, output: Output) {
        self.steps.insert(id, Known::Output(output));
    }

    pub(crate) fn set_item(&mut self, item: Value, index: u32) {
        self.item = Some((item, index));
    }

    pub(crate) fn loaded(&self, payload: PayloadRef) -> Option<Arc<Value>> {
        self.loaded.get(&payload.sha256).cloned()
    }

    pub(crate) fn set_loaded(&mut self, payload: PayloadRef, value: Arc<Value>) {
        self.loaded.insert(payload.sha256, value);
    }
}

impl Scope for Values {
    fn step(&self, id: &str) -> StepValue<'_> {
        match self.steps.get(id) {
            Some(Known::Output(Output::Inline(value))) => StepValue::Value(value),
            Some(Known::Output(Output::Payload(payload))) => match self.loaded.get(&payload.sha256) {
                Some(value) => StepValue::Value(value),
                None => StepValue::Payload(*payload),
            },
            Some(Known::Skipped) => StepValue::Skipped,
            None => StepValue::Absent,
        }
    }

    fn params(&self) -> &Map<String, Value> {
        &self.spec.params
    }

    fn item(&self) -> Option<(&Value, u32)> {
        self.item.as_ref().map(|(item, index)| (item, *index))
    }
}
