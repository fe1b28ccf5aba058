//! `foreplan init`: a project that runs green without an edit.

use std::{fs, io::Write as _, path::Path};

use crate::{
    cli::{
        args::InitArgs,
        error::Failure,
        exit::Exit,
        output::Output,
        paint::{Tone, shell},
    },
    config::nearest,
};

/// A project to start from: its name, what it shows, and its files.
struct Template {
    name: &'static str,
    shows: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const GITIGNORE: (&str, &str) = (".gitignore", include_str!("../templates/gitignore"));

const TEMPLATES: &[Template] = &[
    Template {
        name: "report",
        shows: "data tools in process, the plan derived from their types",
        files: &[
            ("foreplan.toml", include_str!("../templates/report/foreplan.toml")),
            ("notes.json", include_str!("../templates/report/notes.json")),
            GITIGNORE,
        ],
    },
    Template {
        name: "commands",
        shows: "commands, by a plan that somebody wrote",
        files: &[
            ("foreplan.toml", include_str!("../templates/commands/foreplan.toml")),
            ("plan.json", include_str!("../templates/commands/plan.json")),
            ("shout.sh", include_str!("../templates/commands/shout.sh")),
            GITIGNORE,
        ],
    },
];

/// Writes the files of a template into a folder; what is there already stays as it is.
///
/// # Errors
///
/// If there is no such template, a file of it is there already, or the folder cannot be written.
pub(crate) fn init(output: &mut Output, args: &InitArgs) -> Result<Exit, Failure> {
    let template = find(&args.template)?;
    let folder = &args.folder;
    let there = template.files.iter().find(|(name, _)| *name != GITIGNORE.0 && folder.join(name).exists());
    if let Some((name, _)) = there {
        return Err(Failure::usage(format!("`{}` is there already", folder.join(name).display()))
            .next("name an empty folder: foreplan init DIR"));
    }
    for (name, text) in template.files {
        write(&folder.join(name), text)?;
        output.note(&format!("wrote {}", folder.join(name).display()));
    }
    let look = output.look_stderr();
    let next = match folder.to_str() {
        Some(".") => "foreplan run".to_owned(),
        _ => format!("foreplan run {}", shell(&folder.display().to_string())),
    };
    output.note(&look.paint.paint(Tone::Good, &format!("✓ ready. Next: {next}")));
    Ok(Exit::Ok)
}

fn find(name: &str) -> Result<&'static Template, Failure> {
    TEMPLATES.iter().find(|t| t.name == name).ok_or_else(|| {
        let all: Vec<String> = TEMPLATES.iter().map(|t| format!("{} ({})", t.name, t.shows)).collect();
        let hint = nearest(name, TEMPLATES.iter().map(|t| t.name))
            .map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        Failure::usage(format!("there is no template `{name}`"))
            .next(format!("{hint}There are: {}", all.join("; ")))
    })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::chain(Exit::Usage, &format!("cannot write `{}`", path.display()), &error)
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(failed),
        // A `.gitignore` that is there already is somebody's.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
