//! One call of a tool: what a handler gets, and the trait that every kind of tool implements.

use std::{sync::Arc, time::Duration};

use foreplan_core::{
    digest::Digest,
    failure::Failure,
    id::{RunId, StepId},
    run::permit_denied,
    trace::TraceParent,
};
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How a tool is called.
///
/// # Cancel safety
///
/// The future may be dropped at any await. A handler that started something outside this process
/// must end it then.
pub trait Handler: Send + Sync + 'static {
    /// Makes the call. The input fits the tool's schema; the output is checked by the caller.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>>;

    /// Returns whether the handler itself ends at the call's timeout and when it is cancelled,
    /// since it has something to end in order. Of any other the future is dropped.
    fn ends_itself(&self) -> bool {
        false
    }
}

/// What a handler gets.
#[derive(Clone)]
pub struct Call {
    /// The bound input.
    pub input: Arc<Value>,
    /// The run.
    pub run: RunId,
    /// The step, or the item of a `for_each`.
    pub step: StepId,
    /// Counts per step id over the whole run.
    pub attempt: u32,
    /// Stable over attempts; absent for reads.
    pub idempotency_key: Option<Digest>,
    /// How long the call may take.
    pub timeout: Duration,
    /// Until when the permit counts that an irreversible call has.
    pub permit_until: Option<Instant>,
    /// Ends the call early.
    pub cancel: CancellationToken,
    /// Gets what the tool prints meanwhile.
    pub log: Option<Arc<dyn LogSink>>,
}

impl Call {
    /// Makes sure that the permit still counts. Whoever prepares a call for longer than a moment asks right before
    /// the effect: a process may be stopped anywhere in between, and somebody else may have been permitted meanwhile.
    ///
    /// # Errors
    ///
    /// The failure of a call that was not made, if the permit has run out.
    pub fn check_permit(&self) -> Result<(), Failure> {
        match self.permit_until {
            Some(until) if Instant::now() >= until => {
                Err(permit_denied("it ran out before the call was made"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the place in the run's trace under which the tool works, for tools that pass it on.
    #[must_use]
    pub fn trace(&self) -> TraceParent {
        TraceParent::work(self.run, &self.step, self.attempt)
    }
}

/// Gets what a tool prints while it works. Lines are bounded, and known secrets are replaced.
pub trait LogSink: Send + Sync {
    /// Takes one line, without its end.
    fn line(&self, stream: Stream, text: &str);
}

/// Where a line was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Returns the name that logs use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}
