//! The messages that agents exchange, and where they go.
//!
//! In one process a message is handed over as it is, with no serialization; over NATS the same
//! types travel as JSON. Every message that leaves a process carries a [`Header`].

mod frame;
mod header;
mod message;
mod subject;
mod trace;
pub mod wire;

pub use frame::{Frame, FrameError};
pub use header::Header;
pub use message::{
    AgentWork, Cancel, ListedTool, Message, PermitAnswer, PermitRequest, PlanOutcome, PlanRequest,
    ReplanContext, ReplanRequest, Reply, ReviewRequest, StepRequest, StepWork,
};
pub use subject::Subject;

/// The version of messages that this crate writes. Older ones decode for ever.
pub const VERSION: u32 = 1;
