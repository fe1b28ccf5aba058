//! One worker: takes an attempt, calls its tool, answers.
//!
//! A failed step is an answer, never an error of the actor: a tool that panics costs neither the
//! worker nor the attempt. The hot path spawns nothing and takes no lock beyond the table's.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use foreplan_core::{
    call::Occurrence,
    digest::Digest,
    failure::{EffectState, Failure, FailureKind},
    id::ToolName,
    input::Asker,
    payload::Output,
    run::permit_denied,
    tool::Effect,
    trace::TraceParent,
};
use foreplan_protocol::{Message, PermitRequest, StepRequest, StepWork, Subject};
use foreplan_tools::Call;
use futures::FutureExt as _;
use ractor::{
    ActorProcessingErr,
    factory::{FactoryRef, Job, Worker, WorkerId},
};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use crate::{
    attempt::{Attempt, Stage},
    payload,
    pool::{JobKey, Pool},
};

/// How long a worker waits for a permit. A permit expires ten seconds after it was granted; one that
/// arrives within this time of asking has not.
pub const PERMIT_WAIT: Duration = Duration::from_secs(10);

/// How much longer than its timeout a call may take to end in order: a command ends its process
/// group meanwhile. A call that does not is dropped.
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// A tool as it was approved.
pub(crate) struct Wanted<'a> {
    pub(crate) tool: &'a ToolName,
    pub(crate) digest: Digest,
    pub(crate) effect: Effect,
}

/// One worker of a pool.
pub(crate) struct StepWorker {
    pub(crate) pool: Arc<Pool>,
    name: Arc<str>,
}

impl Worker for StepWorker {
    type Key = JobKey;
    type Message = Attempt;
    type Arguments = ();
    type State = ();

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &FactoryRef<JobKey, Attempt>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &FactoryRef<JobKey, Attempt>,
        Job { key, msg: attempt, .. }: Job<JobKey, Attempt>,
        (): &mut (),
    ) -> Result<JobKey, ActorProcessingErr> {
        self.run(attempt).await;
        Ok(key)
    }
}

impl StepWorker {
    /// Makes the worker with this number.
    pub(crate) fn new(pool: &Arc<Pool>, wid: WorkerId) -> Self {
        let process = pool.shared.process.as_ref().map_or_else(String::new, |process| format!("{process}/"));
        Self { pool: Arc::clone(pool), name: format!("{process}{}/{wid}", pool.capability).into() }
    }

    async fn run(&self, mut attempt: Attempt) {
        attempt.begin(&self.name);
        let StepRequest { run, step, attempt: number, .. } = &*attempt.request;
        let place = || TraceParent::work(*run, step, *number);
        let span = tracing::info_span!(
            "attempt",
            %run,
            %step,
            attempt = number,
            trace_id = %run.0.simple(),
            span_id = %place().span,
            worker = %self.name
        );
        if !span.is_disabled() {
            foreplan_telemetry::join(&span, place());
        }
        async {
            let outcome = self.perform(&mut attempt).await;
            match &outcome {
                Ok(_) => tracing::info!("the attempt succeeded"),
                Err(failure) => {
                    tracing::info!(kind = failure.kind.as_str(), code = failure.code, "the attempt failed");
                }
            }
            attempt.answer(outcome).await;
        }
        .instrument(span)
        .await;
    }

    async fn perform(&self, attempt: &mut Attempt) -> Result<Output, Failure> {
        let request = Arc::clone(&attempt.request);
        let payloads = &*self.pool.shared.payloads;
        let input = payload::load(payloads, request.run, &request.input).await;
        let (value, effect) = match &request.work {
            StepWork::Tool { tool, tool_digest } => {
                let wanted = Wanted { tool, digest: *tool_digest, effect: request.effect };
                let effect = self.admit(&wanted)?;
                (self.call_alone(attempt, tool, effect, input?).await?, effect)
            }
            StepWork::Agent { agent } => (self.act(attempt, agent, input?.as_ref()).await?, request.effect),
        };
        payload::keep(payloads, request.run, effect, value).await
    }

    /// Makes the one call of a tool step.
    async fn call_alone(
        &self,
        attempt: &mut Attempt,
        tool: &ToolName,
        effect: Effect,
        input: Arc<Value>,
    ) -> Result<Value, Failure> {
        let permit_until = match effect {
            Effect::Irreversible => Some(self.ask_permit(attempt, None).await?),
            Effect::Read | Effect::Idempotent => None,
        };
        if attempt.cancel.is_cancelled() {
            return Err(cancelled().effect(EffectState::None));
        }
        attempt.stage = Stage::Calling;
        attempt.usage.tool_calls = 1;
        let key = attempt.request.idempotency_key;
        self.call(attempt, tool, input, key, permit_until).await.map_err(|failure| judge(failure, effect))
    }

