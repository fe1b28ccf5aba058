//! The model planner: one question to a strong model, whose answer is checked before anybody sees
//! it.

mod gaps;

use std::{collections::BTreeSet, sync::Arc};

use foreplan_core::{
    action::Trigger,
    call::Purpose,
    check::{self, CheckContext, Kind},
    finding::Finding,
    goal::PlannerSpec,
    id::StepId,
    plan::{CompiledPlan, Plan},
    tool::Inventory,
};
use foreplan_model::{
    Clock, Conversed, Message, Models, Request, Unanswered, converse,
    prompt::Prompt,
    wire::{
        Menu,
        answer::{PlanAnswer, PlanForm},
        form, irrevocable, progress, translate,
    },
};
use foreplan_protocol::{PlanOutcome, PlanRequest, ReplanContext};
use futures::future::{BoxFuture, FutureExt as _};
use serde::Serialize;

use crate::{Planned, Planner};

/// How often findings go back to the model: who has not mended a plan after two tries makes
/// another one worse.
pub const REPAIRS_MAX: u32 = 2;

/// What planning models are told.
pub(crate) const PROMPT: Prompt = Prompt {
    system: include_str!("../../prompts/plan.system.txt"),
    user: include_str!("../../prompts/plan.user.txt"),
};

/// Asks a model for plans.
#[derive(Clone)]
pub struct ModelPlanner {
    models: Arc<dyn Models>,
    clock: Clock,
}

impl ModelPlanner {
    /// Makes a planner that finds its models in `models` and dates their calls by `clock`.
    #[must_use]
    pub fn new(models: Arc<dyn Models>, clock: Clock) -> Self {
        Self { models, clock }
    }
}

impl Planner for ModelPlanner {
    fn name(&self) -> &str {
        "model"
    }

    fn plan(&self, request: Arc<PlanRequest>, inventory: Arc<Inventory>) -> BoxFuture<'_, Planned> {
        async move {
            let PlannerSpec::Model { model } = &request.spec.planner else {
                return Planned::none("wrong_planner", "the run names no model; give it one");
            };
            let model = match self.models.model(model) {
                Ok(model) => model,
                Err(error) => return Planned::none(error.kind.code(), error.to_string()),
            };
            let planning = Planning::new(&request, &inventory);
            let question = match planning.question() {
                Ok(question) => question,
                Err(error) => return Planned::none("prompt", error.to_string()),
            };
            let mut refused = None;
            let judge = |value| planning.judge(value, &mut refused);
            let conversed = converse(model.as_ref(), question, &self.clock, REPAIRS_MAX, judge).await;
            planned(conversed, refused)
        }
        .boxed()
    }
}

/// What a model answered, judged.
enum Accepted {
    Plan(Arc<Plan>),
    Impossible(String),
    Question(String),
}

fn planned(conversed: Conversed<Accepted>, refused: Option<Arc<Plan>>) -> Planned {
    let Conversed { outcome, usage, calls } = conversed;
    let planned = match outcome {
        Ok(Accepted::Plan(plan)) => Planned::plan(plan),
        Ok(Accepted::Impossible(reason)) => {
            Planned::none("impossible", format!("no tool can do what the goal asks: {reason}"))
        }
        Ok(Accepted::Question(question)) => {
            Planned { outcome: PlanOutcome::Question { question }, ..Planned::none("", "") }
        }
        Err(Unanswered::Model(error)) => Planned::none(error.kind.code(), error.to_string()),
        // The tracker finds the same again, and records the plan with what is wrong with it.
        Err(Unanswered::Invalid(findings)) => match refused {
            Some(plan) => Planned::plan(plan),
            None => {
                let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
                let message = format!("the model wrote no plan: {}", all.join("; "));
                Planned::none("invalid_plan", message).findings(findings)
            }
        },
    };
    Planned { usage, calls, ..planned }
}

/// One request, with what is shown of its inventory.
struct Planning<'a> {
    request: &'a PlanRequest,
    inventory: &'a Inventory,
    menu: Menu,
}

/// What the prompt says of a request.
#[derive(Serialize)]
struct Values<'a> {
    agents: bool,
    lines: Vec<String>,
    hidden: usize,
    goal: &'a str,
    params: Option<String>,
    steps_max: u32,
    guidance: Option<&'a str>,
    answers: Vec<serde_json::Value>,
    trigger: Option<String>,
    progress: Vec<String>,
    irrevocable: Vec<StepId>,
    failed_tools: Vec<&'a str>,
}

impl<'a> Planning<'a> {
    fn new(request: &'a PlanRequest, inventory: &'a Inventory) -> Self {
        let spec = &request.spec;
        let about = format!("{} {}", spec.goal, spec.guidance.as_deref().unwrap_or_default());
        let current = request.context.as_ref().and_then(|context| context.plan.as_ref());
        let used: BTreeSet<&str> = current
            .iter()
            .flat_map(|plan| plan.steps())
            .filter_map(|step| Some(step.tool.as_ref()?.as_str()))
            .collect();
        Self { request, inventory, menu: Menu::choose(inventory, &about, &used) }
    }

