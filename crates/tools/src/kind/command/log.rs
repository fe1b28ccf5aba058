//! Cuts what a program prints into lines for the log, within bounds.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    call::{LogSink, Stream},
    secrets::Secrets,
};

/// A longer line is cut: people read these.
pub(in crate::kind) const LINE_BYTES_MAX: usize = 4 * 1024;

/// What one call may log; the rest is dropped, and the log says so. A program that prints for hours
/// must not fill the disk.
const LOG_BYTES_MAX: usize = 1024 * 1024;

/// The log of one call.
pub(in crate::kind) struct Log {
    sink: Option<Arc<dyn LogSink>>,
    secrets: Secrets,
    left: AtomicUsize,
}

impl Log {
    pub(in crate::kind) fn new(sink: Option<Arc<dyn LogSink>>, secrets: Secrets) -> Self {
        Self { sink, secrets, left: AtomicUsize::new(LOG_BYTES_MAX) }
    }

    pub(super) fn lines(&self, stream: Stream) -> Lines<'_> {
        Lines { log: self, stream, line: Vec::new(), is_cut: Cell::new(false) }
    }

    pub(in crate::kind) fn write(&self, stream: Stream, line: &[u8], is_cut: bool) {
        let Some(sink) = &self.sink else { return };
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return;
        }
        let rest = left.saturating_sub(line.len() + 1);
        self.left.store(rest, Ordering::Relaxed);
        let text = String::from_utf8_lossy(line);
        let mut text = self.secrets.redact_text(&text).unwrap_or_else(|| text.into_owned());
        if is_cut {
            // The cut may have left the start of a secret at the end.
            text.truncate(text.floor_char_boundary(text.len().saturating_sub(self.secrets.longest())));
            text.push('…');
        }
        sink.line(stream, text.trim_end_matches('\r'));
        if rest == 0 {
            sink.line(stream, "… the log of this call ends here: it has reached its limit of 1 MiB");
        }
    }
}

/// The lines of one stream.
pub(super) struct Lines<'a> {
    log: &'a Log,
    stream: Stream,
    line: Vec<u8>,
    is_cut: Cell<bool>,
}

impl Lines<'_> {
    pub(super) fn add(&mut self, chunk: &[u8]) {
        if self.log.sink.is_none() {
            return;
        }
        let mut parts = chunk.split(|byte| *byte == b'\n');
        if let Some(first) = parts.next() {
            self.extend(first);
        }
        for part in parts {
            self.end_line();
            self.extend(part);
        }
    }

    fn extend(&mut self, part: &[u8]) {
        let room = LINE_BYTES_MAX - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.is_cut.set(self.is_cut.get() || part.len() > room);
    }

    fn end_line(&mut self) {
        self.log.write(self.stream, &self.line, self.is_cut.replace(false));
        self.line.clear();
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl LogSink for Kept {
        fn line(&self, _: Stream, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    fn logged(secret: &str, chunks: &[&str]) -> Vec<String> {
        let kept = Arc::new(Kept::default());
        let mut secrets = Secrets::default();
        secrets.add(secret);
        let log = Log::new(Some(kept.clone()), secrets);
        let mut lines = log.lines(Stream::Stdout);
        chunks.iter().for_each(|chunk| lines.add(chunk.as_bytes()));
        drop(lines);
        kept.0.lock().unwrap().clone()
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        assert_eq!(logged("", &["a", "b\nc\r\n", "\nd"]), ["ab", "c", "", "d"]);
    }

    #[test]
    fn a_secret_that_arrives_in_parts_or_is_cut_is_not_logged() {
        assert_eq!(logged("hunter2", &["is hun", "ter2!\n"]), ["is [redacted]!"]);
        let long = format!("{}hunter2", "x".repeat(LINE_BYTES_MAX - 3));
        let lines = logged("hunter2", &[&long]);
        assert!(lines[0].ends_with('…') && !lines[0].contains("hun"), "{}", &lines[0][4000..]);
    }

    #[test]
    fn a_log_is_bounded() {
        let line = format!("{}\n", "x".repeat(1000));
        let lines = logged("", &vec![line.as_str(); 2000]);
        assert!(lines.len() < 1100);
        assert!(lines.last().unwrap().contains("limit of 1 MiB"));
    }
}
