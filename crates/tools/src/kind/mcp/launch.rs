//! A server that is a child process: how it is started, and how it ends.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    process::Stdio,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use foreplan_core::digest::Digest;
use tokio::{
    io::{AsyncRead, ReadBuf},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout as within,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    super::{
        OUTPUT_BYTES_MAX,
        command::{
            file_digest,
            process::{Group, lead_group},
        },
    },
    printed::Printed,
};
use crate::project::Project;

/// How long a server has to end after its standard input was closed.
const GRACE: Duration = Duration::from_secs(2);

/// A longer line is no message: what fits in an output, written as JSON inside of JSON, and what
/// stands around it.
const LINE_BYTES_MAX: usize = 4 * OUTPUT_BYTES_MAX;

/// What to start.
pub(super) struct Launch {
    pub(super) project: Project,
    pub(super) command: Vec<String>,
    pub(super) cwd: String,
    pub(super) env: Vec<(String, String)>,
    /// The first secret that is not set.
    pub(super) missing: Option<String>,
    /// The files that are part of the tools, as they were when the tools were loaded.
    pub(super) files: Vec<(String, Digest)>,
}

/// A started server.
pub(super) struct Started {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: Lines<ChildStdout>,
    /// Ends the process and its group, in order, when it is dropped.
    pub(super) end: DropGuard,
}

/// Why a server is not started.
#[derive(Debug)]
pub(super) enum NotStarted {
    /// It cannot be.
    Failed(String),
    /// A file that belongs to it is not what it was.
    Changed(String),
}

impl Launch {
    /// Starts the process in a group of its own.
    pub(super) fn start(&self, printed: &Arc<Printed>) -> Result<Started, NotStarted> {
        if let Some(missing) = &self.missing {
            return Err(NotStarted::Failed(missing.clone()));
        }
        if let Some((path, _)) =
            self.files.iter().find(|(path, was)| file_digest(&self.project, path).as_ref() != Ok(was))
        {
            return Err(NotStarted::Changed(path.clone()));
        }
        let failed = |e: &dyn std::fmt::Display| NotStarted::Failed(e.to_string());
        let cwd = self.project.existing(&self.cwd).map_err(|e| failed(&e))?;
        let name = &self.command[0];
        let program = self.project.program(name, &cwd).ok_or_else(|| {
            NotStarted::Failed(format!("there is no program `{name}`; install it, or correct `command`"))
        })?;
        let mut child = self.spawn(program, cwd).map_err(|e| failed(&e))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(NotStarted::Failed("its pipes are gone".to_owned()));
        };
        let printed = Arc::clone(printed);
        tokio::spawn(async move { printed.read(stderr).await });
        let end = CancellationToken::new();
        let group = Group::of(&child, self.project.recorded());
        tokio::spawn(attend(child, group, end.clone()));
        Ok(Started { stdin, stdout: Lines { from: stdout, bytes: 0 }, end: end.drop_guard() })
    }

    fn spawn(&self, program: PathBuf, cwd: PathBuf) -> io::Result<Child> {
        lead_group(&mut Command::new(program))
            .arg0(&self.command[0])
            .args(&self.command[1..])
            .current_dir(cwd)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }
}

/// Waits until a server ends by itself, or ends it: its standard input is closed by then, which asks
/// it to. What is left of its group is killed.
///
/// # Cancel safety
///
/// Dropping the future, as a runtime that shuts down does, kills the group at once.
async fn attend(mut child: Child, mut group: Group, end: CancellationToken) {
    tokio::select! {
        _ = child.wait() => {}
        () = end.cancelled() => drop(within(GRACE, child.wait()).await),
    }
    group.kill();
    let _ = child.wait().await;
}

/// Reads what a server prints, and ends at a line that is too long to be a message: who waits for its
/// answer would wait in vain.
pub(super) struct Lines<R> {
    from: R,
    /// Since the last line ended.
    bytes: usize,
}

impl<R: AsyncRead + Unpin> AsyncRead for Lines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.from).poll_read(context, into))?;
        let new = &into.filled()[before..];
        self.bytes = match new.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => new.len() - at - 1,
            None => self.bytes + new.len(),
        };
        if self.bytes > LINE_BYTES_MAX {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long")));
        }
        Poll::Ready(Ok(()))
    }
}
