//! What the core must not do: bind inputs, evaluate conditions, check outputs against their gates.
//!
//! A [`Job`] is a snapshot that can be judged anywhere. Light jobs (references only) are judged on
//! the actor; whatever holds CEL, or needs a payload, is judged on a blocking thread under a time
//! limit, since CEL has no fuel.

use std::{sync::Arc, time::Duration};

use foreplan_core::{
    expr::{self, BindError},
    failure::{Failure, FailureKind},
    id::{RunId, StepId},
    input::{Readiness, Verdicts},
    map::IdMap,
    payload::{Output, PayloadRef},
    plan::{CompiledPlan, StepKind},
};
use foreplan_journal::Payloads;
use serde_json::Value;

use crate::values::Values;

/// How long the expressions of one result may take: they are conditions, not programs.
const EXPRESSIONS_TIME_MAX: Duration = Duration::from_secs(2);

/// What is to be judged.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) plan: Arc<CompiledPlan>,
    pub(crate) values: Values,
    pub(crate) gate: Option<Gate>,
    /// Steps that can start, or will be able to when the gate is passed.
    pub(crate) unlocked: Vec<StepId>,
    /// Whether `done_when` is asked.
    pub(crate) done_when: bool,
}

/// An output, and what it must pass.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) output: Output,
    pub(crate) input: Arc<Value>,
    pub(crate) expect: Option<expr::Cel>,
    pub(crate) schema: Option<Arc<jsonschema::Validator>>,
}

/// The verdicts, and the inputs that were bound on the way.
#[derive(Default)]
pub(crate) struct Judged {
    pub(crate) verdicts: Verdicts,
    pub(crate) inputs: IdMap<StepId, Arc<Value>>,
}

impl Job {
    /// Returns whether judging takes no longer than a message.
    pub(crate) fn is_light(&self) -> bool {
        let gate = self.gate.as_ref();
        gate.is_none_or(|g| g.expect.is_none() && g.schema.is_none())
            && !(self.done_when && self.plan.done_when().is_some())
            && self
                .unlocked
                .iter()
                .all(|id| self.plan.position(id.as_str()).is_none_or(|at| self.plan.node(at).when.is_none()))
    }

    /// Judges. Loads nothing.
    ///
    /// # Errors
    ///
    /// The payload that must be loaded first.
    pub(crate) fn judge(&self) -> Result<Judged, PayloadRef> {
        let mut judged = Judged::default();
        if let Some(gate) = &self.gate {
            judged.verdicts.gate = self.pass(gate)?;
        }
        if judged.verdicts.gate.is_some() {
            return Ok(judged);
        }
        for id in &self.unlocked {
            let Some(at) = self.plan.position(id.as_str()) else { continue };
            let (readiness, input) = self.prepare(at)?;
            if let Some(input) = input {
                judged.inputs.insert(id.clone(), Arc::new(input));
            }
            judged.verdicts.ready.push((id.clone(), readiness));
        }
        if self.done_when {
            judged.verdicts.done = self.is_done()?;
        }
        Ok(judged)
    }

    /// Judges off the actor, loading what is needed.
    pub(crate) async fn judge_later(mut self, run: RunId, payloads: Arc<dyn Payloads>) -> Judged {
        loop {
            let job = self.clone();
            let work = tokio::task::spawn_blocking(move || job.judge());
            let needed = match tokio::time::timeout(EXPRESSIONS_TIME_MAX, work).await {
                Ok(Ok(Ok(judged))) => return judged,
                Ok(Ok(Err(needed))) => needed,
                Ok(Err(_)) => return self.gave_up("an expression could not be evaluated"),
                Err(_) => return self.gave_up("an expression took longer than two seconds"),
            };
            match payloads.get(run, needed).await {
                Ok(value) => self.values.set_loaded(needed, value),
                Err(error) => return self.gave_up(&error.to_string()),
            }
        }
    }

    /// Returns verdicts that fail whatever was asked, for `why`.
    fn gave_up(&self, why: &str) -> Judged {
        let failed = || Failure::new(FailureKind::Plan, "expression", why);
        let mut judged = Judged::default();
        if self.gate.is_some() {
            judged.verdicts.gate = Some(Failure { kind: FailureKind::ExpectFailed, ..failed() });
        } else {
            judged.verdicts.ready =
                self.unlocked.iter().map(|id| (id.clone(), Readiness::Fail(failed()))).collect();
        }
        judged
    }

