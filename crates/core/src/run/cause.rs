//! What the cause of an entry says about its events, which do not repeat it.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    action::Trigger,
    id::StepId,
    input::{AttemptOutcome, AttemptReply, CommandKind, Input, Proposal, Resolution},
    payload::Output,
};

/// Where a proposed plan came from.
pub(super) struct Origin<'a> {
    pub(super) proposal: &'a Proposal,
    pub(super) trigger: String,
    pub(super) step: Option<StepId>,
    pub(super) decision: String,
    pub(super) by: String,
    pub(super) reason: String,
}

impl<'a> Origin<'a> {
    /// Returns the origin of the plan that `cause` proposes; `trigger` is that of the plan request that
    /// it answers, and `why` what the replanner gave as its reason to make that.
    pub(super) fn of(cause: &'a Input, trigger: Option<Arc<Trigger>>, why: Option<String>) -> Option<Self> {
        match cause {
            Input::Planned(reply) => {
                let again = trigger.as_ref();
                let rationale = match &reply.proposal {
                    Proposal::Valid { plan, .. } if again.is_some() => plan.plan().rationale.clone(),
                    _ => None,
                };
                let reasons: Vec<String> = why.into_iter().chain(rationale).collect();
                Some(Self {
                    proposal: &reply.proposal,
                    trigger: again.map_or("goal", |t| t.name()).to_owned(),
                    step: again.and_then(|t| t.step().cloned()),
                    decision: if again.is_some() { "full_replan" } else { "plan" }.to_owned(),
                    by: reply.by.clone(),
                    reason: reasons.join("; "),
                })
            }
            Input::Replanned(reply) => Some(Self {
                proposal: reply.proposal.as_ref()?,
                trigger: String::new(),
                step: None,
                decision: reply.decision.name().to_owned(),
                by: reply.by.clone(),
                reason: reply.reason.clone(),
            }),
            Input::Command(command) => {
                let CommandKind::Edit { proposal, .. } = &command.kind else { return None };
                Some(Self {
                    proposal,
                    trigger: "edited".to_owned(),
                    step: None,
                    decision: "edit".to_owned(),
                    by: command.by.clone(),
                    reason: String::new(),
                })
            }
            Input::Submit { .. }
            | Input::Evaluated { .. }
            | Input::Result(_)
            | Input::Permit { .. }
            | Input::Child { .. }
            | Input::Reviewed(_)
            | Input::Wake
            | Input::Takeover { .. } => None,
        }
    }
}

/// Returns the output that a cause brings for a step that did not succeed by its own attempt.
pub(super) fn output_of(cause: &Input) -> Output {
    match cause {
        Input::Command(command) => match &command.kind {
            CommandKind::Answer { value, .. } => Output::Inline(Arc::clone(value)),
            CommandKind::Resolve { resolution: Resolution::Happened(output), .. } => output.clone(),
            _ => Output::inline(Value::Null),
        },
        Input::Result(AttemptReply { outcome: AttemptOutcome::Output(Output::Inline(value)), .. }) => {
            Output::inline(value.get("output").cloned().unwrap_or_else(|| serde_json::json!({})))
        }
        _ => Output::inline(Value::Null),
    }
}
