//! What is on its way between the run and those around it.

use foreplan_core::{
    action::Dispatch,
    id::{ClaimId, StepId},
    input::{AttemptOutcome, PlanReply, Readiness, ReplanReply},
};

/// An irreversible call in hand. A request may be in several hands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hand {
    pub(crate) step: StepId,
    pub(crate) attempt: u32,
    pub(crate) claim: ClaimId,
}

/// Something on its way.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Plan {
        request: u32,
    },
    Planned(PlanReply),
    Replan {
        basis: u64,
    },
    Replanned(ReplanReply),
    Review {
        review: u32,
    },
    Evaluate {
        steps: Vec<StepId>,
        version: u32,
    },
    Evaluated {
        ready: Vec<(StepId, Readiness)>,
        version: u32,
    },
    Run(Dispatch),
    AskPermit(Hand),
    /// Whether the call may be made.
    Permit(Hand, bool),
    PermitExpired(Hand),
    Result {
        step: StepId,
        attempt: u32,
        claim: Option<ClaimId>,
        outcome: AttemptOutcome,
    },
}
