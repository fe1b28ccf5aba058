//! Shows the entries of a run once each and in order, however they arrive.
//!
//! News comes by a channel that may lag or be late; the journal has everything. An entry that comes
//! out of turn makes the journal be read from where the screen is.

use std::collections::BTreeSet;

use foreplan_core::{
    event::Entry,
    id::{RunId, StepId},
    run::Run,
    view::StepStatus,
};

use super::{error::Failure, live::Live, render, render::list::short, session::Session};

/// How far the screen is with a run.
pub(crate) struct Follow {
    /// The run.
    pub(crate) run: RunId,
    state: Option<Run>,
    next: u64,
    is_one_of_many: bool,
    /// Attempts whose workers were named.
    named: BTreeSet<(StepId, u32)>,
}

impl Follow {
    /// Begins to follow a run behind its first `seen` entries.
    ///
    /// # Errors
    ///
    /// If its journal cannot be read.
    pub(crate) async fn from(session: &Session, run: RunId, seen: u64) -> Result<Self, Failure> {
        let entries = session.entries(run).await?;
        let seen_entries = entries.iter().take_while(|entry| entry.seq < seen);
        let state = Run::replay(run, seen_entries.map(AsRef::as_ref));
        Ok(Self { run, state, next: seen, is_one_of_many: false, named: BTreeSet::new() })
    }

    /// Names the run in every line.
    pub(crate) fn one_of_many(mut self) -> Self {
        self.is_one_of_many = true;
        self
    }

    /// Shows an entry that is told of, and those before it that were missed.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    pub(crate) async fn told(
        &mut self,
        session: &mut Session,
        live: &mut Live,
        entry: &Entry,
    ) -> Result<(), Failure> {
        if entry.seq > self.next {
            return self.catch_up(session, live).await;
        }
        self.show(session, live, entry);
        Ok(())
    }

    /// Shows everything that the journal has and the screen has not.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    pub(crate) async fn catch_up(&mut self, session: &mut Session, live: &mut Live) -> Result<(), Failure> {
        let entries = session.system.store().journal.read(self.run, self.next).await?;
        for entry in &entries {
            self.show(session, live, entry);
        }
        Ok(())
    }

    /// Names the workers that have steps in hand, once for each attempt.
    pub(crate) fn name_workers(&mut self, session: &mut Session, live: &mut Live) {
        for held in session.system.in_hand(self.run) {
            if self.named.insert((held.step.clone(), held.attempt)) {
                let line = render::progress::Line {
                    at: held.since,
                    step: Some(held.step),
                    status: Some(StepStatus::Running),
                    message: format!("at {}", held.worker),
                    took: None,
                };
                live.show(&mut session.output, self.run, &line);
            }
        }
    }

    /// Returns the run as far as it was shown.
    pub(crate) fn state(&self) -> Option<&Run> {
        self.state.as_ref()
    }

    fn show(&mut self, session: &mut Session, live: &mut Live, entry: &Entry) {
        if entry.seq != self.next {
            return;
        }
        self.next += 1;
        match &mut self.state {
            Some(state) => state.fold(entry),
            None => self.state = Run::replay(self.run, [entry]),
        }
        for mut line in render::progress::lines(entry) {
            if self.is_one_of_many {
                line.message = format!("{}  [{}]", line.message, short(self.run)).trim_start().to_owned();
            }
            live.show(&mut session.output, self.run, &line);
        }
        if let Some(state) = self.state.as_ref().filter(|_| !self.is_one_of_many) {
            let (done, all) = state.progress();
            live.counted(done as usize, all as usize);
        }
    }
}
