//! Plan-and-execute agents that can be audited.

#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod logs;
mod system;

pub use system::{Approval, Builder, Error, OnApproval, Outcome, Planned, System, Traces};
