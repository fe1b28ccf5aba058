//! Owners of runs, and the commands that other processes send them.

use foreplan_core::{id::RunId, input::Command};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use uuid::Uuid;

use super::{rows::run_id, writer::Failed};
use crate::{Claim, Error, Outcome, process::Processes};

fn id_of(conn: &Connection, run: RunId) -> Result<i64, Failed> {
    let id = conn
        .prepare_cached("select id from runs where run = ?1")?
        .query_row([run.0.as_bytes()], |row| row.get(0))
        .optional()?;
    id.ok_or_else(|| Error::NoRun(run).into())
}

pub(super) fn claim(
    conn: &Connection,
    processes: &Processes,
    run: RunId,
    owner: &str,
) -> Result<Claim, Failed> {
    let id = id_of(conn, run)?;
    let previous: Option<String> =
        conn.prepare_cached("select owner from heads where id = ?1")?.query_row([id], |row| row.get(0))?;
    match previous {
        Some(by) if by == owner => Ok(Claim::Claimed { previous: None }),
        Some(by) if processes.is_alive(&by) => Ok(Claim::Owned { by }),
        previous => {
            conn.prepare_cached("update heads set owner = ?2 where id = ?1")?.execute(params![id, owner])?;
            Ok(Claim::Claimed { previous })
        }
    }
}

pub(super) fn release(conn: &Connection, run: RunId, owner: &str) -> Result<(), Failed> {
    let id = id_of(conn, run)?;
    conn.prepare_cached("update heads set owner = null where id = ?1 and owner = ?2")?
        .execute(params![id, owner])?;
    Ok(())
}

pub(super) fn send(conn: &Connection, run: RunId, command: &Command) -> Result<(), Failed> {
    let id = id_of(conn, run)?;
    let text = serde_json::to_string(command).map_err(|e| Error::store("a command is sent", e))?;
    conn.prepare_cached(
        "insert or ignore into inbox(run, command_id, command) select ?1, ?2, ?3
         where not exists (select 1 from accepted where run = ?1 and command_id = ?2)",
    )?
    .execute(params![id, command.id.as_bytes(), text])?;
    Ok(())
}

pub(super) fn refuse(conn: &Connection, run: RunId, command: Uuid, why: &str) -> Result<(), Failed> {
    let id = id_of(conn, run)?;
    conn.prepare_cached(
        "update inbox set refusal = ?3 where run = ?1 and command_id = ?2 and refusal is null",
    )?
    .execute(params![id, command.as_bytes(), why])?;
    Ok(())
}

pub(super) fn outcome(conn: &Connection, run: RunId, command: Uuid) -> rusqlite::Result<Option<Outcome>> {
    let sent: Option<Option<String>> = conn
        .prepare_cached(
            "select i.refusal from inbox i join runs r on r.id = i.run where r.run = ?1 and i.command_id = ?2",
        )?
        .query_row(params![run.0.as_bytes(), command.as_bytes()], |row| row.get(0))
        .optional()?;
    if let Some(refusal) = sent {
        return Ok(Some(refusal.map_or(Outcome::Pending, Outcome::Refused)));
    }
    let accepted = conn
        .prepare_cached(
            "select 1 from accepted a join runs r on r.id = a.run where r.run = ?1 and a.command_id = ?2",
        )?
        .exists(params![run.0.as_bytes(), command.as_bytes()])?;
    Ok(accepted.then_some(Outcome::Accepted))
}

pub(super) fn of_owner(conn: &Connection, owner: &str) -> rusqlite::Result<Vec<(RunId, Command)>> {
    conn.prepare_cached(
        "select r.run, i.command from inbox i join heads h on h.id = i.run join runs r on r.id = i.run
         where i.refusal is null and h.owner = ?1 order by i.id",
    )?
    .query_map([owner], |row| Ok((run_id(row, 0)?, command(row, 1)?)))?
    .collect()
}

pub(super) fn of_run(conn: &Connection, run: RunId) -> rusqlite::Result<Vec<Command>> {
    conn.prepare_cached(
        "select i.command from inbox i join runs r on r.id = i.run
         where r.run = ?1 and i.refusal is null order by i.id",
    )?
    .query_map([run.0.as_bytes()], |row| command(row, 0))?
    .collect()
}

fn command(row: &Row<'_>, at: usize) -> rusqlite::Result<Command> {
    serde_json::from_str(row.get_ref(at)?.as_str()?)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(e)))
}
