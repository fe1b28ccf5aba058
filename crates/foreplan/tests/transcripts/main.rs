//! What a person sees, from the command that they type to the exit code: golden transcripts of the
//! program itself, each on a copy of a small project.

mod moments;
mod refusals;
mod store;
mod support;
mod tending;
mod terminal;
