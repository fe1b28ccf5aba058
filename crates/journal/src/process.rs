//! Which processes live: each holds a file lock for as long as it does, and the system lets go of it
//! however the process ends.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

/// The folder with one lock file for each process: `{dir}/{id}.lock`.
#[derive(Clone, Debug)]
pub struct Processes {
    dir: Arc<Path>,
}

/// This process's lock. Others see the process as gone once this is dropped.
#[derive(Debug)]
pub struct ProcessLock {
    id: String,
    path: PathBuf,
    _file: File,
}

impl Processes {
    /// Keeps the lock files in `dir`, which is made when the first process enters.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into().into() }
    }

    /// Enters a process under a new name, and clears away what dead ones left.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written.
    pub fn enter(&self) -> io::Result<ProcessLock> {
        fs::create_dir_all(&self.dir)?;
        self.sweep()?;
        let id = Uuid::now_v7();
        let draft = self.dir.join(format!("{id}.new"));
        let path = self.path(id);
        let file = File::create_new(&draft)?;
        file.lock()?;
        // Under its final name a file is locked from the first moment on.
        fs::rename(&draft, &path)?;
        Ok(ProcessLock { id: id.to_string(), path, _file: file })
    }

    /// Returns whether the process of this name holds its lock. A name that no process was given is
    /// nobody's.
    #[must_use]
    pub fn is_alive(&self, id: &str) -> bool {
        id.parse().is_ok_and(|id| is_locked(&self.path(id)))
    }

    fn path(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{id}.lock"))
    }

    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "lock") && !is_locked(&path) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }
}

/// Looks by a shared lock, so that two processes that look do not take each other for the owner.
fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

impl ProcessLock {
    /// Returns the name under which the process entered.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for ProcessLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_while_it_holds_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let processes = Processes::new(dir.path());
        let lock = processes.enter().unwrap();
        let id = lock.id().to_owned();
        assert!(processes.is_alive(&id));
        drop(lock);
        assert!(!processes.is_alive(&id));
    }

    #[test]
    fn what_a_dead_process_left_is_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let stale = dir.path().join(format!("{}.lock", Uuid::now_v7()));
        fs::write(&stale, "").unwrap();
        let processes = Processes::new(dir.path());
        let first = processes.enter().unwrap();
        let second = processes.enter().unwrap();
        assert!(!stale.exists());
        assert!(processes.is_alive(first.id()) && processes.is_alive(second.id()));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let processes = Processes::new(dir.path().join("proc"));
        let file = File::create(dir.path().join("x.lock")).unwrap();
        file.lock().unwrap();
        assert!(!processes.is_alive("../x"));
    }
}
