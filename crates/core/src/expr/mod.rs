//! Expressions in plans and rules: markers in inputs, minijinja templates, CEL. Pure: used by
//! `check` and by the tracker's shell.

mod bind;
mod cel;
mod reference;

pub use bind::{BindError, Scope, StepValue, bind};
pub use cel::{Cel, CelError};
pub use reference::{Path, Reference, Segment, references};
