//! The model replanner: asked when no rule and no derivation has an answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use foreplan_core::{
    action::Trigger,
    call::Purpose,
    check::{self, CheckContext},
    failure::Failure,
    finding::Finding,
    goal::{PlannerSpec, RunSpec},
    id::StepId,
    plan::{CompiledPlan, Plan},
    policy::{Patch, ReplanDecision},
    tool::Inventory,
};
use foreplan_model::{
    Clock, Conversed, Message, Models, Request, Unanswered, converse,
    prompt::{Prompt, PromptError},
    wire::{
        Menu,
        answer::{DecisionForm, StepForm},
        form, irrevocable, progress, translate,
    },
};
use foreplan_protocol::{ReplanContext, ReplanRequest};
use futures::future::{BoxFuture, FutureExt as _};
use serde::Serialize;
use serde_json::Value;

use crate::{Replanned, Replanner};

/// How often findings go back to the model: the run can ask again, within its limit of replans.
const REPAIRS_MAX: u32 = 1;

/// What replanning models are told.
pub(crate) const PROMPT: Prompt = Prompt {
    system: include_str!("../prompts/replan.system.txt"),
    user: include_str!("../prompts/replan.user.txt"),
};

/// Asks a model for decisions: the one that the run's policy names, or the one that planned.
#[derive(Clone)]
pub struct ModelReplanner {
    models: Arc<dyn Models>,
    clock: Clock,
}

impl ModelReplanner {
    /// Makes a replanner that finds its models in `models` and dates their calls by `clock`.
    #[must_use]
    pub fn new(models: Arc<dyn Models>, clock: Clock) -> Self {
        Self { models, clock }
    }
}

impl Replanner for ModelReplanner {
    fn name(&self) -> &str {
        "model"
    }

    fn replan(&self, request: Arc<ReplanRequest>, inventory: Arc<Inventory>) -> BoxFuture<'_, Replanned> {
        async move {
            let Some(name) = model_of(&request.spec) else {
                return Replanned::pass("no model replans in this run");
            };
            let Some(replanning) = Replanning::new(&request, &inventory) else {
                return Replanned::pass("it answers failed steps of a plan only");
            };
            let model = match self.models.model(name) {
                Ok(model) => model,
                Err(error) => return Replanned::pass(error.to_string()),
            };
            let question = match replanning.question() {
                Ok(question) => question,
                Err(error) => return Replanned::pass(error.to_string()),
            };
            let judge = |value| replanning.judge(value);
            let conversed = converse(model.as_ref(), question, &self.clock, REPAIRS_MAX, judge).await;
            replanned(conversed)
        }
        .boxed()
    }
}

fn model_of(spec: &RunSpec) -> Option<&str> {
    let planner = match &spec.planner {
        PlannerSpec::Model { model } => Some(model.as_str()),
        PlannerSpec::Derive { .. } | PlannerSpec::Runbook { .. } | PlannerSpec::Custom { .. } => None,
    };
    spec.replan.model.as_deref().or(planner)
}

fn replanned(conversed: Conversed<(ReplanDecision, String)>) -> Replanned {
    let Conversed { outcome, usage, calls } = conversed;
    let replanned = match outcome {
        Ok((decision, reason)) => Replanned::new(decision, reason),
        Err(Unanswered::Model(error)) => Replanned::pass(error.to_string()),
        Err(Unanswered::Invalid(findings)) => {
            let all: Vec<String> =
                findings.iter().filter(|f| f.is_error()).map(ToString::to_string).collect();
            Replanned::pass(format!("what the model decided cannot be carried out: {}", all.join("; ")))
        }
    };
    Replanned { usage, calls, ..replanned }
}

/// A request about a failed step.
struct Replanning<'a> {
    spec: &'a RunSpec,
    context: &'a ReplanContext,
    plan: &'a CompiledPlan,
    /// The step of the plan that failed, or whose item did.
    step: &'a str,
    failure: &'a Failure,
    inventory: &'a Inventory,
    menu: Menu,
}

/// What the prompt says of a request.
#[derive(Serialize)]
struct Values<'a> {
    lines: Vec<String>,
    hidden: usize,
    goal: &'a str,
    params: Option<String>,
    guidance: Option<&'a str>,
    step: &'a str,
    attempts: u32,
    kind: &'a str,
    code: &'a str,
    message: &'a str,
    earlier: u32,
    progress: Vec<String>,
    result: Option<String>,
    irrevocable: Vec<StepId>,
    failed_tools: Vec<&'a str>,
}

impl<'a> Replanning<'a> {
    fn new(request: &'a ReplanRequest, inventory: &'a Inventory) -> Option<Self> {
        let (spec, context) = (request.spec.as_ref(), &request.context);
        let Trigger::StepFailed { step, failure } = context.trigger.as_ref() else { return None };
        let plan = context.plan.as_deref()?;
        let step = step.as_item().map_or(step.as_str(), |(each, _)| each);
        plan.position(step)?;
        let used: BTreeSet<&str> =
            plan.steps().iter().filter_map(|step| Some(step.tool.as_ref()?.as_str())).collect();
        let about = format!("{} {step} {failure}", spec.goal);
        let menu = Menu::choose(inventory, &about, &used);
        Some(Self { spec, context, plan, step, failure, inventory, menu })
    }

