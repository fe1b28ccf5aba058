//! The planner: the agent that turns a goal into a plan.
//!
//! It serves [`Subject::Planner`](foreplan_protocol::Subject::Planner) on the bus: a
//! [`PlanRequest`](foreplan_protocol::PlanRequest) comes in, a plan that nobody has checked goes to
//! the tracker of the run. It keeps nothing between requests, holds no project, and adopts nothing.
//!
//! ```text
//!  tracker ──Plan──▶ agent ──spawn──▶ Planner (derive, runbook, model, an embedder's own)
//!     ▲                                  │
//!     └──────────────Reply───────────────┘
//! ```
//!
//! [`Planner`] is the seam for other ways of planning; [`Planners`] holds them by name.

mod agent;
mod derive;
mod model;
mod planner;
mod review;
mod runbook;

pub use agent::spawn;
pub use derive::Derive;
pub use model::{ModelPlanner, REPAIRS_MAX};
pub use planner::{Planned, Planner, Planners};
pub use review::{ModelReviewer, Reviewed, Reviewer, spawn_reviewer};
pub use runbook::Runbook;

/// Returns the digests of the prompts of planners and reviewers.
#[must_use]
pub fn prompts() -> [foreplan_core::digest::Digest; 3] {
    [model::PROMPT, review::OF_PLANS, review::OF_OUTPUTS].map(|prompt| prompt.digest())
}
