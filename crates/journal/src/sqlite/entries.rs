//! Entries as they are read: found, verified and decoded.

use foreplan_core::{digest::Digest, id::RunId};
use rusqlite::{Connection, OptionalExtension, params};

use super::rows;
use crate::{
    Error, Head, Stored,
    chain::{self, Decoded, Fault, Part},
};

/// The end of a run's chain, as it is kept.
pub(super) struct Found {
    pub(super) from: u64,
    pub(super) stored: Vec<Stored>,
    /// The entry before.
    pub(super) before: Option<Stored>,
    pub(super) head: Head,
}

/// Returns a run's entries from `from` on; `None` if there is no such run.
pub(super) fn find(conn: &Connection, run: RunId, from: u64) -> rusqlite::Result<Option<Found>> {
    let head = conn
        .prepare_cached(
            "select h.id, h.seq, h.hash from runs r join heads h on h.id = r.id where r.run = ?1",
        )?
        .query_row([run.0.as_bytes()], |row| {
            Ok((row.get::<_, i64>(0)?, Head { seq: row.get(1)?, hash: Some(Digest(row.get(2)?)) }))
        })
        .optional()?;
    let Some((id, head)) = head else { return Ok(None) };
    let mut stored: Vec<Stored> = conn
        .prepare_cached("select seq, hash, bytes from entries where run = ?1 and seq >= ?2 order by seq")?
        .query_map(params![id, from.saturating_sub(1)], rows::stored)?
        .collect::<rusqlite::Result<_>>()?;
    let before = (from > 0 && stored.first().is_some_and(|s| s.seq + 1 == from)).then(|| stored.remove(0));
    Ok(Some(Found { from, stored, before, head }))
}

/// Returns the entries that were found, each with its sequence and the hash of its bytes.
///
/// # Errors
///
/// [`Error::Corrupt`] names the first entry that does not fit.
pub(super) fn decode(run: RunId, found: &Found) -> Result<Vec<(u64, Decoded, Digest)>, Error> {
    let Found { from, stored, before, head } = found;
    let part = Part { from: *from, before: before.as_ref().map(|s| s.hash), stored, head: *head };
    if let Some(Fault { seq, reason }) = chain::first_fault(part) {
        return Err(Error::Corrupt { run, seq, reason });
    }
    stored.iter().map(|one| Ok((one.seq, chain::decode(run, one)?, one.hash))).collect()
}
