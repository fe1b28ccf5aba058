//! What the other agents send to a run: it is completed by what the shell finds out, and given to the core.

use std::sync::Arc;

use foreplan_bus::Receipt;
use foreplan_core::{
    input::{AttemptReply, Input, PlanReply, Proposal, ReplanReply, ReviewReply, Verdicts},
    map::IdMap,
    plan::Plan,
    run::Asked,
};
use foreplan_journal::Error;
use foreplan_protocol::{Message, PermitRequest, PlanOutcome, Reply};
use ractor::{ActorProcessingErr, ActorRef};

use crate::{
    judge::Job,
    proposal::{self, STEPS_CHECKED_INLINE},
    run_actor::{RunMessage, State},
};

impl State {
    /// Deals with a message; its receipt is settled once all that follows from it is durable.
    pub(crate) async fn message(
        &mut self,
        me: &ActorRef<RunMessage>,
        message: Message,
        receipt: Receipt,
    ) -> Result<(), ActorProcessingErr> {
        if self.keeps_up(&message).await? {
            self.complete(me, message, receipt);
        }
        Ok(())
    }

    fn complete(&mut self, me: &ActorRef<RunMessage>, message: Message, receipt: Receipt) {
        match message {
            Message::Reply { reply: Reply::Step(reply), .. } => self.result(me, reply, receipt),
            Message::Reply { reply: Reply::Plan { request, by, outcome, usage, calls }, .. } => {
                let reply = move |proposal| Input::Planned(PlanReply { request, by, proposal, usage, calls });
                match outcome {
                    PlanOutcome::Plan(plan) => self.check(me, plan, receipt, reply),
                    PlanOutcome::None { code, message, .. } => {
                        self.accept(reply(Proposal::None { code, message }), receipt)
                    }
                    PlanOutcome::Question { question } => {
                        self.accept(reply(Proposal::Question { question }), receipt)
                    }
                }
            }
            Message::Reply {
                reply: Reply::Replan { basis, by, reason, decision, rule, usage, calls },
                ..
            } => {
                let proposal = None;
                let reply = ReplanReply { basis, by, reason, decision, proposal, rule, usage, calls };
                self.replanned(me, reply, receipt)
            }
            Message::Reply { reply: Reply::Review { review, by, outcome, usage, calls }, .. } => {
                let verdicts = Verdicts::default();
                let reply = ReviewReply { review, by, outcome, usage, calls, verdicts };
                self.reviewed(me, reply, receipt)
            }
            Message::PermitRequest(ask) => {
                let PermitRequest { step, attempt, call, asker, .. } = ask;
                let input = Input::Permit { step, attempt, call, asker };
                self.accept(input, receipt)
            }
            Message::Input { input, .. } => {
                if input == Input::Wake {
                    self.told.parent = None;
                }
                self.accept(input, receipt)
            }
            Message::Plan(_)
            | Message::Replan(_)
            | Message::Review(_)
            | Message::Step(_)
            | Message::Cancel(_)
            | Message::PermitAnswer(_) => {
                tracing::warn!(run = %self.run.id(), "a message for another agent came to the tracker");
                receipt.settle();
            }
        }
    }

    /// Returns whether what a message answers was asked for in this state, or nowhere; `false` if that cannot be
    /// found out now. Unless it is so, the message is left to come again.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if another process carried the run on, and may have asked.
    async fn keeps_up(&mut self, message: &Message) -> Result<bool, Error> {
        if asked(message).is_none_or(|asked| self.run.has_asked(asked)) {
            return Ok(true);
        }
        let (run, seq) = (self.run.id(), self.run.seq());
        match self.shared.journal.read(run, seq).await {
            Ok(newer) if newer.is_empty() => Ok(true),
            Ok(_) => {
                let error = Error::Conflict { run, seq };
                self.stuck(&error);
                Err(error)
            }
            Err(error) => {
                tracing::debug!(%run, %error, "an answer to what was not asked here waits for the journal");
                Ok(false)
            }
        }
    }

