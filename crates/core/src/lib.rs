//! The domain of Foreplan: goals, plans, and the state machine of a run.
//!
//! Everything here is pure. There is no async, clock, randomness or IO: ids and points in time come
//! in as arguments, and what must be done comes out as [`action::Action`]s. The shell around it
//! (the tracker) decodes, evaluates, calls [`run::Run::handle`], appends the events to the journal,
//! and performs the actions.
//!
//! ```text
//!  Input ──▶ Run::handle ──▶ Decision { events, actions }
//!                 │
//!            Run::apply(event)      the same for live runs and for folding a journal
//! ```

pub mod action;
pub mod budget;
pub mod call;
pub mod check;
pub mod derive;
pub mod diff;
pub mod digest;
pub mod envelope;
pub mod event;
pub mod expr;
pub mod failure;
pub mod finding;
pub mod forecast;
pub mod fork;
pub mod goal;
pub mod id;
pub mod input;
pub mod json;
pub mod map;
pub mod payload;
pub mod plan;
pub mod policy;
pub mod replay;
pub mod review;
pub mod run;
pub mod time;
pub mod tool;
pub mod trace;
pub mod view;
