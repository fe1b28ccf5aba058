//! A store as a whole: the journal with its run index, the payloads, and this process's place among
//! those that use it.

use std::{path::Path, sync::Arc};

use crate::{Error, MemoryJournal, MemoryPayloads, Options, Payloads, ProcessLock, RunStore, SqliteJournal};

/// The one process of a store in memory.
const MEMORY_PROCESS: &str = "memory";

/// What a process needs of a store.
#[derive(Clone)]
pub struct Store {
    /// The journal and its run index.
    pub journal: Arc<dyn RunStore>,
    /// Where large values are kept.
    pub payloads: Arc<dyn Payloads>,
    process: Option<Arc<ProcessLock>>,
    is_local: bool,
}

impl Store {
    /// Opens the store in a folder, and enters this process unless it only reads.
    ///
    /// # Errors
    ///
    /// As [`SqliteJournal::open`].
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        let journal = SqliteJournal::open(dir, options)?;
        let payloads = Arc::new(journal.payloads().clone());
        if options.read_only {
            return Ok(Self { journal: Arc::new(journal), payloads, process: None, is_local: true });
        }
        let process = journal.processes().enter().map_err(|e| Error::store("the process is entered", e))?;
        let journal = journal.owned_by(process.id());
        Ok(Self { journal: Arc::new(journal), payloads, process: Some(Arc::new(process)), is_local: true })
    }

    /// Makes a store that ends with the process.
    #[must_use]
    pub fn memory() -> Self {
        let payloads = Arc::new(MemoryPayloads::default());
        let journal = MemoryJournal::new(payloads.clone()).owned_by(MEMORY_PROCESS);
        Self { journal: Arc::new(journal), payloads, process: None, is_local: true }
    }

    /// Makes a store of a journal and payloads that are somewhere else.
    #[must_use]
    pub fn shared(journal: Arc<dyn RunStore>, payloads: Arc<dyn Payloads>) -> Self {
        Self { journal, payloads, process: None, is_local: false }
    }

    /// Returns whether it is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Returns the name under which this process owns runs.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.process.as_ref().map_or(MEMORY_PROCESS, |process| process.id())
    }
}
