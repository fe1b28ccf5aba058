//! The project file: `foreplan.toml`, read into types, and resolved into what a run is for.
//!
//! This module owns the file's form, where it is looked for, and what each error in it says. It
//! resolves intent (a [`RunSpec`](foreplan_core::goal::RunSpec)) and declares means (tools,
//! specialists). It starts nothing, prints nothing, and reads no secret.

mod discover;
mod error;
mod file;
mod models;
mod params;
mod plan_file;
mod planner;
mod resolve;
mod source;
mod telemetry;
#[cfg(test)]
mod tests;
mod toolbox;

pub use discover::{FILE_NAME, find};
pub use error::{Error, Place, Problem};
pub use file::{
    ApprovalSection, BusSection, File, NotifyOn, NotifySection, Param, ParamType, PlannerKind,
    PlannerSection, ProjectSection, SpecialistSection, StoreSection, Sync, TlsSection, ToolsSection,
};
pub use models::ModelSection;
pub use params::parse as parse_param;
pub use plan_file::PlanFile;
pub use planner::PlannerName;
pub use resolve::{Overrides, Project};
pub use source::Source;
pub use telemetry::TelemetrySection;

/// Returns the candidate nearest to `name`, if one is near enough to be a slip of the finger.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| {
            *distance <= 1 + name.len() / 3 || candidate.starts_with(name) && name.len() > 2
        })
        .map(|(_, candidate)| candidate)
}
