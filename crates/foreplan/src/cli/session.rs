//! One command's connection to the runs of a project: opens the store, names runs, and says what
//! went wrong.

use std::{path::Path, sync::Arc};

#[cfg(feature = "nats")]
use foreplan_core::tool::InventorySource as _;
use foreplan_core::{event::Entry, id::RunId, run::Rejection, run::Run, view::RunView};
use foreplan_journal::{Error as JournalError, Options, RunFilter, Store, SyncMode};
use foreplan_tools::Toolbox;

use super::{args::Global, error::Failure, exit::Exit, models, output::Output, place::Place, traces};
use crate::{
    config::Sync,
    logs::Logs,
    system::{self, System, Traces},
};

/// Shortest ending of an id that names a run: below this a slip of the finger names another.
const SUFFIX_MIN: usize = 6;

/// The word that names the newest run.
const LAST: &str = "last";

/// Runs among which `last` is looked for: a run may have begun many others as its steps.
const LAST_AMONG: usize = 100;

/// What a command needs of the system besides the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// The tools: it may carry runs on.
    Tools,
    /// The store: it records, and executes nothing.
    Record,
    /// A store to read: it writes nothing, so that a store that is full or read-only can be looked at.
    Look,
}

/// One command's connection to the runs of a project.
pub(crate) struct Session {
    /// Where text goes.
    pub(crate) output: Output,
    /// Where it works.
    pub(crate) place: Place,
    /// The agents, over the store.
    pub(crate) system: System,
    /// What commands print.
    pub(crate) logs: Logs,
    /// In whose name.
    pub(crate) by: String,
}

impl Session {
    /// Opens the store of a project and starts the agents.
    ///
    /// # Errors
    ///
    /// If the project, its tools or its store cannot be used.
    pub(crate) async fn open(
        mut output: Output,
        global: &Global,
        named: Option<&Path>,
        means: Means,
    ) -> Result<Self, (Output, Failure)> {
        match Self::try_open(&mut output, global, named, means).await {
            Ok((place, system, logs)) => {
                let by = global.by.clone().unwrap_or_else(user);
                Ok(Self { output, place, system, logs, by })
            }
            Err(failure) => Err((output, failure)),
        }
    }

    async fn try_open(
        output: &mut Output,
        global: &Global,
        named: Option<&Path>,
        means: Means,
    ) -> Result<(Place, System, Logs), Failure> {
        let place = Place::for_runs(output, global, named)?;
        output.redact = traces::options(&place)?.redact;
        #[cfg(feature = "nats")]
        if let Some(options) = super::place::nats_options(global, Some(&place.project), "client") {
            let system = remote(&options, &place).await?;
            let logs = Logs::new(&place.store);
            return Ok((place, system, logs));
        }
        let toolbox = match means {
            Means::Tools => place.project.connect(&[], Some(place.groups())).await?.0,
            Means::Record | Means::Look => Toolbox::new([], [])?,
        };
        let store = open_store(&place, means)?;
        let traces = match means {
            Means::Tools | Means::Record => traces::places(&place)?,
            Means::Look => Traces::default(),
        };
        let logs = Logs::new(&place.store);
        let sink = logs.clone();
        let mut builder = System::builder()
            .toolbox(Arc::new(toolbox))
            .store(store)
            .traces(traces)
            .log(Arc::new(move |run, step, attempt| sink.open(run, step, attempt)));
        if means == Means::Tools {
            builder = builder.models(models::models(&global.models, &place)?);
        }
        let system = builder.build().await?;
        Ok((place, system, logs))
    }

    /// Returns the newest run that somebody began: not one that is a step of another.
    async fn last(&self) -> Result<Option<RunId>, Failure> {
        let newest = self.system.runs(RunFilter { open: false, limit: Some(LAST_AMONG) }).await?;
        for record in &newest {
            // One that cannot be read is for the command that was given to complain about.
            let is_child = self.state(record.run.run).await.is_ok_and(|run| run.spec().parent.is_some());
            if !is_child {
                return Ok(Some(record.run.run));
            }
        }
        Ok(newest.first().map(|record| record.run.run))
    }

    /// Returns the run that a person names: a full id, a unique ending, or `last`.
    ///
    /// # Errors
    ///
    /// If there is none, or several.
    pub(crate) async fn resolve(&self, name: &str) -> Result<RunId, Failure> {
        let runs = self.output.hints.command("runs", &[]);
        if name == LAST {
            let start = self.output.hints.command("run", &[]);
            let last = self.last().await?;
            return last.ok_or_else(|| Failure::usage("there are no runs yet").next(start));
        }
        if name.len() < SUFFIX_MIN {
            return Err(Failure::usage(format!("`{name}` is too short to name a run"))
                .next(format!("give {SUFFIX_MIN} or more characters of the end of its id: {runs}")));
        }
        let found = self.system.store().journal.find_by_suffix(name).await?;
        match found.as_slice() {
            [one] => Ok(one.run.run),
            [] => Err(Failure::usage(format!("there is no run `{name}`")).next(runs)),
            several => {
                let names: Vec<String> = several.iter().map(|r| r.run.run.to_string()).collect();
                Err(Failure::usage(format!("`{name}` names {} runs", names.len()))
                    .next(format!("give more of the id: {}", names.join(", "))))
            }
        }
    }

    /// Returns a run as people and programs see it, with the commands that answer it.
    ///
    /// # Errors
    ///
    /// If its journal cannot be read.
    pub(crate) async fn view(&self, run: RunId) -> Result<RunView, Failure> {
        Ok(self.output.hints.fill(self.system.view(run).await?))
    }

