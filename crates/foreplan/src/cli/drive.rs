//! Carrying a run on in the foreground: progress, questions, Ctrl-C, the result.

use std::sync::Arc;

use foreplan_core::{
    event::{Entry, Event, RunFailure},
    id::RunId,
    input::CommandKind,
    run::Run,
    view::{RunView, Status, WaitKind},
};
use foreplan_tracker::Progress;
use futures::StreamExt as _;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    ask, error::Failure, exit::Exit, live::Live, notify, render, render::list::short, session::Session,
    signals::Signals,
};
use crate::system;

/// What became of carrying a run on.
enum Stood {
    /// It has ended, waits for a person, or is paused.
    Still(Box<RunView>),
    /// Another process carries it on.
    Elsewhere(String),
    /// This process was told to stop.
    Stopped(Exit),
}

/// Shows the entries of a run as they come, and knows how far it is.
struct Follow {
    run: RunId,
    state: Option<Run>,
    live: Live,
}

impl Session {
    /// Carries a run on until it ends or waits, shows progress, asks where somebody can be asked,
    /// and prints what came of it. `progress` was opened before the run could move.
    ///
    /// # Errors
    ///
    /// If it cannot be carried on.
    pub(crate) async fn carry_on(
        &mut self,
        run: RunId,
        mut progress: broadcast::Receiver<Progress>,
    ) -> Result<Exit, Failure> {
        let mut signals = Signals::new()?;
        loop {
            let view = match self.stand(run, &mut progress, &mut signals).await? {
                Stood::Still(view) => *view,
                Stood::Elsewhere(by) => return Ok(self.elsewhere(run, &by)),
                Stood::Stopped(exit) => return Ok(exit),
            };
            let Some(kind) = self.ask(&view).await? else { return self.finish(&view).await };
            let by = self.by.clone();
            match self.system.command(run, &by, kind).await {
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

    /// Carries several runs on at once.
    ///
    /// # Errors
    ///
    /// If one cannot be carried on.
    pub(crate) async fn carry_all(&mut self, runs: Vec<RunId>) -> Result<Exit, Failure> {
        let mut signals = Signals::new()?;
        let system = self.system.clone();
        let mut driving: futures::stream::FuturesUnordered<_> = runs
            .into_iter()
            .map(|run| {
                let system = system.clone();
                async move { (run, system.drive(run).await) }
            })
            .collect();
        let mut progress = self.system.progress();
        let mut live = Live::new(&self.output);
        let mut worst = Exit::Ok;
        loop {
            tokio::select! {
                biased;
                told = progress.recv() => {
                    let Ok(told) = told else { continue };
                    for mut line in render::progress::lines(&told.entry) {
                        line.message = format!("{}  [{}]", line.message, short(told.run)).trim_start().to_owned();
                        live.show(&mut self.output, told.run, &line);
                    }
                }
                done = driving.next() => {
                    let Some((run, outcome)) = done else { return Ok(worst) };
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

    async fn stand(
        &mut self,
        run: RunId,
        progress: &mut broadcast::Receiver<Progress>,
        signals: &mut Signals,
    ) -> Result<Stood, Failure> {
        let system = self.system.clone();
        let driving = system.drive(run);
        tokio::pin!(driving);
        let mut follow = Follow { run, state: self.state(run).await.ok(), live: Live::new(&self.output) };
        loop {
            tokio::select! {
                biased;
                told = progress.recv() => match told {
                    Ok(told) if told.run == run => follow.show(self, &told.entry),
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Err(Failure::new(Exit::Internal, "the system has stopped")),
                },
                outcome = &mut driving => {
                    while let Ok(told) = progress.try_recv() {
                        if told.run == run {
                            follow.show(self, &told.entry);
                        }
                    }
                    follow.live.clear();
                    return match outcome {
                        Ok(outcome) => Ok(Stood::Still(Box::new(self.output.hints.fill(outcome.into_view())))),
                        Err(system::Error::Owned { by }) => Ok(Stood::Elsewhere(by)),
                        Err(error) => Err(self.refused(run, error)),
                    };
                }
                exit = signals.next() => {
                    follow.live.clear();
                    return Ok(Stood::Stopped(self.stop(Some(run), exit, signals).await));
                }
            }
        }
    }

    /// Lets the work in hand end, leaves the run to the next process, and says how to go on. A second
    /// signal ends the work.
    async fn stop(&mut self, run: Option<RunId>, exit: Exit, signals: &mut Signals) -> Exit {
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
            WaitKind::UnknownOutcome => Ok(None),
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
            self.show_what_waits(&view).await?;
        }
        if self.output.is_json() {
            self.output.line(&view);
        } else {
            self.output.note(&render::run::ending(&look, &view));
            if !view.waiting.is_empty() {
                self.output.note(&render::run::waiting(&look, &view));
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

impl Follow {
    fn show(&mut self, session: &mut Session, entry: &Entry) {
        for line in render::progress::lines(entry) {
            self.live.show(&mut session.output, self.run, &line);
        }
        match &mut self.state {
            Some(state) if state.seq() == entry.seq => {
                state.fold(entry);
                let (done, all) = state.progress();
                self.live.counted(done as usize, all as usize);
            }
            _ => {}
        }
    }
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
