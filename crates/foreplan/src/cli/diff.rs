//! What changed from one plan version to the next.

pub(super) use foreplan_core::diff::kind_of;
pub use foreplan_core::diff::{Change, FieldDiff, PlanDiff, StepDiff};
