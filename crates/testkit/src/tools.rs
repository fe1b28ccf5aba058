//! Tools that say how often they were called, fail as told, or wait for the test.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use foreplan_core::{failure::Failure, tool::Effect};
use foreplan_tools::Tool;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// How often a tool was called. Copies count the same calls.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<AtomicU32>);

impl Calls {
    /// Returns how often the tool was called.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Notes a call and returns its number, from 1: for tools that a test writes itself.
    pub fn note(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Returns a tool that returns `{"call": n, "input": …}`, and its count.
#[must_use]
pub fn count_calls(name: &str, effect: Effect) -> (Tool, Calls) {
    let calls = Calls::default();
    let counted = calls.clone();
    let tool = Tool::function(name, "Counts its calls", effect, move |input: Value| {
        let call = counted.note();
        async move { Ok(json!({"call": call, "input": input})) }
    });
    (tool, calls)
}

/// Returns a tool that fails its first calls and then does what [`count_calls`] does.
#[must_use]
pub fn fail_times(name: &str, effect: Effect, times: u32, failure: Failure) -> (Tool, Calls) {
    let calls = Calls::default();
    let counted = calls.clone();
    let tool = Tool::function(name, "Fails at first", effect, move |input: Value| {
        let call = counted.note();
        let outcome = match call {
            n if n <= times => Err(failure.clone()),
            _ => Ok(json!({"call": call, "input": input})),
        };
        async move { outcome }
    });
    (tool, calls)
}

/// Holds the calls of a tool until the test lets them through. Copies are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    began: Arc<Semaphore>,
    open: Arc<Semaphore>,
    calls: Calls,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// Makes a gate that is closed.
    #[must_use]
    pub fn new() -> Self {
        let closed = || Arc::new(Semaphore::new(0));
        Self { began: closed(), open: closed(), calls: Calls::default() }
    }

    /// Returns a tool that waits at the gate, then returns `{"call": n, "input": …}`.
    #[must_use]
    pub fn tool(&self, name: &str, effect: Effect) -> Tool {
        let gate = self.clone();
        Tool::function(name, "Waits at a gate", effect, move |input: Value| {
            let gate = gate.clone();
            async move {
                let call = gate.calls.note();
                gate.began.add_permits(1);
                pass(&gate.open).await;
                Ok(json!({"call": call, "input": input}))
            }
        })
    }

    /// Waits until a call has begun. Each call is seen once.
    pub async fn began(&self) {
        pass(&self.began).await;
    }

    /// Lets this many calls through: those that wait, then those that come.
    pub fn let_through(&self, calls: usize) {
        self.open.add_permits(calls);
    }

    /// Returns how often the tool was called.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.calls.count()
    }
}

/// Takes one permit for good. Nobody closes a gate's semaphores.
async fn pass(semaphore: &Semaphore) {
    if let Ok(permit) = semaphore.acquire().await {
        permit.forget();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foreplan_core::{failure::FailureKind, id::RunId};
    use foreplan_tools::{Call, Toolbox};
    use tokio_util::sync::CancellationToken;

    use super::*;

    async fn call(toolbox: &Toolbox, input: Value) -> Result<Value, Failure> {
        let call = Call {
            input: Arc::new(input),
            run: RunId(uuid::Uuid::nil()),
            step: "step".parse().unwrap(),
            attempt: 1,
            idempotency_key: None,
            timeout: Duration::from_secs(60),
            permit_until: None,
            cancel: CancellationToken::new(),
            log: None,
        };
        toolbox.call(&"tool".into(), call).await
    }

    #[tokio::test]
    async fn a_tool_fails_as_often_as_told_and_counts_every_call() {
        let failure = Failure::new(FailureKind::Tool, "flaky", "not yet");
        let (tool, calls) = fail_times("tool", Effect::Read, 2, failure.clone());
        let toolbox = Toolbox::new([tool], []).unwrap();
        assert_eq!(call(&toolbox, json!({})).await, Err(failure.clone()));
        assert_eq!(call(&toolbox, json!({})).await, Err(failure));
        assert_eq!(call(&toolbox, json!({"a": 1})).await, Ok(json!({"call": 3, "input": {"a": 1}})));
        assert_eq!(calls.count(), 3);
    }

    #[tokio::test]
    async fn a_gate_holds_a_call_until_it_is_opened() {
        let gate = Gate::new();
        let toolbox = Toolbox::new([gate.tool("tool", Effect::Read)], []).unwrap();
        let mut calling = std::pin::pin!(call(&toolbox, json!({})));
        tokio::select! {
            biased;
            _ = &mut calling => panic!("nobody opened the gate"),
            () = gate.began() => {}
        }
        gate.let_through(1);
        assert_eq!(calling.await, Ok(json!({"call": 1, "input": {}})));
    }
}
