//! Runs that begin where others were.

use std::sync::Arc;

use foreplan_core::{goal::RunSpec, id::RunId, input::CommandKind, run::Fork};

use super::{Error, System};

impl System {
    /// Looks at a run where it was after an entry: what was asked for there, its plan, and what a
    /// fork keeps.
    ///
    /// # Errors
    ///
    /// If there is no such run or entry, or a fork could make a call a second time.
    pub async fn fork_point(&self, run: RunId, seq: u64) -> Result<Fork, Error> {
        let entries = self.entries(run).await?;
        Ok(Fork::at(run, &entries, seq)?)
    }

    /// Begins a run where another was, as its spec says, and puts that on the other's record.
    ///
    /// # Errors
    ///
    /// If it cannot be forked there, or the store cannot be written. If the fork runs and only the
    /// origin's record lacks it, that is a warning.
    pub async fn fork(&self, id: RunId, spec: RunSpec, by: &str) -> Result<(), Error> {
        let origin = spec.origin;
        self.submit(id, Arc::new(spec), by).await?;
        let Some(origin) = origin else { return Ok(()) };
        let kind = CommandKind::Fork { run: id, seq: origin.seq };
        if let Err(error) = self.record(origin.run, by, kind).await {
            tracing::warn!(origin = %origin.run, run = %id, %error, "the origin's record does not name the fork");
        }
        Ok(())
    }
}
