//! The transitions of a run, one rule each: what an input makes the run record and do.

#[path = "run/support/mod.rs"]
mod support;

#[path = "run/order.rs"]
mod order;
