//! The tracker: it owns runs, and alone writes their journals.
//!
//! Each active run has an actor of its own under a supervisor. The actor decodes a message, has the
//! shell evaluate what the core must not (inputs, conditions, gates), asks the core, appends the
//! entry, and performs the actions. It decides nothing itself. A run that waits is dropped from
//! memory: one heap of timers and the journal are all that is left of it, and it is folded again
//! when something arrives.
//!
//! ```text
//!            ┌ supervisor ┐  wakes runs, restarts their actors
//!  commands ▶│            │◀ timers
//!            └─────┬──────┘
//!                  ▼
//!  replies ─▶ run actor ─▶ judge ─▶ core::run ─▶ journal ─▶ bus (requests)
//! ```

mod children;
mod context;
mod decided;
mod fork;
mod handle;
mod inbox;
mod judge;
mod news;
mod outcome;
mod perform;
mod proposal;
mod received;
mod run_actor;
mod shared;
mod supervisor;
mod timers;
mod unrecorded;
mod values;
mod working;

pub use children::Children;
pub use handle::{CommandError, Standing, SubmitError, TrackerHandle, Watch};
pub use news::News;
pub use outcome::{question, result};
pub use proposal::{Planning, propose};
pub use shared::{Clock, Deps, Inventories, Progress};
pub use supervisor::spawn;
