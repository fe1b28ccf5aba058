//! What is counted and what is deleted.

use foreplan_core::{id::RunId, time::Timestamp};
use rusqlite::{Connection, params};

use super::{rows::run_id, writer::Failed};
use crate::Stats;

/// Returns the runs that ended before a point in time.
pub(super) fn ended(conn: &Connection, before: Timestamp) -> rusqlite::Result<Vec<RunId>> {
    conn.prepare_cached(
        "select r.run from runs r join heads h on h.id = r.id where h.ended_at < ?1 order by r.id",
    )?
    .query_map([before.0], |row| run_id(row, 0))?
    .collect()
}

/// Deletes a run if it still has ended, and returns how many entries it had.
pub(super) fn delete(conn: &Connection, run: RunId, before: Timestamp) -> Result<Option<u64>, Failed> {
    let ids: Vec<i64> = conn
        .prepare_cached(
            "select r.id from runs r join heads h on h.id = r.id where r.run = ?1 and h.ended_at < ?2",
        )?
        .query_map(params![run.0.as_bytes(), before.0], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let Some(id) = ids.first() else { return Ok(None) };
    let entries = conn.prepare_cached("delete from entries where run = ?1")?.execute([id])?;
    for sql in [
        "delete from inbox where run = ?1",
        "delete from accepted where run = ?1",
        "delete from cursors where run = ?1",
        "delete from heads where id = ?1",
        "delete from runs where id = ?1",
    ] {
        conn.prepare_cached(sql)?.execute([id])?;
    }
    Ok(Some(entries as u64))
}

/// Counts everything but the payloads.
pub(super) fn stats(conn: &Connection) -> rusqlite::Result<Stats> {
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, u64>(0));
    Ok(Stats {
        runs: count("select count(*) from runs")?,
        open: count("select count(*) from heads where ended_at is null")?,
        entries: count("select count(*) from entries")?,
        journal_bytes: count("select page_count * page_size from pragma_page_count, pragma_page_size")?,
        free_bytes: count("select freelist_count * page_size from pragma_freelist_count, pragma_page_size")?,
        payload_bytes: 0,
    })
}
