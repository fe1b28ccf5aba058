//! Verbs about the record of runs: `diff`, `audit`, `prune`.

use foreplan_core::{diff::PlanDiff, id::RunId, time::Timestamp};
use foreplan_journal::RunFilter;

use super::trail;
use crate::cli::{
    args::{AuditArgs, DiffArgs, PruneArgs},
    error::Failure,
    exit::Exit,
    history::{self, Version},
    lines::{FaultLine, VerifyLine},
    output::now,
    paint::{Tone, count},
    render::{self, list::short},
    session::Session,
    traces,
};

/// Compares two plan versions of a run.
///
/// # Errors
///
/// If there is no such run, or it has no such versions.
pub(crate) async fn diff(session: &mut Session, args: &DiffArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    let versions = history::versions(&session.entries(run).await?);
    let (old, new) = chosen(&versions, &args.versions)?;
    if session.output.is_json() {
        session.output.object(&PlanDiff::between(old.plan(), new.plan(), &new.done));
    } else {
        session.output.result(&render::diff::versions(&session.output.look(), old, new));
    }
    Ok(Exit::Ok)
}

fn chosen<'a>(versions: &'a [Version], named: &[u32]) -> Result<(&'a Version, &'a Version), Failure> {
    let find = |number: u32| {
        versions.iter().rev().find(|v| v.number == number).ok_or_else(|| {
            let known: Vec<String> = versions.iter().map(|v| v.number.to_string()).collect();
            Failure::usage(format!("the run has no plan version {number}"))
                .next(format!("there are: {}", known.join(", ")))
        })
    };
    match (named, versions) {
        ([old, new], _) => Ok((find(*old)?, find(*new)?)),
        (_, [.., old, new]) => Ok((new.parent.map_or(Ok(old), find)?, new)),
        _ => Err(Failure::usage("the run has one plan version only: there is nothing to compare")),
    }
}

/// Prints the record of a run, checks its chain, or says whether its trace is where it should be.
///
/// # Errors
///
/// If there is no such run.
pub(crate) async fn audit(session: &mut Session, args: &AuditArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    if args.verify {
        let exit = verify(session, run).await?;
        if exit != Exit::Ok || args.jaeger.is_none() {
            return Ok(exit);
        }
    }
    if let Some(url) = &args.jaeger {
        return trail::agree(session, run, url).await;
    }
    if let Some(path) = &args.output {
        return trail::export(session, run, path).await;
    }
    if args.spans {
        return trail::show(session, run).await;
    }
    let entries = session.entries(run).await?;
    if session.output.is_json() {
        for entry in &entries {
            session.output.line(entry.as_ref());
        }
        return Ok(Exit::Ok);
    }
    let view = session.view(run).await?;
    session.output.result(&render::audit::record(&session.output.look(), &view, &entries));
    Ok(Exit::Ok)
}

/// Says whether a run's entries are those that were written.
async fn verify(session: &mut Session, run: RunId) -> Result<Exit, Failure> {
    let report = session.system.store().journal.verify(run).await?;
    let look = session.output.look();
    let (exit, text) = match &report.fault {
        None => {
            let head = report.head.hash.map_or_else(String::new, |hash| format!(", head {hash}"));
            let all = report.entries;
            let text = format!("✓ the journal of run {run} verifies: {all} entries{head}");
            (Exit::Ok, look.paint.paint(Tone::Good, &text))
        }
        Some(fault) => {
            let text =
                format!("✗ the journal of run {run} does not verify: entry {}: {}", fault.seq, fault.reason);
            (Exit::Corrupt, look.paint.paint(Tone::Bad, &text))
        }
    };
    if session.output.is_json() {
        let fault = report.fault.as_ref().map(|f| FaultLine { seq: f.seq, reason: f.reason.clone() });
        session.output.line(&VerifyLine { verifies: exit == Exit::Ok, entries: report.entries, fault });
    } else {
        session.output.result(&format!("{text}\n"));
    }
    Ok(exit)
}

/// Deletes old ended runs with their payloads and logs.
///
/// # Errors
///
/// If the store cannot be written.
pub(crate) async fn prune(session: &mut Session, args: &PruneArgs) -> Result<Exit, Failure> {
    let age = i64::try_from(args.ended.as_micros()).unwrap_or(i64::MAX);
    let before = Timestamp(now().0.saturating_sub(age));
    let records = session.system.runs(RunFilter::default()).await?;
    let old: Vec<_> =
        records.iter().filter(|r| r.progress.ended_at.is_some_and(|ended| ended < before)).collect();
    if args.dry_run {
        for record in &old {
            session.output.result(&format!(
                "{}  {}\n",
                short(record.run.run),
                record.progress.status.as_str()
            ));
        }
        session.output.note(&format!("{} would be deleted", count(old.len(), "run")));
        return Ok(Exit::Ok);
    }
    let pruned = session.system.store().journal.prune(before).await?;
    for record in &old {
        if let Err(error) = traces::file(&session.place).remove(record.run.run) {
            session
                .output
                .note(&format!("note: the trace of run {} is still there: {error}", record.run.run));
        }
        if let Err(error) = session.logs.remove(record.run.run) {
            session
                .output
                .note(&format!("note: the logs of run {} are still there: {error}", record.run.run));
        }
    }
    session.output.result(&format!(
        "deleted {}, {} entries, {} bytes of payloads\n",
        count(usize::try_from(pruned.runs).unwrap_or(usize::MAX), "run"),
        pruned.entries,
        pruned.payload_bytes
    ));
    Ok(Exit::Ok)
}