    fn question(&self) -> Result<Request, PromptError> {
        let (system, user) = PROMPT.render(&self.values())?;
        Ok(Request {
            purpose: Purpose::Replan,
            prompt: PROMPT.digest(),
            system,
            messages: vec![Message::User { text: user }],
            tools: Vec::new(),
            output: Some(form::replan_form(&self.menu)),
            max_output_tokens: None,
        })
    }

    fn values(&self) -> Values<'a> {
        let (spec, context) = (self.spec, self.context);
        Values {
            lines: self.menu.lines(),
            hidden: self.menu.hidden(),
            goal: &spec.goal,
            params: (!spec.params.is_empty()).then(|| Value::Object(spec.params.clone()).to_string()),
            guidance: spec.guidance.as_deref(),
            step: self.step,
            attempts: context.attempts,
            kind: self.failure.kind.as_str(),
            code: &self.failure.code,
            message: &self.failure.message,
            earlier: context.earlier_replans,
            progress: progress(self.plan, &context.statuses, &context.outputs),
            result: self.plan.plan().result.as_ref().map(ToString::to_string),
            irrevocable: self.irrevocable(),
            failed_tools: context.failed_tools.iter().map(|tool| tool.as_str()).collect(),
        }
    }

    fn irrevocable(&self) -> Vec<StepId> {
        irrevocable(self.plan, &self.context.statuses, self.inventory)
    }

    fn judge(&self, value: Value) -> Result<(ReplanDecision, String), Vec<Finding>> {
        let form = DecisionForm::read(value).map_err(|why| vec![Finding::error("decision", why)])?;
        match form {
            DecisionForm::Retry { reason, step: None } => Ok((ReplanDecision::Retry, reason)),
            DecisionForm::Retry { reason, step: Some(step) } => Ok((self.retry_as(*step)?, reason)),
            DecisionForm::Skip { reason } => Ok((ReplanDecision::Skip, reason)),
            DecisionForm::Patch { reason, insert, replace, drop } => {
                let patch = translate::patch(insert, replace, &drop, self.inventory)?;
                self.check_patch(&patch)?;
                Ok((ReplanDecision::Patch(patch), reason))
            }
            DecisionForm::NewPlan { reason, plan } => {
                let current = Some(self.plan.plan().as_ref());
                let plan = Arc::new(translate::plan(plan, &self.spec.goal, current, self.inventory)?);
                self.check(&plan)?;
                Ok((ReplanDecision::NewPlan { plan }, reason))
            }
            DecisionForm::Fail { reason } => Ok((ReplanDecision::Fail { reason: reason.clone() }, reason)),
            DecisionForm::Ask { reason, question } => Ok((ReplanDecision::Ask { question }, reason)),
        }
    }

    /// Returns the patch that tries the failed step again in another form.
    fn retry_as(&self, form: StepForm) -> Result<ReplanDecision, Vec<Finding>> {
        let step = translate::step(form, self.inventory).map_err(|found| vec![found])?;
        if step.id.as_str() != self.step {
            let message =
                format!("a retry is about `{}` and keeps its id; use `patch` for other steps", self.step);
            return Err(vec![Finding::error("decision", message)]);
        }
        let patch = Patch { replace: BTreeMap::from([(step.id.clone(), step)]), ..Patch::default() };
        self.check_patch(&patch)?;
        Ok(ReplanDecision::Patch(patch))
    }

    fn check_patch(&self, patch: &Patch) -> Result<(), Vec<Finding>> {
        if *patch == Patch::default() {
            return Err(vec![Finding::error("decision", "the patch changes nothing")]);
        }
        match patch.apply(self.plan.plan()) {
            Ok(plan) => self.check(&Arc::new(plan)),
            Err(error) => Err(vec![Finding::error("patch", error.to_string())]),
        }
    }

    /// Checks a plan as the tracker will, and that it leaves alone what cannot be undone.
    fn check(&self, plan: &Arc<Plan>) -> Result<(), Vec<Finding>> {
        let context = CheckContext::of(self.spec, self.inventory);
        let checked = check::check(plan, &context);
        let mut findings = checked.findings;
        for id in self.irrevocable() {
            let before = self.plan.position(id.as_str()).map(|at| self.plan.step(at).definition_digest());
            let after = plan
                .steps
                .iter()
                .find(|step| step.id == id)
                .map(foreplan_core::plan::Step::definition_digest);
            if before != after {
                let message = "what it did cannot be undone: keep it as it is";
                findings.push(Finding::error("effects_done", message).at(&id));
            }
        }
        if findings.iter().any(Finding::is_error) { Err(findings) } else { Ok(()) }
    }
}
