//! The executor over a memory bus, with the test in the place of the tracker.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod answers;
mod commands;
mod pools;
mod support;
