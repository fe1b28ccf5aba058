//! The chain: who is asked, in which order, and what follows when nobody answers.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use foreplan_bus::service::panic_text;
use foreplan_core::{
    action::Trigger,
    budget::Usage,
    call::Call,
    policy::{self, Failed, Next, ReplanDecision},
    tool::Inventory,
};
use foreplan_protocol::ReplanRequest;
use futures::FutureExt as _;

use crate::{Derive, Replanned, Replanner, rules};

/// How long the rules of a run may take together. A condition within its bounds takes less than a
/// millisecond; one that loops over a large output is not worth waiting for.
const RULES_TIME_MAX: Duration = Duration::from_secs(5);

/// The name under which the record shows what the strategy decided.
pub(crate) const STRATEGY: &str = "strategy";

/// The replanners that there are, cheapest first. The rules of a run come before all of them.
#[derive(Clone)]
pub struct Replanners {
    patching: Vec<Arc<dyn Replanner>>,
}

impl Default for Replanners {
    /// Returns those that need no model: the rules, then [`Derive`].
    fn default() -> Self {
        Self { patching: vec![Arc::new(Derive)] }
    }
}

/// An answer, and who gave it.
pub(crate) struct Answer {
    pub by: String,
    pub replanned: Replanned,
}

impl Replanners {
    /// Adds a replanner that is asked when all before it pass.
    #[must_use]
    pub fn with(mut self, replanner: impl Replanner) -> Self {
        self.patching.push(Arc::new(replanner));
        self
    }

    /// Asks one after another until one decides. The reason names those that passed.
    pub(crate) async fn answer(&self, request: &Arc<ReplanRequest>, inventory: &Arc<Inventory>) -> Answer {
        let mut asked = Asked::default();
        if !request.spec.replan.rules.is_empty() {
            let replanned = asked.ask(rules::NAME, ask_rules(request, inventory)).await;
            if replanned.decision != ReplanDecision::Pass {
                return asked.answer(rules::NAME, replanned);
            }
        }
        let context = &request.context;
        let Trigger::StepFailed { step, failure } = context.trigger.as_ref() else {
            let reason =
                format!("nothing failed ({}): the planner looks at it again", context.trigger.name());
            return asked.answer(STRATEGY, Replanned::new(ReplanDecision::FullReplan, reason));
        };
        let failed = Failed {
            step,
            failure,
            earlier_replans: context.earlier_replans,
            patched_for: context.patched_for.as_ref(),
        };
        let policy = &request.spec.replan;
        if let Next::Decided { decision, reason } = policy::decide(policy, &failed) {
            return asked.answer(STRATEGY, Replanned::new(decision, reason));
        }
        for replanner in &self.patching {
            let asking = async { replanner.replan(Arc::clone(request), Arc::clone(inventory)).await };
            let replanned = asked.ask(replanner.name(), asking).await;
            if replanned.decision != ReplanDecision::Pass {
                return asked.answer(replanner.name(), replanned);
            }
        }
        let (decision, reason) = policy::exhausted(policy, &failed, &asked.passed);
        asked.passed.clear();
        asked.answer(STRATEGY, Replanned::new(decision, reason))
    }
}

/// Who was asked so far.
#[derive(Default)]
struct Asked {
    passed: Vec<String>,
    usage: Usage,
    calls: Vec<Call>,
}

impl Asked {
    async fn ask(&mut self, name: &str, asking: impl Future<Output = Replanned>) -> Replanned {
        let mut replanned = match AssertUnwindSafe(asking).catch_unwind().await {
            Ok(replanned) => replanned,
            Err(panic) => {
                Replanned::pass(format!("it panicked ({}); this is a bug in it", panic_text(panic.as_ref())))
            }
        };
        self.usage.add(&replanned.usage);
        self.calls.append(&mut replanned.calls);
        if replanned.decision == ReplanDecision::Pass {
            self.passed.push(format!("{name}: {}", replanned.reason));
        }
        replanned
    }

    fn answer(self, by: &str, mut replanned: Replanned) -> Answer {
        if !self.passed.is_empty() {
            replanned.reason = format!("{} (before: {})", replanned.reason, self.passed.join("; "));
        }
        replanned.usage = self.usage;
        replanned.calls = self.calls;
        Answer { by: by.to_owned(), replanned }
    }
}

async fn ask_rules(request: &Arc<ReplanRequest>, inventory: &Arc<Inventory>) -> Replanned {
    let (request, inventory) = (Arc::clone(request), Arc::clone(inventory));
    let evaluation = tokio::task::spawn_blocking(move || rules::answer(&request, &inventory));
    match tokio::time::timeout(RULES_TIME_MAX, evaluation).await {
        Ok(Ok(replanned)) => replanned,
        Ok(Err(error)) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Replanned::pass("the process stopped while they were evaluated"),
        },
        Err(_) => Replanned::pass(format!("they took longer than {} s", RULES_TIME_MAX.as_secs())),
    }
}
