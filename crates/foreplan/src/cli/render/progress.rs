//! What a person sees while a run goes on.

use std::time::Duration;

use foreplan_core::{id::StepId, time::Timestamp, view::StepStatus};

use super::Look;
use crate::cli::paint::{Tone, clean, clock, cut, span};

/// Something that a person who watches should see.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// The step; absent: the run.
    pub step: Option<StepId>,
    /// Where the step stands now.
    pub status: Option<StepStatus>,
    /// More, for people.
    pub message: String,
    /// How long it took.
    pub took: Option<Duration>,
}

/// Returns one plain line, for pipes and logs.
#[must_use]
pub fn line(look: &Look, line: &Line) -> String {
    let mut text = look.paint.paint(Tone::Dim, &clock(line.at));
    text.push_str("  ");
    if let (Some(status), Some(step)) = (line.status, &line.step) {
        text.push_str(&look.paint.step(status));
        text.push_str("  ");
        text.push_str(step.as_str());
    }
    if let Some(took) = line.took {
        text.push_str(&look.paint.paint(Tone::Dim, &format!("  {}", span(took))));
    }
    if !line.message.is_empty() {
        let room = look.columns.max(60) - 20;
        let message = cut(&clean(&line.message), room);
        if line.step.is_some() {
            text.push_str("  ");
        }
        text.push_str(&message);
    }
    text.trim_end().to_owned()
}
