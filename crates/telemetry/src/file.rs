//! A folder with one file of OTLP JSON lines for each run: what a machine without a collector has.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use foreplan_core::id::RunId;
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;

use crate::{Batch, SendError, Sink, to_json};

/// How much of a file's end is read at once to find where its last whole line ends, if that is not
/// where the file does.
const TAIL_BYTES: u64 = 64 * 1024;

/// A folder with one file for each run; each line is one batch.
#[derive(Clone, Debug)]
pub struct FileSink {
    folder: PathBuf,
    /// Files that may not be on the disk yet.
    written: Arc<Mutex<Vec<File>>>,
}

impl FileSink {
    /// Keeps traces in this folder, which is made with the first of them.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, written: Arc::default() }
    }

    /// Returns where a run's trace is.
    #[must_use]
    pub fn path(&self, run: RunId) -> PathBuf {
        self.folder.join(format!("{run}.jsonl"))
    }

    /// Deletes a run's trace. That there is none is no error.
    ///
    /// # Errors
    ///
    /// If it cannot be deleted.
    pub fn remove(&self, run: RunId) -> io::Result<()> {
        match fs::remove_file(self.path(run)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Sink for FileSink {
    fn name(&self) -> &str {
        "file"
    }

    fn is_local(&self) -> bool {
        true
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            let mut line = to_json(&batch.spans).map_err(|e| SendError::Refused(e.to_string()))?;
            line.push('\n');
            let path = self.path(batch.run);
            let shown = path.display().to_string();
            let written = tokio::task::spawn_blocking(move || append(&path, line.as_bytes())).await;
            let file = written
                .map_err(|e| unavailable(&e))?
                .map_err(|e| unavailable(&format!("{shown} cannot be written: {e}")))?;
            self.written.lock().push(file);
            Ok(())
        })
    }

    /// The files go to the disk side by side: a disk that is asked once for many answers sooner.
    fn settle(&self) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let files = std::mem::take(&mut *self.written.lock());
            let syncs = files.into_iter().map(|file| tokio::task::spawn_blocking(move || file.sync_data()));
            for synced in join_all(syncs).await {
                let synced = synced.map_err(|e| unavailable(&e))?;
                synced.map_err(|e| unavailable(&format!("a trace is not on the disk: {e}")))?;
            }
            Ok(())
        })
    }
}

fn unavailable(why: &dyn std::fmt::Display) -> SendError {
    SendError::Unavailable { message: why.to_string(), after: None }
}

/// Appends a line behind the last whole one. It is on the disk once the file is synced.
fn append(path: &Path, line: &[u8]) -> io::Result<File> {
    let mut file = open(path)?;
    let end = whole_lines(&mut file)?;
    if end < file.metadata()?.len() {
        file.set_len(end)?;
    }
    file.write_all(line)?;
    Ok(file)
}

fn open(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().read(true).append(true).create(true).open(path);
    match (open(), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            open()
        }
        (opened, _) => opened,
    }
}

/// Returns where the last whole line ends: a process that was killed may have written half of one.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut look = 1;
    while end > 0 {
        let from = end.saturating_sub(look);
        look = TAIL_BYTES;
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        Read::by_ref(file).take(end - from).read_to_end(&mut tail)?;
        if let Some(at) = tail.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_at_the_end_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces/run.jsonl");
        append(&path, b"one\n").unwrap();
        append(&path, b"two\n").unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&b"half".repeat(40_000)).unwrap();
        append(&path, b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
    }
}
