//! One process with its group: started, fed, read, and ended whole.

use std::{
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use command_fds::CommandFdExt as _;
use futures::future::{Either, select, try_join3};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout as within},
};
use tokio_util::sync::CancellationToken;

use super::{super::OUTPUT_BYTES_MAX, log::Log};
use crate::{
    call::Stream,
    groups::{Groups, Record},
};

/// How long a group has between being asked to end and being killed: enough to remove temporary
/// files, short enough that cancelling feels immediate.
const GRACE: Duration = Duration::from_secs(2);

/// How long output is read after the program ended. Only a process that left the group can still
/// hold the pipes then, and it must not hold the step.
const DRAIN: Duration = Duration::from_millis(500);

/// How much of the end of stderr is kept: far more than a message shows, so that a secret at its
/// start is whole.
const STDERR_KEPT_BYTES_MAX: usize = 64 * 1024;

const CHUNK_BYTES: usize = 16 * 1024;

/// What to run.
pub(super) struct Invocation {
    pub(super) program: PathBuf,
    pub(super) arg0: String,
    pub(super) args: Vec<String>,
    pub(super) cwd: PathBuf,
    pub(super) env: Vec<(String, String)>,
    pub(super) stdin: Vec<u8>,
    /// Where the group is recorded while it runs.
    pub(super) groups: Option<Groups>,
}

/// How a process ended by itself.
pub(super) struct Exit {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    /// The end of it.
    pub(super) stderr: Vec<u8>,
}

/// Why a process did not end by itself.
pub(super) enum Stopped {
    Timeout,
    Cancelled,
    OutputTooLarge,
    NotStarted(io::Error),
    Lost(io::Error),
}

/// Runs a process until it ends, and its whole group with it.
///
/// # Cancel safety
///
/// Dropping the future kills the group at once.
pub(super) async fn run(
    invocation: Invocation,
    timeout: Duration,
    cancel: &CancellationToken,
    log: &Log,
) -> Result<Exit, Stopped> {
    if cancel.is_cancelled() {
        return Err(Stopped::Cancelled);
    }
    let (mut child, group) = start(&invocation).map_err(Stopped::NotStarted)?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let pumps = Box::pin(pump(&mut child, invocation.stdin, &mut stdout, &mut stderr, log));
    let mut process = Process { child, group, pumps: Some(pumps) };
    let ended = tokio::select! {
        ended = process.ended() => ended,
        () = cancel.cancelled() => Err(Stopped::Cancelled),
        () = sleep(timeout) => Err(Stopped::Timeout),
    };
    let status = match ended {
        Ok(status) => process.finish().await.map(|()| status),
        Err(stopped) => {
            process.end().await;
            Err(stopped)
        }
    };
    drop(process);
    Ok(Exit { status: status?, stdout, stderr })
}

fn start(invocation: &Invocation) -> io::Result<(Child, Group)> {
    let child = lead_group(&mut Command::new(&invocation.program))
        .arg0(&invocation.arg0)
        .args(&invocation.args)
        .current_dir(&invocation.cwd)
        .env_clear()
        .envs(invocation.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let group = Group::of(&child, invocation.groups.as_ref());
    Ok((child, group))
}

/// Has a program lead a group of its own, so that a Ctrl-C at the terminal does not reach it.
///
/// Not even one that comes before the child has its group: where it can, the standard library starts a program by
/// `posix_spawn`, and whatever signal comes meanwhile ends the program. If something is to be done in the
/// child before, be it nothing, it forks, and a forked child has the handlers of this process until it is the program.
pub(in crate::kind) fn lead_group(command: &mut Command) -> &mut Command {
    command.as_std_mut().preserved_fds(Vec::new());
    command.process_group(0)
}

/// A process whose pipes are served by `pumps`, a future that ends when the pipes do.
struct Process<P> {
    child: Child,
    group: Group,
    pumps: Option<P>,
}

impl<P: Future<Output = Result<(), Stopped>> + Unpin> Process<P> {
    /// Waits until the program has ended, serving its pipes meanwhile.
    async fn ended(&mut self) -> Result<ExitStatus, Stopped> {
        if let Some(pumps) = &mut self.pumps {
            match select(pumps, std::pin::pin!(self.child.wait())).await {
                Either::Left((pumped, _)) => {
                    self.pumps = None;
                    pumped?;
                }
                Either::Right((status, _)) => return status.map_err(Stopped::Lost),
            }
        }
        self.child.wait().await.map_err(Stopped::Lost)
    }

    /// Reads what is left in the pipes, after killing what the program left behind.
    async fn finish(&mut self) -> Result<(), Stopped> {
        self.group.kill();
        match self.pumps.take() {
            Some(pumps) => within(DRAIN, pumps).await.unwrap_or(Ok(())),
            None => Ok(()),
        }
    }

    /// Ends the group: asks it to, and kills what is left of it after the grace. The pipes are
    /// served meanwhile, so that nobody who tidies up is killed by a closed one.
    async fn end(&mut self) {
        self.group.signal(Signal::TERM);
        // Whether it ended in time or not, and how, is all the same: what is left is killed.
        let _ = within(GRACE, self.ended()).await;
        self.group.kill();
        let _ = self.child.wait().await;
    }
}

/// A process group that is killed when it is dropped.
pub(in crate::kind) struct Group {
    leader: Option<Pid>,
    record: Option<Record>,
}

impl Group {
    /// Returns the group that `child` leads, which is on record in `groups` while it runs.
    ///
    /// A group whose record cannot be written runs all the same: it matters only if this process is
    /// killed.
    pub(in crate::kind) fn of(child: &Child, groups: Option<&Groups>) -> Self {
        let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let recorded = groups.zip(leader).map_or(Ok(None), |(groups, leader)| groups.record(leader));
        let record = recorded.unwrap_or_else(|error| {
            tracing::warn!(%error, "a running command cannot be recorded; a kill -9 would leave it running");
            None
        });
        Self { leader, record }
    }

    /// Kills what is left of the group, once: its id may be another's afterwards.
    pub(in crate::kind) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.leader = None;
        self.record = None;
    }

    /// A group without members is no error.
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Serves the pipes of a process: writes the input, keeps stdout and the end of stderr.
fn pump<'a>(
    child: &mut Child,
    input: Vec<u8>,
    stdout: &'a mut Vec<u8>,
    stderr: &'a mut Vec<u8>,
    log: &'a Log,
) -> impl Future<Output = Result<(), Stopped>> + use<'a> {
    let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    async move {
        try_join3(write(stdin, input), keep_all(out, stdout, log), keep_end(err, stderr, log)).await?;
        Ok(())
    }
}

