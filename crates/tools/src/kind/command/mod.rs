//! `[[tools.command]]`: runs a program of the project, without a shell.

pub(super) mod argv;
pub(super) mod log;
pub(super) mod process;

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt as _, path::PathBuf, sync::Arc};

use foreplan_core::{
    digest::Digest,
    failure::{EffectState, Failure, FailureKind},
    tool::Effect,
};
use futures::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};

use self::process::{Exit, Invocation, Stopped};
use super::{blocking, output_too_large, refused, text};
use crate::{
    call::{Call, Handler},
    declare::{Command, Error, SecretRef, Shape, Side, looks_secret, read_secrets},
    pattern::Pattern,
    project::{PathError, Project},
    secrets::Secrets,
    tool::Tool,
    toolbox::{cancelled, timed_out},
};

/// How much of the end of stderr a failure's message shows: the last screen of it.
const STDERR_SHOWN_BYTES_MAX: usize = 2 * 1024;

/// A file that is part of a tool is read at every call, to see that it is still what was approved.
const NAMED_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

impl Command {
    pub(crate) fn tool(&self, project: &Project, known: &mut Secrets) -> Result<Tool, Error> {
        let common = self.common();
        let argv = argv::parse(&self.command).map_err(|e| common.error("command", e))?;
        let cwd = self.cwd.as_deref().unwrap_or(".");
        project.lexical(cwd).map_err(|e| common.error("cwd", e.to_string()))?;
        let input = Side { fields: self.input.as_ref(), file: self.input_schema.as_ref() };
        let output = Side { fields: self.output.as_ref(), file: self.output_schema.as_ref() };
        let declared = output.output(common, project)?;
        let renames = common.renames()?;
        let shape = Shape {
            input: input.input(common, project, argv.iter().map(|pattern| ("command", pattern)))?,
            output: text::output_schema(declared.as_ref(), &renames),
        };
        let files = self.named_files(project, cwd)?;
        let identity = json!({
            "kind": "command",
            "command": self.command,
            "cwd": cwd,
            "env": self.env,
            "secrets": self.secrets.keys().collect::<Vec<_>>(),
            "files": files.iter().map(|(path, digest)| json!([path, digest])).collect::<Vec<_>>(),
        });
        let (env, missing, secrets) = environment(&self.env, &self.secrets, project);
        known.extend(&secrets);
        let runner = Inner {
            project: project.clone(),
            program: self.command[0].clone(),
            argv,
            cwd: cwd.to_owned(),
            env,
            missing,
            secrets,
            files,
            declared,
        };
        let signature = common.signature(shape, Effect::Irreversible)?;
        Ok(common.finish(Tool::new(signature, identity, Arc::new(Runner(Arc::new(runner)))), renames))
    }

    /// Returns the files that are part of the tool, by their path in the project.
    fn named_files(&self, project: &Project, cwd: &str) -> Result<Vec<(String, Digest)>, Error> {
        match &self.files {
            Some(files) => files
                .iter()
                .map(|path| Ok((path.clone(), file_digest(project, path)?)))
                .collect::<Result<_, String>>()
                .map_err(|e| self.common().error("files", e)),
            None => files_in(&self.command, project, cwd).map_err(|e| self.common().error("command", e)),
        }
    }
}

/// Returns the files of the project that an argument vector names, with their digests.
pub(super) fn files_in(
    command: &[String],
    project: &Project,
    cwd: &str,
) -> Result<Vec<(String, Digest)>, String> {
    argv::paths(command)
        .filter_map(|argument| project.named_file(cwd, argument))
        .map(|path| Ok((path.clone(), file_digest(project, &path)?)))
        .collect()
}

/// Returns the variables that a program gets, the first secret that is missing, and the values that
/// must not leave this process.
pub(super) fn environment(
    names: &[String],
    secret_refs: &BTreeMap<String, SecretRef>,
    project: &Project,
) -> (Vec<(String, String)>, Option<String>, Secrets) {
    let mut secrets = Secrets::default();
    let mut env = Vec::new();
    for name in names {
        let Some(value) = project.var(name) else { continue };
        if looks_secret(name) {
            secrets.add(value);
        }
        env.push((name.clone(), value.to_owned()));
    }
    let mut missing = None;
    for (name, value) in read_secrets(secret_refs, project, &mut secrets) {
        match value {
            Ok(value) => env.push((name, value)),
            Err(e) => missing = missing.or(Some(format!("the secret {name} is missing: {e}"))),
        }
    }
    (env, missing, secrets)
}

pub(super) fn file_digest(project: &Project, path: &str) -> Result<Digest, String> {
    let file = project.lexical(path).map_err(|e| e.to_string())?;
    let meta = file.metadata().map_err(|e| format!("`{path}`: {e}"))?;
    if !meta.is_file() || meta.len() > NAMED_FILE_BYTES_MAX {
        return Err(format!(
            "`{path}` is no file of at most {} MiB, so it cannot be part of the tool; name the files that are \
             with `files = […]`",
            NAMED_FILE_BYTES_MAX / (1024 * 1024)
        ));
    }
    std::fs::read(file).map(|bytes| Digest::of_bytes(&bytes)).map_err(|e| format!("`{path}`: {e}"))
}

struct Runner(Arc<Inner>);

struct Inner {
    project: Project,
    program: String,
    argv: Vec<Pattern>,
    cwd: String,
    env: Vec<(String, String)>,
    missing: Option<String>,
    secrets: Secrets,
    files: Vec<(String, Digest)>,
    declared: Option<Value>,
}

