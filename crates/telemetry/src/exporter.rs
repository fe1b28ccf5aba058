//! Takes spans from journals to sinks, beside the agents and never in their way.
//!
//! Each sink has a task of its own. It is told which runs have new entries; it reads their journals
//! from where the sink has come to, derives the spans, sends them, and moves the sink's cursor on.
//! Nothing is queued but the names of runs: what a sink does not take stays in the journal.
//!
//! ```text
//!  notify(run) ──▶ waiting runs ──▶ read from the cursor ─▶ derive ─▶ send ─▶ advance the cursor
//!                       ▲                                             │
//!                       └──────── after a pause, if the sink is down ─┘
//! ```
//!
//! Some runs go together, so that they cost one look at the store, one wait for the disk and one
//! commit of their cursors.

mod sending;
mod source;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use foreplan_core::id::RunId;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

pub use source::{Lag, Move, Source, SourceError};

use crate::{Options, Sink};
use sending::Sending;

/// Runs of earlier processes that one process catches up with at once; the next ones follow.
const BACKLOG_MAX: usize = 256;

/// Runs that go together: enough to share what they cost, few enough that an exporter works for some
/// milliseconds only before it rests.
const TOGETHER_MAX: usize = 16;

/// Once no run has written anything for so long, nobody is kept waiting: an exporter rests no longer.
const QUIET: Duration = Duration::from_millis(250);

/// How fast an exporter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long entries are gathered before they are sent: a run that goes on is exported this often at
    /// most, whatever it writes.
    pub gather: Duration,
    /// How many times as long as it worked an exporter rests while runs go on: they go first. A burst is
    /// sent when it is over, and what is not sent yet is a lag.
    pub rest: u32,
    /// How long news of a run waits for others at most: then an exporter rests no more until it has sent what
    /// it was told of.
    pub lag: Duration,
    /// The first pause after a sink was down; each further one is twice as long.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// How long a run rests whose spans a sink refused.
    pub refused: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gather: Duration::from_millis(500),
            rest: 40,
            lag: Duration::from_secs(5),
            pause_min: Duration::from_millis(500),
            pause_max: Duration::from_secs(60),
            refused: Duration::from_secs(5 * 60),
        }
    }
}

/// What an exporter did and has not done yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExporterStats {
    /// The sink.
    pub sink: String,
    /// Spans that it took.
    pub spans: u64,
    /// Batches that it did not take.
    pub failures: u64,
    /// Runs with entries that it has not got.
    pub runs_behind: u64,
    /// Why it took nothing when it was last asked; absent: it took all.
    pub failing: Option<String>,
    /// Why it refused the spans of some runs, while it does.
    pub refused: Option<String>,
    /// Why the journals of some runs give no spans, while they do not: they are damaged.
    pub unreadable: Option<String>,
}

/// Exports the traces of one process's runs, in the background.
pub struct Exporter {
    lanes: Vec<Arc<Lane>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What one sink waits for.
#[derive(Debug, Default)]
struct Lane {
    state: Mutex<Waiting>,
    /// Something is to be done.
    work: Notify,
    /// Nobody wants to wait any longer.
    hurry: Notify,
    /// Something was done.
    done: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Runs of this pass.
    runs: VecDeque<RunId>,
    /// Runs that were told of since it began: their entries are gathered.
    gathering: VecDeque<RunId>,
    /// Those of both.
    known: HashSet<RunId>,
    /// Runs whose spans the sink refused, or whose journals give none, and when they are tried again.
    refused: Vec<(Instant, RunId)>,
    /// Runs of earlier processes: looked at when nothing else is to be done.
    backlog: VecDeque<RunId>,
    /// Whether the store is to be asked for more of them.
    reload: bool,
    /// Runs that are being exported.
    in_hand: usize,
    /// Whether the store is being asked.
    asks: bool,
    hurry: bool,
    /// When a run last had news.
    told: Option<Instant>,
    /// When this pass began.
    begun: Option<Instant>,
    stats: ExporterStats,
}

impl Exporter {
    /// Begins to export to some sinks.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    #[must_use]
    pub fn spawn(source: Arc<dyn Source>, sinks: Vec<Arc<dyn Sink>>, options: Options, pace: Pace) -> Self {
        let mut exporter = Self { lanes: Vec::new(), tasks: Vec::new() };
        for sink in sinks {
            let lane = Arc::new(Lane::default());
            {
                let mut state = lane.state.lock();
                state.stats.sink = sink.name().to_owned();
                state.reload = true;
            }
            let sending = Sending::new(Arc::clone(&source), sink, options.clone());
            exporter.lanes.push(Arc::clone(&lane));
            exporter.tasks.push(tokio::spawn(lane.run(sending, pace)));
        }
        exporter
    }

