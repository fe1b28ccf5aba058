//! Complete commands that work where they are printed.

use std::path::Path;

use foreplan_core::{
    id::RunId,
    view::{RunView, Status, WaitKind, WaitView},
};

use super::paint::shell;

/// Makes complete commands: with the project named where the working directory does not name it.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    project: Option<String>,
    store: Option<String>,
    /// The server of a deployment, where the environment does not name it.
    server: Option<String>,
}

impl Hints {
    /// Makes hints that name a project, or leave it to the working directory; and a store, where
    /// it is not the project's own.
    #[must_use]
    pub fn new(project: Option<&Path>, store: Option<&Path>) -> Self {
        let text = |path: &Path| path.display().to_string();
        Self { project: project.map(text), store: store.map(text), server: None }
    }

    /// Names the server of a deployment in every command.
    #[must_use]
    pub fn on(self, server: Option<String>) -> Self {
        Self { server, ..self }
    }

    /// Returns a command: the verb, what follows it, and the project where it must be named.
    #[must_use]
    pub fn command(&self, verb: &str, arguments: &[&str]) -> String {
        let mut command = format!("foreplan {verb}");
        for argument in arguments {
            command.push(' ');
            command.push_str(&shell(argument));
        }
        for (flag, folder) in
            [(" -C ", &self.project), (" --store ", &self.store), (" --nats ", &self.server)]
        {
            if let Some(folder) = folder {
                command.push_str(flag);
                command.push_str(&shell(folder));
            }
        }
        command
    }

    /// Returns a command about a run.
    #[must_use]
    pub fn run(&self, verb: &str, run: RunId, arguments: &[&str]) -> String {
        let id = run.to_string();
        let mut all = vec![id.as_str()];
        all.extend(arguments);
        self.command(verb, &all)
    }

    /// Returns the commands that answer what a run waits for, the usual one first.
    #[must_use]
    pub fn answers(&self, run: RunId, wait: &WaitView) -> Vec<String> {
        let step = wait.step.as_ref().map_or("", |step| step.as_str());
        let digest = wait.digest.map(|d| d.to_string()).unwrap_or_default();
        let approve = |arguments: &[&str]| {
            let mut all = arguments.to_vec();
            if !digest.is_empty() {
                all.extend(["--digest", &digest]);
            }
            self.run("approve", run, &all)
        };
        let reject = self.run("reject", run, &["--reason", "…"]);
        match wait.kind {
            WaitKind::PlanApproval => vec![approve(&[]), self.run("edit", run, &[]), reject],
            WaitKind::ReplanApproval => {
                vec![approve(&[]), self.run("diff", run, &[]), self.run("edit", run, &[]), reject]
            }
            WaitKind::StepApproval => vec![approve(&[step]), reject],
            WaitKind::Question => vec![self.run("answer", run, &[step, example(wait)])],
            WaitKind::ChildRun => wait.child.map(|child| self.run("show", child, &[])).into_iter().collect(),
            WaitKind::UnknownOutcome => ["--happened", "--not-happened", "--fail"]
                .map(|flag| self.run("resolve", run, &[step, flag]))
                .to_vec(),
        }
    }

    /// Fills in the commands of a view.
    #[must_use]
    pub fn fill(&self, mut view: RunView) -> RunView {
        let run = view.run;
        for wait in view.waiting.iter_mut().chain(&mut view.waiting_for) {
            wait.commands = self.answers(run, wait);
        }
        view
    }

    /// Returns what a person would do next with a run in this state, if anything.
    #[must_use]
    pub fn next(&self, view: &RunView) -> Option<String> {
        match view.status {
            Status::Paused => Some(self.run("resume", view.run, &[])),
            Status::Failed => Some(self.run("retry", view.run, &[])),
            Status::Planning
            | Status::Waiting
            | Status::Running
            | Status::Replanning
            | Status::Succeeded
            | Status::Cancelled
            | Status::Rejected => None,
        }
    }
}

/// Returns what an answer could look like: the first allowed value, or a value of its type.
fn example(wait: &WaitView) -> &str {
    let Some(schema) = &wait.schema else { return "TEXT" };
    if let Some(first) = schema.get("enum").and_then(|e| e.get(0)).and_then(|v| v.as_str()) {
        return first;
    }
    match schema.get("type").and_then(|t| t.as_str()) {
        Some("boolean") => "true",
        Some("integer" | "number") => "1",
        Some("array") => "[]",
        Some("object") => "{}",
        _ => "TEXT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_project_where_the_folder_does_not() {
        let run: RunId = "0193c2e0-0000-7000-8000-000000000001".parse().unwrap();
        assert_eq!(
            Hints::new(Some(Path::new("docs/my project")), None).run("resume", run, &[]),
            "foreplan resume 0193c2e0-0000-7000-8000-000000000001 -C 'docs/my project'"
        );
        assert_eq!(Hints::default().command("runs", &["--stuck"]), "foreplan runs --stuck");
    }
}
