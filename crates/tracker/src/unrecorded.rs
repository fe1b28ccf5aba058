//! What a run could not record, since its journal cannot be written: a full disk, a server that is away.
//!
//! Nobody sends a result again that was delivered. So the actor keeps it, takes the state of the journal, to
//! which the input it keeps is still to come, and tries again after a while.

use std::time::Duration;

use foreplan_bus::Receipt;
use foreplan_core::{action::Action, event::Entry, input::Input, map::IdMap, run::Run};
use foreplan_journal::Error;
use ractor::{ActorProcessingErr, ActorRef};

use crate::{
    decided::Decided,
    handle::Standing,
    run_actor::{RunMessage, State},
};

/// How long a run rests whose journal could not be used: a server that starts again takes about as
/// long, and a tracker that lost its runs has forgotten them by then.
pub(crate) const JOURNAL_PAUSE: Duration = Duration::from_secs(3);

/// Messages that wait until the journal can be written: a result for each attempt in flight, and the few
/// others that a run gets meanwhile.
#[derive(Default)]
pub(crate) struct Unrecorded {
    messages: Vec<RunMessage>,
    /// Whether it is tried again by itself.
    is_timed: bool,
    /// The sequence of the first entry that the journal did not take.
    from: u64,
}

impl State {
    /// Notes that the journal did not take these entries.
    pub(crate) fn refused<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>, error: &Error) {
        if matches!(error, Error::Conflict { .. }) {
            self.unrecorded = None;
        } else {
            let mut entries = entries.peekable();
            let from = entries.peek().map_or(0, |first| first.seq);
            self.unrecorded.get_or_insert_default().from = from;
            entries.for_each(|entry| self.keep(&entry.cause));
        }
        self.stuck(error);
    }

    /// Says that the run cannot be carried on here, for now.
    pub(crate) fn stuck(&mut self, error: &Error) {
        let lost = matches!(error, Error::Conflict { .. });
        self.is_stuck = true;
        self.shared.standings.set(self.run.id(), Standing::Stuck { why: error.to_string(), lost });
    }

    /// Keeps an input if nobody would send it again.
    fn keep(&mut self, input: &Input) {
        let version = self.version;
        let unrecorded = self.unrecorded.get_or_insert_default();
        match input {
            Input::Planned(_)
            | Input::Result(_)
            | Input::Replanned(_)
            | Input::Reviewed(_)
            | Input::Child { .. }
            | Input::Takeover { .. } => unrecorded.messages.push(RunMessage::Evaluated {
                version,
                input: Box::new(input.clone()),
                inputs: IdMap::default(),
                receipt: Receipt::none(),
            }),
            // Whoever gave the command is told; the asker of a permit gives up; the others follow from the
            // state.
            Input::Command(_)
            | Input::Permit { .. }
            | Input::Evaluated { .. }
            | Input::Wake
            | Input::Submit { .. } => {}
        }
    }

    /// Returns a message, unless it has to wait behind what was not recorded.
    pub(crate) fn unless_unrecorded(&mut self, message: RunMessage) -> Option<RunMessage> {
        match (&mut self.unrecorded, message) {
            (
                Some(unrecorded),
                message @ (RunMessage::Bus(..) | RunMessage::Arrived(_) | RunMessage::Evaluated { .. }),
            ) => {
                unrecorded.messages.push(message);
                None
            }
            (_, message) => Some(message),
        }
    }

    /// Goes back to what the journal holds, if this is about an input that it did not take.
    ///
    /// # Errors
    ///
    /// The error, if the journal took an entry all the same, so that what follows from it is still to be asked
    /// for; if it cannot be read either; or if this is about something else.
    pub(crate) async fn set_back(
        &mut self,
        me: &ActorRef<RunMessage>,
        error: ActorProcessingErr,
    ) -> Result<(), ActorProcessingErr> {
        let Some(from) = self.unrecorded.as_ref().map(|unrecorded| unrecorded.from) else {
            return Err(error);
        };
        let Ok(entries) = self.shared.journal.read(self.run.id(), 0).await else { return Err(error) };
        let folded = Run::replay(self.run.id(), entries.iter().map(AsRef::as_ref));
        let Some(mut run) = folded.filter(|folded| folded.seq() == from && from < self.run.seq()) else {
            return Err(error);
        };
        tracing::warn!(run = %self.run.id(), %error, "the run waits until its journal can be written");
        if self.run.is_held() {
            run.hold();
        }
        self.run = run.into();
        self.decided = Decided::default();
        self.see_version();
        if let Some(unrecorded) = &mut self.unrecorded
            && !std::mem::replace(&mut unrecorded.is_timed, true)
        {
            drop(me.send_after(JOURNAL_PAUSE, || RunMessage::Again));
        }
        Ok(())
    }

    /// Takes what was kept, and finds out anew what can start.
    pub(crate) async fn record_again(&mut self, me: &ActorRef<RunMessage>) -> Result<(), ActorProcessingErr> {
        for message in self.unrecorded.take().unwrap_or_default().messages {
            let _ = me.cast(message);
        }
        if self.run.is_held() {
            return Ok(());
        }
        let mut actions = self.run.outstanding();
        actions.retain(|action| matches!(action, Action::Evaluate { .. }));
        self.carry_out(me, actions).await?;
        self.take(me, Input::Wake).await
    }

    /// Returns how many attempts are in flight whose results can be recorded.
    pub(crate) fn in_flight(&self) -> u32 {
        if self.unrecorded.is_some() { 0 } else { self.run.in_flight() }
    }

    /// Returns whether nothing happens by itself.
    pub(crate) fn is_idle(&self) -> bool {
        self.run.is_idle() && self.unrecorded.as_ref().is_none_or(|unrecorded| unrecorded.messages.is_empty())
    }
}