    /// Says that runs have new entries.
    pub fn notify(&self, runs: &[RunId]) {
        for lane in &self.lanes {
            let is_news = lane.state.lock().push_all(runs);
            if is_news {
                lane.work.notify_one();
            }
        }
    }

    /// Says that entries may have been missed: the store is asked for what the sinks have not got.
    pub fn catch_up(&self) {
        for lane in &self.lanes {
            lane.state.lock().reload = true;
            lane.work.notify_one();
        }
    }

    /// Returns once every sink has what it was told of, or does not take it. Returns whether all is
    /// there: what is not is a lag, and the next process catches up.
    pub async fn flush(&self, within: Duration) -> bool {
        let all = async {
            let mut complete = true;
            for lane in &self.lanes {
                complete &= lane.drained().await;
            }
            complete
        };
        tokio::time::timeout(within, all).await.unwrap_or(false)
    }

    /// Returns what each sink has got.
    #[must_use]
    pub fn stats(&self) -> Vec<ExporterStats> {
        self.lanes.iter().map(|lane| lane.state.lock().stats()).collect()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Waiting {
    /// Returns whether the run did not wait yet.
    fn push(&mut self, run: RunId) -> bool {
        let is_new = self.known.insert(run);
        if is_new {
            self.gathering.push_back(run);
        }
        is_new
    }

    fn push_all(&mut self, runs: &[RunId]) -> bool {
        if !runs.is_empty() {
            self.told = Some(Instant::now());
        }
        runs.iter().filter(|run| self.push(**run)).count() > 0
    }

    /// Returns what is done next.
    fn next(&mut self) -> Next {
        let now = Instant::now();
        if let Some(at) = self.refused.iter().position(|(until, _)| *until <= now) {
            let (_, run) = self.refused.swap_remove(at);
            self.push(run);
        }
        if !self.runs.is_empty() {
            let runs: Vec<RunId> = self.runs.drain(..self.runs.len().min(TOGETHER_MAX)).collect();
            for run in &runs {
                self.known.remove(run);
            }
            return Next::Runs(runs);
        }
        if !self.gathering.is_empty() {
            return Next::Gather;
        }
        let some = self.backlog.len().min(TOGETHER_MAX);
        if some == 0 { Next::Nothing } else { Next::Runs(self.backlog.drain(..some).collect()) }
    }

    /// Returns until when an exporter rests that may rest until `end`, if news waits for `lag` at most.
    fn rests_until(&self, end: Instant, lag: Duration) -> Option<Instant> {
        let until = self.told.map_or(end, |told| end.min(told + QUIET));
        let until = self.begun.map_or(until, |begun| until.min(begun + lag));
        (!self.hurry && until > Instant::now()).then_some(until)
    }

    /// Keeps what came of a run. Returns a pause if the sink is down.
    fn note(&mut self, run: RunId, exported: Exported, sink: &str, pace: Pace) -> Option<Option<Duration>> {
        match exported {
            Exported::All(spans) => {
                self.stats.spans += spans;
                self.stats.failing = None;
                if self.refused.is_empty() {
                    self.stats.refused = None;
                    self.stats.unreadable = None;
                }
                None
            }
            Exported::Refused(why) => {
                tracing::warn!(%run, sink, why, "spans were refused; they stay in the journal and are sent again later");
                self.stats.failures += 1;
                self.stats.refused = Some(why);
                self.refused.push((Instant::now() + pace.refused, run));
                None
            }
            Exported::Unreadable(why) => {
                tracing::warn!(%run, sink, why, "no spans are made of a damaged journal");
                self.stats.unreadable = Some(why);
                self.refused.push((Instant::now() + pace.refused, run));
                None
            }
            Exported::Down(why, after) => {
                if self.stats.failing.is_none() {
                    tracing::warn!(
                        sink,
                        why,
                        "the sink takes no spans; they stay in the journal until it does"
                    );
                }
                self.stats.failures += 1;
                self.stats.failing = Some(why);
                self.push(run);
                Some(after)
            }
            Exported::Untried => {
                self.push(run);
                None
            }
        }
    }

    fn stats(&self) -> ExporterStats {
        let waiting =
            self.runs.len() + self.gathering.len() + self.backlog.len() + self.refused.len() + self.in_hand;
        ExporterStats { runs_behind: waiting as u64, ..self.stats.clone() }
    }
}

/// What a lane does next.
enum Next {
    /// It exports runs: at least one.
    Runs(Vec<RunId>),
    /// It lets some time pass, and then exports what it was told of.
    Gather,
    /// It waits.
    Nothing,
}

/// What came of exporting a run.
enum Exported {
    /// The sink has all of it: so many spans.
    All(u64),
    /// The sink is down; ask again after this time at the earliest.
    Down(String, Option<Duration>),
    /// The sink does not take the run's spans.
    Refused(String),
    /// The run's journal gives none.
    Unreadable(String),
    /// Another run has shown that the sink is down.
    Untried,
}

impl Lane {
    async fn run(self: Arc<Self>, mut sending: Sending, pace: Pace) {
        let mut pause = pace.pause_min;
        loop {
            let next = {
                let mut state = self.state.lock();
                let next = state.next();
                state.in_hand = if let Next::Runs(runs) = &next { runs.len() } else { 0 };
                next
            };
            let runs = match next {
                Next::Runs(runs) => runs,
                Next::Gather => {
                    self.gather(pace.gather).await;
                    continue;
                }
                Next::Nothing => {
                    if !self.reload(&sending).await {
                        self.done.notify_waiters();
                        self.wait().await;
                    }
                    continue;
                }
            };
            let (exported, worked) = sending.export(&runs).await;
            match self.note(exported, sending.sink_name(), pace) {
                None => {
                    pause = pace.pause_min;
                    self.rest(worked * pace.rest, pace.lag).await;
                }
                Some(after) => {
                    self.done.notify_waiters();
                    tokio::time::sleep(after.unwrap_or(pause).min(pace.pause_max)).await;
                    pause = (pause * 2).min(pace.pause_max);
                }
            }
        }
    }

    /// Asks the store for runs of earlier processes, if that is due. Returns whether there are any.
    async fn reload(&self, sending: &Sending) -> bool {
        {
            let mut state = self.state.lock();
            if !std::mem::take(&mut state.reload) {
                return false;
            }
            state.asks = true;
        }
        let found = sending.behind(BACKLOG_MAX).await;
        let mut state = self.state.lock();
        state.asks = false;
        let is_full = found.len() == BACKLOG_MAX;
        let refused: HashSet<RunId> = state.refused.iter().map(|(_, run)| *run).collect();
        state.backlog = found.into_iter().filter(|run| !refused.contains(run)).collect();
        state.reload = is_full && !state.backlog.is_empty();
        !state.backlog.is_empty()
    }

    /// Keeps what came of runs. Returns a pause if the sink is down.
    fn note(&self, exported: Vec<(RunId, Exported)>, sink: &str, pace: Pace) -> Option<Option<Duration>> {
        let mut state = self.state.lock();
        state.in_hand = 0;
        let mut pause = None;
        for (run, exported) in exported {
            pause = pause.or(state.note(run, exported, sink, pace));
        }
        pause
    }

    /// Lets runs go first for some time: no longer than they go on, and than somebody can wait.
    async fn rest(&self, time: Duration, lag: Duration) {
        let end = Instant::now() + time;
        loop {
            let Some(until) = self.state.lock().rests_until(end, lag) else { return };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = self.hurry.notified() => return,
            }
        }
    }

    /// Waits a little, so that one batch takes several entries.
    async fn gather(&self, time: Duration) {
        if !self.state.lock().hurry {
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = self.hurry.notified() => {}
            }
        }
        let mut state = self.state.lock();
        state.begun = Some(Instant::now());
        let gathered = std::mem::take(&mut state.gathering);
        state.runs.extend(gathered);
    }

