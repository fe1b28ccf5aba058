//! Commands that must be ended: nothing of their process group is left.

use std::{path::Path, sync::Arc, time::Duration};

use foreplan_core::failure::FailureKind;
use foreplan_tools::{Call, LogSink, Stream};
use serde_json::json;
use tokio::sync::mpsc;

use crate::common::{TIMEOUT, TestProject, call, name};

/// Starts a child and a grandchild, names all three, and waits for ever.
const FAMILY: &str = "sh -c 'sleep 1000 & echo $!; wait' & echo $!; echo $$; echo ready; wait";

/// Sends each line on.
struct Sender(mpsc::UnboundedSender<String>);

impl LogSink for Sender {
    fn line(&self, _: Stream, text: &str) {
        // The test may have seen enough.
        let _ = self.0.send(text.to_owned());
    }
}

fn script(script: &str) -> String {
    let script = script.replace('\n', "\\n");
    format!("[[command]]\nname = \"t\"\ncommand = [\"sh\", \"-c\", \"\"\"{script}\"\"\"]\n")
}

/// Returns a call whose log lines arrive in the receiver.
fn logged() -> (Call, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut call = call(json!({}));
    call.log = Some(Arc::new(Sender(sender)));
    (call, receiver)
}

/// Returns the ids of the three processes of [`FAMILY`], once all have started.
async fn family(lines: &mut mpsc::UnboundedReceiver<String>) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut is_ready = false;
    while pids.len() < 3 || !is_ready {
        match lines.recv().await.unwrap().parse() {
            Ok(pid) => pids.push(pid),
            Err(_) => is_ready = true,
        }
    }
    pids
}

/// Returns once none of the processes runs; one that is killed may take a moment to be gone.
async fn all_gone(pids: &[u32]) {
    let gone = async {
        while pids.iter().any(|pid| is_running(*pid)) {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(TIMEOUT, gone).await.is_ok(), "one of {pids:?} still runs");
}

/// A zombie that nobody has waited for yet no longer runs.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
async fn cancelling_ends_the_whole_process_group() {
    let project = TestProject::new(&[]);
    let tools = Arc::new(project.toolbox(&script(FAMILY)));
    let (call, mut lines) = logged();
    let cancel = call.cancel.clone();
    let running = tokio::spawn(async move { tools.call(&name("t"), call).await });
    let pids = family(&mut lines).await;
    assert!(pids.iter().all(|pid| is_running(*pid)));
    cancel.cancel();
    let failure = running.await.unwrap().unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Cancelled, "cancelled"));
    all_gone(&pids).await;
}

#[tokio::test]
async fn a_command_that_never_ends_is_timed_out_with_its_group() {
    let project = TestProject::new(&[]);
    let tools = project.toolbox(&script(FAMILY));
    let (mut call, mut lines) = logged();
    call.timeout = Duration::from_secs(1);
    let failure = tools.call(&name("t"), call).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Timeout, "timeout"));
    let mut pids = Vec::new();
    while let Some(line) = lines.recv().await {
        pids.extend(line.parse::<u32>());
    }
    assert!(!pids.is_empty());
    all_gone(&pids).await;
}

#[tokio::test]
async fn dropping_the_call_kills_the_group() {
    let project = TestProject::new(&[]);
    let tools = Arc::new(project.toolbox(&script(FAMILY)));
    let (call, mut lines) = logged();
    let running = tokio::spawn(async move { tools.call(&name("t"), call).await });
    let pids = family(&mut lines).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    all_gone(&pids).await;
}

#[tokio::test]
async fn a_command_may_tidy_up_before_it_ends() {
    let project = TestProject::new(&[]);
    let tools = Arc::new(project.toolbox(&script(
        "trap 'echo tidy; echo tidy > tidied; exit 0' TERM; echo ready; while :; do sleep 0.01; done",
    )));
    let (call, mut lines) = logged();
    let cancel = call.cancel.clone();
    let running = tokio::spawn(async move { tools.call(&name("t"), call).await });
    assert_eq!(lines.recv().await.as_deref(), Some("ready"));
    cancel.cancel();
    let failure = running.await.unwrap().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cancelled);
    assert_eq!(project.read("tidied").as_deref(), Some("tidy\n"));
}

#[tokio::test]
async fn a_command_that_does_not_listen_is_killed() {
    let project = TestProject::new(&[]);
    let tools = Arc::new(project.toolbox(&script("trap '' TERM; echo $$; while :; do sleep 0.01; done")));
    let (call, mut lines) = logged();
    let cancel = call.cancel.clone();
    let running = tokio::spawn(async move { tools.call(&name("t"), call).await });
    let pid = lines.recv().await.unwrap().parse().unwrap();
    cancel.cancel();
    let failure = running.await.unwrap().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cancelled);
    all_gone(&[pid]).await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_killed_when_it_ends() {
    let project = TestProject::new(&[]);
    let tools = project.toolbox(&script("sleep 1000 & echo $!"));
    let output = tools.call(&name("t"), call(json!({}))).await.unwrap();
    let pid = output["text"].as_str().unwrap().parse().unwrap();
    all_gone(&[pid]).await;
}

#[tokio::test]
async fn a_cancelled_call_starts_nothing() {
    let project = TestProject::new(&[]);
    let cancelled = call(json!({}));
    cancelled.cancel.cancel();
    let failure = project.toolbox(&script("touch ran")).call(&name("t"), cancelled).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cancelled);
    assert_eq!(project.read("ran"), None);
}
