//! What planners and replanners are told about a run that is under way.

use std::{collections::BTreeMap, sync::Arc};

use foreplan_core::{
    action::Trigger,
    run::{Found, Run},
};
use foreplan_protocol::ReplanContext;

/// Returns what is known when a plan is looked at again.
pub(crate) fn replan_context(run: &Run, trigger: Arc<Trigger>) -> ReplanContext {
    let mut outputs = BTreeMap::new();
    let mut statuses = BTreeMap::new();
    for step in run.steps() {
        statuses.insert(step.id.clone(), run.step_status(&step.state).as_str().to_owned());
        if let Found::Output(output) = run.output(step.id.as_str()) {
            outputs.insert(step.id.clone(), output.clone());
        }
    }
    let attempts = trigger.step().and_then(|step| run.step(step.as_str())).map_or(0, |step| step.attempts);
    let earlier = trigger.step().map_or(0, |step| run.replans_of(step.as_str()).saturating_sub(1));
    ReplanContext {
        plan: run.current().map(|v| Arc::clone(&v.plan)),
        outputs,
        statuses,
        attempts,
        failed_tools: run.failed_tools().cloned().collect(),
        rule_uses: run.rule_uses().clone(),
        earlier_replans: earlier,
        patched_for: trigger.step().and_then(|step| run.patched_for(step)).cloned(),
        trigger,
    }
}
