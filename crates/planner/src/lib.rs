//! The planner: the agent that turns a goal into a plan.
//!
//! It serves [`Subject::Planner`](foreplan_protocol::Subject::Planner) on the bus: a
//! [`PlanRequest`](foreplan_protocol::PlanRequest) comes in, a plan that nobody has checked goes to
//! the tracker of the run. It keeps nothing between requests, holds no project, and adopts nothing.
//!
//! ```text
//!  tracker ──Plan──▶ agent ──spawn──▶ Planner (derive, runbook, an embedder's own)
//!     ▲                                  │
//!     └──────────────Reply───────────────┘
//! ```
//!
//! [`Planner`] is the seam for other ways of planning; [`Planners`] holds them by name.

mod agent;
mod derive;
mod planner;
mod runbook;

pub use agent::spawn;
pub use derive::Derive;
pub use planner::{Planned, Planner, Planners};
pub use runbook::Runbook;
