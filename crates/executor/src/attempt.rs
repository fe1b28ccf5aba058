//! One attempt in hand, from the moment a pool accepts it to the moment it is answered.
//!
//! The value travels with the work: through the factory's mailbox and queue into the worker. If it
//! is dropped without an answer, because a worker died, a factory died or the pool was shut down,
//! it answers `worker_lost` itself. So no accepted request stays without an answer.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use foreplan_bus::{Bus, Receipt};
use foreplan_core::{
    budget::Usage,
    call::{CALLS_MAX, Call},
    failure::{EffectState, Failure, FailureKind},
    id::ClaimId,
    input::{AttemptOutcome, AttemptReply, Verdicts},
    payload::Output,
    time::Timestamp,
};
use foreplan_protocol::{Message, Reply, StepRequest, Subject};
use tokio_util::sync::CancellationToken;

use crate::{attempts::AttemptKey, pool::Pool};

/// How long to wait before an answer is published again: long enough for a tracker to be rebuilt
/// from its journal, short enough not to hold up a pool that stops.
const PUBLISH_PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(200), Duration::from_secs(1)];

/// How far an attempt has come: what can be said of its effect if it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The tool has not been called, and will not be without another step forward.
    Waiting,
    /// The tool may have been called.
    Calling,
    /// The answer is on its way.
    Answered,
}

/// The irreversible calls of an attempt: whose they are, and of an agent step's how many, and what became
/// of them.
#[derive(Default)]
pub(crate) struct Permits {
    claim: OnceLock<ClaimId>,
    granted: AtomicU32,
    /// Calls that surely did what they do.
    done: AtomicU32,
    /// Calls that surely did nothing.
    none: AtomicU32,
}

impl Permits {
    /// Returns the name under which this taking in hand asks: made when it first does.
    pub(crate) fn claim(&self) -> ClaimId {
        *self.claim.get_or_init(|| ClaimId(uuid::Uuid::now_v7()))
    }

    /// Returns the number of the next call, from 1.
    pub(crate) fn next(&self) -> u32 {
        self.granted.load(Ordering::Relaxed) + 1
    }

    /// Notes that it may be made.
    pub(crate) fn granted(&self) {
        self.granted.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes what became of one.
    pub(crate) fn settled(&self, state: EffectState) {
        match state {
            EffectState::Done => self.done.fetch_add(1, Ordering::Relaxed),
            EffectState::None => self.none.fetch_add(1, Ordering::Relaxed),
            EffectState::Unknown => 0,
        };
    }

    /// Returns what is known of all of them; `None` if there were none.
    pub(crate) fn effect(&self) -> Option<EffectState> {
        let [granted, done, none] =
            [&self.granted, &self.done, &self.none].map(|n| n.load(Ordering::Relaxed));
        match granted {
            0 => None,
            _ if granted == none => Some(EffectState::None),
            _ if granted == done + none => Some(EffectState::Done),
            _ => Some(EffectState::Unknown),
        }
    }
}

/// One attempt in hand.
pub(crate) struct Attempt {
    /// What was asked for.
    pub(crate) request: Arc<StepRequest>,
    /// Stops it.
    pub(crate) cancel: CancellationToken,
    /// How far it has come.
    pub(crate) stage: Stage,
    /// What it used so far.
    pub(crate) usage: Usage,
    /// Its irreversible calls.
    pub(crate) permits: Permits,
    calls: Vec<Call>,
    key: AttemptKey,
    pool: Arc<Pool>,
    worker: Option<(Arc<str>, Timestamp)>,
    /// Settled once the answer is on its way; the bus keeps the request until then.
    receipt: Receipt,
}

impl Attempt {
    /// Takes a request in hand; `None` if it is in hand already.
    pub(crate) fn admit(pool: &Arc<Pool>, request: Arc<StepRequest>, receipt: Receipt) -> Option<Self> {
        let key = AttemptKey { run: request.run, step: request.step.clone(), attempt: request.attempt };
        let cancel = pool.shared.attempts.admit(&key)?;
        Some(Self {
            request,
            cancel,
            stage: Stage::Waiting,
            usage: Usage::default(),
            permits: Permits::default(),
            calls: Vec::new(),
            key,
            pool: Arc::clone(pool),
            worker: None,
            receipt,
        })
    }