    fn pass(&self, gate: &Gate) -> Result<Option<Failure>, PayloadRef> {
        let output = match &gate.output {
            Output::Inline(value) => Arc::clone(value),
            Output::Payload(_) if gate.expect.is_none() && gate.schema.is_none() => return Ok(None),
            Output::Payload(payload) => self.values.loaded(*payload).ok_or(*payload)?,
        };
        if let Some(error) = gate.schema.as_ref().and_then(|s| s.iter_errors(&output).next()) {
            let message = format!("at `{}`: {error}", error.instance_path());
            return Ok(Some(Failure::new(FailureKind::OutputSchema, "output_schema", message)));
        }
        let Some(expect) = &gate.expect else { return Ok(None) };
        let extra: [(&str, &Value); 2] = [("output", &output), ("input", &gate.input)];
        let failed = |message: String| Failure::new(FailureKind::ExpectFailed, "expect_failed", message);
        match expr::holds(expect, &self.values, &extra) {
            Ok(true) => Ok(None),
            Ok(false) => Ok(Some(failed(format!("`{}` does not hold", expect.source())))),
            Err(BindError::NeedsPayload(payload)) => Err(payload),
            Err(error) => Ok(Some(failed(error.to_string()))),
        }
    }

    /// Returns whether a step can start, and the input with which it does.
    fn prepare(&self, at: u32) -> Result<(Readiness, Option<Value>), PayloadRef> {
        let step = self.plan.step(at);
        if let Some(when) = &self.plan.node(at).when {
            match expr::holds(when, &self.values, &[]) {
                Ok(true) => {}
                Ok(false) => {
                    let reason = format!("`{}` does not hold", when.source());
                    return Ok((Readiness::Skip { reason }, None));
                }
                Err(error) => return unbound(error, FailureKind::Plan).map(|readiness| (readiness, None)),
            }
        }
        if let Some(for_each) = &step.for_each {
            return match expr::bind(&for_each.list, &self.values) {
                Ok(Value::Array(items)) => {
                    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
                    Ok((Readiness::Items(count), Some(Value::Array(items))))
                }
                Ok(_) => {
                    let failure =
                        Failure::new(FailureKind::Plan, "not_a_list", "`for_each.in` is not a list");
                    Ok((Readiness::Fail(failure), None))
                }
                Err(error) => unbound(error, FailureKind::Plan).map(|readiness| (readiness, None)),
            };
        }
        if let Some(StepKind::Human(_)) = step.kind() {
            return Ok((Readiness::Go, None));
        }
        match expr::bind(&step.input, &self.values) {
            Ok(input) => Ok((Readiness::Go, Some(input))),
            Err(error) => unbound(error, FailureKind::InputSchema).map(|readiness| (readiness, None)),
        }
    }

    fn is_done(&self) -> Result<bool, PayloadRef> {
        let Some(done_when) = self.plan.done_when() else { return Ok(false) };
        match expr::holds(done_when, &self.values, &[]) {
            Ok(done) => Ok(done),
            Err(BindError::NeedsPayload(payload)) => Err(payload),
            // What it looks at is not there yet.
            Err(_) => Ok(false),
        }
    }
}

fn unbound(error: BindError, kind: FailureKind) -> Result<Readiness, PayloadRef> {
    match error {
        BindError::NeedsPayload(payload) => Err(payload),
        BindError::Skipped(_) => Ok(Readiness::Skip { reason: error.to_string() }),
        error => Ok(Readiness::Fail(Failure::new(kind, "unbound", error.to_string()))),
    }
}

/// Binds a value, loading what is needed.
///
/// # Errors
///
/// Why it cannot be bound.
pub(crate) async fn bind_later(
    template: &Value,
    mut values: Values,
    run: RunId,
    payloads: &dyn Payloads,
) -> Result<Value, String> {
    loop {
        match expr::bind(template, &values) {
            Ok(value) => return Ok(value),
            Err(BindError::NeedsPayload(payload)) => {
                let value = payloads.get(run, payload).await.map_err(|e| e.to_string())?;
                values.set_loaded(payload, value);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