    /// Returns a run's journal.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(crate) async fn entries(&self, run: RunId) -> Result<Vec<Arc<Entry>>, Failure> {
        Ok(self.system.entries(run).await?)
    }

    /// Returns a run's state.
    ///
    /// # Errors
    ///
    /// If its journal cannot be read.
    pub(crate) async fn state(&self, run: RunId) -> Result<Run, Failure> {
        let entries = self.entries(run).await?;
        Run::replay(run, entries.iter().map(AsRef::as_ref))
            .ok_or_else(|| Failure::new(Exit::Corrupt, format!("the journal of run {run} is empty")))
    }

    /// Returns a failure of a command to a run, with what to do about it.
    pub(crate) fn refused(&self, run: RunId, error: system::Error) -> Failure {
        let hints = &self.output.hints;
        let show = hints.run("show", run, &[]);
        match &error {
            system::Error::Rejected(Rejection::Ended(_)) => Failure::from(error)
                .next(format!("run it again from what failed: {}", hints.run("retry", run, &[]))),
            system::Error::Rejected(Rejection::StalePlan { .. }) => {
                Failure { exit: Exit::NoPlan, ..Failure::from(error) }.next(hints.run("diff", run, &[]))
            }
            system::Error::Rejected(Rejection::StaleDigest { .. }) => {
                Failure::new(Exit::NoPlan, "what waits now is not what was approved: the plan has moved")
                    .next(format!("look again, then approve what you see: {show}"))
            }
            system::Error::Rejected(Rejection::Plan(_)) => {
                Failure { exit: Exit::NoPlan, ..Failure::from(error) }
            }
            system::Error::Rejected(_) | system::Error::Refused(_) => Failure::from(error).next(show),
            _ => Failure::from(error),
        }
    }
}

/// Connects to a deployment. This process executes nothing, and needs no tools.
#[cfg(feature = "nats")]
async fn remote(options: &crate::serve::NatsOptions, place: &Place) -> Result<System, Failure> {
    let connection = crate::serve::NatsConnection::open(options).await?;
    let (store, registry) = crate::serve::store(&connection).await?;
    let inventory = registry.inventory_of(&place.project.name());
    let built = System::builder()
        .toolbox(Arc::new(Toolbox::new([], [])?))
        .store(store)
        .inventory(inventory)
        .deployment(Arc::new(crate::serve::Remote::new(connection, registry)))
        .build();
    Ok(built.await?)
}

/// Pages of 4 KiB, which a store has.
const PAGES_PER_MEBIBYTE: u32 = 256;

/// Opens the store of a project; where nothing was ever kept and nothing will be, an empty one.
///
/// # Errors
///
/// If it cannot be used as the command needs it.
pub(crate) fn open_store(place: &Place, means: Means) -> Result<Store, Failure> {
    let section = &place.project.file().store;
    let sync = match section.sync {
        Sync::Full => SyncMode::Full,
        Sync::Normal => SyncMode::Normal,
    };
    let read_only = means == Means::Look;
    if read_only && !place.store.exists() {
        return Ok(Store::memory());
    }
    let page_limit = section.mebibytes_max.map(|most| most.saturating_mul(PAGES_PER_MEBIBYTE));
    Ok(Store::open(&place.store, Options { sync, page_limit, read_only })?)
}

/// Returns the name under which this process's user acts: the record must say who decided.
fn user() -> String {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    set("USER").or_else(|| set("LOGNAME")).or_else(account).unwrap_or_else(|| "unknown".to_owned())
}

/// Returns the account of this process, where the environment does not name it.
fn account() -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let id = std::fs::metadata("/proc/self").ok()?.uid().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = accounts.lines().map(|line| line.split(':'));
    let name = fields.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    Some(name.unwrap_or_else(|| format!("uid {id}")))
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let exit = match &error {
            JournalError::Corrupt { .. } | JournalError::Payload { .. } | JournalError::Damaged { .. } => {
                Exit::Corrupt
            }
            JournalError::NoRun(_) | JournalError::Exists(_) => Exit::Usage,
            JournalError::Conflict { .. }
            | JournalError::TooNew { .. }
            | JournalError::NewerStore { .. }
            | JournalError::TooLarge { .. }
            | JournalError::TooDeep { .. }
            | JournalError::Full(_)
            | JournalError::Busy
            | JournalError::Store { .. } => Exit::Unavailable,
        };
        Self::chain(exit, "", &error)
    }
}

impl From<foreplan_tools::Error> for Failure {
    fn from(error: foreplan_tools::Error) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<system::Error> for Failure {
    fn from(error: system::Error) -> Self {
        match error {
            system::Error::Journal(error) => error.into(),
            system::Error::Tools(error) => error.into(),
            system::Error::NoPlan { code, message, findings } => {
                Self::new(Exit::of_no_plan(&code), message).findings(findings)
            }
            system::Error::Start(_) => Self::new(Exit::Internal, error.to_string()),
            system::Error::NoRun(_)
            | system::Error::Fork(_)
            | system::Error::Rejected(_)
            | system::Error::Refused(_) => Self::usage(error.to_string()),
            system::Error::Owned { .. }
            | system::Error::GroupBusy { .. }
            | system::Error::Busy { .. }
            | system::Error::Unanswered { .. }
            | system::Error::Deployment(_)
            | system::Error::Orphan(_)
            | system::Error::Stuck(_) => Self::new(Exit::Unavailable, error.to_string()),
        }
    }
}