    /// Waits for something to do.
    async fn wait(&self) {
        let refused = self.state.lock().refused.iter().map(|(until, _)| *until).min();
        let again = async {
            match refused {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.work.notified() => {}
            () = again => {}
        }
    }

    /// Returns once nothing is left to be done, or cannot be done now; and whether all was done.
    async fn drained(&self) -> bool {
        self.state.lock().hurry = true;
        self.hurry.notify_one();
        self.work.notify_one();
        loop {
            let done = self.done.notified();
            {
                let state = self.state.lock();
                let is_told = !state.runs.is_empty() || !state.gathering.is_empty();
                let is_busy = state.in_hand > 0 || state.asks;
                let left = is_told || !state.backlog.is_empty() || state.reload || is_busy;
                if state.stats.failing.is_some() || !left {
                    return !left && state.refused.is_empty();
                }
            }
            done.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_exporter_rests_while_runs_go_on_and_no_longer_than_their_news_may_wait() {
        let (run, lag) = (RunId(uuid::Uuid::from_u128(1)), Pace::default().lag);
        let mut waiting = Waiting { begun: Some(Instant::now()), ..Waiting::default() };
        let end = Instant::now() + 2 * lag;
        while Instant::now() + QUIET < waiting.begun.unwrap() + lag {
            waiting.push_all(&[run]);
            assert_eq!(waiting.rests_until(end, lag), Some(Instant::now() + QUIET));
            tokio::time::advance(QUIET / 2).await;
        }
        tokio::time::advance(QUIET).await;
        waiting.push_all(&[run]);
        assert_eq!(waiting.rests_until(end, lag), None);
    }
}
