//! The rules replanner: answers that the project wrote down.

use foreplan_core::{
    action::Trigger,
    finding::Finding,
    plan::StepKind,
    policy::rules::{self, Answer, Answered, Situation},
    tool::Inventory,
};
use foreplan_protocol::ReplanRequest;

use crate::Replanned;

/// The name that the record shows.
pub(crate) const NAME: &str = "rules";

/// Asks the rules of the run. It evaluates CEL, which may take a while: not on an async thread.
pub(crate) fn answer(request: &ReplanRequest, inventory: &Inventory) -> Replanned {
    let context = &request.context;
    let Trigger::StepFailed { step, failure } = context.trigger.as_ref() else {
        return Replanned::pass("rules answer failed steps only");
    };
    let id = step.as_item().map_or(step.as_str(), |(each, _)| each);
    let Some((plan, at)) = context.plan.as_ref().and_then(|plan| Some((plan, plan.position(id)?))) else {
        return Replanned::pass(format!("the plan in force has no step `{id}`"));
    };
    let step = plan.step(at);
    let effect = match step.kind() {
        Some(StepKind::Tool(tool)) => inventory.get(tool.as_str()).map(|tool| tool.effect),
        Some(StepKind::Agent(_) | StepKind::Human(_) | StepKind::Goal(_)) | None => None,
    };
    let situation = Situation {
        failure,
        step,
        effect,
        attempts: context.attempts,
        plan: plan.plan(),
        statuses: &context.statuses,
        outputs: &context.outputs,
        params: &request.spec.params,
        rule_uses: &context.rule_uses,
    };
    let Answered { answer, findings } = rules::answer(&request.spec.replan.rules, &situation);
    match answer {
        Some(Answer { rule, decision, reason }) => {
            let reason = with_findings(reason, &findings);
            Replanned { rule: Some(rule), ..Replanned::new(decision, reason) }
        }
        None => Replanned::pass(with_findings("no rule matches".to_owned(), &findings)),
    }
}

fn with_findings(mut reason: String, findings: &[Finding]) -> String {
    for finding in findings {
        reason.push_str(&format!("; passed over {finding}"));
    }
    reason
}
