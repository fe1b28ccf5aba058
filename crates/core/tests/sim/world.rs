//! What is around a run: a network, workers, a planner, a replanner, a shell and a person.

use std::{collections::HashSet, sync::Arc, time::Duration};

use foreplan_core::{
    action::{Action, Dispatch},
    failure::{EffectState, Failure, FailureKind},
    id::{ClaimId, StepId},
    input::{
        Asker, AttemptOutcome, AttemptReply, Command, CommandKind, Input, PlanReply, Proposal, Readiness,
        ReplanReply, Verdicts,
    },
    payload::Output,
    policy::{Patch, ReplanDecision},
    run::{Run, permit_denied},
    time::Timestamp,
    tool::Effect,
};
use serde_json::json;

use crate::{
    check::Checks,
    message::{Hand, Message},
    plans, reviews,
    rng::Rng,
    support::{Harness, happened, run_id, said, spec},
};

/// How long a worker waits for the answer to its question, and may use it.
const PERMIT_TTL: Duration = Duration::from_secs(10);

/// A run and all that is around it.
pub(crate) struct World {
    pub(crate) h: Harness,
    pub(crate) rng: Rng,
    pub(crate) checks: Checks,
    network: Vec<(Timestamp, u64, Message)>,
    sent: u64,
    /// Attempts that a worker has seen.
    seen: HashSet<(StepId, u32)>,
    /// Whoever waits for a permit.
    asking: HashSet<Hand>,
    claims: u128,
    commands: u128,
    pub(crate) has_faults: bool,
    log: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut spec = spec();
        spec.limits.in_flight = 1 + rng.below(5) as u32;
        spec.limits.replans = rng.below(4) as u32;
        spec.limits.attempts = 3;
        // What hangs must show as hanging.
        spec.limits.wall_time = Duration::from_secs(1_000 * 86_400);
        spec.approval.timeout = Duration::from_secs(2_000 * 86_400);
        spec.approval.mode = *rng.pick(&[
            foreplan_core::goal::ApprovalMode::Auto,
            foreplan_core::goal::ApprovalMode::Risky,
            foreplan_core::goal::ApprovalMode::Always,
        ]);
        if rng.chance(30) {
            spec.replan.escalate = Some(foreplan_core::policy::Strategy::FullReplan);
        }
        if rng.chance(10) {
            spec.replan.strategy = foreplan_core::policy::Strategy::FailFast;
        }
        if rng.chance(30) {
            spec.review = Some(reviews::random(&mut rng));
        }
        let (h, decision) = Harness::submit(spec);
        let mut world = Self {
            h,
            rng,
            checks: Checks::default(),
            network: Vec::new(),
            sent: 0,
            seen: HashSet::new(),
            asking: HashSet::new(),
            claims: 0,
            commands: 0,
            has_faults: true,
            log: Vec::new(),
        };
        world.perform(decision.actions);
        world
    }

    /// Lets things go wrong for a while, then right until the run ends. Returns what happened.
    pub(crate) fn live(&mut self, turns: usize) {
        for _ in 0..turns {
            match self.rng.below(100) {
                0..3 => self.crash(),
                3..11 => self.meddle(),
                _ => {
                    if !self.go_on() {
                        self.meddle();
                    }
                }
            }
        }
        self.has_faults = false;
        for _ in 0..5_000 {
            if self.go_on() {
                continue;
            }
            let status = self.h.run.status();
            if status.is_ended() {
                return;
            }
            let is_said = self.h.run.waiting().is_some() || self.h.run.reason().is_some();
            assert!(is_said && self.h.run.is_idle(), "{status:?}, and nobody knows what for");
            self.help();
        }
        panic!("the run does not end: {:?}", self.h.run.status());
    }

    /// Returns the run's entries.
    pub(crate) fn journal(&self) -> &[foreplan_core::event::Entry] {
        &self.h.entries
    }

    pub(crate) fn run(&self) -> &Run {
        &self.h.run
    }

    /// Returns the protocol of the run.
    pub(crate) fn log(&self) -> &[String] {
        &self.log
    }

    /// Delivers what comes next. Returns whether there was anything.
    fn go_on(&mut self) -> bool {
        let next = self.network.iter().enumerate().min_by_key(|(_, (at, n, _))| (*at, *n));
        let wake = self.h.run.next_wake();
        match (next.map(|(at, (when, _, _))| (at, *when)), wake) {
            (Some((at, when)), wake) if wake.is_none_or(|wake| when <= wake) => {
                self.h.now = self.h.now.max(when);
                let (_, _, message) = self.network.swap_remove(at);
                self.deliver(message);
                true
            }
            (_, Some(wake)) if wake.since(self.h.now) < Duration::from_secs(86_400) => {
                self.h.now = self.h.now.max(wake);
                self.handle(Input::Wake);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn handle(&mut self, input: Input) {
        let before = self.h.run.clone();
        let Ok(decision) = self.h.try_handle(input.clone()) else { return };
        if !decision.events.is_empty() {
            let kind = serde_json::to_value(&input).unwrap()["input"].to_string();
            self.log.push(format!("{:>4} {kind}: {}", before.seq(), said(&decision).join("; ")));
        }
        self.checks.decided(&before, &input, &decision, &self.h.run);
        if self.has_faults && self.rng.chance(1) {
            return self.crash();
        }
        self.perform(decision.actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            if self.has_faults && self.rng.below(400) == 0 {
                return self.crash();
            }
            match action {
                Action::RequestPlan { request, .. } => self.send(Message::Plan { request }),
                Action::RequestReview { review, .. } => self.send_loosely(Message::Review { review }),
                Action::RequestReplan { basis, .. } => self.send(Message::Replan { basis }),
                Action::Evaluate { steps } => {
                    let version = self.h.run.plan_version();
                    self.send(Message::Evaluate { steps, version });
                }
                Action::RunStep(dispatch) => self.send_loosely(Message::Run(dispatch)),
                Action::AnswerPermit { step, attempt, claim: Some(claim), granted, .. } => {
                    self.send_loosely(Message::Permit(Hand { step, attempt, claim }, granted));
                }
                Action::AnswerPermit { claim: None, .. } => unreachable!("everybody here has a claim"),
                Action::CancelAttempt { .. } | Action::RunGoal { .. } | Action::TellChild { .. } => {}
            }
        }
    }

    /// Sends something that arrives, at some time, perhaps twice.
    fn send(&mut self, message: Message) {
        let copies = if self.has_faults && self.rng.chance(10) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = Duration::from_millis(self.rng.below(4_000) as u64);
            self.send_at(self.h.now.plus(delay), message.clone());
        }
    }

    /// Sends something that may be lost.
    fn send_loosely(&mut self, message: Message) {
        if !(self.has_faults && self.rng.chance(7)) {
            self.send(message);
        }
    }

    fn send_at(&mut self, at: Timestamp, message: Message) {
        self.sent += 1;
        self.network.push((at, self.sent, message));
    }

    /// The process ends, with all that was on its way; another carries the run on.
    fn crash(&mut self) {
        self.network.clear();
        self.seen.clear();
        self.asking.clear();
        let run = Run::replay(run_id(), &self.h.entries).unwrap();
        assert_eq!(run, self.h.run, "folding the journal gives the live state");
        self.h.run = run;
        self.log.push("     crash".to_owned());
        self.handle(Input::Takeover { by: "p2".to_owned() });
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Plan { request } => self.plan(request),
            Message::Planned(reply) => self.handle(Input::Planned(reply)),
            Message::Replan { basis } => self.replan(basis),
            Message::Replanned(reply) => self.handle(Input::Replanned(reply)),
            Message::Review { review } => self.review(review),
            Message::Evaluate { steps, version } => {
                let ready = steps.into_iter().map(|step| (step.clone(), self.verdict(&step))).collect();
                self.send(Message::Evaluated { ready, version });
            }
            Message::Evaluated { ready, version } if version == self.h.run.plan_version() => {
                self.handle(Input::Evaluated { ready });
            }
            Message::Evaluated { .. } => {}
            Message::Run(dispatch) => self.work(&dispatch),
            Message::AskPermit(Hand { step, attempt, claim }) => {
                let asker = Asker { worker: None, claim: Some(claim) };
                self.handle(Input::Permit { step, attempt, call: None, asker })
            }
            Message::Permit(hand, granted) => {
                if self.asking.remove(&hand) {
                    self.permitted(&hand, granted);
                }
            }
            Message::PermitExpired(hand) => {
                if self.asking.remove(&hand) {
                    self.permitted(&hand, false);
                }
            }
            Message::Result { step, attempt, claim, outcome } => self.result(&step, attempt, claim, outcome),
        }
    }

    fn plan(&mut self, request: u32) {
        let limits = self.h.run.spec().limits.clone();
        let document = match self.h.run.current() {
            Some(version) if self.rng.chance(80) => {
                let plan = Arc::clone(version.plan.plan());
                plans::changed(&mut self.rng, &plan)
            }
            _ => plans::random(&mut self.rng),
        };
        let proposal = if self.has_faults && self.rng.chance(5) {
            Proposal::None { code: "no_producer".to_owned(), message: "there is no way".to_owned() }
        } else {
            plans::proposal(document, &limits)
        };
        let usage = foreplan_core::budget::Usage { model_calls: 1, ..Default::default() };
        self.send(Message::Planned(PlanReply {
            request,
            by: "sim".to_owned(),
            proposal,
            usage,
            calls: Vec::new(),
        }));
    }

    fn replan(&mut self, basis: u64) {
        let Some(version) = self.h.run.current() else { return };
        let plan = Arc::clone(version.plan.plan());
        let limits = self.h.run.spec().limits.clone();
        let changed = plans::changed(&mut self.rng, &plan);
        let proposal = Some(plans::proposal(changed, &limits));
        let (decision, proposal) = match self.rng.below(20) {
            0..4 => (ReplanDecision::Retry, None),
            4..7 => (ReplanDecision::Skip, None),
            7..13 => (ReplanDecision::Patch(Patch::default()), proposal),
            13..15 => (ReplanDecision::NewPlan { plan }, proposal),
            15..17 => (ReplanDecision::FullReplan, None),
            17 => (ReplanDecision::Ask { question: "what now?".to_owned() }, None),
            18 if self.rng.chance(50) => (ReplanDecision::Finish, None),
            18 => (ReplanDecision::Pass, None),
            _ => (ReplanDecision::Fail { reason: "enough".to_owned() }, None),
        };
        self.send(Message::Replanned(ReplanReply {
            basis,
            by: "sim".to_owned(),
            reason: "chance".to_owned(),
            decision,
            proposal,
            rule: None,
            usage: foreplan_core::budget::Usage::default(),
            calls: Vec::new(),
        }));
    }

    fn verdict(&mut self, step: &StepId) -> Readiness {
        let list = self.h.run.definition(step.as_str()).and_then(|s| s.for_each.as_ref());
        let items = list.map(|f| f.list.as_array().map_or(0, Vec::len) as u32);
        match (self.rng.below(30), items) {
            (0 | 1, _) => Readiness::Skip { reason: "when is false".to_owned() },
            (2, _) => Readiness::Fail(Failure::new(FailureKind::Plan, "when", "no such field")),
            (_, Some(items)) => Readiness::Items(items),
            (_, None) => Readiness::Go,
        }
    }

    /// A worker gets a step.
    fn work(&mut self, dispatch: &Dispatch) {
        let (step, attempt) = (dispatch.step.clone(), dispatch.attempt);
        let is_seen = !self.seen.insert((step.clone(), attempt));
        // What is said twice may be in two hands; what is delivered twice is not worked at.
        if is_seen && (dispatch.effect != Effect::Irreversible || self.rng.chance(50)) {
            let lost = Failure::new(FailureKind::WorkerLost, "worker_lost", "delivered again");
            return self.report(step, attempt, AttemptOutcome::Failure(lost));
        }
        if dispatch.verify {
            let permit = self.h.run.step(step.as_str()).and_then(|s| s.permit);
            let done = permit.is_some_and(|permit| self.checks.was_performed(&step, permit));
            let answer = if self.rng.chance(15) { json!("hm") } else { happened(done) };
            return self.report(step, attempt, AttemptOutcome::Output(Output::inline(answer)));
        }
        if dispatch.effect == Effect::Irreversible {
            self.claims += 1;
            let hand = Hand { step, attempt, claim: ClaimId(uuid::Uuid::from_u128(self.claims)) };
            self.asking.insert(hand.clone());
            let expires = self.h.now.plus(PERMIT_TTL);
            self.send_at(expires, Message::PermitExpired(hand.clone()));
            return self.send_loosely(Message::AskPermit(hand));
        }
        let outcome = match self.rng.below(20) {
            0..3 => AttemptOutcome::Failure(Failure::new(FailureKind::Tool, "broken", "it broke")),
            3 => {
                let failure = Failure::new(FailureKind::Tool, "hopeless", "it will not work");
                AttemptOutcome::Failure(failure.retryable(false))
            }
            4 if self.has_faults => return,
            _ => AttemptOutcome::Output(Output::inline(json!({"n": self.rng.below(3)}))),
        };
        self.report(step, attempt, outcome);
    }

    /// A worker was told whether it may make its irreversible call.
    fn permitted(&mut self, hand: &Hand, granted: bool) {
        let Hand { step, attempt, claim } = hand;
        let failed = |effect| {
            let failure = Failure::new(FailureKind::Tool, "broken", "it broke");
            AttemptOutcome::Failure(Failure { effect, ..failure })
        };
        if !granted {
            let denied = AttemptOutcome::Failure(permit_denied("chance"));
            return self.report_of(hand, denied);
        }
        let fate = self.rng.below(20);
        if fate < 15 {
            self.checks.perform(step, *attempt, *claim);
        }
        let outcome = match fate {
            0..9 => AttemptOutcome::Output(Output::inline(json!({"sent": true}))),
            9..11 => failed(None),
            11..13 => failed(Some(EffectState::Done)),
            13..=15 => return,
            16..18 => failed(None),
            _ => failed(Some(EffectState::None)),
        };
        self.report_of(hand, outcome);
    }

    fn report(&mut self, step: StepId, attempt: u32, outcome: AttemptOutcome) {
        self.send_loosely(Message::Result { step, attempt, claim: None, outcome });
    }

    fn report_of(&mut self, hand: &Hand, outcome: AttemptOutcome) {
        let Hand { step, attempt, claim } = hand.clone();
        self.send_loosely(Message::Result { step, attempt, claim: Some(claim), outcome });
    }

    /// The shell gets a worker's reply, judges it, and hands it in.
    fn result(&mut self, step: &StepId, attempt: u32, claim: Option<ClaimId>, outcome: AttemptOutcome) {
        let reply = self.h.reply(step.as_str(), attempt, outcome);
        let mut reply = AttemptReply { claim, ..reply };
        reply.usage.tool_calls = 1;
        for (step, readiness) in &mut reply.verdicts.ready {
            *readiness = self.verdict(step);
        }
        let is_output = matches!(reply.outcome, AttemptOutcome::Output(_));
        if is_output && self.rng.chance(5) {
            let gate = Failure::new(FailureKind::ExpectFailed, "expect", "it is not so");
            reply.verdicts = Verdicts { gate: Some(gate), ..Verdicts::default() };
        } else if is_output && self.rng.chance(1) {
            reply.verdicts.done = true;
        }
        self.handle(Input::Result(reply));
    }

    pub(crate) fn command(&mut self, kind: CommandKind) {
        self.commands += 1;
        let id = uuid::Uuid::from_u128(self.commands);
        let command = Command { id, by: "ann".to_owned(), kind };
        self.handle(Input::Command(command.clone()));
        if self.rng.chance(10) {
            self.handle(Input::Command(command));
        }
    }

    pub(crate) fn unlocked(&mut self, step: &StepId) -> Verdicts {
        let unlocked = self.h.run.unlocked_by(step.as_str());
        let ready = unlocked.into_iter().map(|step| (step.clone(), self.verdict(&step))).collect();
        Verdicts { ready, ..Verdicts::default() }
    }
}
