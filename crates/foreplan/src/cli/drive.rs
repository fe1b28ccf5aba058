//! Carrying a run on in the foreground: progress, questions, Ctrl-C, the result.

use std::{collections::BTreeMap, sync::Arc};

use foreplan_core::{
    event::{Event, RunFailure},
    id::RunId,
    input::CommandKind,
    view::{RunView, Status, WaitKind},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::broadcast::error::RecvError;

use super::{
    ask, error::Failure, exit::Exit, follow::Follow, live::Live, notify, render, session::Session,
    signals::Signals,
};
use crate::system::{self, System};

/// What became of carrying a run on.
enum Stood {
    /// It has ended, waits for a person, or is paused.
    Still(Box<RunView>),
    /// Another process carries it on.
    Elsewhere(String),
    /// This process was told to stop.
    Stopped(Exit),
}

impl Session {
    /// Carries a run on until it ends or waits, shows progress, asks where somebody can be asked,
    /// and prints what came of it. Of the run's entries the first `seen` are not shown.
    ///
    /// # Errors
    ///
    /// If it cannot be carried on.
    pub(crate) async fn carry_on(&mut self, run: RunId, seen: u64) -> Result<Exit, Failure> {
        let mut signals = Signals::new()?;
        let mut follow = Follow::from(self, run, seen).await?;
        loop {
            let view = match self.stand(&mut follow, &mut signals).await? {
                Stood::Still(view) => *view,
                Stood::Elsewhere(by) => return Ok(self.elsewhere(run, &by)),
                Stood::Stopped(exit) => return Ok(exit),
            };
            let asks = self.who_waits(&view).await?;
            let Some(kind) = self.ask(&asks).await? else {
                let exit = self.finish(&view).await?;
                return match view.parent.as_ref().filter(|_| view.status.is_ended()) {
                    Some(parent) => Box::pin(self.carry_on_parent(parent.run)).await,
                    None => Ok(exit),
                };
            };
            let by = self.by.clone();
            match self.system.command(asks.run, &by, kind).await {
                Ok(()) => {}
                // Somebody else was faster, or the answer does not fit: look again.
                Err(error @ (system::Error::Rejected(_) | system::Error::Refused(_))) => {
                    let failure = self.refused(run, error);
                    self.output.failure(&failure);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Carries the run on that an ended one was a step of.
    async fn carry_on_parent(&mut self, parent: RunId) -> Result<Exit, Failure> {
        let seen = self.system.entries(parent).await?.len() as u64;
        self.output.note(&format!("It was a step of run {parent}, which goes on."));
        self.carry_on(parent, seen).await
    }

    /// Returns the run that waits for a person: this one, or the child run that it waits for.
    async fn who_waits(&self, view: &RunView) -> Result<RunView, Failure> {
        let mut waits = view.clone();
        while let Some(child) = waits.child_that_waits() {
            waits = self.output.hints.fill(self.system.view(child).await?);
        }
        Ok(waits)
    }

    /// Carries several runs on at once. Of the entries of each the first ones, as many as are given,
    /// are not shown.
    ///
    /// # Errors
    ///
    /// If a journal cannot be read.
    pub(crate) async fn carry_all(&mut self, runs: Vec<(RunId, u64)>) -> Result<Exit, Failure> {
        let mut signals = Signals::new()?;
        let mut progress = self.system.progress();
        let mut follows = BTreeMap::new();
        for (run, seen) in runs {
            follows.insert(run, Follow::from(self, run, seen).await?.one_of_many());
        }
        let mut driving: FuturesUnordered<_> =
            follows.keys().map(|run| drive(self.system.clone(), *run)).collect();
        let mut live = Live::new(&self.output);
        let mut worst = Exit::Ok;
        loop {
            tokio::select! {
                biased;
                told = progress.recv() => {
                    if let Ok(told) = told && let Some(follow) = follows.get_mut(&told.run) {
                        follow.told(self, &mut live, &told.entry).await?;
                    }
                }
                done = driving.next() => {
                    let Some((run, outcome)) = done else { return Ok(worst) };
                    if let Some(follow) = follows.get_mut(&run) {
                        follow.catch_up(self, &mut live).await?;
                    }
                    live.clear();
                    let exit = match outcome {
                        Ok(outcome) => self.finish(&outcome.into_view()).await?,
                        Err(system::Error::Owned { by }) => self.elsewhere(run, &by),
                        Err(error) => self.output.failure(&error.into()),
                    };
                    worst = worse(worst, exit);
                }
                exit = signals.next() => {
                    live.clear();
                    return Ok(self.stop(None, exit, &mut signals).await);
                }
            }
        }
    }

    async fn stand(&mut self, follow: &mut Follow, signals: &mut Signals) -> Result<Stood, Failure> {
        let run = follow.run;
        if let Some(by) = self.owner_elsewhere(run).await? {
            return Ok(Stood::Elsewhere(by));
        }
        let mut progress = self.system.progress();
        let mut live = Live::new(&self.output);
        let driving = drive(self.system.clone(), run);
        tokio::pin!(driving);
        follow.catch_up(self, &mut live).await?;
        loop {
            tokio::select! {
                biased;
                told = progress.recv() => match told {
                    Ok(told) if told.run == run => follow.told(self, &mut live, &told.entry).await?,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => follow.catch_up(self, &mut live).await?,
                    Err(RecvError::Closed) => return Err(Failure::new(Exit::Internal, "the system has stopped")),
                },
                (_, outcome) = &mut driving => {
                    follow.catch_up(self, &mut live).await?;
                    live.clear();
                    return match outcome {
                        Ok(outcome) => Ok(Stood::Still(Box::new(self.output.hints.fill(outcome.into_view())))),
                        Err(system::Error::Owned { by }) => Ok(Stood::Elsewhere(by)),
                        Err(error) => Err(self.refused(run, error)),
                    };
                }
                exit = signals.next() => {
                    live.clear();
                    return Ok(Stood::Stopped(self.stop(Some(run), exit, signals).await));
                }
            }
        }
    }

    /// Returns the living process that carries the run on, if it is another one.
    async fn owner_elsewhere(&self, run: RunId) -> Result<Option<String>, Failure> {
        if self.system.is_remote() {
            return Ok(None);
        }
        let store = self.system.store();
        let owner = store.journal.find(run).await?.and_then(|record| record.owner);
        Ok(owner.filter(|owner| owner != store.owner() && store.journal.owner_is_alive(owner)))
    }

    /// Lets the work in hand end, leaves the run to the next process, and says how to go on. A second
    /// signal ends the work.
    async fn stop(&mut self, run: Option<RunId>, exit: Exit, signals: &mut Signals) -> Exit {
        if self.system.is_remote() {
            let watch = run.map(|run| self.output.hints.run("watch", run, &[]));
            self.output.note(&format!(
                "The deployment carries the run on. Follow it: {}",
                watch.unwrap_or_else(|| self.output.hints.command("runs", &[]))
            ));
            return exit;
        }
        self.output.note("Stopping after the steps in flight; Ctrl-C again ends them.");
        let system = self.system.clone();
        let ending = system.shutdown();
        tokio::pin!(ending);
        loop {
            tokio::select! {
                () = &mut ending => break,
                _ = signals.next() => {
                    if signals.count() > 2 {
                        return exit;
                    }
                    self.output.note("Ending the steps in flight.");
                    system.abandon_work().await;
                }
            }
        }
        let Some(run) = run else {
            self.output
                .note(&format!("Suspended. Resume: {}", self.output.hints.command("resume", &["--all"])));
            return exit;
        };
        if let Ok(state) = self.state(run).await {
            if state.status().is_ended() {
                return exit;
            }
            let (done, all) = state.progress();
            let resume = self.output.hints.run("resume", run, &[]);
            self.output.note(&format!("Run {run} suspended at step {done}/{all}. Resume: {resume}"));
        }
        exit
    }

    fn elsewhere(&mut self, run: RunId, by: &str) -> Exit {
        let watch = self.output.hints.run("watch", run, &[]);
        self.output.note(&format!("Process {by} carries run {run} on. Follow it: {watch}"));
        Exit::Ok
    }

    /// Asks the person at the terminal what the run asks, if there is one.
    async fn ask(&mut self, view: &RunView) -> Result<Option<CommandKind>, Failure> {
        let Some(wait) = view.waiting_for.as_ref().filter(|_| self.output.can_ask()) else { return Ok(None) };
        match wait.kind {
            WaitKind::PlanApproval | WaitKind::ReplanApproval | WaitKind::StepApproval => {
                self.show_what_waits(view).await?;
                let yes = ask::yes(&self.output, "Approve? Only `yes` is accepted: ").await;
                Ok(wait
                    .digest
                    .filter(|_| yes)
                    .map(|digest| CommandKind::Approve { step: wait.step.clone(), digest }))
            }
            WaitKind::Question => {
                let Some(step) = wait.step.clone() else { return Ok(None) };
                self.output.note(&render::run::what(wait));
                let answer = ask::line(&self.output, "Your answer (empty: later): ").await;
                let Some(text) = answer.filter(|text| !text.is_empty()) else { return Ok(None) };
                let value = Arc::new(ask::answer(&text, wait.schema.as_ref())?);
                Ok(Some(CommandKind::Answer { step, value, verdicts: Default::default() }))
            }
            WaitKind::UnknownOutcome | WaitKind::ChildRun => Ok(None),
        }
    }

    /// Shows the plan, the change or the step that waits for an approval.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    pub(crate) async fn show_what_waits(&mut self, view: &RunView) -> Result<(), Failure> {
        let Some(wait) = &view.waiting_for else { return Ok(()) };
        let look = self.output.look_stderr();
        let versions = super::history::versions(&self.entries(view.run).await?);
        let text = match (wait.kind, versions.last()) {
            (WaitKind::PlanApproval, Some(version)) => {
                render::plan::review(&look, &version.review(&view.goal))
            }
            (WaitKind::ReplanApproval, Some(version)) => {
                let old = version.parent.and_then(|p| versions.iter().find(|v| v.number == p && v.adopted));
                match old {
                    Some(old) => render::diff::versions(&look, old, version),
                    None => render::plan::review(&look, &version.review(&view.goal)),
                }
            }
            (WaitKind::StepApproval, _) => {
                format!("{}\n{}", render::run::what(wait), render::run::steps(&look, view))
            }
            _ => return Ok(()),
        };
        self.output.note(&format!("\n{text}"));
        let plan = matches!(wait.kind, WaitKind::PlanApproval | WaitKind::ReplanApproval)
            .then(|| versions.last().map(|version| version.number))
            .flatten();
        for review in view.reviews.iter().filter(|review| plan.is_some() && review.version == plan) {
            self.output.note(&render::run::opinion(&look, review));
        }
        Ok(())
    }

    /// Prints what came of a run, tells whom the project names, and returns what to exit with.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    pub(crate) async fn finish(&mut self, view: &RunView) -> Result<Exit, Failure> {
        let view = self.output.hints.fill(view.clone());
        let look = self.output.look_stderr();
        if !self.output.can_ask() && matches!(view.status, Status::Waiting) && !self.output.is_json() {
            let waits = self.who_waits(&view).await?;
            self.show_what_waits(&waits).await?;
        }
        if self.output.is_json() {
            self.output.line(&view);
        } else {
            self.output.note(&render::run::ending(&look, &view));
            if !view.waiting.is_empty() {
                self.output.note(&render::run::waiting(&look, &view));
                let waits = self.who_waits(&view).await?;
                if waits.run != view.run {
                    self.output.note(&format!("Run {}:\n{}", waits.run, render::run::waiting(&look, &waits)));
                }
            } else if let Some(next) = look.hints.next(&view) {
                self.output.note(&format!("Next: {next}"));
            }
            if let Some(result) = view.result.as_ref().filter(|_| view.status == Status::Succeeded) {
                self.output.result(&format!("{}\n", render::value(result)));
            }
        }
        if let Some(section) = &self.place.project.file().notify
            && let Err(error) = notify::notify(section, &look.hints, &view).await
        {
            self.output.note(&format!("note: {error}"));
        }
        Ok(Exit::of(&view, self.failure(view.run).await?.as_ref()))
    }

    async fn failure(&self, run: RunId) -> Result<Option<RunFailure>, Failure> {
        let entries = self.entries(run).await?;
        let events = entries.iter().rev().flat_map(|entry| entry.events.iter().rev());
        Ok(events.into_iter().find_map(|event| match event {
            Event::RunFailed { reason } => Some(reason.clone()),
            _ => None,
        }))
    }
}

async fn drive(system: System, run: RunId) -> (RunId, Result<system::Outcome, system::Error>) {
    (run, system.drive(run).await)
}

/// Returns what several runs together exit with: a failure before a wait before success.
fn worse(a: Exit, b: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Ok => 0,
        Exit::Waiting => 1,
        _ => 2,
    };
    if rank(b) > rank(a) { b } else { a }
}
