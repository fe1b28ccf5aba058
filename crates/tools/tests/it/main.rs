//! Tools as executors see them, through the toolbox and on real processes, files and servers.

mod common;
mod function;
