//! What commands print while they work: one file for each attempt, beside the journal.
//!
//! The tools bound what one call may write and replace known secrets before a line gets here. Logs
//! are for people; nothing of the system reads them back, and losing them loses nothing of a run.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use foreplan_core::id::{RunId, StepId};
use foreplan_tools::{LogSink, Stream};
use parking_lot::Mutex;

/// The folder with a folder of logs for each run.
#[derive(Clone, Debug)]
pub struct Logs {
    folder: PathBuf,
}

/// The log of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogFile {
    /// The step.
    pub step: StepId,
    /// The attempt.
    pub attempt: u32,
    /// Where it is.
    pub path: PathBuf,
}

impl Logs {
    /// Keeps logs in the folder of a store.
    #[must_use]
    pub fn new(store: &Path) -> Self {
        Self { folder: store.join("logs") }
    }

    /// Returns where an attempt writes. The file is made with its first line.
    #[must_use]
    pub fn open(&self, run: RunId, step: &StepId, attempt: u32) -> Arc<dyn LogSink> {
        let path = self.of(run).join(format!("{step}.{attempt}.log"));
        Arc::new(Sink { path, file: Mutex::new(None) })
    }

    /// Returns the logs of a run, by step and attempt.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read; that it is not there is no error.
    pub fn list(&self, run: RunId) -> io::Result<Vec<LogFile>> {
        let entries = match fs::read_dir(self.of(run)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            files.extend(parse(entry?.path()));
        }
        files.sort_by(|a, b| (&a.step, a.attempt).cmp(&(&b.step, b.attempt)));
        Ok(files)
    }

    /// Deletes the logs of a run.
    ///
    /// # Errors
    ///
    /// If they cannot be deleted; that there are none is no error.
    pub fn remove(&self, run: RunId) -> io::Result<()> {
        match fs::remove_dir_all(self.of(run)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn of(&self, run: RunId) -> PathBuf {
        self.folder.join(run.to_string())
    }
}

fn parse(path: PathBuf) -> Option<LogFile> {
    let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
    let (step, attempt) = name.rsplit_once('.')?;
    Some(LogFile { step: step.parse().ok()?, attempt: attempt.parse().ok()?, path })
}

struct Sink {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl Sink {
    fn write(&self, line: &str) -> io::Result<()> {
        let mut file = self.file.lock();
        if file.is_none() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            *file = Some(OpenOptions::new().append(true).create(true).open(&self.path)?);
        }
        match file.as_mut() {
            Some(file) => file.write_all(line.as_bytes()),
            None => Ok(()),
        }
    }
}

impl LogSink for Sink {
    fn line(&self, stream: Stream, text: &str) {
        let mark = match stream {
            Stream::Stdout => "out",
            Stream::Stderr => "err",
        };
        if let Err(error) = self.write(&format!("{mark} {text}\n")) {
            tracing::debug!(path = %self.path.display(), %error, "a line of a log could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_has_a_log_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path());
        let run: RunId = "0193c2e0-0000-7000-8000-000000000001".parse().unwrap();
        let step: StepId = "fetch~3".parse().unwrap();
        assert_eq!(logs.list(run).unwrap(), []);
        logs.open(run, &step, 2).line(Stream::Stderr, "late");
        let sink = logs.open(run, &step, 1);
        sink.line(Stream::Stdout, "one");
        sink.line(Stream::Stderr, "two");
        let files = logs.list(run).unwrap();
        assert_eq!(
            files.iter().map(|f| (f.step.as_str(), f.attempt)).collect::<Vec<_>>(),
            [("fetch~3", 1), ("fetch~3", 2)]
        );
        assert_eq!(fs::read_to_string(&files[0].path).unwrap(), "out one\nerr two\n");
        logs.remove(run).unwrap();
        assert_eq!(logs.list(run).unwrap(), []);
    }
}
