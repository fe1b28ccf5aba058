//! Plan-and-execute agents that can be audited.

#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod logs;
#[cfg(feature = "nats")]
pub mod serve;
mod system;

pub use system::{
    Approval, Builder, Deployment, Error, InHand, OnApproval, Outcome, Planned, System, Traces,
};
