//! How plans and decisions about them are asked of a model, and read from what it answers.
//!
//! The form is made for the inventory at hand: one variant for each tool, with its typed input, each
//! value a literal or a reference. It keeps to what providers' strict modes take; what those cannot
//! say is asked for as JSON text. An answer is translated into a plan of ours, which `check` then
//! judges like any other.
//!
//! ```text
//!  inventory ─▶ Menu ─▶ form ─▶ (the model) ─▶ answer ─▶ translate ─▶ Plan ─▶ core::check
//! ```

pub mod answer;
pub mod form;
mod menu;
mod progress;
mod strict;
pub mod translate;

pub use menu::{Menu, TOOLS_MAX, type_text};
pub use progress::{irrevocable, progress};
