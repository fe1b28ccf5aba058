//! What the executor does about commands that run.

use std::sync::Arc;

use foreplan_core::failure::FailureKind;
use foreplan_executor::Logs;
use foreplan_protocol::{Cancel, Message};
use foreplan_tools::{LogSink, Project, Specialist, Stream, Toolbox, declare::Declarations};
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{POOL, Setup, failure, run_id};

/// Starts a child, names both processes, and waits for ever.
const FAMILY: &str = r#"{"command": [{
    "name": "family",
    "command": ["sh", "-c", "sleep 1000 & echo $! $$; wait"],
    "effect": "read"
}]}"#;

struct Lines(mpsc::UnboundedSender<String>);

impl LogSink for Lines {
    fn line(&self, _: Stream, text: &str) {
        // The test may have seen enough.
        let _ = self.0.send(text.to_owned());
    }
}

/// A zombie that nobody has waited for yet no longer runs.
fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
async fn cancelling_an_attempt_ends_the_process_group_of_its_command() {
    let project = tempfile::tempdir().unwrap();
    let declarations: Declarations = serde_json::from_str(FAMILY).unwrap();
    let loaded = declarations.load(&Project::new(project.path())).unwrap();
    let pool =
        Specialist { capability: POOL.into(), tools: vec!["family".into()], concurrency: 1, agent: None };
    let (sender, mut lines) = mpsc::unbounded_channel();
    let toolbox = Toolbox::new(loaded.tools, [pool]).unwrap();
    let logs: Logs = Arc::new(move |_, step, attempt| {
        assert_eq!((step.as_str(), attempt), ("step", 1));
        Arc::new(Lines(sender.clone()))
    });
    let mut setup = Setup::of(toolbox, Some(logs)).await;

    setup.send(setup.request("step", "family", json!({}))).await.unwrap();
    let pids = lines.recv().await.unwrap();
    let pids: Vec<&str> = pids.split(' ').collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| is_running(pid)), "{pids:?}");
    let cancel = Cancel { run: run_id(), step: "step".parse().unwrap(), attempt: 1 };
    setup.hint(Message::Cancel(cancel)).await;

    assert_eq!(failure(setup.reply().await.outcome).kind, FailureKind::Cancelled);
    while pids.iter().any(|pid| is_running(pid)) {
        tokio::task::yield_now().await;
    }
}