    /// Returns what is there already, if the plan is made again.
    fn again(&self) -> Option<(&'a ReplanContext, &'a CompiledPlan)> {
        let context = self.request.context.as_ref()?;
        Some((context, context.plan.as_deref()?))
    }

    fn question(&self) -> Result<Request, foreplan_model::prompt::PromptError> {
        let (system, user) = PROMPT.render(&self.values())?;
        Ok(Request {
            purpose: Purpose::Plan,
            prompt: PROMPT.digest(),
            system,
            messages: vec![Message::User { text: user }],
            tools: Vec::new(),
            output: Some(form::plan_form(&self.menu, self.again().is_some())),
            max_output_tokens: None,
        })
    }

    fn values(&self) -> Values<'a> {
        let spec = &self.request.spec;
        let again = self.again();
        let answers = self.request.answers.iter();
        Values {
            agents: check::EXECUTABLE.contains(&Kind::Agent),
            lines: self.menu.lines(),
            hidden: self.menu.hidden(),
            goal: &spec.goal,
            params: (!spec.params.is_empty())
                .then(|| serde_json::Value::Object(spec.params.clone()).to_string()),
            steps_max: spec.limits.steps,
            guidance: spec.guidance.as_deref(),
            answers: answers.filter_map(|answer| serde_json::to_value(answer).ok()).collect(),
            trigger: again.map(|(context, _)| why(&context.trigger)),
            progress: again
                .map(|(context, plan)| progress(plan, &context.statuses, &context.outputs))
                .unwrap_or_default(),
            irrevocable: self.irrevocable(),
            failed_tools: again
                .map(|(context, _)| context.failed_tools.iter().map(|tool| tool.as_str()).collect())
                .unwrap_or_default(),
        }
    }

    fn irrevocable(&self) -> Vec<StepId> {
        self.again()
            .map(|(context, plan)| irrevocable(plan, &context.statuses, self.inventory))
            .unwrap_or_default()
    }

    /// Judges an answer; a plan that cannot be adopted is left in `refused`.
    fn judge(
        &self,
        value: serde_json::Value,
        refused: &mut Option<Arc<Plan>>,
    ) -> Result<Accepted, Vec<Finding>> {
        *refused = None;
        let answer = PlanAnswer::read(value).map_err(|why| vec![Finding::error("answer", why)])?;
        let form = match answer {
            PlanAnswer::Impossible { reason } => return Ok(Accepted::Impossible(reason)),
            PlanAnswer::Question { question } => return Ok(Accepted::Question(question)),
            PlanAnswer::Plan(form) => form,
        };
        let plan = Arc::new(self.plan_of(form)?);
        let spec = &self.request.spec;
        let context = CheckContext::of(spec, self.inventory);
        let checked = check::check(&plan, &context);
        if checked.is_adoptable() {
            return Ok(Accepted::Plan(plan));
        }
        *refused = Some(plan);
        Err(checked.findings)
    }

    /// Translates a plan, and closes the gaps that the types of the tools can close.
    fn plan_of(&self, mut form: PlanForm) -> Result<Plan, Vec<Finding>> {
        let current = self.again().map(|(_, plan)| plan);
        if let Some(plan) = current {
            form.keep = kept(plan, &form, &self.irrevocable());
        }
        let spec = &self.request.spec;
        let current = current.map(|plan| plan.plan().as_ref());
        let mut plan = translate::plan(form, &spec.goal, current, self.inventory)?;
        let failed = self.request.context.as_ref().map_or(&[][..], |context| &context.failed_tools);
        gaps::close(&mut plan, self.inventory, &spec.params, failed);
        if self.menu.hidden() > 0 {
            let shown = self.menu.tools().len();
            let note = format!(
                "planned over the {shown} of {} tools nearest to the goal",
                shown + self.menu.hidden()
            );
            plan.rationale = Some(plan.rationale.map_or(note.clone(), |text| format!("{text} ({note})")));
        }
        Ok(plan)
    }
}

/// Returns the steps that stay: those that the model keeps, those that cannot be undone, and what
/// they wait for, in the order of the plan. A step that the model writes anew does not stay.
fn kept(plan: &CompiledPlan, form: &PlanForm, irrevocable: &[StepId]) -> Vec<String> {
    let anew: BTreeSet<&str> = form.steps.iter().map(|step| step.id.as_str()).collect();
    let mut open: Vec<u32> = form.keep.iter().filter_map(|id| plan.position(id)).collect();
    open.extend(irrevocable.iter().filter_map(|id| plan.position(id.as_str())));
    let mut stays = BTreeSet::new();
    while let Some(at) = open.pop() {
        if !anew.contains(plan.step(at).id.as_str()) && stays.insert(at) {
            open.extend(&plan.node(at).deps);
        }
    }
    let unknown = form.keep.iter().filter(|id| plan.position(id).is_none()).cloned();
    stays.iter().map(|at| plan.step(*at).id.to_string()).chain(unknown).collect()
}

fn why(trigger: &Trigger) -> String {
    match trigger {
        Trigger::StepFailed { step, failure } => format!("Step `{step}` failed for good ({failure})."),
        Trigger::GoalRevised => "The goal was revised: it is the one above now.".to_owned(),
        Trigger::PlanRefused { message } => format!("The plan proposed before was refused: {message}."),
    }
}
