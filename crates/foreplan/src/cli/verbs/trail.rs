//! `audit` over spans: written to a file, shown as a tree, compared with what Jaeger holds.

use std::{collections::BTreeSet, path::Path, time::Duration};

use foreplan_core::id::RunId;
use foreplan_telemetry::jaeger::{self, Difference, What};

use crate::cli::{
    error::Failure,
    exit::Exit,
    lines::{DifferenceLine, JaegerLine},
    output::now,
    paint::{Tone, clean, clean_lines, count},
    session::Session,
    traces,
};

/// How long spans may be on their way: an exporter gathers them, and lets runs go first.
const ON_THEIR_WAY: Duration = Duration::from_secs(10);

/// Differences that a person is shown; `--json` has them all.
const SHOWN_MAX: usize = 20;

/// Writes a run's trace to a file that Jaeger's page opens.
pub(super) async fn export(session: &mut Session, run: RunId, path: &Path) -> Result<Exit, Failure> {
    let spans = session.system.trace(run, &traces::options(&session.place)?).await?;
    let text = foreplan_telemetry::to_json(&spans).map_err(|e| unwritten(&e))?;
    std::fs::write(path, text + "\n")
        .map_err(|e| Failure::chain(Exit::Usage, &format!("`{}` cannot be written", path.display()), &e))?;
    session.output.note(&format!("wrote {} to {}", count(spans.len(), "span"), path.display()));
    Ok(Exit::Ok)
}

/// Prints a run's trace as a tree.
pub(super) async fn show(session: &mut Session, run: RunId) -> Result<Exit, Failure> {
    let spans = session.system.trace(run, &traces::options(&session.place)?).await?;
    session.output.result(&(clean_lines(&foreplan_telemetry::tree(&spans)) + "\n"));
    Ok(Exit::Ok)
}

/// Says whether Jaeger holds what the journal says.
pub(super) async fn agree(session: &mut Session, run: RunId, url: &str) -> Result<Exit, Failure> {
    let spans = session.system.trace(run, &traces::options(&session.place)?).await?;
    let asked = jaeger::fetch(url, run).await;
    let held = asked.map_err(|why| Failure::new(Exit::Unavailable, why))?;
    let differences =
        jaeger::compare(&spans, held.as_deref().unwrap_or_default()).map_err(|e| unwritten(&e))?;
    let agrees = differences.is_empty();
    if !agrees && differences.iter().all(|one| one.what == What::Missing) && is_fresh(session, run).await? {
        session.output.note("note: something happened a moment ago; its spans may still be on their way");
    }
    if session.output.is_json() {
        let differences = differences.iter().map(line).collect();
        let held: BTreeSet<_> =
            held.iter().flatten().filter(|s| jaeger::is_audit(s)).map(|s| s["spanId"].to_string()).collect();
        session.output.line(&JaegerLine { agrees, spans: spans.len(), held: held.len(), differences });
    } else {
        session.output.result(&said(session, run, spans.len(), held.is_some(), &differences));
    }
    Ok(if agrees { Exit::Ok } else { Exit::Corrupt })
}

/// Returns whether the run's newest entry is so young that its spans need not be everywhere yet.
async fn is_fresh(session: &mut Session, run: RunId) -> Result<bool, Failure> {
    let newest = session.entries(run).await?.last().map_or(0, |entry| entry.at.0);
    Ok(i64::try_from(ON_THEIR_WAY.as_micros()).is_ok_and(|micros| now().0.saturating_sub(newest) < micros))
}

fn said(session: &Session, run: RunId, spans: usize, is_known: bool, differences: &[Difference]) -> String {
    let paint = session.output.look().paint;
    if differences.is_empty() {
        let text =
            format!("✓ Jaeger holds the trace of run {run} as the journal has it: {}", count(spans, "span"));
        return paint.paint(Tone::Good, &text) + "\n";
    }
    if !is_known {
        let text = format!("✗ Jaeger holds nothing of run {run}; the journal has {}", count(spans, "span"));
        return paint.paint(Tone::Bad, &text) + "\n";
    }
    let found = count(differences.len(), "difference");
    let mut text =
        paint.paint(Tone::Bad, &format!("✗ Jaeger and the journal of run {run} do not agree: {found}"));
    text.push('\n');
    for difference in differences.iter().take(SHOWN_MAX) {
        let entry = difference.seq.map_or_else(String::new, |seq| format!(", entry {seq}"));
        let what = what(&difference.what);
        text.push_str(&clean(&format!("  {} {}{entry}: {what}", difference.span, difference.name)));
        text.push('\n');
    }
    if differences.len() > SHOWN_MAX {
        text.push_str(&format!("  and {} more: use --json\n", differences.len() - SHOWN_MAX));
    }
    text
}

fn what(what: &What) -> String {
    match what {
        What::Missing => "Jaeger does not hold it".to_owned(),
        What::Unknown => "no entry of the journal makes it".to_owned(),
        What::Differs(fields) => format!("Jaeger holds another {}", fields.join(", ")),
    }
}

fn line(difference: &Difference) -> DifferenceLine {
    let (word, fields) = match &difference.what {
        What::Missing => ("missing", Vec::new()),
        What::Unknown => ("unknown", Vec::new()),
        What::Differs(fields) => ("differs", fields.clone()),
    };
    DifferenceLine {
        seq: difference.seq,
        span: difference.span.to_string(),
        name: difference.name.clone(),
        what: word.to_owned(),
        fields,
    }
}

fn unwritten(error: &dyn std::error::Error) -> Failure {
    Failure::chain(Exit::Internal, "the trace cannot be written", error)
}
