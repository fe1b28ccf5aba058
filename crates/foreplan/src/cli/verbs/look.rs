//! Verbs that look at runs as they stand: `runs`, `show`, `watch`, `logs`.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    time::Duration,
};

use foreplan_core::{id::RunId, run::Run, view::Status};
use foreplan_journal::{RunFilter, RunRecord};

use crate::{
    cli::{
        args::{LogsArgs, RunsArgs, ShowArgs, WatchArgs},
        error::Failure,
        exit::Exit,
        follow::Follow,
        lines::{RunLine, StatsLine},
        live::Live,
        paint::{Tone, clean},
        render::{
            self,
            list::{self, Row, Stats},
        },
        session::Session,
        signals::Signals,
    },
    logs::LogFile,
};

/// How often a run that another process carries on is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Lists runs.
///
/// # Errors
///
/// If the store cannot be read.
pub(crate) async fn runs(session: &mut Session, args: &RunsArgs) -> Result<Exit, Failure> {
    let limit = (!args.stuck && !args.stats).then_some(args.limit);
    let records = session.system.runs(RunFilter { open: args.stuck, limit }).await?;
    if args.stats {
        return stats(session, &records).await;
    }
    let mut rows: Vec<Row> = records.iter().map(|record| row(session, record)).collect();
    list::sort(&mut rows);
    if args.stuck {
        rows.retain(|row| list::reason(row).is_some());
    }
    if session.output.is_json() {
        for row in &rows {
            session.output.line(&RunLine::from(row));
        }
    } else {
        let look = session.output.look();
        let text = if args.stuck { list::stuck(&look, &rows) } else { list::runs(&look, &rows) };
        session.output.result(&text);
    }
    Ok(Exit::Ok)
}

fn row(session: &Session, record: &RunRecord) -> Row {
    let progress = &record.progress;
    let alive =
        record.owner.as_ref().is_some_and(|owner| session.system.store().journal.owner_is_alive(owner));
    let goes_on = matches!(progress.status, Status::Planning | Status::Running | Status::Replanning);
    Row {
        run: record.run.run,
        project: record.run.project.clone(),
        goal: record.run.goal.clone(),
        status: progress.status,
        waiting: progress.waiting,
        since: progress.since,
        created_at: record.run.created_at,
        steps: (progress.steps_done, progress.steps),
        replans: progress.replans,
        interrupted: goes_on && !alive,
    }
}

async fn stats(session: &mut Session, records: &[RunRecord]) -> Result<Exit, Failure> {
    let mut stats = Stats::default();
    for record in records {
        let view = session.view(record.run.run).await?;
        stats.runs += 1;
        stats.succeeded += u32::from(view.status == Status::Succeeded);
        stats.ended_otherwise += u32::from(view.status.is_ended() && view.status != Status::Succeeded);
        stats.replanned += u32::from(!view.replans.is_empty());
        stats.replans += u32::try_from(view.replans.len()).unwrap_or(u32::MAX);
        let edited = view.replans.iter().filter(|r| r.decision == "edit").count();
        stats.edited += u32::try_from(edited).unwrap_or(u32::MAX);
        stats.model_calls += u64::from(view.usage.model_calls);
        stats.react_calls_at_least += u64::from(view.usage.react_calls_at_least);
    }
    if session.output.is_json() {
        session.output.line(&StatsLine { stats });
    } else {
        session.output.result(&list::stats(&stats));
    }
    Ok(Exit::Ok)
}

/// Shows a run.
///
/// # Errors
///
/// If there is none, or its journal cannot be read.
pub(crate) async fn show(session: &mut Session, args: &ShowArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    let view = session.view(run).await?;
    if session.output.is_json() {
        session.output.object(&view);
        return Ok(Exit::Ok);
    }
    session.output.result(&render::run::show(&session.output.look(), &view, args.context));
    interrupted(session, run).await
}

/// Says that a run could go on and nobody carries it on.
async fn interrupted(session: &mut Session, run: RunId) -> Result<Exit, Failure> {
    let record = session.system.store().journal.find(run).await?;
    if let Some(row) = record.map(|record| row(session, &record)).filter(|row| row.interrupted)
        && let Some(hint) = list::interrupted_hint(&session.output.look_stderr(), &[&row])
    {
        session.output.note(&hint);
    }
    Ok(Exit::Ok)
}

/// Follows a run until it ends or waits.
///
/// # Errors
///
/// If there is none, or its journal cannot be read.
pub(crate) async fn watch(session: &mut Session, args: &WatchArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    let mut live = Live::new(&session.output);
    let mut signals = Signals::new()?;
    let mut follow = Follow::from(session, run, 0).await?;
    follow.catch_up(session, &mut live).await?;
    interrupted(session, run).await?;
    loop {
        follow.catch_up(session, &mut live).await?;
        if follow.state().is_some_and(stands) {
            live.clear();
            break;
        }
        follow.name_workers(session, &mut live);
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            exit = signals.next() => {
                live.clear();
                return Ok(exit);
            }
        }
    }
    let view = session.view(run).await?;
    let exit = session.finish(&view).await?;
    Ok(if args.exit_status { exit } else { Exit::Ok })
}

fn stands(state: &Run) -> bool {
    let status = state.status();
    status.is_ended() || matches!(status, Status::Waiting | Status::Paused)
}

/// Prints what commands of a run wrote.
///
/// # Errors
///
/// If there is no such run, or its logs cannot be read.
pub(crate) async fn logs(session: &mut Session, args: &LogsArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    let mut signals = Signals::new()?;
    let mut read: std::collections::BTreeMap<LogFile, u64> = std::collections::BTreeMap::new();
    loop {
        let ended = stands(&session.state(run).await?);
        let files = session
            .logs
            .list(run)
            .map_err(|e| Failure::chain(Exit::Unavailable, "the logs cannot be read", &e))?;
        for file in files.into_iter().filter(|file| is_asked(file, args)) {
            let from = read.entry(file.clone()).or_insert(0);
            print(session, &file, from)?;
        }
        if !args.follow || ended {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            exit = signals.next() => return Ok(exit),
        }
    }
    if read.is_empty() {
        session.output.note("No command of this run has printed anything.");
    }
    Ok(Exit::Ok)
}

fn is_asked(file: &LogFile, args: &LogsArgs) -> bool {
    args.step.as_ref().is_none_or(|step| {
        file.step == *step || file.step.as_item().is_some_and(|(parent, _)| parent == step.as_str())
    })
}

fn print(session: &mut Session, file: &LogFile, from: &mut u64) -> Result<(), Failure> {
    let failed = |e| Failure::chain(Exit::Unavailable, &format!("cannot read `{}`", file.path.display()), &e);
    let mut log = std::fs::File::open(&file.path).map_err(failed)?;
    log.seek(SeekFrom::Start(*from)).map_err(failed)?;
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes).map_err(failed)?;
    // The last line may not be whole yet.
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    *from += whole as u64;
    let look = session.output.look();
    let mut text = String::new();
    for line in String::from_utf8_lossy(&bytes[..whole]).lines() {
        let (stream, line) = line.split_once(' ').unwrap_or(("out", line));
        let name = format!("{}.{}", file.step, file.attempt);
        let tone = if stream == "err" { Tone::Warn } else { Tone::Plain };
        text.push_str(&format!(
            "{} {stream} {}\n",
            look.paint.paint(Tone::Dim, &name),
            look.paint.paint(tone, &clean(line))
        ));
    }
    session.output.result(&text);
    Ok(())
}
