//! Review by a model: one question, one judgement with its reasons.

use std::sync::Arc;

use foreplan_core::{
    call::Purpose,
    failure::{Failure, FailureKind},
    finding::Finding,
    id::RunId,
    payload::Output,
    plan::{Plan, Step},
    review::{Judgement, ReviewOutcome, ReviewSubject},
};
use foreplan_journal::Payloads;
use foreplan_model::{
    Clock, Conversed, Message, Models, OutputSchema, Request, Unanswered, converse,
    prompt::{Prompt, PromptError},
};
use foreplan_protocol::ReviewRequest;
use futures::future::{BoxFuture, FutureExt as _};
use serde_json::{Value, json};

use super::{Reviewed, Reviewer};

/// How often a judgement that cannot be read goes back to the model.
const REPAIRS_MAX: u32 = 1;

/// How much of a plan, an input or an output is shown, in characters.
const SHOWN_CHARS_MAX: usize = 24_000;

/// What reviewers of plans are told.
pub(crate) const OF_PLANS: Prompt = Prompt {
    system: include_str!("../../prompts/review-plan.system.txt"),
    user: include_str!("../../prompts/review-plan.user.txt"),
};

/// What reviewers of outputs are told.
pub(crate) const OF_OUTPUTS: Prompt = Prompt {
    system: include_str!("../../prompts/review-output.system.txt"),
    user: include_str!("../../prompts/review-output.user.txt"),
};

/// Asks the model that a request names.
#[derive(Clone)]
pub struct ModelReviewer {
    models: Arc<dyn Models>,
    payloads: Arc<dyn Payloads>,
    clock: Clock,
}

impl ModelReviewer {
    /// Makes a reviewer that finds its models in `models`, large outputs in `payloads`, and dates
    /// its calls by `clock`.
    #[must_use]
    pub fn new(models: Arc<dyn Models>, payloads: Arc<dyn Payloads>, clock: Clock) -> Self {
        Self { models, payloads, clock }
    }

    async fn question(&self, request: &ReviewRequest) -> Result<Request, Failure> {
        let prompt = match &request.subject {
            ReviewSubject::Plan { .. } => OF_PLANS,
            ReviewSubject::Output { .. } => OF_OUTPUTS,
        };
        let rendered = match &request.subject {
            ReviewSubject::Plan { plan, findings } => about_plan(request, plan, findings),
            ReviewSubject::Output { step, input, output } => {
                let output = self.load(request.run, output).await?;
                about_output(request, step, input, &output)
            }
        };
        let (system, user) =
            rendered.map_err(|error| Failure::new(FailureKind::Review, "prompt", error.to_string()))?;
        Ok(Request {
            purpose: Purpose::Review,
            prompt: prompt.digest(),
            system,
            messages: vec![Message::User { text: user }],
            tools: Vec::new(),
            output: Some(judgement_form()),
            max_output_tokens: None,
        })
    }

    async fn load(&self, run: RunId, output: &Output) -> Result<Arc<Value>, Failure> {
        match output {
            Output::Inline(value) => Ok(Arc::clone(value)),
            Output::Payload(payload) => self
                .payloads
                .get(run, *payload)
                .await
                .map_err(|error| Failure::new(FailureKind::Review, "payload", error.to_string())),
        }
    }
}

impl Reviewer for ModelReviewer {
    fn review(&self, request: Arc<ReviewRequest>) -> BoxFuture<'_, Reviewed> {
        async move {
            let model = match self.models.model(&request.model) {
                Ok(model) => model,
                Err(error) => return Reviewed::failed(Failure::from(&error)),
            };
            let question = match self.question(&request).await {
                Ok(question) => question,
                Err(failure) => return Reviewed::failed(failure),
            };
            let conversed = converse(model.as_ref(), question, &self.clock, REPAIRS_MAX, judgement).await;
            let Conversed { outcome, usage, calls } = conversed;
            let outcome = match outcome {
                Ok(judgement) => ReviewOutcome::Judgement(judgement),
                Err(Unanswered::Model(error)) => ReviewOutcome::Failed(Failure::from(&error)),
                Err(Unanswered::Invalid(findings)) => {
                    let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
                    let message = format!("the reviewer gave no judgement: {}", all.join("; "));
                    ReviewOutcome::Failed(Failure::new(FailureKind::Review, "malformed_answer", message))
                }
            };
            Reviewed { outcome, usage, calls }
        }
        .boxed()
    }
}

fn about_plan(
    request: &ReviewRequest,
    plan: &Plan,
    findings: &[Finding],
) -> Result<(String, String), PromptError> {
    let spec = &request.spec;
    let plan = serde_json::to_string(plan).unwrap_or_default();
    OF_PLANS.render(&json!({
        "goal": spec.goal,
        "params": (!spec.params.is_empty()).then(|| Value::Object(spec.params.clone()).to_string()),
        "guidance": spec.guidance,
        "plan": shortened(&plan),
        "findings": findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
    }))
}

fn about_output(
    request: &ReviewRequest,
    step: &Step,
    input: &Value,
    output: &Value,
) -> Result<(String, String), PromptError> {
    OF_OUTPUTS.render(&json!({
        "goal": request.spec.goal,
        "step": step.id,
        "title": step.label(),
        "outcome": step.outcome.as_deref().unwrap_or("what its title says"),
        "instructions": step.agent.as_ref().map(|agent| &agent.instructions),
        "input": shortened(&input.to_string()),
        "output": shortened(&output.to_string()),
    }))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}… ({} bytes in all)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

fn judgement_form() -> OutputSchema {
    let schema = json!({
        "type": "object", "required": ["reasons", "accepts"], "additionalProperties": false,
        "properties": {
            "reasons": {"type": "array", "items": {"type": "string"}},
            "accepts": {"type": "boolean"},
        },
    });
    OutputSchema { name: "judgement".to_owned(), schema }
}

fn judgement(value: Value) -> Result<Judgement, Vec<Finding>> {
    let wrong = |why: String| vec![Finding::error("judgement", why)];
    let judgement: Judgement = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
    if !judgement.accepts && judgement.reasons.iter().all(|reason| reason.trim().is_empty()) {
        return Err(wrong("who does not accept gives at least one reason".to_owned()));
    }
    Ok(judgement)
}