    /// Notes which worker begins, and when.
    pub(crate) fn begin(&mut self, worker: &Arc<str>) {
        self.worker = Some((Arc::clone(worker), (self.pool.shared.clock)()));
    }

    /// Notes a call that it made.
    pub(crate) fn record(&mut self, call: Call) {
        if self.calls.len() < CALLS_MAX {
            self.calls.push(call);
        }
    }

    /// Returns the name of the attempt in the table.
    pub(crate) fn key(&self) -> &AttemptKey {
        &self.key
    }

    /// Publishes what came of the attempt.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped before it is done, the attempt is answered as lost; the tracker takes the
    /// first of two answers.
    pub(crate) async fn answer(mut self, outcome: Result<Output, Failure>) {
        let message = self.message(outcome);
        let is_published = publish(&*self.pool.shared.bus, self.tracker(), message).await;
        self.stage = Stage::Answered;
        if is_published {
            std::mem::take(&mut self.receipt).settle();
        }
    }

    /// Lets go of an attempt that was never queued: its sender is told in another way.
    pub(crate) fn withdraw(mut self) {
        self.stage = Stage::Answered;
    }

    fn tracker(&self) -> Subject {
        Subject::Tracker(self.key.run)
    }

    fn message(&self, outcome: Result<Output, Failure>) -> Message {
        let ended_at = (self.pool.shared.clock)();
        let (worker, started_at) = match &self.worker {
            Some((worker, started_at)) => (worker.to_string(), *started_at),
            None => (self.pool.capability.to_string(), ended_at),
        };
        Message::Reply {
            run: self.key.run,
            reply: Reply::Step(AttemptReply {
                step: self.key.step.clone(),
                attempt: self.key.attempt,
                outcome: match outcome {
                    Ok(output) => AttemptOutcome::Output(output),
                    Err(failure) => AttemptOutcome::Failure(failure),
                },
                worker,
                claim: self.permits.claim.get().copied(),
                input: Some(Arc::clone(&self.request.input).into()),
                started_at,
                ended_at,
                usage: self.usage,
                calls: self.calls.clone(),
                verdicts: Verdicts::default(),
            }),
        }
    }

    fn lost(&self) -> Failure {
        let failure = Failure::new(
            FailureKind::WorkerLost,
            "worker_lost",
            "the worker that had this attempt in hand is gone",
        );
        match self.stage {
            Stage::Waiting => failure.effect(EffectState::None),
            Stage::Calling | Stage::Answered => failure,
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.pool.shared.attempts.release(&self.key);
        self.pool.leave();
        if self.stage == Stage::Answered {
            return;
        }
        let (bus, to, message) =
            (Arc::clone(&self.pool.shared.bus), self.tracker(), self.message(Err(self.lost())));
        // Without a runtime the process is ending; whoever carries the run on knows that its workers
        // are gone.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let receipt = std::mem::take(&mut self.receipt);
            runtime.spawn(async move {
                if publish(&*bus, to, message).await {
                    receipt.settle();
                }
            });
        }
    }
}

/// Publishes a message to a tracker, patiently, and returns whether it was taken. One that cannot be delivered in the end is dropped:
/// the tracker is gone, and the next one treats the attempt as lost.
async fn publish(bus: &dyn Bus, to: Subject, message: Message) -> bool {
    // A message in one process is mostly an `Arc` or two; the copy is made only to try again.
    for pause in PUBLISH_PAUSES {
        match bus.publish(to.clone(), message.clone()).await {
            Ok(()) => return true,
            Err(error) if error.is_retryable() => {
                tracing::debug!(%error, "an answer is delivered again after a pause");
                tokio::time::sleep(pause).await;
            }
            Err(error) => {
                tracing::warn!(%error, "an answer could not be delivered");
                return false;
            }
        }
    }
    let published = bus.publish(to, message).await;
    if let Err(error) = &published {
        tracing::warn!(%error, "an answer could not be delivered");
    }
    published.is_ok()
}
