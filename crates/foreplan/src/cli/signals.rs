//! Ctrl-C and the wish of the system that the process ends.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{error::Failure, exit::Exit};

/// Listens for signals from the moment it is made.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    count: u32,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// If the system does not let this process listen.
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|e| Failure::chain(Exit::Internal, "signals cannot be listened for", &e))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            count: 0,
        })
    }

    /// Waits for the next signal, and returns what a process that it ends exits with.
    pub(crate) async fn next(&mut self) -> Exit {
        let exit = tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        };
        self.count += 1;
        exit
    }

    /// Returns how many signals have come.
    #[must_use]
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}
