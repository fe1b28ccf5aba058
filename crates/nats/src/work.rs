//! One piece of work, from its delivery to its acknowledgement.
//!
//! A step that is delivered a second time is never executed: whoever had it is gone, or late, and
//! what it did is not known. It is answered as lost, and the tracker decides. Work that cannot be
//! taken is handed back by an answer too, since a second delivery would say the wrong thing.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{AckKind, Message as Delivery};
use foreplan_bus::{Bus as _, Consumer, Receipt, Settled};
use foreplan_core::{
    budget::Usage,
    failure::{EffectState, Failure, FailureKind},
    input::{AttemptOutcome, AttemptReply, Verdicts},
    time::Timestamp,
};
use foreplan_protocol::{Frame, Message, PlanOutcome, Reply, StepRequest, Subject, wire::task_of};

use crate::{Connection, NatsBus, bus::Inner, hands::InHand, setup::DELIVERIES_MAX};

/// How much longer than its timeout a step may show signs of life: its worker ends it before.
const STEP_GRACE: Duration = Duration::from_secs(30);

/// How long a planner or replanner may show signs of life: a model's slowest answer, several times.
const PLANNING_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// How long a request that cannot be taken now is left to others.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// What deals with the messages of a pool.
pub(crate) struct Work {
    pub(crate) bus: Arc<Inner>,
    pub(crate) consumer: Arc<dyn Consumer>,
    /// How often the server is told that a message is being worked on.
    pub(crate) heartbeat: Duration,
}

impl Work {
    /// Deals with a message, and returns when that is done.
    pub(crate) async fn take(&self, delivery: Delivery, is_leaving: bool) {
        let frame = match Frame::decode(&delivery.payload) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::error!(subject = %delivery.subject, %error, "work that cannot be read is kept as dead");
                self.bus.bury("unreadable", &delivery.subject, &delivery.payload).await;
                return self.acknowledge(&delivery, AckKind::Ack).await;
            }
        };
        let deliveries = delivery.info().map_or(1, |info| info.delivered);
        let Some(piece) = task_of(&frame.body) else {
            self.bus.bury("misdirected", &delivery.subject, &delivery.payload).await;
            return self.acknowledge(&delivery, AckKind::Ack).await;
        };
        let _in_hand = self.bus.hands.take(piece, frame.header.lease, told(&frame.body));
        match &frame.body {
            Message::Step(request) if deliveries > 1 => {
                let why = "the request was delivered again: the worker that had it is gone, or was silent for too long";
                self.lost(&delivery, request, why, None).await;
            }
            Message::Step(request) if is_leaving => {
                self.lost(&delivery, request, "the worker was about to stop", Some(EffectState::None)).await;
            }
            Message::Plan(_) | Message::Replan(_) if deliveries >= DELIVERIES_MAX => {
                self.give_up(&delivery, frame.body).await;
            }
            Message::Plan(_) | Message::Replan(_) | Message::Review(_) if is_leaving => {
                self.acknowledge(&delivery, AckKind::Nak(None)).await;
            }
            _ => self.perform(&delivery, frame.body).await,
        }
    }

    async fn perform(&self, delivery: &Delivery, message: Message) {
        let (receipt, settled) = Receipt::pair();
        let time_max = match &message {
            Message::Step(request) => request.timeout.saturating_add(STEP_GRACE),
            _ => PLANNING_TIME_MAX,
        };
        match self.consumer.accept(message.clone(), receipt) {
            Ok(()) => self.attend(delivery, settled, time_max).await,
            Err(error) => {
                tracing::warn!(%error, "work was handed back");
                match &message {
                    Message::Step(request) => {
                        self.lost(delivery, request, &error.to_string(), Some(EffectState::None)).await;
                    }
                    _ => self.acknowledge(delivery, AckKind::Nak(Some(BUSY_PAUSE))).await,
                }
            }
        }
    }

    /// Shows signs of life until the work is answered, then acknowledges it.
    async fn attend(&self, delivery: &Delivery, mut settled: Settled, time_max: Duration) {
        let deadline = tokio::time::Instant::now() + time_max;
        let period = self.heartbeat.max(Duration::from_millis(100));
        // Most work is done before the first: a timer on the stack is all that it costs.
        let mut beat = std::pin::pin!(tokio::time::sleep(period));
        loop {
            tokio::select! {
                biased;
                is_settled = settled.wait() => {
                    if is_settled {
                        self.acknowledge(delivery, AckKind::Ack).await;
                    }
                    return;
                }
                () = &mut beat => {
                    beat.as_mut().reset(tokio::time::Instant::now() + period);
                    if tokio::time::Instant::now() > deadline {
                        tracing::warn!(subject = %delivery.subject, "work took too long; it counts as lost");
                        return;
                    }
                    if let Err(error) = delivery.ack_with(AckKind::Progress).await {
                        tracing::debug!(%error, "a sign of life could not be sent");
                    }
                }
            }
        }
    }

    /// Answers a step in the place of a worker that will not.
    async fn lost(&self, delivery: &Delivery, request: &StepRequest, why: &str, effect: Option<EffectState>) {
        let mut failure = Failure::new(FailureKind::WorkerLost, "worker_lost", why);
        if let Some(effect) = effect {
            failure = failure.effect(effect);
        }
        let reply = failed(request, &self.bus.options.worker, failure);
        if self.answer(request.run, reply).await {
            self.acknowledge(delivery, AckKind::Ack).await;
        }
    }

    /// Answers a request that every planner so far died of.
    async fn give_up(&self, delivery: &Delivery, message: Message) {
        self.bus.bury("planner_lost", &delivery.subject, &delivery.payload).await;
        let why = format!("{DELIVERIES_MAX} planners were lost over this request");
        let (run, reply) = match message {
            Message::Plan(request) => {
                let outcome =
                    PlanOutcome::None { code: "planner_lost".to_owned(), message: why, findings: Vec::new() };
                let by = request.spec.planner.name().to_owned();
                let (usage, calls) = (Usage::default(), Vec::new());
                (request.run, Reply::Plan { request: request.request, by, outcome, usage, calls })
            }
            Message::Replan(request) => {
                let decision = foreplan_core::policy::ReplanDecision::Pass;
                let (usage, calls) = (Usage::default(), Vec::new());
                let by = "nobody".to_owned();
                let basis = request.basis;
                (request.run, Reply::Replan { basis, by, reason: why, decision, rule: None, usage, calls })
            }
            _ => return,
        };
        if self.answer(run, reply).await {
            self.acknowledge(delivery, AckKind::Ack).await;
        }
    }

    async fn acknowledge(&self, delivery: &Delivery, kind: AckKind) {
        acknowledge(&self.bus.connection, delivery, kind).await;
    }

    async fn answer(&self, run: foreplan_core::id::RunId, reply: Reply) -> bool {
        let bus = NatsBus { inner: Arc::clone(&self.bus) };
        let published = bus.publish(Subject::Tracker(run), Message::Reply { run, reply }).await;
        if let Err(error) = &published {
            tracing::warn!(%run, %error, "an answer was not taken; the work comes again");
        }
        published.is_ok()
    }
}

