//! The client against a scripted server, over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod answers;
mod bad_input;
mod certificate;
mod common;
mod foreign;
mod retries;
mod same;
mod streams;
