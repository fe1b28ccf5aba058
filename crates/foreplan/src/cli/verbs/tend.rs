//! Verbs that look after things: `tools`, `doctor`, `completions`.

use std::{fmt::Write as _, io::Write as _, path::Path};

use clap::CommandFactory as _;
use foreplan_core::payload::ENTRY_BYTES_MAX;

use crate::{
    cli::{
        args::{Cli, CompletionsArgs, Global, ProjectArg, ToolsArgs},
        error::Failure,
        exit::Exit,
        lines::ToolLine,
        models,
        output::Output,
        paint::Tone,
        place::Place,
        render,
        session::{Means, open_store},
    },
    config::nearest,
};

/// Prints the inventory of a project, or one tool of it.
///
/// # Errors
///
/// If the project cannot be read, or has no such tool.
pub(crate) async fn tools(output: &mut Output, global: &Global, args: &ToolsArgs) -> Result<Exit, Failure> {
    let place = Place::find(output, global, args.project.folder.as_deref())?;
    let (toolbox, servers) = place.project.connect(&[], Some(place.groups())).await?;
    if args.suggest {
        if servers.is_empty() {
            return Err(Failure::usage("the project has no MCP server, whose effects could be suggested")
                .next("declare one with [[tools.mcp]]".to_owned()));
        }
        output.result(&render::tools::suggestion(&servers));
        return Ok(Exit::Ok);
    }
    let inventory = toolbox.inventory();
    if let Some(name) = &args.name {
        let Some(tool) = inventory.get(name) else {
            let names: Vec<&str> = inventory.tools().map(|t| t.name.as_str()).collect();
            let hint = nearest(name, names.iter().copied())
                .map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            return Err(Failure::usage(format!("there is no tool `{name}`"))
                .next(format!("{hint}There are: {}", names.join(", "))));
        };
        if output.is_json() {
            output.line(&ToolLine { tool: tool.as_ref().clone() });
        } else {
            output.result(&render::tools::one(&output.look(), tool));
        }
        return Ok(Exit::Ok);
    }
    if output.is_json() {
        for tool in inventory.tools() {
            output.line(&ToolLine { tool: tool.as_ref().clone() });
        }
    } else {
        output.result(&render::tools::inventory(&output.look(), &inventory));
    }
    Ok(Exit::Ok)
}

/// Says what is missing: of the project, its tools, the store, the environment.
///
/// # Errors
///
/// None: what is missing is the result, and the exit says whether anything is.
pub(crate) async fn doctor(output: &mut Output, global: &Global, args: &ProjectArg) -> Result<Exit, Failure> {
    let look = output.look();
    let good = look.paint.paint(Tone::Good, "✓ ok     ");
    let bad = look.paint.paint(Tone::Bad, "✗ missing");
    let mut text = String::new();
    let mut all_well = true;
    let mut say = |well: bool, what: String, fix: Option<String>| {
        all_well &= well;
        let _ = writeln!(text, "{} {what}", if well { &good } else { &bad });
        if let Some(fix) = fix {
            let _ = writeln!(text, "          {fix}");
        }
    };
    match Place::find(output, global, args.folder.as_deref()) {
        Ok(place) => {
            say(
                true,
                format!("project `{}` in {}", place.project.name(), place.project.folder().display()),
                None,
            );
            match place.project.connect(&[], Some(place.groups())).await {
                Ok((toolbox, _)) => {
                    let tools = toolbox.inventory().tools().count();
                    say(
                        tools > 0,
                        format!("{tools} tools"),
                        (tools == 0).then(|| "add a [[tools.…]] table to foreplan.toml".into()),
                    );
                    for (what, fix) in missing_programs(&place) {
                        say(false, what, Some(fix));
                    }
                }
                Err(error) => {
                    let failure = Failure::from(error);
                    say(false, failure.what, failure.next);
                }
            }
            let (well, what) = store(&place.store);
            say(well, what, (!well).then(|| "make it writable, or name another with --store DIR".into()));
            match room(&place).await {
                Ok(None) => {}
                Ok(Some(what)) => say(
                    false,
                    what,
                    Some(
                        "raise [store] mebibytes_max, or delete old runs: foreplan prune --ended 30d".into(),
                    ),
                ),
                Err(failure) => say(false, failure.what, failure.next),
            }
            for found in models::try_all(&place) {
                say(found.well, found.what, None);
            }
        }
        Err(failure) => say(false, failure.what, failure.next),
    }
    output.result(&text);
    Ok(if all_well { Exit::Ok } else { Exit::Usage })
}

/// Prints completions for a shell.
///
/// # Errors
///
/// None today.
pub(crate) fn completions(args: CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "foreplan", &mut script);
    // A shell that does not listen has nothing to complete.
    let _ = std::io::stdout().lock().write_all(&script);
    Ok(Exit::Ok)
}

/// Returns the programs that command tools name and that are not there.
fn missing_programs(place: &Place) -> Vec<(String, String)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let mut missing = Vec::new();
    for tool in &place.project.file().tools.command {
        let Some(program) = tool.command.first() else { continue };
        let cwd = place.project.folder().join(tool.cwd.as_deref().unwrap_or("."));
        let there = if program.contains('/') {
            cwd.join(program).is_file()
        } else {
            folders.iter().any(|folder| folder.join(program).is_file())
        };
        if !there {
            missing.push((
                format!("`{program}`, the program of the tool `{}`", tool.name),
                "install it, or put its folder into PATH".to_owned(),
            ));
        }
    }
    missing
}

/// Returns whether runs can be kept, and where.
fn store(folder: &Path) -> (bool, String) {
    let what = format!("store in {}", folder.display());
    let nearest = folder.ancestors().find(|f| f.exists()).unwrap_or(Path::new("."));
    match try_writing(nearest) {
        Ok(()) => (true, what),
        Err(error) => (false, format!("{what}: {error}")),
    }
}

/// Returns what is left of a store's room if that may be too little for another entry.
///
/// # Errors
///
/// If the store cannot be read.
async fn room(place: &Place) -> Result<Option<String>, Failure> {
    let stats = open_store(place, Means::Look)?.journal.stats().await?;
    let Some(mebibytes) = place.project.file().store.mebibytes_max else { return Ok(None) };
    let used = stats.journal_bytes.saturating_sub(stats.free_bytes);
    let left = (u64::from(mebibytes) << 20).saturating_sub(used);
    let what = format!(
        "room in the store: {} KiB of {mebibytes} MiB are left, and an entry may need {} KiB",
        left >> 10,
        ENTRY_BYTES_MAX >> 10
    );
    Ok((left < ENTRY_BYTES_MAX as u64).then_some(what))
}

/// Tries to write beside the store.
fn try_writing(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".foreplan-doctor-{}", std::process::id()));
    std::fs::write(&path, b"")?;
    std::fs::remove_file(path)
}
