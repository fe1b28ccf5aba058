//! What a server prints on its standard error: kept for messages, and passed on to the logs of the
//! calls that it works on meanwhile.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::super::command::log::{LINE_BYTES_MAX, Log};
use crate::{
    call::{LogSink, Stream},
    secrets::Secrets,
};

/// How many of the last lines a message about a lost server shows.
const LINES_SHOWN_MAX: usize = 5;

const CHUNK_BYTES: usize = 4 * 1024;

/// The standard error of a server, over all its processes.
pub(super) struct Printed {
    secrets: Secrets,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The last lines, without secrets.
    tail: VecDeque<String>,
    /// The logs of the calls under way. A server does not say for which call it prints, so that each
    /// gets every line.
    logs: Vec<(u64, Arc<Log>)>,
    next: u64,
}

/// Ends the passing on to one log when it is dropped.
pub(super) struct Attached<'a> {
    printed: &'a Printed,
    id: u64,
}

impl Printed {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self { secrets, shared: Mutex::default() }
    }

    /// Passes lines on to `sink` until what is returned is dropped.
    pub(super) fn attach(&self, sink: Option<Arc<dyn LogSink>>) -> Attached<'_> {
        let mut shared = self.shared.lock();
        let id = shared.next;
        shared.next += 1;
        if sink.is_some() {
            shared.logs.push((id, Arc::new(Log::new(sink, self.secrets.clone()))));
        }
        Attached { printed: self, id }
    }

    /// Returns the last lines, each on a line of its own and indented by what leads to them; nothing
    /// if there are none.
    pub(super) fn tail(&self) -> String {
        let shared = self.shared.lock();
        if shared.tail.is_empty() {
            return String::new();
        }
        let lines: Vec<&str> = shared.tail.iter().map(String::as_str).collect();
        format!("; it printed:\n{}", lines.join("\n"))
    }

    /// Reads until the stream ends.
    pub(super) async fn read(&self, mut from: impl AsyncRead + Unpin) {
        let (mut chunk, mut line, mut is_cut) = (vec![0; CHUNK_BYTES], Vec::new(), false);
        while let Ok(bytes) = from.read(&mut chunk).await {
            if bytes == 0 {
                break;
            }
            for byte in &chunk[..bytes] {
                if *byte == b'\n' {
                    self.line(&line, is_cut);
                    line.clear();
                    is_cut = false;
                } else if line.len() < LINE_BYTES_MAX {
                    line.push(*byte);
                } else {
                    is_cut = true;
                }
            }
        }
        if !line.is_empty() {
            self.line(&line, is_cut);
        }
    }

    fn line(&self, line: &[u8], is_cut: bool) {
        let text = String::from_utf8_lossy(line);
        let text = self.secrets.redact_text(&text).unwrap_or_else(|| text.into_owned());
        let mut shared = self.shared.lock();
        shared.logs.iter().for_each(|(_, log)| log.write(Stream::Stderr, line, is_cut));
        if shared.tail.len() == LINES_SHOWN_MAX {
            shared.tail.pop_front();
        }
        shared.tail.push_back(text.trim_end().to_owned());
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.printed.shared.lock().logs.retain(|(id, _)| *id != self.id);
    }
}
