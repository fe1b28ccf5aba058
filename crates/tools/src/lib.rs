//! The tools of a process: what executors call, and what the inventory says of it.
//!
//! A [`Tool`] is a descriptor (what planners see) and a [`Handler`] (how it is called). A
//! [`Toolbox`] holds the tools of one process with their compiled schemas and checks input and
//! output at every call; executors use it and nothing else of this crate. The declarations of a
//! project file become tools in [`declare`].
//!
//! ```text
//!  [[tools.…]] ──declare──▶ Tool ──▶ Toolbox ──inventory──▶ planners, checker
//!  Tool::function ─────────▶              └────call───────▶ executors
//! ```
//!
//! Nothing here knows of runs beyond their ids, retries a call, or decides about permits.

mod call;
pub mod declare;
mod groups;
mod kind;
mod pattern;
mod project;
mod schema;
mod secrets;
mod tool;
mod toolbox;

pub use call::{Call, Handler, LogSink, Stream};
pub use groups::Groups;
pub use project::Project;
pub use schema::InvalidSchema;
pub use secrets::Secrets;
pub use tool::{Signature, Tool};
pub use toolbox::{AgentSpec, Builder, CONCURRENCY_DEFAULT, DEFAULT_CAPABILITY, Error, Specialist, Toolbox};
