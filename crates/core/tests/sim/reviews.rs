//! A reviewer that accepts, refuses, fails, or says nothing.

use foreplan_core::{
    budget::Usage,
    failure::{Failure, FailureKind},
    goal::Review,
    input::{Input, ReviewReply, Verdicts},
    review::{Judgement, ReviewOutcome},
};

use crate::{rng::Rng, world::World};

/// Returns who reviews what.
pub(crate) fn random(rng: &mut Rng) -> Review {
    Review { model: "sim".to_owned(), plans: rng.chance(60), results: rng.chance(60) }
}

impl World {
    /// The reviewer gets a request.
    pub(crate) fn review(&mut self, review: u32) {
        let outcome = match self.rng.below(20) {
            0..3 => {
                let reasons = vec!["too little".to_owned()];
                ReviewOutcome::Judgement(Judgement { accepts: false, reasons })
            }
            3 => ReviewOutcome::Failed(Failure::new(FailureKind::Model, "broken", "it broke")),
            4 if self.has_faults => return,
            _ => ReviewOutcome::Judgement(Judgement { accepts: true, reasons: Vec::new() }),
        };
        let step = self.run().output_in_review(review).map(|(step, _)| step.clone());
        let verdicts = match step.filter(|_| outcome.accepts()) {
            Some(step) => self.unlocked(&step),
            None => Verdicts::default(),
        };
        let usage = Usage { model_calls: 1, ..Usage::default() };
        let by = "sim".to_owned();
        self.handle(Input::Reviewed(ReviewReply { review, by, outcome, usage, calls: Vec::new(), verdicts }));
    }
}
