//! The replanner: the agent that is asked when a step failed for good.
//!
//! It serves [`Subject::Replanner`](foreplan_protocol::Subject::Replanner) on the bus: a
//! [`ReplanRequest`](foreplan_protocol::ReplanRequest) comes in, a decision goes to the tracker of
//! the run, with who decided and why. It keeps nothing between requests, and carries nothing out:
//! the state machine adopts, refuses, or asks again.
//!
//! ```text
//!  tracker ──Replan──▶ agent ──spawn──▶ rules ─▶ strategy ─▶ derive ─▶ an embedder's own ─▶ strategy
//!     ▲                                   │         │          │              │                │
//!     └───────────────Reply───────────────┴─────────┴──────────┴──────────────┴────────────────┘
//! ```
//!
//! [`Replanner`] is the seam for other ways of replanning; [`Replanners`] chains them, cheapest
//! first.

mod agent;
mod chain;
mod derive;
mod model;
mod replanner;
mod rules;

pub use agent::spawn;
pub use chain::Replanners;
pub use derive::Derive;
pub use model::ModelReplanner;
pub use replanner::{Replanned, Replanner};

/// Returns the digest of the replanner's prompt.
#[must_use]
pub fn prompt() -> foreplan_core::digest::Digest {
    model::PROMPT.digest()
}
