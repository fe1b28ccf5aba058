//! Expressions in plans and rules: markers in inputs, minijinja templates, CEL. Pure: used by
//! `check` and by the tracker's shell, which evaluates off the actors and under a time limit.

mod bind;
mod cel;
mod cel_names;
mod cel_value;
mod marker;
mod path;
mod project;
mod reference;
mod template;
mod template_names;

pub use bind::{
    BindError, Scope, StepValue, bind, evaluate, holds, needed_by_condition, needed_payloads, render,
};
pub use cel::{Cel, CelError, SOURCE_BYTES_MAX};
pub(crate) use marker::{Marker, marker};
pub use path::{InvalidPath, Path, Segment};
pub(crate) use reference::{Analysis, analyze, condition, value_references};
pub use reference::{Reference, references};
pub use template::{TEMPLATE_BYTES_MAX, Template, TemplateError};

#[cfg(test)]
mod tests;