/// Acknowledges, and waits for the server's word. An acknowledgement that is lost makes the message
/// come again, which is noticed by its count.
pub(crate) async fn acknowledge(connection: &Connection, delivery: &Delivery, kind: AckKind) {
    let Some(reply) = delivery.reply.clone() else { return };
    // The library's own way subscribes to an inbox for each.
    let answer = connection.client.request(reply, kind.into());
    let (answer, ()) = tokio::join!(biased; answer, async { connection.gather.others() });
    if let Err(error) = answer {
        tracing::debug!(subject = %delivery.subject, %error, "an acknowledgement was not confirmed");
    }
}

/// Acknowledges what would do no harm if it came again, and does not wait for the server's word.
pub(crate) async fn acknowledge_unconfirmed(connection: &Connection, delivery: &Delivery) {
    let Some(reply) = delivery.reply.clone() else { return };
    if let Err(error) = connection.client.publish(reply, AckKind::Ack.into()).await {
        tracing::debug!(subject = %delivery.subject, %error, "an acknowledgement was not sent");
    }
    connection.gather.others();
}

/// Returns what others may hear about work in hand.
fn told(message: &Message) -> Option<InHand> {
    let Message::Step(request) = message else { return None };
    Some(InHand { run: request.run, step: request.step.clone(), attempt: request.attempt, since: now() })
}

/// Returns the answer to a step that was not executed.
pub(crate) fn failed(request: &StepRequest, by: &str, failure: Failure) -> Reply {
    let now = now();
    Reply::Step(AttemptReply {
        step: request.step.clone(),
        attempt: request.attempt,
        outcome: AttemptOutcome::Failure(failure),
        worker: by.to_owned(),
        claim: None,
        input: None,
        started_at: now,
        ended_at: now,
        usage: Usage::default(),
        calls: Vec::new(),
        verdicts: Verdicts::default(),
    })
}

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::default().plus(since.unwrap_or_default())
}
