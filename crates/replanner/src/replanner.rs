//! What a replanner is.

use std::sync::Arc;

use foreplan_core::{budget::Usage, call::Call, policy::ReplanDecision, tool::Inventory};
use foreplan_protocol::ReplanRequest;
use futures::future::BoxFuture;

/// Answers failures. The tracker checks the plan that an answer makes; a replanner that panics has
/// no answer, and the next one is asked.
pub trait Replanner: Send + Sync + 'static {
    /// Returns the name that the record shows.
    fn name(&self) -> &str;

    /// Decides, or passes.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the process stops; the request is then made again.
    fn replan(&self, request: Arc<ReplanRequest>, inventory: Arc<Inventory>) -> BoxFuture<'_, Replanned>;
}

/// What a replanner answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Replanned {
    /// The decision; [`ReplanDecision::Pass`] if it has none.
    pub decision: ReplanDecision,
    /// Why, for the record.
    pub reason: String,
    /// Which rule answered, counted from 0.
    pub rule: Option<u32>,
    /// What replanning used.
    pub usage: Usage,
    /// The calls that were made for it.
    pub calls: Vec<Call>,
}

impl Replanned {
    /// Answers without a model.
    pub fn new(decision: ReplanDecision, reason: impl Into<String>) -> Self {
        Self { decision, reason: reason.into(), rule: None, usage: Usage::default(), calls: Vec::new() }
    }

    /// Answers that it has no answer, and why.
    pub fn pass(reason: impl Into<String>) -> Self {
        Self::new(ReplanDecision::Pass, reason)
    }
}
