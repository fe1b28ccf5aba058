//! The process groups of running commands, on record, so that a process that takes over from a
//! killed one ends what that left running.
//!
//! A record is a file, written once a command has started and removed once its group has ended. It
//! names both the group's leader and the process that started it by id and start time, so that an
//! id that another process got meanwhile is never taken for either. Start times come from `/proc`:
//! elsewhere than on Linux nothing is recorded.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

/// How long a killed program may take to be gone. Only one that waits for a broken disk takes longer.
const GONE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked whether a killed program is gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What the files of records end with.
const EXTENSION: &str = "group";

/// The folder with one file for each running command.
#[derive(Clone, Debug)]
pub struct Groups {
    dir: Arc<Path>,
}

/// A record of a running group; dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Record(PathBuf);

#[derive(Deserialize, Serialize)]
struct Entry {
    /// The boot and the process namespace in which the ids count.
    scope: String,
    owner: Identity,
    leader: Identity,
}

/// A process: its id, and when it started, in the system's ticks since its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Identity {
    pid: i32,
    start: u64,
}

impl Groups {
    /// Keeps the records in `dir`, which is made when the first command starts.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into().into() }
    }

    /// Records the group that `leader` leads as one of this process. Returns nothing where start
    /// times are unknown, or the leader is gone already.
    ///
    /// # Errors
    ///
    /// If the record cannot be written.
    pub(crate) fn record(&self, leader: Pid) -> io::Result<Option<Record>> {
        let found = (scope(), Identity::of(rustix::process::getpid()), Identity::of(leader));
        let (Some(scope), Some(owner), Some(leader)) = found else { return Ok(None) };
        self.write(&Entry { scope, owner, leader }).map(Some)
    }

    /// Kills the groups that processes which are gone left running, and returns how many. It waits
    /// until their leaders are gone; it blocks.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, or a group cannot be ended.
    pub fn end_orphans(&self) -> io::Result<usize> {
        let files = match fs::read_dir(&self.dir) {
            Ok(files) => files,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(e) => return Err(e),
        };
        let Some(scope) = scope() else { return Ok(0) };
        let mut ended = 0;
        for file in files {
            let path = file?.path();
            if path.extension().is_none_or(|e| e != EXTENSION) {
                continue;
            }
            // One that is gone by now was removed by its owner.
            let Ok(text) = fs::read(&path) else { continue };
            let Ok(entry) = serde_json::from_slice::<Entry>(&text) else { continue };
            if entry.scope != scope || entry.owner.is_running() {
                continue;
            }
            ended += usize::from(entry.leader.end_group()?);
            let _ = fs::remove_file(path);
        }
        Ok(ended)
    }

    fn write(&self, entry: &Entry) -> io::Result<Record> {
        fs::create_dir_all(&self.dir)?;
        let name = format!("{}-{}.{EXTENSION}", entry.leader.pid, entry.leader.start);
        let path = self.dir.join(name);
        let whole = path.with_extension("new");
        fs::write(&whole, serde_json::to_vec(entry)?)?;
        fs::rename(&whole, &path)?;
        Ok(Record(path))
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Identity {
    fn of(pid: Pid) -> Option<Self> {
        let pid = pid.as_raw_nonzero().get();
        Some(Self { pid, start: stat(pid)?.start })
    }

    /// A process that has ended and that nobody waited for does not run.
    fn is_running(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start == self.start && !stat.has_ended)
    }

    /// Kills the group, unless the leader is gone: its id may be that of another group then.
    fn end_group(self) -> io::Result<bool> {
        let Some(leader) = Pid::from_raw(self.pid).filter(|_| self.is_running()) else { return Ok(false) };
        match kill_process_group(leader, Signal::KILL) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        let killed = Instant::now();
        while self.is_running() {
            if killed.elapsed() > GONE_TIMEOUT {
                let message = format!("process {} was killed, and is still there", self.pid);
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(true)
    }
}

struct Stat {
    start: u64,
    has_ended: bool,
}

/// Reads `/proc/{pid}/stat` (proc(5)). The second field, the name, may hold anything but is the only
/// one in parentheses; the state is the third field, the start time the 22nd.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X");
    Some(Stat { start: fields.nth(18)?.parse().ok()?, has_ended })
}

/// Returns what process ids and start times count in: this boot, and this process namespace.
fn scope() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::{
        os::unix::process::{CommandExt as _, ExitStatusExt as _},
        process::{Child, Command},
    };

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").process_group(0).spawn().unwrap()
    }

    fn identity(child: &Child) -> Identity {
        Identity::of(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()).unwrap()
    }

    fn gone() -> Identity {
        let mut child = sleeper();
        let identity = identity(&child);
        child.kill().unwrap();
        child.wait().unwrap();
        identity
    }

    /// Leaves a record behind, as a process does that is killed.
    fn leave(groups: &Groups, owner: Identity, leader: Identity) -> PathBuf {
        let record = groups.write(&Entry { scope: scope().unwrap(), owner, leader }).unwrap();
        let path = record.0.clone();
        std::mem::forget(record);
        path
    }

    #[test]
    fn a_group_whose_owner_is_gone_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let groups = Groups::new(dir.path().join("proc"));
        let mut child = sleeper();
        let path = leave(&groups, gone(), identity(&child));
        assert_eq!(groups.end_orphans().unwrap(), 1);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(!path.exists());
    }

    #[test]
    fn a_group_whose_owner_lives_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let groups = Groups::new(dir.path());
        let mut child = sleeper();
        let record = groups.record(Pid::from_child(&child)).unwrap().unwrap();
        assert_eq!(groups.end_orphans().unwrap(), 0);
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(record.0.exists());
        drop(record);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn an_id_that_another_process_got_is_not_killed() {
        let dir = tempfile::tempdir().unwrap();
        let groups = Groups::new(dir.path());
        let mut child = sleeper();
        let other = Identity { start: identity(&child).start - 1, ..identity(&child) };
        let path = leave(&groups, gone(), other);
        assert_eq!(groups.end_orphans().unwrap(), 0);
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(!path.exists());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn without_records_there_is_nothing_to_end() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Groups::new(dir.path().join("none")).end_orphans().unwrap(), 0);
    }
}
