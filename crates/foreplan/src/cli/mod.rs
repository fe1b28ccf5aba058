//! The command line: what a person types, and what they see.
//!
//! Every verb is thin: it parses, asks the library, renders. What it shows is made by the pure
//! functions of [`render`]; what it exits with is one of [`exit::Exit`].

pub mod args;
pub mod diff;
pub mod error;
pub mod exit;
pub mod hints;
pub mod history;
pub mod lines;
pub mod live;
pub mod notify;
pub mod output;
pub mod paint;
pub mod render;
pub mod verbs;
