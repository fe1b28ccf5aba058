//! The reviewer: the agent that gives its opinion of plans and outputs.
//!
//! It serves [`Subject::Reviewer`] on the bus. A [`ReviewRequest`] comes in, a judgement with its
//! reasons goes to the tracker of the run. It carries nothing out and calls no tool.

mod model;

use std::sync::Arc;

use foreplan_bus::{
    Bus,
    service::{self, Handle, StartError},
};
use foreplan_core::{
    budget::Usage,
    call::Call,
    failure::{Failure, FailureKind},
    id::RunId,
    review::{Judgement, ReviewOutcome},
};
use foreplan_protocol::{Message, Reply, ReviewRequest, Subject};
use futures::future::{BoxFuture, FutureExt as _};

pub use model::ModelReviewer;
pub(crate) use model::{OF_OUTPUTS, OF_PLANS};

/// Judges plans and outputs.
pub trait Reviewer: Send + Sync + 'static {
    /// Gives an opinion, or says why there is none.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the process stops; the request is then made again.
    fn review(&self, request: Arc<ReviewRequest>) -> BoxFuture<'_, Reviewed>;
}

/// What a reviewer answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Reviewed {
    /// The judgement, or why there is none.
    pub outcome: ReviewOutcome,
    /// What it used.
    pub usage: Usage,
    /// The calls that were made for it.
    pub calls: Vec<Call>,
}

impl Reviewed {
    /// Answers with a judgement that used no model.
    #[must_use]
    pub fn judgement(judgement: Judgement) -> Self {
        Self { outcome: ReviewOutcome::Judgement(judgement), usage: Usage::default(), calls: Vec::new() }
    }

    /// Answers that there is no judgement.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self { outcome: ReviewOutcome::Failed(failure), usage: Usage::default(), calls: Vec::new() }
    }
}

/// Starts a reviewer that serves [`Subject::Reviewer`].
///
/// # Errors
///
/// If its actors do not start.
pub async fn spawn_reviewer(bus: Arc<dyn Bus>, reviewer: Arc<dyn Reviewer>) -> Result<Handle, StartError> {
    service::spawn(bus, Agent { reviewer }).await
}

struct Agent {
    reviewer: Arc<dyn Reviewer>,
}

impl service::Agent for Agent {
    type Request = ReviewRequest;

    fn subject(&self) -> Subject {
        Subject::Reviewer
    }

    fn request(&self, message: Message) -> Option<(RunId, Arc<ReviewRequest>)> {
        match message {
            Message::Review(request) => Some((request.run, request)),
            _ => None,
        }
    }

    fn answer(&self, request: Arc<ReviewRequest>) -> BoxFuture<'_, Reply> {
        async move {
            let reviewed = self.reviewer.review(Arc::clone(&request)).await;
            reply(&request, reviewed)
        }
        .boxed()
    }

    fn panicked(&self, request: &ReviewRequest, why: &str) -> Reply {
        let message = format!("the reviewer panicked ({why}); this is a bug in it");
        reply(request, Reviewed::failed(Failure::new(FailureKind::Review, "reviewer_panicked", message)))
    }
}

fn reply(request: &ReviewRequest, reviewed: Reviewed) -> Reply {
    let Reviewed { outcome, usage, calls } = reviewed;
    Reply::Review { review: request.review, by: request.model.clone(), outcome, usage, calls }
}
