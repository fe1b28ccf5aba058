//! Tools as executors see them, through the toolbox and on real processes, files and servers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod command;
mod command_ends;
mod common;
mod declare;
mod file;
mod function;
#[cfg(feature = "http")]
mod http;
mod jq;
#[cfg(feature = "mcp")]
mod mcp;
mod template;
