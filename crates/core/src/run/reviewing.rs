//! Reviews: a model's opinion of a plan before anybody approves it, and of an output before its step
//! counts as done. A reviewer that says nothing has not accepted.

use std::{sync::Arc, time::Duration};

use super::{
    Turn,
    state::{Judged, PlanReview, PlanVersion, Run, StepState, Timer},
};
use crate::{
    action::Action,
    event::{Event, ReviewOf},
    failure::{EffectState, Failure, FailureKind},
    id::StepId,
    input::{AttemptOutcome, Input, ReviewReply, Verdicts},
    payload::Output,
    review::{ReviewOutcome, ReviewSubject},
    time::Timestamp,
    view::ReviewView,
};

/// A reviewer that has not answered by then counts as lost: a model may be asked several times, and
/// each time may take minutes.
pub const REVIEW_TIME_MAX: Duration = Duration::from_secs(10 * 60);

impl PlanReview {
    pub(super) fn is_open(self, which: u32) -> bool {
        matches!(self, Self::Open { review, .. } if review == which)
    }
}

impl Turn<'_> {
    /// Asks the reviewer.
    pub(super) fn request_review(&mut self, of: ReviewOf) {
        let review = self.run.reviews + 1;
        self.emit(Event::ReviewRequested { review, of: of.clone() });
        self.act(Action::RequestReview { review, of });
    }

    /// Takes the reviewer's answer to a request that is open.
    pub(super) fn reviewed(&mut self, reply: &ReviewReply) {
        self.judged(reply.review, &reply.outcome, &reply.verdicts);
    }

    /// Goes on without a reviewer that does not answer.
    pub(super) fn review_lost(&mut self, review: u32) {
        self.judged(review, &lost(), &Verdicts::default());
    }

    fn judged(&mut self, review: u32, outcome: &ReviewOutcome, verdicts: &Verdicts) {
        let Some(of) = self.run.reviews_open.get(&review).cloned() else { return };
        self.emit(Event::Reviewed { review, accepts: outcome.accepts() });
        let ReviewOf::Output { step, attempt } = of else { return self.gate() };
        let Some(at) = self.run.position(step.as_str()) else { return };
        match outcome.failure() {
            None => {
                self.emit(Event::AttemptSucceeded { step, attempt });
                self.after_success(at, &verdicts.ready, verdicts.done);
            }
            Some(failure) => {
                self.emit(Event::AttemptFailed { step, attempt, failure: Some(failure.clone()) });
                self.attempt_failed(at, &failure.effect(EffectState::Done));
            }
        }
    }
}

impl Run {
    /// Returns whether a version is reviewed before it is adopted: unless a person made it or has seen
    /// it, or a rule that was shown at approval.
    pub(super) fn wants_review(&self, version: &PlanVersion) -> bool {
        let is_known = version.decision == "edit"
            || version.by == "rules"
            || self.spec.approval.envelope == Some(version.envelope_digest);
        self.spec.review.as_ref().is_some_and(|review| review.plans) && !is_known
    }

    /// Returns whether a reviewer judges what a step returns.
    pub(super) fn is_reviewed(&self, at: u32) -> bool {
        let (Some(review), Some(step)) = (&self.spec.review, self.step_definition(at)) else { return false };
        review.judges(step)
    }

    /// Returns whether a reviewer judges what this step, or item, returns.
    #[must_use]
    pub fn reviews_output_of(&self, id: &str) -> bool {
        self.position(id).is_some_and(|at| self.is_reviewed(at))
    }

    /// Returns the step and the output that a review is about, if it is about one and has no answer yet.
    #[must_use]
    pub fn output_in_review(&self, review: u32) -> Option<(&StepId, &Output)> {
        let Some(ReviewOf::Output { step, .. }) = self.reviews_open.get(&review) else { return None };
        match &self.step(step.as_str())?.state {
            StepState::Reviewing { output, .. } => Some((step, output)),
            _ => None,
        }
    }

    /// Returns what a reviewer is shown. An output's step was given `input`.
    #[must_use]
    pub fn review_subject(&self, of: &ReviewOf, input: Arc<serde_json::Value>) -> Option<ReviewSubject> {
        match of {
            ReviewOf::Plan { .. } => {
                let proposed = self.proposed.as_ref()?;
                let plan = Arc::clone(proposed.version.plan.plan());
                Some(ReviewSubject::Plan { plan, findings: proposed.findings.clone() })
            }
            ReviewOf::Output { step, .. } => {
                let output = self.reviewed_output(step)?;
                let step = Box::new(self.definition(step.as_str())?.clone());
                Some(ReviewSubject::Output { step, input, output })
            }
        }
    }

    /// Returns the output of a step that is in review.
    pub(super) fn reviewed_output(&self, step: &StepId) -> Option<Output> {
        match &self.step(step.as_str())?.state {
            StepState::Reviewing { output, .. } => Some(output.clone()),
            _ => None,
        }
    }

    pub(super) fn review_requested(&mut self, at: Timestamp, review: u32, of: &ReviewOf, cause: &Input) {
        self.reviews = review;
        let deadline = at.plus(REVIEW_TIME_MAX);
        match (of, cause) {
            (ReviewOf::Plan { .. }, _) => {
                if let Some(proposed) = &mut self.proposed {
                    proposed.review = PlanReview::Open { review, deadline };
                    self.timers.insert((deadline, Timer::Review(review)));
                    self.reviews_open.insert(review, of.clone());
                }
            }
            (ReviewOf::Output { step, attempt }, Input::Result(reply)) => {
                let AttemptOutcome::Output(output) = &reply.outcome else { return };
                let (attempt, output) = (*attempt, output.clone());
                self.record_reply(step, reply);
                self.change(step, StepState::Reviewing { attempt, review, deadline, output });
            }
            (ReviewOf::Output { .. }, _) => {}
        }
    }

    pub(super) fn judged(&mut self, at: Timestamp, review: u32, cause: &Input) {
        let Some(of) = self.reviews_open.get(&review).cloned() else { return };
        let (by, outcome) = match cause {
            Input::Reviewed(reply) => (reply.by.clone(), reply.outcome.clone()),
            _ => ("tracker".to_owned(), lost()),
        };
        if let (ReviewOf::Plan { .. }, Some(proposed)) = (&of, &mut self.proposed) {
            proposed.review = PlanReview::Done { accepts: outcome.accepts() };
            self.reviews_open.remove(&review);
            self.timers.retain(|(_, timer)| *timer != Timer::Review(review));
        }
        self.judgements.push(Judged { review, of, by, at, outcome });
    }

    pub(super) fn reviews_view(&self) -> Vec<ReviewView> {
        let view = |judged: &Judged| {
            let (version, step, attempt) = match &judged.of {
                ReviewOf::Plan { version } => (Some(*version), None, None),
                ReviewOf::Output { step, attempt } => (None, Some(step.clone()), Some(*attempt)),
            };
            ReviewView {
                review: judged.review,
                version,
                step,
                attempt,
                by: judged.by.clone(),
                at: judged.at,
                accepts: judged.outcome.accepts(),
                reasons: judged.outcome.reasons(),
            }
        };
        self.judgements.iter().map(view).collect()
    }
}

fn lost() -> ReviewOutcome {
    let message = format!("no answer within {} s", REVIEW_TIME_MAX.as_secs());
    ReviewOutcome::Failed(Failure::new(FailureKind::Review, "review_timeout", message))
}