impl Handler for Runner {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        async move {
            let (inner, prepared) = (Arc::clone(&self.0), call.clone());
            let invocation = blocking(move || inner.prepare(&prepared)).await?;
            call.check_permit()?;
            let (timeout, log) = (call.timeout, log::Log::new(call.log, self.0.secrets.clone()));
            match process::run(invocation, timeout, &call.cancel, &log).await {
                Ok(exit) => self.0.outcome(&exit),
                Err(stopped) => Err(self.0.stopped(&stopped, timeout)),
            }
        }
        .boxed()
    }

    /// The process group is ended in order: asked first, then killed.
    fn ends_itself(&self) -> bool {
        true
    }
}

impl Inner {
    /// Returns what to run, having made sure that it is what was approved.
    fn prepare(&self, call: &Call) -> Result<Invocation, Failure> {
        if let Some(missing) = &self.missing {
            return Err(refused("missing_secret", missing));
        }
        let cwd = self.cwd()?;
        for (path, digest) in &self.files {
            if file_digest(&self.project, path).as_ref() != Ok(digest) {
                let message = format!(
                    "the file `{path}` changed since the tool was loaded; plan again with what it is now, \
                     or name the files that belong to the tool with `files = […]`"
                );
                let failure = Failure::new(FailureKind::ToolChanged, "tool_changed", message);
                return Err(failure.effect(EffectState::None));
            }
        }
        let Some(program) = self.project.program(&self.program, &cwd) else {
            let message = format!("there is no program `{}`; install it, or correct `command`", self.program);
            return Err(refused("command_not_found", message));
        };
        let args: Vec<String> = self.argv[1..]
            .iter()
            .map(|pattern| pattern.fill(&call.input, str::to_owned))
            .collect::<Result<_, _>>()?;
        if args.iter().any(|arg| arg.contains('\0')) {
            return Err(refused(
                "invalid_argument",
                "an argument holds a zero byte, which no program can get",
            ));
        }
        let mut env = self.env.clone();
        env.push(("FOREPLAN_RUN".to_owned(), call.run.to_string()));
        env.push(("FOREPLAN_STEP".to_owned(), call.step.to_string()));
        env.push(("FOREPLAN_ATTEMPT".to_owned(), call.attempt.to_string()));
        if let Some(key) = call.idempotency_key {
            env.push(("FOREPLAN_IDEMPOTENCY_KEY".to_owned(), key.to_string()));
        }
        let stdin = call.input.to_string().into_bytes();
        let groups = self.project.recorded().cloned();
        Ok(Invocation { program, arg0: self.program.clone(), args, cwd, env, stdin, groups })
    }

    fn cwd(&self) -> Result<PathBuf, Failure> {
        match self.project.existing(&self.cwd) {
            Ok(cwd) if cwd.is_dir() => Ok(cwd),
            Ok(_) => Err(refused("cwd_not_found", format!("`{}` is no folder", self.cwd))),
            Err(e @ PathError::Outside(_)) => Err(refused("cwd_outside_project", e.to_string())),
            Err(e @ PathError::Io { .. }) => Err(refused("cwd_not_found", e.to_string())),
        }
    }

    fn outcome(&self, exit: &Exit) -> Result<Value, Failure> {
        let stdout = std::str::from_utf8(&exit.stdout);
        if exit.status.success() {
            let text = stdout.map_err(|e| {
                let message =
                    format!("the output is not UTF-8: {e}; encode binary data, or write it to a file");
                Failure::new(FailureKind::Tool, "invalid_utf8", message).retryable(false)
            })?;
            return text::output(text, self.declared.as_ref());
        }
        if let Some(failure) = stdout.ok().and_then(text::error_in) {
            return Err(failure);
        }
        let (code, how) = match (exit.status.code(), exit.status.signal()) {
            (Some(code), _) => (format!("exit_{code}"), format!("the program ended with {code}")),
            (None, Some(signal)) => {
                (format!("signal_{signal}"), format!("the program was ended by signal {signal}"))
            }
            (None, None) => ("exit_unknown".to_owned(), "the program ended in an unknown way".to_owned()),
        };
        let stderr = self.end_of(&exit.stderr);
        let message = if stderr.is_empty() { format!("{how} and said nothing on stderr") } else { stderr };
        Err(Failure::new(FailureKind::Tool, code, message))
    }

    /// Returns the last lines, without secrets. Secrets are replaced before the cut, so that none is
    /// left in parts.
    fn end_of(&self, stderr: &[u8]) -> String {
        let text = String::from_utf8_lossy(stderr);
        let text = self.secrets.redact_text(&text).unwrap_or_else(|| text.into_owned());
        let text = text.trim();
        if text.len() <= STDERR_SHOWN_BYTES_MAX {
            return text.to_owned();
        }
        let end = &text[text.ceil_char_boundary(text.len() - STDERR_SHOWN_BYTES_MAX)..];
        let end = end.split_once('\n').map_or(end, |(_, whole_lines)| whole_lines);
        format!("…\n{end}")
    }

    fn stopped(&self, stopped: &Stopped, timeout: std::time::Duration) -> Failure {
        match stopped {
            Stopped::Timeout => timed_out(timeout),
            Stopped::Cancelled => cancelled(),
            Stopped::OutputTooLarge => output_too_large("what the program printed"),
            Stopped::NotStarted(e) => {
                let message = format!("`{}` cannot be started: {e}", self.program);
                refused("command_not_started", message)
            }
            Stopped::Lost(e) => {
                Failure::new(FailureKind::Tool, "command_lost", format!("the program was lost: {e}"))
            }
        }
    }
}
