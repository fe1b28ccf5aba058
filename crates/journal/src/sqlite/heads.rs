//! The writes that every step makes, and the ends of the chains that they follow.

use std::collections::HashMap;

use foreplan_core::{digest::Digest, id::RunId, time::Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    rows::{status_word, waiting_word},
    schema::is_constraint,
    writer::Job,
};
use crate::{Error, NewRun, Progress, chain::Body};

/// Most ends that are remembered; one takes about 100 bytes. Beyond that they are read again.
const HEADS_MAX: usize = 65_536;

/// The ends of the chains of the runs that this process writes.
#[derive(Debug, Default)]
pub(super) struct Heads(HashMap<RunId, End>);

#[derive(Clone, Copy, Debug)]
struct End {
    id: i64,
    seq: u64,
    hash: Digest,
    ended_at: Option<Timestamp>,
}

impl Heads {
    /// Forgets everything: after a failure the store alone knows.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    fn remember(&mut self, run: RunId, end: End) {
        if end.ended_at.is_some() {
            self.0.remove(&run);
            return;
        }
        if self.0.len() >= HEADS_MAX {
            self.0.clear();
        }
        self.0.insert(run, end);
    }

    /// Returns the end behind which `seq` belongs.
    fn before(&self, conn: &Connection, run: RunId, seq: u64) -> rusqlite::Result<Result<End, Error>> {
        if let Some(end) = self.0.get(&run).filter(|end| end.seq + 1 == seq) {
            return Ok(Ok(*end));
        }
        Ok(match load(conn, run)? {
            Some(end) if end.seq + 1 == seq => Ok(end),
            Some(_) => Err(Error::Conflict { run, seq }),
            None => Err(Error::NoRun(run)),
        })
    }
}

fn load(conn: &Connection, run: RunId) -> rusqlite::Result<Option<End>> {
    conn.prepare_cached(
        "select h.id, h.seq, h.hash, h.ended_at from runs r join heads h on h.id = r.id where r.run = ?1",
    )?
    .query_row([run.0.as_bytes()], |row| {
        Ok(End {
            id: row.get(0)?,
            seq: row.get(1)?,
            hash: Digest(row.get(2)?),
            ended_at: row.get::<_, Option<i64>>(3)?.map(Timestamp),
        })
    })
    .optional()
}

/// A run and its first entry.
pub(super) struct Create {
    pub new: NewRun,
    pub owner: Option<String>,
    pub first: Write,
}

/// More entries.
pub(super) struct Append(pub Write);

/// What both have.
pub(super) struct Write {
    pub run: RunId,
    /// Of the first entry.
    pub seq: u64,
    /// Of entries that follow each other.
    pub bodies: Vec<Body>,
    /// After the last of them.
    pub progress: Progress,
    /// The commands that they carry out.
    pub commands: Vec<Uuid>,
    pub result: Result<(), Error>,
    pub reply: oneshot::Sender<Result<(), Error>>,
}

