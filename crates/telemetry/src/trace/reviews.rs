//! Reviews of plans and of outputs, from the request to the judgement.

use std::collections::BTreeMap;

use foreplan_core::{event::ReviewOf, input::Input, time::Timestamp, trace::SpanId};

use super::{At, Trace};
use crate::{Service, semconv, span::AuditSpan};

/// Reviews without an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Reviews {
    open: BTreeMap<u32, Open>,
}

#[derive(Clone, Debug)]
struct Open {
    at: Timestamp,
    first: u64,
    of: ReviewOf,
    /// The plan that is judged, or the attempt that returned what is.
    about: Option<SpanId>,
}

impl Trace {
    pub(super) fn review_requested(&mut self, at: At<'_>, review: u32, of: &ReviewOf) {
        let about = match of {
            ReviewOf::Plan { .. } => self.plans.newest().map(|plan| plan.span),
            ReviewOf::Output { step, attempt } => {
                self.attempt_replied(at, step, *attempt);
                Some(SpanId::attempt(self.run, step, *attempt))
            }
        };
        let open = Open { at: at.time(), first: at.seq(), of: of.clone(), about };
        self.reviews.open.insert(review, open);
    }

    /// Completes a review that was answered, or was not in time.
    pub(super) fn reviewed(&mut self, at: At<'_>, review: u32, accepts: bool) -> Option<AuditSpan> {
        let open = self.reviews.open.remove(&review)?;
        let outcome = if accepts { "accepted" } else { "not_accepted" };
        Some(self.review_span(at, review, &open, outcome))
    }

    /// Completes the reviews whose answers are not wanted any more.
    pub(super) fn abandon_reviews(&mut self, at: At<'_>, spans: &mut Vec<AuditSpan>) {
        for (review, open) in std::mem::take(&mut self.reviews.open) {
            spans.push(self.review_span(at, review, &open, "abandoned"));
        }
    }

    fn review_span(&self, at: At<'_>, review: u32, open: &Open, outcome: &str) -> AuditSpan {
        let mut span = self
            .build("review", &review.to_string(), Service::Reviewer, "review")
            .parent(self.anchor())
            .times(open.at, at.time())
            .text(semconv::OPERATION, "review")
            .text(semconv::OUTCOME, outcome);
        span = match &open.of {
            ReviewOf::Plan { version } => span.int(semconv::PLAN_VERSION, u64::from(*version)),
            ReviewOf::Output { step, attempt } => {
                span.text(semconv::STEP, step.as_str()).int(semconv::ATTEMPT, u64::from(*attempt))
            }
        };
        if let Some(about) = open.about {
            span = span.link(about, "about");
        }
        let mut reasons = None;
        if let (Input::Reviewed(reply), true) = (at.cause(), outcome != "abandoned") {
            reasons = Some(reply.outcome.reasons().join("; ")).filter(|text| !text.is_empty());
            span = span
                .text(semconv::BY, reply.by.clone())
                .text_if(semconv::REASON, reasons.clone().and_then(|text| self.content(text)))
                .usage(&reply.usage);
        }
        if outcome != "accepted" {
            span = span.error(outcome, reasons.as_deref().and_then(|text| self.content(text)));
        }
        span.done(open.first, at.closing, &self.options.redact)
    }
}