    /// Returns the effect of the tool that is asked for, if this specialist has it and it is the one
    /// that was approved.
    pub(crate) fn admit(&self, wanted: &Wanted<'_>) -> Result<Effect, Failure> {
        let refused = |code: &str, message: String| {
            Failure::new(FailureKind::ToolChanged, code, message).retryable(false).effect(EffectState::None)
        };
        let (tool, capability) = (wanted.tool, &self.pool.capability);
        let Some(found) = self.pool.shared.toolbox.get(tool.as_str()) else {
            return Err(refused(
                "unknown_tool",
                format!("there is no tool `{tool}` here; declare it, or approve a plan without it"),
            ));
        };
        if !self.pool.lists(tool) {
            return Err(refused(
                "tool_not_listed",
                format!("the specialist `{capability}` does not list the tool `{tool}`; add it there"),
            ));
        }
        let descriptor = found.descriptor();
        if descriptor.digest != wanted.digest {
            return Err(refused(
                "tool_changed",
                format!(
                    "the tool `{tool}` is not the one that was approved ({} now, {} then); approve the plan again",
                    descriptor.digest.short(),
                    wanted.digest.short()
                ),
            ));
        }
        Ok(descriptor.effect.max(wanted.effect))
    }

    /// Waits until the tracker has recorded that this call is made, and returns until when that counts.
    pub(crate) async fn ask_permit(
        &self,
        attempt: &Attempt,
        call: Option<Occurrence>,
    ) -> Result<Instant, Failure> {
        let shared = &self.pool.shared;
        let StepRequest { run, step, attempt: number, .. } = &*attempt.request;
        let (claim, of) = (attempt.permits.claim(), call.as_ref().map_or(0, |call| call.call));
        let answer = shared.attempts.expect_permit(attempt.key(), of, claim);
        let until = Instant::now() + shared.permit_wait;
        let asker = Asker { worker: Some(self.name.to_string()), claim: Some(claim) };
        let asked = PermitRequest { run: *run, step: step.clone(), attempt: *number, call, asker };
        shared
            .bus
            .publish(Subject::Tracker(*run), Message::PermitRequest(asked))
            .await
            .map_err(|error| permit_denied(&format!("it could not be asked for: {error}")))?;
        tokio::select! {
            biased;
            () = attempt.cancel.cancelled() => Err(cancelled().effect(EffectState::None)),
            answer = timeout(shared.permit_wait, answer) => match answer {
                Ok(Ok(true)) => Ok(until),
                Ok(Ok(false)) => Err(permit_denied("the tracker does not allow the call")),
                Ok(Err(_)) | Err(_) => Err(permit_denied("no answer came in time")),
            },
        }
    }

    /// Calls the tool. The toolbox ends the call at its timeout and when it is cancelled; a call that
    /// outlives that is dropped here, so that no tool can keep a worker for ever.
    pub(crate) async fn call(
        &self,
        attempt: &Attempt,
        tool: &ToolName,
        input: Arc<Value>,
        key: Option<Digest>,
        permit_until: Option<Instant>,
    ) -> Result<Value, Failure> {
        let request = &attempt.request;
        let call = Call {
            input,
            run: request.run,
            step: request.step.clone(),
            attempt: request.attempt,
            idempotency_key: key,
            timeout: request.timeout,
            permit_until,
            cancel: attempt.cancel.clone(),
            log: self.pool.shared.log.as_ref().map(|open| open(request.run, &request.step, request.attempt)),
        };
        let span = tracing::info_span!("call", %tool);
        let calling = AssertUnwindSafe(self.pool.shared.toolbox.call(tool, call).instrument(span));
        match timeout(request.timeout.saturating_add(STOP_GRACE), calling.catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(self.pool.shared.toolbox.secrets().redact_failure(panicked(&*panic))),
            Err(_) => Err(overdue(request.timeout)),
        }
    }
}

/// Says what is known of the effect of a call that failed: of an irreversible one, nothing, unless
/// its input was refused or the tool says otherwise.
fn judge(failure: Failure, effect: Effect) -> Failure {
    let known = failure.effect.is_some() || effect != Effect::Irreversible;
    match failure.kind {
        _ if known => failure,
        FailureKind::InputSchema | FailureKind::ToolChanged => failure.effect(EffectState::None),
        _ => failure.effect(EffectState::Unknown),
    }
}

pub(crate) fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "cancelled", "the attempt was cancelled")
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Failure::new(FailureKind::Tool, "panicked", format!("the tool panicked: {text}"))
}

pub(crate) fn overdue(limit: Duration) -> Failure {
    let message = format!("the call did not end within {limit:?}, nor when it was told to; it was dropped");
    Failure::new(FailureKind::Timeout, "timeout", message)
}
