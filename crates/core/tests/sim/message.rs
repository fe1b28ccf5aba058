//! What is on its way between the run and those around it.

use foreplan_core::{
    action::Dispatch,
    id::StepId,
    input::{AttemptOutcome, PlanReply, Readiness, ReplanReply},
};

/// Something on its way.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Plan { request: u32 },
    Planned(PlanReply),
    Replan { basis: u64 },
    Replanned(ReplanReply),
    Review { review: u32 },
    Evaluate { steps: Vec<StepId>, version: u32 },
    Evaluated { ready: Vec<(StepId, Readiness)>, version: u32 },
    Run(Dispatch),
    AskPermit { step: StepId, attempt: u32 },
    Permit { step: StepId, attempt: u32, granted: bool },
    PermitExpired { step: StepId, attempt: u32 },
    Result { step: StepId, attempt: u32, outcome: AttemptOutcome },
}
