//! How far each place that traces go to has come.

use foreplan_core::{digest::Digest, id::RunId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{rows::run_id, writer::Failed};
use crate::Behind;

/// The table. Stores of earlier programs get it when they are opened for writing.
pub(super) const TABLE: &str = "
create table if not exists cursors(
    sink text not null,
    run integer not null,
    entries integer not null,
    primary key(sink, run)
) strict, without rowid;
";

/// Returns how many entries of a run a sink has.
pub(super) fn cursor(conn: &Connection, sink: &str, run: RunId) -> rusqlite::Result<u64> {
    let found = conn
        .prepare_cached(
            "select c.entries from cursors c join runs r on r.id = c.run where c.sink = ?1 and r.run = ?2",
        )?
        .query_row(params![sink, run.0.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(0))
}

/// Moves a cursor on if it is where the caller saw it.
pub(super) fn advance(conn: &Connection, sink: &str, run: RunId, from: u64, to: u64) -> Result<bool, Failed> {
    if cursor(conn, sink, run)? != from {
        return Ok(false);
    }
    let moved = conn
        .prepare_cached(
            "insert into cursors(sink, run, entries) select ?1, id, ?3 from runs where run = ?2
             on conflict(sink, run) do update set entries = excluded.entries",
        )?
        .execute(params![sink, run.0.as_bytes(), to])?;
    Ok(moved == 1)
}

/// Returns runs of which a sink lacks entries, oldest first.
pub(super) fn behind(conn: &Connection, sink: &str, limit: usize) -> rusqlite::Result<Vec<Behind>> {
    conn.prepare_cached(
        "select r.run, coalesce(c.entries, 0), h.seq + 1 from heads h join runs r on r.id = h.id
         left join cursors c on c.run = h.id and c.sink = ?1
         where c.entries is null or c.entries <= h.seq order by h.id limit ?2",
    )?
    .query_map(params![sink, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok(Behind { run: run_id(row, 0)?, sent: row.get(1)?, entries: row.get(2)? })
    })?
    .collect()
}

/// Returns the hashes of a run's entries from `from` on.
pub(super) fn hashes(conn: &Connection, run: RunId, from: u64) -> rusqlite::Result<Vec<Digest>> {
    conn.prepare_cached(
        "select e.hash from entries e join runs r on r.id = e.run where r.run = ?1 and e.seq >= ?2 order by e.seq",
    )?
    .query_map(params![run.0.as_bytes(), from], |row| Ok(Digest(row.get(0)?)))?
    .collect()
}
