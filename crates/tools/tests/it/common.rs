//! Helpers of the tests of tools.

use std::{sync::Arc, time::Duration};

use foreplan_core::id::ToolName;
use foreplan_tools::Call;
use serde_json::Value;

/// How long a call may take in a test that does not ask for a timeout: far longer than any takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a call with this input.
pub(crate) fn call(input: Value) -> Call {
    Call {
        input: Arc::new(input),
        run: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        step: "step".parse().unwrap(),
        attempt: 1,
        idempotency_key: None,
        timeout: TIMEOUT,
        cancel: tokio_util::sync::CancellationToken::new(),
        log: None,
    }
}

/// Returns the name of a tool.
pub(crate) fn name(text: &str) -> ToolName {
    text.into()
}
