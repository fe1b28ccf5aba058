//! Where a command works: the project, its folder, its store.

use std::path::{Path, PathBuf};

use super::{args::Global, error::Failure, hints::Hints, output::Output};
use crate::config::{self, Project};
use foreplan_tools::Groups;

/// Where a command works.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The project.
    pub(crate) project: Project,
    /// The folder that keeps its runs.
    pub(crate) store: PathBuf,
}

impl Place {
    /// Finds the project: the one named, else the nearest above the working directory; and lets
    /// hints name it where the working directory does not.
    ///
    /// # Errors
    ///
    /// If there is none, or its file is wrong.
    pub(crate) fn find(output: &mut Output, global: &Global, named: Option<&Path>) -> Result<Self, Failure> {
        let from = named.or(global.project.as_deref()).unwrap_or(Path::new("."));
        let folder = config::find(from)?;
        output.hints = hints(from, &folder, global);
        Ok(Self::of(global, Project::load(&folder)?))
    }

    /// Finds the project for a verb about runs. One who names a deployment and no project needs none.
    ///
    /// # Errors
    ///
    /// If there is none and it is needed, or its file is wrong.
    pub(crate) fn for_runs(
        output: &mut Output,
        global: &Global,
        named: Option<&Path>,
    ) -> Result<Self, Failure> {
        let is_named = named.or(global.project.as_deref()).is_some();
        let here = Path::new(".");
        if is_named || global.nats.is_none() || config::find(here).is_ok() {
            return Self::find(output, global, named);
        }
        output.hints = Hints::new(None, global.store.as_deref()).on(global.nats_named());
        Ok(Self::of(global, Project::absent(here)))
    }

    fn of(global: &Global, project: Project) -> Self {
        let store = global.store.clone().unwrap_or_else(|| project.store());
        Self { project, store }
    }

    /// Returns where the commands that run are recorded.
    pub(crate) fn groups(&self) -> Groups {
        Groups::new(self.store.join("proc"))
    }
}

/// Returns where the deployment is that carries runs on, if one does: by flag or environment, else by
/// the project file.
#[cfg(feature = "nats")]
pub(crate) fn nats_options(
    global: &Global,
    project: Option<&Project>,
    what: &str,
) -> Option<crate::serve::NatsOptions> {
    let section = project.and_then(|project| project.file().bus.clone()).unwrap_or_default();
    let url = global.nats.clone().or(section.url)?;
    let place = |path: PathBuf| project.map_or(path.clone(), |project| project.folder().join(path));
    let mut options = crate::serve::NatsOptions::new(url);
    options.name = format!("foreplan {what}");
    options.inbox = global.nats_inbox.clone().or(section.inbox);
    options.creds = global.nats_creds.clone().or(section.creds.map(place));
    options.nkey = section.nkey.map(place);
    if let Some(tls) = section.tls {
        options.tls.required = true;
        options.tls.ca = tls.ca.map(place);
        options.tls.identity = tls.cert.map(place).zip(tls.key.map(place));
    }
    if let Some(tenant) = global.tenant.clone().or(section.tenant) {
        options.tenant = tenant;
    }
    Some(options)
}

/// Reads the `.env` beside the project file; what the environment has already stays.
pub(crate) fn read_env(from: &Path) {
    if let Ok(folder) = config::find(from) {
        // A project without a `.env` is the usual one.
        let _ = dotenvy::from_path(folder.join(".env"));
    }
}

fn hints(from: &Path, folder: &Path, global: &Global) -> Hints {
    let here = config::find(Path::new(".")).is_ok_and(|here| here == folder);
    let named = (!here).then(|| if from.is_file() { folder } else { from });
    Hints::new(named, global.store.as_deref()).on(global.nats_named())
}