impl Job for Create {
    fn write(&mut self, conn: &Connection, heads: &mut Heads) -> rusqlite::Result<()> {
        let NewRun { run, project, goal, key, group, created_at } = &self.new;
        let inserted = conn
            .prepare_cached(
                "insert into runs(run, project, key, group_name, created_at, goal) values (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![run.0.as_bytes(), project, key, group, created_at.0, goal]);
        match inserted {
            Ok(_) => {}
            Err(e) if is_constraint(&e) => {
                self.first.result = Err(Error::Exists(existing(conn, &self.new)?));
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        let id = conn.last_insert_rowid();
        let Some(body) = self.first.bodies.pop() else { return Ok(()) };
        let (bytes, hash) = body.chain(None);
        insert_entry(conn, id, 0, &hash, &bytes)?;
        insert_head(conn, id, &hash, &self.first.progress, self.owner.as_deref())?;
        heads.remember(*run, End { id, seq: 0, hash, ended_at: self.first.progress.ended_at });
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        self.first.answer(failure);
    }
}

fn existing(conn: &Connection, new: &NewRun) -> rusqlite::Result<RunId> {
    let by_key = conn
        .prepare_cached("select run from runs where project = ?1 and key = ?2")?
        .query_row(params![new.project, new.key], |row| super::rows::run_id(row, 0))
        .optional()?;
    Ok(by_key.unwrap_or(new.run))
}

impl Job for Append {
    fn write(&mut self, conn: &Connection, heads: &mut Heads) -> rusqlite::Result<()> {
        let Write { run, seq, bodies, progress, commands, result, .. } = &mut self.0;
        let end = match heads.before(conn, *run, *seq)? {
            Ok(end) => end,
            Err(e) => {
                *result = Err(e);
                return Ok(());
            }
        };
        let (mut last, mut is_free) = (end, true);
        for body in bodies.drain(..) {
            let (bytes, hash) = body.chain(Some(last.hash));
            match insert_entry(conn, end.id, last.seq + 1, &hash, &bytes) {
                Ok(()) => last = End { seq: last.seq + 1, hash, ended_at: progress.ended_at, ..end },
                Err(e) if is_constraint(&e) => {
                    is_free = false;
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        if !is_free || !update_head(conn, &end, last.seq, &last.hash, progress)? {
            let sql = "delete from entries where run = ?1 and seq between ?2 and ?3";
            conn.prepare_cached(sql)?.execute(params![end.id, *seq, last.seq])?;
            *result = Err(Error::Conflict { run: *run, seq: *seq });
            return Ok(());
        }
        for command in commands {
            accept(conn, end.id, *command)?;
        }
        heads.remember(*run, last);
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        self.0.answer(failure);
    }
}

impl Write {
    fn answer(self, failure: Option<Error>) {
        let _ = self.reply.send(failure.map_or(self.result, Err));
    }
}

fn insert_entry(conn: &Connection, id: i64, seq: u64, hash: &Digest, bytes: &[u8]) -> rusqlite::Result<()> {
    conn.prepare_cached("insert into entries(run, seq, hash, bytes) values (?1, ?2, ?3, ?4)")?
        .execute(params![id, seq, hash.0, bytes])
        .map(drop)
}

fn insert_head(
    conn: &Connection,
    id: i64,
    hash: &Digest,
    progress: &Progress,
    owner: Option<&str>,
) -> rusqlite::Result<()> {
    let Progress { status, waiting, since, next_wake, ended_at, steps_done, steps, replans } = progress;
    conn.prepare_cached(
        "insert into heads(id, seq, hash, status, waiting, since, next_wake, steps_done, steps, replans, ended_at,
                           owner)
         values (?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        id,
        hash.0,
        status_word(*status),
        waiting.map(waiting_word),
        since.0,
        next_wake.map(|at| at.0),
        steps_done,
        steps,
        replans,
        ended_at.map(|at| at.0),
        owner,
    ])
    .map(drop)
}

/// Moves the head on, and returns whether it still was where `end` says. `ended_at` is named only
/// where it changes, since naming it rewrites the index of open runs.
fn update_head(
    conn: &Connection,
    end: &End,
    seq: u64,
    hash: &Digest,
    progress: &Progress,
) -> rusqlite::Result<bool> {
    let Progress { status, waiting, since, next_wake, ended_at, steps_done, steps, replans } = progress;
    let updated = conn
        .prepare_cached(
            "update heads set seq = ?2, hash = ?3, status = ?4, waiting = ?5, since = ?6, next_wake = ?7,
                              steps_done = ?8, steps = ?9, replans = ?10
             where id = ?1 and seq = ?11",
        )?
        .execute(params![
            end.id,
            seq,
            hash.0,
            status_word(*status),
            waiting.map(waiting_word),
            since.0,
            next_wake.map(|at| at.0),
            steps_done,
            steps,
            replans,
            end.seq,
        ])?;
    if updated == 1 && *ended_at != end.ended_at {
        conn.prepare_cached("update heads set ended_at = ?2 where id = ?1")?
            .execute(params![end.id, ended_at.map(|at| at.0)])?;
    }
    Ok(updated == 1)
}

fn accept(conn: &Connection, id: i64, command: Uuid) -> rusqlite::Result<()> {
    conn.prepare_cached("insert or ignore into accepted(run, command_id) values (?1, ?2)")?
        .execute(params![id, command.as_bytes()])?;
    conn.prepare_cached("delete from inbox where run = ?1 and command_id = ?2")?
        .execute(params![id, command.as_bytes()])
        .map(drop)
}