/// Writes all and closes. A program that does not read its input is no error.
async fn write(pipe: Option<ChildStdin>, input: Vec<u8>) -> Result<(), Stopped> {
    if let Some(mut pipe) = pipe {
        let _ = pipe.write_all(&input).await;
    }
    Ok(())
}

async fn keep_all(
    pipe: Option<impl AsyncRead + Unpin>,
    kept: &mut Vec<u8>,
    log: &Log,
) -> Result<(), Stopped> {
    let mut lines = log.lines(Stream::Stdout);
    each_chunk(pipe, |chunk| {
        lines.add(chunk);
        if kept.len() + chunk.len() > OUTPUT_BYTES_MAX {
            return Err(Stopped::OutputTooLarge);
        }
        kept.extend_from_slice(chunk);
        Ok(())
    })
    .await
}

async fn keep_end(
    pipe: Option<impl AsyncRead + Unpin>,
    kept: &mut Vec<u8>,
    log: &Log,
) -> Result<(), Stopped> {
    let mut lines = log.lines(Stream::Stderr);
    each_chunk(pipe, |chunk| {
        lines.add(chunk);
        kept.extend_from_slice(chunk);
        if kept.len() > 2 * STDERR_KEPT_BYTES_MAX {
            kept.drain(..kept.len() - STDERR_KEPT_BYTES_MAX);
        }
        Ok(())
    })
    .await
}

async fn each_chunk(
    pipe: Option<impl AsyncRead + Unpin>,
    mut take: impl FnMut(&[u8]) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match pipe.read(&mut chunk).await {
            Ok(0) => return Ok(()),
            Ok(bytes) => take(&chunk[..bytes])?,
            Err(e) => return Err(Stopped::Lost(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::kill_current_process_group;
    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    /// Says that the test is the process that is interrupted, in a group of its own.
    const INTERRUPTED: &str = "FOREPLAN_TEST_INTERRUPTED";

    /// Programs that are started: without the fork, one in eight was hit.
    const STARTED: usize = 200;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_ctrl_c_while_a_program_starts_does_not_end_it() {
        if std::env::var_os(INTERRUPTED).is_none() {
            let name = "kind::command::process::tests::a_ctrl_c_while_a_program_starts_does_not_end_it";
            let mut test = Command::new(std::env::current_exe().unwrap());
            let test = test.args(["--exact", name, "--nocapture"]).env(INTERRUPTED, "1").process_group(0);
            return assert!(test.status().await.unwrap().success());
        }
        let _handler = signal(SignalKind::interrupt()).unwrap();
        std::thread::spawn(|| {
            loop {
                kill_current_process_group(Signal::INT).unwrap();
                std::thread::sleep(Duration::from_micros(150));
            }
        });
        for started in 0..STARTED {
            let status =
                lead_group(&mut Command::new("/bin/sh")).args(["-c", "exit 0"]).status().await.unwrap();
            assert!(status.success(), "program {started}: {status}");
        }
    }
}
