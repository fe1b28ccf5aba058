//! What a run's actor has decided and not yet recorded or done: the entries of several inputs are one write,
//! and nothing that follows from them is done before it is durable.

use std::{collections::VecDeque, sync::Arc};

use foreplan_bus::Receipt;
use foreplan_core::{
    action::Action,
    event::Entry,
    input::Input,
    run::{Rejection, Run},
};
use foreplan_journal::Progress;
use ractor::{ActorProcessingErr, ActorRef};

use crate::{
    handle::Standing,
    perform::progress,
    run_actor::{RunMessage, State},
};

/// Decisions that wait for one write.
#[derive(Default)]
pub(crate) struct Decided {
    entries: Vec<(Arc<Entry>, Progress)>,
    actions: VecDeque<Action>,
    /// Of messages whose inputs are among the entries, or came too late.
    receipts: Vec<Receipt>,
}

impl State {
    /// Decides about one input. Nothing is recorded or done before [`State::carry_out`].
    pub(crate) fn decide(&mut self, input: Input) -> Result<(), Rejection> {
        let seq = self.run.seq();
        let decision = Arc::make_mut(&mut self.run).handle(self.shared.now(), &input)?;
        if !decision.events.is_empty() {
            let entry = Arc::new(Run::entry(seq, self.run.at(), input, decision.events));
            self.decided.entries.push((entry, progress(&self.run)));
        }
        self.decided.actions.extend(decision.actions);
        self.see_version();
        Ok(())
    }

    /// Decides about an input that cannot be sent back: a rejection is a late message.
    pub(crate) fn accept(&mut self, input: Input, receipt: Receipt) {
        if let Err(rejection) = self.decide(input) {
            tracing::debug!(run = %self.run.id(), %rejection, "an input came too late");
        }
        self.decided.receipts.push(receipt);
    }

    /// The same, for an input that nobody waits for.
    pub(crate) async fn take(
        &mut self,
        me: &ActorRef<RunMessage>,
        input: Input,
    ) -> Result<(), ActorProcessingErr> {
        self.accept(input, Receipt::none());
        self.carry_out(me, Vec::new()).await
    }

    /// Forgets what belonged to a plan version that is no longer in force.
    pub(crate) fn see_version(&mut self) {
        if self.version != self.run.plan_version() {
            self.version = self.run.plan_version();
            self.inputs.clear();
            self.schemas.clear();
        }
    }

    /// Records what was decided, does what follows from it, and from this in turn, and tells the senders.
    pub(crate) async fn carry_out(
        &mut self,
        me: &ActorRef<RunMessage>,
        actions: Vec<Action>,
    ) -> Result<(), ActorProcessingErr> {
        self.decided.actions.extend(actions);
        while !(self.decided.actions.is_empty() && self.decided.entries.is_empty()) {
            let mut actions = self.evaluate_all(me);
            self.write().await?;
            let mut sending = Vec::new();
            while let Some(action) = actions.pop_front() {
                match action {
                    Action::RunStep(dispatch) => sending.extend(self.dispatch(dispatch)),
                    Action::RequestReview { review, of } => self.ask_reviewer(review, of).await,
                    Action::RunGoal { step, attempt, max } => self.run_goal(step, attempt, max),
                    Action::TellChild { step, attempt, order } => self.tell_child(&step, attempt, order),
                    other => self.shared.perform(&self.run, other).await,
                }
            }
            self.sent(sending).await;
        }
        self.decided.receipts.drain(..).for_each(Receipt::settle);
        Ok(())
    }

    /// Evaluates what can be on the actor, decides about it, and returns the actions that are left.
    fn evaluate_all(&mut self, me: &ActorRef<RunMessage>) -> VecDeque<Action> {
        let mut left = VecDeque::new();
        while let Some(action) = self.decided.actions.pop_front() {
            match action {
                Action::Evaluate { steps } => {
                    if let Some(input) = self.evaluate(me, steps) {
                        self.accept(input, Receipt::none());
                    }
                }
                other => left.push_back(other),
            }
        }
        left
    }

    /// Makes what was decided durable.
    async fn write(&mut self) -> Result<(), ActorProcessingErr> {
        if self.decided.entries.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.decided.entries);
        if let Err(error) = self.shared.journal.append_all(self.run.id(), entries.clone()).await {
            self.decided = Decided::default();
            self.refused(entries.iter().map(|(entry, _)| entry.as_ref()), &error);
            return Err(error.into());
        }
        if std::mem::take(&mut self.is_stuck) {
            self.shared.standings.set(self.run.id(), Standing::Active);
        }
        for (entry, row) in entries {
            self.bury_killers(&entry.events).await;
            self.shared.tell(self.run.id(), entry, row.status);
        }
        Ok(())
    }
}
