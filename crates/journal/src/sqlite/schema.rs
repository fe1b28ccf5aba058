//! The tables of a store, and the connections to it.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Options, SyncMode};
use crate::Error;

/// The version of the tables that this program makes and reads.
pub(super) const VERSION: u32 = 1;

/// How long a write waits for another process: far longer than any transaction takes.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages of the write-ahead log before it is copied back: 2 MiB. A log that has been copied back is written
/// over, which a disk confirms in half the time that a growing file takes
/// (`docs/decisions/0021-a-lone-entry-is-committed-where-it-is-made.md`).
const CHECKPOINT_PAGES: u32 = 512;

/// Memory for pages, in KiB: the index of 10,000 open runs and the ends of their entries.
const CACHE_KIB: i32 = 32 * 1024;

/// Prepared statements kept by a connection: more than there are in this crate.
const STATEMENTS_MAX: usize = 64;

/// Entries lie in the order of their commits, so that a batch over many runs fills whole pages; the
/// index beside them is what makes a run's sequence unique. What changes with every append lies
/// apart from what never does, to keep the pages that a commit writes few.
const TABLES: &str = "
create table runs(
    id integer primary key autoincrement,
    run blob not null unique,
    project text not null,
    key text,
    group_name text,
    created_at integer not null,
    goal text not null
) strict;
create unique index runs_by_key on runs(project, key) where key is not null;
create index runs_by_time on runs(created_at);
create index runs_by_group on runs(project, group_name) where group_name is not null;

create table heads(
    id integer primary key,
    seq integer not null,
    hash blob not null,
    status text not null,
    waiting text,
    since integer not null,
    next_wake integer,
    ended_at integer,
    steps_done integer not null,
    steps integer not null,
    replans integer not null,
    owner text
) strict;
create index heads_open on heads(id) where ended_at is null;

create table entries(
    id integer primary key,
    run integer not null,
    seq integer not null,
    hash blob not null,
    bytes blob not null,
    unique(run, seq)
) strict;

create table inbox(
    id integer primary key autoincrement,
    run integer not null,
    command_id blob not null,
    command text not null,
    refusal text,
    unique(run, command_id)
) strict;

create table accepted(
    run integer not null,
    command_id blob not null,
    primary key(run, command_id)
) strict, without rowid;
";

/// Opens the connection that writes, and makes the tables of a new store.
pub(super) fn open_writer(path: &Path, options: &Options) -> Result<Connection, Error> {
    let failed = |e: rusqlite::Error| error(path, "the store is opened", e);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    if version(&conn).map_err(failed)? == 0 {
        make_tables(&conn).map_err(failed)?;
    }
    check_version(&conn, path)?;
    conn.execute_batch(super::cursors::TABLE).map_err(failed)?;
    let synchronous = match options.sync {
        SyncMode::Full => "full",
        SyncMode::Normal => "normal",
    };
    conn.pragma_update(None, "synchronous", synchronous).map_err(failed)?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(failed)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
    if let Some(pages) = options.page_limit {
        conn.pragma_update(None, "max_page_count", pages).map_err(failed)?;
    }
    Ok(conn)
}

/// Opens a connection that reads. A store that nobody can write is read as it lies there.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)
        .and_then(|conn| version(&conn).map(|_| conn))
        .or_else(|e| open_immutable(path, flags).ok_or(e))
        .map_err(|e| error(path, "the store is opened", e))?;
    check_version(&conn, path)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(|e| error(path, "the store is opened", e))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(conn)
}

/// SQLite needs files beside a store to read it, unless it is told that nobody writes. That is so if
/// the folder cannot be written and no log waits to be copied back.
fn open_immutable(path: &Path, flags: OpenFlags) -> Option<Connection> {
    let log = path.with_extension("db-wal");
    if !path.exists() || log.metadata().is_ok_and(|m| m.len() > 0) {
        return None;
    }
    let text = path.to_str()?.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = flags | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(format!("file:{text}?immutable=1"), flags).ok()?;
    version(&conn).ok()?;
    Some(conn)
}

fn make_tables(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.execute_batch("begin immediate")?;
    let made = if version(conn)? == 0 {
        conn.execute_batch(TABLES).and_then(|()| conn.pragma_update(None, "user_version", VERSION))
    } else {
        Ok(())
    };
    match made {
        Ok(()) => conn.execute_batch("commit"),
        Err(e) => {
            let _ = conn.execute_batch("rollback");
            Err(e)
        }
    }
}

fn version(conn: &Connection) -> rusqlite::Result<u32> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn check_version(conn: &Connection, path: &Path) -> Result<(), Error> {
    let found = version(conn).map_err(|e| error(path, "the store is opened", e))?;
    match found {
        VERSION => Ok(()),
        0 => Err(Error::Damaged { path: path.to_owned(), reason: "it holds no journal".to_owned() }),
        found => Err(Error::NewerStore { found, known: VERSION }),
    }
}

/// Returns what an error of SQLite means to a caller.
pub(super) fn error(path: &Path, doing: &'static str, e: rusqlite::Error) -> Error {
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full(format!("there is no room for {}", path.display())),
        Some(ErrorCode::ReadOnly) => Error::Full(format!("{} is read-only", path.display())),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Damaged { path: path.to_owned(), reason: e.to_string() }
        }
        _ => Error::store(doing, e),
    }
}

/// Returns whether the statement alone failed, and its transaction goes on.
pub(super) fn is_constraint(e: &rusqlite::Error) -> bool {
    e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}
