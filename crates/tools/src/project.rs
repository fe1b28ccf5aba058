//! Where the tools of a project live: its folder, and the environment that it may take from.

use std::{
    collections::BTreeMap,
    io,
    path::{Component, Path, PathBuf},
};

use crate::groups::Groups;

/// A project's folder and environment. Every path of a declaration is relative to the folder, and
/// none leads out of it.
#[derive(Clone)]
pub struct Project {
    /// Invariant: absolute, without `.` and `..` where the disk allowed to find out.
    dir: PathBuf,
    env: BTreeMap<String, String>,
    groups: Option<Groups>,
}

/// A path that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathError {
    #[error("`{0}` leads out of the project; paths are relative to its folder, without `..`")]
    Outside(String),
    #[error("`{path}` cannot be opened: {source}")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Project {
    /// Makes the project of a folder, with this process's environment.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let dir = dir.into();
        Self { dir: dir.canonicalize().unwrap_or(dir), env, groups: None }
    }

    /// Replaces the environment, as when a `.env` file adds to it.
    #[must_use]
    pub fn env(mut self, env: BTreeMap<String, String>) -> Self {
        self.env = env;
        self
    }

    /// Records what its commands run, so that another process can end what this one leaves running.
    #[must_use]
    pub fn groups(mut self, groups: Groups) -> Self {
        self.groups = Some(groups);
        self
    }

    /// Returns where running commands are recorded.
    pub(crate) fn recorded(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// Returns a variable of the environment.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    /// Returns where `path` is, which may be outside: for secrets, which belong to no project.
    pub(crate) fn anywhere(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// Returns `path` below the folder, without looking at the disk.
    pub(crate) fn lexical(&self, path: &str) -> Result<PathBuf, PathError> {
        let inside =
            Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if inside { Ok(self.dir.join(path)) } else { Err(PathError::Outside(path.to_owned())) }
    }

    /// Returns the real place of `path`, which exists and to which no symbolic link leads from
    /// outside the folder.
    pub(crate) fn existing(&self, path: &str) -> Result<PathBuf, PathError> {
        let failed = |source| PathError::Io { path: path.to_owned(), source };
        let real = self.lexical(path)?.canonicalize().map_err(failed)?;
        if real.starts_with(&self.dir) { Ok(real) } else { Err(PathError::Outside(path.to_owned())) }
    }

    /// Returns the path in the project of a file that an argument names, from the point of view of
    /// `cwd`; nothing if it names no file of the project.
    pub(crate) fn named_file(&self, cwd: &str, argument: &str) -> Option<String> {
        let mut path = PathBuf::new();
        for component in self.dir.join(cwd).join(argument).components() {
            match component {
                Component::ParentDir => drop(path.pop()),
                Component::CurDir => {}
                Component::Prefix(_) | Component::RootDir | Component::Normal(_) => path.push(component),
            }
        }
        let inside = path.strip_prefix(&self.dir).ok()?.to_str()?.to_owned();
        path.is_file().then_some(inside)
    }

    /// Returns where the program of a command is: a path from `cwd`, or what the project's `PATH`
    /// holds. The command's own environment has no part in this.
    pub(crate) fn program(&self, name: &str, cwd: &Path) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(cwd.join(name)).filter(|path| path.is_file());
        }
        std::env::split_paths(self.var("PATH")?).map(|dir| dir.join(name)).find(|path| is_executable(path))
    }
}

impl std::fmt::Debug for Project {
    /// The environment may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Project").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
