//! Tells somebody that a run waits, failed or succeeded. What goes wrong here is reported and
//! changes nothing: a run never depends on a notification.

use std::{process::Stdio, time::Duration};

use foreplan_core::view::{RunView, Status};

use super::{hints::Hints, paint::clean, render::run};
use crate::config::{NotifyOn, NotifySection};

/// Longer than any desktop notification takes; shorter than a person's patience.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What stands for the text in the arguments of a command.
const TEXT: &str = "{text}";

/// Tells whom the project names about the state of a run, if it is one of those to be told about.
///
/// # Errors
///
/// A line for the person at the terminal.
pub(crate) async fn notify(section: &NotifySection, hints: &Hints, view: &RunView) -> Result<(), String> {
    let on = match view.status {
        Status::Waiting | Status::Paused => NotifyOn::Waiting,
        Status::Failed => NotifyOn::Failed,
        Status::Succeeded => NotifyOn::Succeeded,
        Status::Planning | Status::Running | Status::Replanning | Status::Cancelled | Status::Rejected => {
            return Ok(());
        }
    };
    if !section.on.contains(&on) {
        return Ok(());
    }
    let text = text(hints, view);
    let sent = async {
        match (&section.command, &section.http) {
            (Some(command), _) => command_with(command, &text).await,
            (None, Some(url)) => post(url, view, &text).await,
            (None, None) => Ok(()),
        }
    };
    match tokio::time::timeout(TIMEOUT, sent).await {
        Ok(outcome) => outcome.map_err(|e| format!("the notification could not be sent: {e}")),
        Err(_) => Err(format!("the notification took longer than {} s", TIMEOUT.as_secs())),
    }
}

/// Returns the text: what happened, and the command that answers it.
fn text(hints: &Hints, view: &RunView) -> String {
    let head = format!("{}: {}", clean(&view.project), clean(&view.goal));
    match view.waiting.first() {
        Some(wait) => {
            let command = hints.answers(view.run, wait).into_iter().next().unwrap_or_default();
            format!("{head}\n{}\n{command}", run::what(wait))
        }
        None => {
            let why = view.reason.as_deref().map_or_else(String::new, |r| format!(": {}", clean(r)));
            format!("{head}\n{}{why}\n{}", view.status.as_str(), hints.run("show", view.run, &[]))
        }
    }
}

async fn command_with(command: &[String], text: &str) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let status = tokio::process::Command::new(program)
        .args(arguments.iter().map(|argument| argument.replace(TEXT, text)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|e| format!("`{program}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{program}` ended with {status}")) }
}

async fn post(url: &str, view: &RunView, text: &str) -> Result<(), String> {
    let body = serde_json::json!({
        "text": text, "run": view.run, "project": view.project, "status": view.status.as_str(),
    });
    let client = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(|e| e.to_string())?;
    client
        .post(url)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map(|_| ())
        .map_err(|e| e.without_url().to_string())
}
