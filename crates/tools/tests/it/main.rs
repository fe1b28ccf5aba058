//! Tools as executors see them, through the toolbox and on real processes, files and servers.

mod command;
mod command_ends;
mod common;
mod declare;
mod file;
mod function;
#[cfg(feature = "http")]
mod http;
mod jq;
mod template;