    /// Checks the plan that a replanner's decision makes, if it makes one.
    fn replanned(&mut self, me: &ActorRef<RunMessage>, reply: ReplanReply, receipt: Receipt) {
        let current = self.run.current().map(|v| Arc::clone(v.plan.plan()));
        let plan = current.and_then(|current| proposal::decided_plan(&reply.decision, &current));
        let reply = move |proposal| Input::Replanned(ReplanReply { proposal, ..reply });
        match plan {
            None => self.accept(reply(None), receipt),
            Some(Ok(plan)) => self.check(me, plan, receipt, move |proposal| reply(Some(proposal))),
            Some(Err(message)) => {
                let proposal = Proposal::None { code: "patch".to_owned(), message };
                self.accept(reply(Some(proposal)), receipt)
            }
        }
    }

    /// Checks a plan, on the actor if it is small, and takes the input that the proposal completes.
    fn check(
        &mut self,
        me: &ActorRef<RunMessage>,
        plan: Arc<Plan>,
        receipt: Receipt,
        input: impl FnOnce(Proposal) -> Input + Send + 'static,
    ) {
        let spec = Arc::clone(self.run.spec());
        let inventory = (self.shared.inventories)(&spec.project);
        if let Some(proposal) = self.shared.proposals.find(&plan, &spec, &inventory) {
            return self.accept(input(proposal), receipt);
        }
        let is_small = plan.steps.len() <= STEPS_CHECKED_INLINE;
        let shared = Arc::clone(&self.shared);
        let propose = move || {
            let goals = shared.children.is_some();
            shared.proposals.make(plan, spec, inventory, goals)
        };
        if is_small {
            return self.accept(input(propose()), receipt);
        }
        let (me, version) = (me.clone(), self.version);
        tokio::task::spawn_blocking(move || {
            let input = Box::new(input(propose()));
            let _ = me.cast(RunMessage::Evaluated { version, input, inputs: IdMap::default(), receipt });
        });
    }

    /// Judges a worker's reply before the core sees it, so that one result is one entry.
    fn result(&mut self, me: &ActorRef<RunMessage>, reply: AttemptReply, receipt: Receipt) {
        let Some(job) = self.result_job(&reply) else {
            return self.accept(Input::Result(reply), receipt);
        };
        self.judged(me, job, receipt, move |verdicts| Input::Result(AttemptReply { verdicts, ..reply }))
    }

    /// Finds out what an accepted output unlocks before the core sees the review.
    fn reviewed(&mut self, me: &ActorRef<RunMessage>, reply: ReviewReply, receipt: Receipt) {
        let Some(job) = self.review_job(&reply) else {
            return self.accept(Input::Reviewed(reply), receipt);
        };
        self.judged(me, job, receipt, move |verdicts| Input::Reviewed(ReviewReply { verdicts, ..reply }))
    }

    fn judged(
        &mut self,
        me: &ActorRef<RunMessage>,
        job: Job,
        receipt: Receipt,
        input: impl FnOnce(Verdicts) -> Input + Send + 'static,
    ) {
        if job.is_light()
            && let Ok(judged) = job.judge()
        {
            self.inputs.extend(judged.inputs);
            return self.accept(input(judged.verdicts), receipt);
        }
        self.judge_elsewhere(me, job, receipt, move |judged| input(judged.verdicts));
    }
}

/// Returns what a message answers, if it answers something.
fn asked(message: &Message) -> Option<Asked<'_>> {
    match message {
        Message::Reply { reply: Reply::Step(reply), .. } => Some(Asked::Attempt(&reply.step, reply.attempt)),
        Message::Reply { reply: Reply::Plan { request, .. }, .. } => Some(Asked::Plan(*request)),
        Message::Reply { reply: Reply::Replan { basis, .. }, .. } => Some(Asked::Replan(*basis)),
        Message::Reply { reply: Reply::Review { review, .. }, .. } => Some(Asked::Review(*review)),
        Message::PermitRequest(ask) => Some(Asked::Attempt(&ask.step, ask.attempt)),
        Message::Input { input: Input::Child { step, attempt, .. }, .. } => {
            Some(Asked::Attempt(step, *attempt))
        }
        _ => None,
    }
}
