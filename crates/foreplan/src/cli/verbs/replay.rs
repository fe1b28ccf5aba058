//! `replay`: every decision of a run made again, with what was recorded.

use foreplan_core::{
    call::Purpose,
    digest::Digest,
    event::Event,
    replay::{self, Otherwise, Policy, Reworded, What},
};

use crate::cli::{
    args::ReplayArgs,
    error::Failure,
    exit::Exit,
    lines::{OtherwiseLine, ReplayLine, RewordedLine},
    paint::{Tone, clean, clean_lines, count},
    session::Session,
};

/// Decides a run again and says what would be otherwise now.
///
/// # Errors
///
/// If there is no such run.
pub(crate) async fn replay(session: &mut Session, args: &ReplayArgs) -> Result<Exit, Failure> {
    let run = session.resolve(&args.run.run).await?;
    let entries = session.entries(run).await?;
    let policy = args.policy.then(|| {
        let file = session.place.project.file();
        Policy { approval: file.approval.mode, replan: file.replan.clone(), limits: file.limits.clone() }
    });
    // Rules are CEL, which may take a while.
    let decided = entries.clone();
    let found = tokio::task::spawn_blocking(move || replay::replay(run, &decided, policy.as_ref())).await;
    let found = found.map_err(|e| Failure::chain(Exit::Internal, "the run was not decided again", &e))?;
    let reworded = replay::reworded(&entries, &prompts());
    if session.output.is_json() {
        for one in &found {
            session.output.line(&line(one));
        }
        for Reworded { seq, purpose, model, prompt } in reworded.iter().cloned() {
            session.output.line(&RewordedLine { seq, purpose, model, prompt });
        }
        let (otherwise, reworded) = (found.len(), reworded.len());
        session.output.line(&ReplayLine { entries: entries.len(), otherwise, reworded });
    } else {
        session.output.result(&said(session, entries.len(), &found, args.policy));
        for one in &reworded {
            session.output.result(&clean_lines(&unknown(one)));
        }
    }
    // Another policy is meant to decide otherwise; the same one must not.
    Ok(if found.is_empty() || args.policy { Exit::Ok } else { Exit::Corrupt })
}

/// Returns the prompts of this program.
fn prompts() -> Vec<Digest> {
    let own = [foreplan_replanner::prompt(), foreplan_executor::prompt()];
    [foreplan_planner::prompts().as_slice(), &own].concat()
}

fn unknown(one: &Reworded) -> String {
    let purpose = match one.purpose {
        Purpose::Plan => "a plan",
        Purpose::Act => "an agent step",
        Purpose::Replan => "a replan",
        Purpose::Review => "a review",
    };
    let Reworded { seq, model, .. } = one;
    format!(
        "{seq:>4}  {model} was asked for {purpose} with a prompt that is another one now: its answer might be too\n"
    )
}

fn said(session: &Session, entries: usize, found: &[Otherwise], by_policy: bool) -> String {
    let paint = session.output.look().paint;
    let all = if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
    let by = if by_policy { "the project's policy of today" } else { "this program" };
    if found.is_empty() {
        return paint.paint(Tone::Good, &format!("✓ {by} decides all {all} as they are on record")) + "\n";
    }
    let decisions = count(found.len(), "decision");
    let mut text = paint.paint(Tone::Warn, &format!("≠ of {all}, {by} makes {decisions} otherwise"));
    text.push('\n');
    for one in found {
        let (recorded, now) = sides(&one.what);
        text.push_str(&clean(&format!("{:>4}  recorded  {recorded}", one.seq)));
        text.push_str(&format!("\n      now       {}\n", clean(&now)));
    }
    text
}

fn line(one: &Otherwise) -> OtherwiseLine {
    let (recorded, now) = sides(&one.what);
    OtherwiseLine { seq: one.seq, recorded, now }
}

fn sides(what: &What) -> (String, String) {
    match what {
        What::Events { recorded, now } => {
            let other = |these: &[Event], those: &[Event]| {
                let own: Vec<String> = these.iter().filter(|e| !those.contains(e)).map(word).collect();
                if own.is_empty() { "nothing more, or in another order".to_owned() } else { own.join("; ") }
            };
            (other(recorded, now), other(now, recorded))
        }
        What::Refused { why } => ("carried out".to_owned(), format!("refused: {why}")),
        What::Rules { recorded, now } => (recorded.clone(), format!("rules: {now}")),
    }
}

/// Returns an event as its JSON says it: its name, then its fields.
fn word(event: &Event) -> String {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(event) else { return String::new() };
    let name = fields.remove("event").and_then(|name| name.as_str().map(|n| n.replace('_', " ")));
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key} {value}")).collect();
    format!("{} {}", name.unwrap_or_default(), fields.join(", ")).trim_end().to_owned()
}
