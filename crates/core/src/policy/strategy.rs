//! What the strategy of a run makes of a failure that no rule answers.

use super::{ReplanDecision, ReplanPolicy, Strategy};
use crate::{failure::Failure, id::StepId};

/// A step that failed for good.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// The step.
    pub step: &'a StepId,
    /// Why.
    pub failure: &'a Failure,
    /// How many replans were asked for because of this step before.
    pub earlier_replans: u32,
    /// The step whose patch added or changed this one in its present form, if one did.
    pub patched_for: Option<&'a StepId>,
}

impl Failed<'_> {
    /// Returns whether something was decided before, and did not help.
    fn is_unhelped(&self) -> bool {
        self.earlier_replans > 0 || self.patched_for.is_some()
    }

    fn unhelped(&self) -> String {
        match self.patched_for {
            Some(other) if other != self.step => {
                format!("`{}`, which a patch for `{other}` brought, failed", self.step)
            }
            _ => format!("`{}` failed again after a patch", self.step),
        }
    }
}

/// What comes after the rules.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The replanners that can patch are asked, one after another.
    Patch,
    /// It is decided.
    Decided {
        /// What.
        decision: ReplanDecision,
        /// Why.
        reason: String,
    },
}

/// Decides what follows when no rule has answered.
#[must_use]
pub fn decide(policy: &ReplanPolicy, failed: &Failed<'_>) -> Next {
    match policy.strategy {
        Strategy::FailFast => {
            let reason = format!("{}, and the strategy is fail-fast", describe(failed));
            Next::Decided { decision: ReplanDecision::Fail { reason: reason.clone() }, reason }
        }
        Strategy::LocalPatch => match policy.escalate {
            Some(Strategy::FullReplan) if failed.is_unhelped() => Next::Decided {
                decision: ReplanDecision::FullReplan,
                reason: format!("{}: escalated to a full replan", failed.unhelped()),
            },
            Some(Strategy::FailFast) if failed.is_unhelped() => {
                let reason = format!("{} ({}), and no more is tried", failed.unhelped(), failed.failure);
                Next::Decided { decision: ReplanDecision::Fail { reason: reason.clone() }, reason }
            }
            _ => Next::Patch,
        },
        Strategy::FullReplan => Next::Decided {
            decision: ReplanDecision::FullReplan,
            reason: format!("{}, and the strategy is full-replan", describe(failed)),
        },
    }
}

/// Decides what follows when no replanner has answered either. `asked` says of each what it said.
#[must_use]
pub fn exhausted(policy: &ReplanPolicy, failed: &Failed<'_>, asked: &[String]) -> (ReplanDecision, String) {
    let asked = asked.join("; ");
    if policy.strategy != Strategy::FailFast && escalates(policy) {
        let reason = format!("no patch applies ({asked}): escalated to a full replan");
        return (ReplanDecision::FullReplan, reason);
    }
    let reason = format!("{}, and no replanner had an answer ({asked})", describe(failed));
    (ReplanDecision::Fail { reason: reason.clone() }, reason)
}

fn escalates(policy: &ReplanPolicy) -> bool {
    policy.escalate == Some(Strategy::FullReplan)
}

fn describe(failed: &Failed<'_>) -> String {
    format!("`{}` failed ({})", failed.step, failed.failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    fn policy(strategy: Strategy, escalate: Option<Strategy>) -> ReplanPolicy {
        ReplanPolicy { strategy, escalate, ..ReplanPolicy::default() }
    }

    fn with_failed<T>(earlier_replans: u32, test: impl FnOnce(&Failed<'_>) -> T) -> T {
        let failure = Failure::new(FailureKind::Tool, "exit_1", "out of ink");
        let step = "draft".parse().unwrap();
        test(&Failed { step: &step, failure: &failure, earlier_replans, patched_for: None })
    }

    fn next(policy: &ReplanPolicy, earlier_replans: u32) -> &'static str {
        with_failed(earlier_replans, |failed| named(decide(policy, failed)))
    }

    fn named(next: Next) -> &'static str {
        match next {
            Next::Patch => "asks",
            Next::Decided { decision, .. } => decision.name(),
        }
    }

    fn last(policy: &ReplanPolicy) -> &'static str {
        with_failed(0, |failed| exhausted(policy, failed, &["rules: no rule matches".to_owned()]).0.name())
    }

    #[test]
    fn fail_fast_fails() {
        assert_eq!(next(&policy(Strategy::FailFast, None), 0), "fail");
        assert_eq!(next(&policy(Strategy::FailFast, Some(Strategy::FullReplan)), 0), "fail");
    }

    #[test]
    fn full_replan_asks_the_planner_at_once() {
        assert_eq!(next(&policy(Strategy::FullReplan, None), 0), "full_replan");
    }

    #[test]
    fn local_patch_asks_for_a_patch_every_time_unless_it_escalates() {
        assert_eq!(next(&policy(Strategy::LocalPatch, None), 0), "asks");
        assert_eq!(next(&policy(Strategy::LocalPatch, None), 3), "asks");
        let escalating = policy(Strategy::LocalPatch, Some(Strategy::FullReplan));
        assert_eq!(next(&escalating, 0), "asks");
        assert_eq!(next(&escalating, 1), "full_replan");
    }

    #[test]
    fn a_patch_did_not_help_either_if_what_it_brought_fails() {
        let patched_for = "write".parse().unwrap();
        let next = |policy: ReplanPolicy| {
            with_failed(0, |failed| decide(&policy, &Failed { patched_for: Some(&patched_for), ..*failed }))
        };
        let escalated = next(policy(Strategy::LocalPatch, Some(Strategy::FullReplan)));
        let Next::Decided { decision: ReplanDecision::FullReplan, reason } = escalated else {
            panic!("{escalated:?}")
        };
        assert_eq!(reason, "`draft`, which a patch for `write` brought, failed: escalated to a full replan");
        assert_eq!(named(next(policy(Strategy::LocalPatch, Some(Strategy::FailFast)))), "fail");
        assert_eq!(named(next(policy(Strategy::LocalPatch, None))), "asks");
    }

    #[test]
    fn escalating_to_fail_fast_allows_one_patch() {
        let policy = policy(Strategy::LocalPatch, Some(Strategy::FailFast));
        assert_eq!(next(&policy, 0), "asks");
        assert_eq!(next(&policy, 1), "fail");
    }

    #[test]
    fn without_a_patch_a_run_fails_or_escalates() {
        assert_eq!(last(&policy(Strategy::LocalPatch, None)), "fail");
        assert_eq!(last(&policy(Strategy::LocalPatch, Some(Strategy::FailFast))), "fail");
        assert_eq!(last(&policy(Strategy::LocalPatch, Some(Strategy::FullReplan))), "full_replan");
    }

    #[test]
    fn the_reason_names_the_step_the_failure_and_who_was_asked() {
        let policy = policy(Strategy::LocalPatch, None);
        let asked = ["rules: no rule matches".to_owned(), "derive: it failed".to_owned()];
        let (_, reason) = with_failed(0, |failed| exhausted(&policy, failed, &asked));
        assert_eq!(
            reason,
            "`draft` failed (exit_1: out of ink), and no replanner had an answer (rules: no rule matches; \
             derive: it failed)"
        );
    }
}
