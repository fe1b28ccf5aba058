//! The transitions of a run, one rule each: what an input makes the run record and do.

#[path = "run/support/mod.rs"]
mod support;

#[path = "run/assumptions.rs"]
mod assumptions;
#[path = "run/attempts.rs"]
mod attempts;
#[path = "run/effects.rs"]
mod effects;
#[path = "run/forks.rs"]
mod forks;
#[path = "run/goals.rs"]
mod goals;
#[path = "run/items.rs"]
mod items;
#[path = "run/order.rs"]
mod order;
#[path = "run/people.rs"]
mod people;
#[path = "run/questions.rs"]
mod questions;
#[path = "run/replans.rs"]
mod replans;
#[path = "run/reviews.rs"]
mod reviews;
#[path = "run/time.rs"]
mod time;
