//! The executor: pools of workers that call tools.
//!
//! One pool per specialist, each a ractor factory with as many workers as the specialist allows at
//! once. A request comes in over the bus, a reply goes out; nothing is kept. The executor decides
//! nothing about a run: what a failure means is the tracker's business.
//!
//! ```text
//!  tracker ──Step──────────▶ bus ──▶ Pool (factory) ──▶ worker ──▶ Toolbox
//!          ──Cancel─────────▶ bus ──▶ Attempts ·····stops····▶ │
//!          ◀─PermitRequest── bus ◀─────────────────────────────┤  irreversible calls only
//!          ──PermitAnswer──▶ bus ──▶ Attempts ·····wakes····▶  │
//!          ◀─Reply───────── bus ◀──────────────────────────────┘
//! ```
//!
//! Every request that a pool accepted is answered once: by the worker that ran it, or, when it is
//! dropped on the way for whatever reason, as `worker_lost` by the guard of the attempt that stands
//! for it.

mod agent;
mod attempt;
mod attempts;
mod clock;
mod executor;
mod payload;
mod pool;
mod turns;
mod worker;

pub use agent::prompt;
pub use clock::{Clock, system_clock};
pub use executor::{Error, Executor, ExecutorHandle, Logs, Options};
pub use payload::OUTPUT_BYTES_MAX;
pub use pool::QUEUE_MAX;
pub use worker::{PERMIT_WAIT, STOP_GRACE};
