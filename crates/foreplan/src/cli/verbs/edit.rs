//! Editing the plan of a run: from a file, or in the person's editor until it is valid.

use std::{path::Path, sync::Arc};

use foreplan_core::{finding::Finding, id::RunId, input::Proposal, plan::Plan};

use crate::{
    cli::{ask, error::Failure, exit::Exit, history, render, session::Session},
    config::PlanFile,
};

/// What is there where nobody said which editor to use.
const EDITOR_DEFAULT: &str = "vi";

/// Returns the version that was edited and the new plan, checked; nothing if nothing changed.
///
/// # Errors
///
/// If the plan cannot be adopted and nobody can edit it again.
pub(super) async fn edited(
    session: &mut Session,
    run: RunId,
    file: Option<&Path>,
) -> Result<Option<(u32, Proposal)>, Failure> {
    let state = session.state(run).await?;
    let versions = history::versions(&session.entries(run).await?);
    let Some(version) = versions.last() else {
        return Err(Failure::usage(format!("run {run} has no plan yet")).next(session.output.hints.run(
            "show",
            run,
            &[],
        )));
    };
    let parent = version.number;
    let spec = state.spec().clone();
    if let Some(path) = file {
        let plan = Arc::new(PlanFile::read(path)?.plan);
        let proposal = session.system.check(&plan, &spec);
        return valid(proposal).map(|proposal| Some((parent, proposal)));
    }
    if !session.output.can_ask() {
        return Err(Failure::usage("without a terminal there is no editor").next(session.output.hints.run(
            "edit",
            run,
            &["--plan", "plan.json"],
        )));
    }
    let mut text = PlanFile { plan: version.plan().clone(), envelope: None }.to_text();
    loop {
        text = in_editor(&text).await?;
        let findings = match Plan::parse(&text) {
            Ok(plan) if plan == *version.plan() => return Ok(None),
            Ok(plan) => match valid(session.system.check(&Arc::new(plan), &spec)) {
                Ok(proposal) => return Ok(Some((parent, proposal))),
                Err(failure) => failure.findings,
            },
            Err(error) => vec![Finding::error("form", error.to_string())],
        };
        session.output.note(&render::plan::findings(&session.output.look_stderr(), &findings));
        if !ask::yes(&session.output, "Edit again? `yes`, or anything else to give up: ").await {
            return Err(Failure::new(Exit::NoPlan, "the edited plan cannot be adopted; nothing changed"));
        }
    }
}

fn valid(proposal: Proposal) -> Result<Proposal, Failure> {
    match proposal {
        Proposal::Valid { .. } => Ok(proposal),
        Proposal::Invalid { findings, .. } => {
            Err(Failure::new(Exit::NoPlan, "the edited plan cannot be adopted; nothing changed")
                .findings(findings))
        }
        Proposal::None { message, .. } | Proposal::Question { question: message } => {
            Err(Failure::new(Exit::NoPlan, message))
        }
    }
}

async fn in_editor(text: &str) -> Result<String, Failure> {
    let failed = |e: &dyn std::error::Error| Failure::chain(Exit::Internal, "the plan cannot be edited", e);
    let path = std::env::temp_dir().join(format!("foreplan-{}.json", uuid::Uuid::now_v7()));
    std::fs::write(&path, text).map_err(|e| failed(&e))?;
    let editor =
        ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let editor = editor.unwrap_or_else(|| EDITOR_DEFAULT.to_owned());
    // The variable holds a command line: `code --wait`.
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or(EDITOR_DEFAULT);
    let status = tokio::process::Command::new(program).args(words).arg(&path).status().await;
    let edited = std::fs::read_to_string(&path);
    // A copy that stays behind in the temporary folder harms nobody.
    let _ = std::fs::remove_file(&path);
    match status {
        Ok(status) if status.success() => edited.map_err(|e| failed(&e)),
        Ok(status) => {
            Err(Failure::usage(format!("the editor `{program}` ended with {status}; nothing changed")))
        }
        Err(error) => {
            Err(Failure::chain(Exit::Usage, &format!("the editor `{program}` does not start"), &error)
                .next("name another in EDITOR, or give the plan with --plan FILE"))
        }
    }
}
