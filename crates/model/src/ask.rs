//! One question to a model, and the record of it.

use std::sync::Arc;

use foreplan_core::{
    budget::Usage,
    call::{Call, ModelCall, Target},
    failure::Failure,
    payload::Output,
    time::Timestamp,
};
use serde_json::json;

use crate::{Answer, Error, Model, Request};

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What came of a question.
#[derive(Debug)]
pub struct Asked {
    /// The answer, or why there is none.
    pub result: Result<Answer, Error>,
    /// The record of the call.
    pub call: Call,
    /// What the call used.
    pub usage: Usage,
}

/// Asks a model and records the call, whatever comes of it.
///
/// # Cancel safety
///
/// Dropped before it returns, the call is on no record; the provider may have charged for it.
pub async fn ask(model: &dyn Model, request: Request, clock: &Clock) -> Asked {
    let request = Arc::new(request);
    let started_at = clock();
    // The model is at work while its question is digested: a long one takes as long as a step.
    let (result, digest) = futures::join!(model.chat(Arc::clone(&request)), async { request.digest() });
    let ended_at = clock();
    let answer = result.as_ref().ok();
    let (tokens, cost_microusd) = match &result {
        Ok(answer) => (answer.tokens, answer.cost_microusd),
        Err(error) => (error.tokens, error.cost_microusd),
    };
    let usage = Usage {
        model_calls: 1,
        input_tokens: tokens.input,
        output_tokens: tokens.output,
        cost_microusd,
        ..Usage::default()
    };
    let record = ModelCall {
        model: model.name().to_owned(),
        purpose: request.purpose,
        answered_by: answer.and_then(|answer| answer.answered_by.clone()),
        prompt: request.prompt,
        request: digest,
        answer: answer.map(|answer| Output::inline(json!({"text": answer.text, "calls": answer.calls}))),
        finish: answer.and_then(|answer| answer.finish.clone()),
        tokens,
        cost_microusd,
        retries: answer.map_or(0, |answer| answer.retries),
    };
    let failure = result.as_ref().err().map(Failure::from);
    let call = Call { started_at, ended_at, target: Target::Model(Box::new(record)), failure };
    Asked { result, call, usage }
}
