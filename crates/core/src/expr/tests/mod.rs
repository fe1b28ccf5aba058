mod binding;
mod evaluation;
mod naming;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Scope, StepValue};
use crate::payload::PayloadRef;

#[derive(Default)]
struct World {
    steps: BTreeMap<&'static str, Known>,
    params: Map<String, Value>,
    item: Option<(Value, u32)>,
}

enum Known {
    Value(Value),
    Payload(PayloadRef),
    Skipped,
}

impl World {
    fn new() -> Self {
        let params = Map::from_iter([("version".to_owned(), json!("1.4.2")), ("top".to_owned(), json!(3))]);
        Self { params, ..Self::default() }
    }

    fn with(mut self, step: &'static str, value: Value) -> Self {
        self.steps.insert(step, Known::Value(value));
        self
    }

    fn skipped(mut self, step: &'static str) -> Self {
        self.steps.insert(step, Known::Skipped);
        self
    }

    fn stored(mut self, step: &'static str, payload: PayloadRef) -> Self {
        self.steps.insert(step, Known::Payload(payload));
        self
    }
}

impl Scope for World {
    fn step(&self, id: &str) -> StepValue<'_> {
        match self.steps.get(id) {
            Some(Known::Value(value)) => StepValue::Value(value),
            Some(Known::Payload(payload)) => StepValue::Payload(*payload),
            Some(Known::Skipped) => StepValue::Skipped,
            None => StepValue::Absent,
        }
    }

    fn params(&self) -> &Map<String, Value> {
        &self.params
    }

    fn item(&self) -> Option<(&Value, u32)> {
        self.item.as_ref().map(|(value, index)| (value, *index))
    }
}
