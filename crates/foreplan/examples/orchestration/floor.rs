//! What the machine gives at this moment, without Foreplan: the floor under its figures.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use ractor::{
    Actor, ActorProcessingErr, ActorRef,
    factory::{
        Factory, FactoryArguments, FactoryRef, Job, Worker, WorkerId, queues::DefaultQueue,
        routing::QueuerRouting, worker_builder,
    },
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Rounds of the ractor loop: a tenth of a second or so.
const ROUNDS: u32 = 50_000;

/// Commits that are measured: a fifth of a second on a disk that confirms in 100 µs.
const COMMITS: u32 = 1_000;

/// Rows of one commit, where they share it.
const ROWS: u32 = 1_000;

/// Calls of a tool that takes its time.
const TOOL_CALLS: usize = 21;

/// Bytes of a row: about one entry of a journal.
const ROW_BYTES: usize = 400;

pub(crate) async fn measure(dir: &Path) -> anyhow::Result<Value> {
    let round_us = ractor_round_us().await?;
    let dir = dir.to_owned();
    let sqlite = tokio::task::spawn_blocking(move || {
        anyhow::Ok(json!({
            "sqlite_full_commit_us": sqlite_us(&dir, "full", COMMITS, 1)?,
            "sqlite_normal_commit_us": sqlite_us(&dir, "normal", COMMITS, 1)?,
            "sqlite_full_row_us": sqlite_us(&dir, "full", 20, ROWS)?,
        }))
    });
    let mut floors = sqlite.await??;
    floors["ractor_round_us"] = json!(round_us);
    Ok(floors)
}

/// What a tool does that takes this long. A timer fires at whole milliseconds, also one that is set to
/// none.
pub(crate) async fn work(takes: Duration) {
    if !takes.is_zero() {
        tokio::time::sleep(takes).await;
    }
}

/// Returns how long such a tool takes by itself.
pub(crate) async fn tool_takes(takes: Duration) -> Duration {
    let mut took = Vec::with_capacity(TOOL_CALLS);
    for _ in 0..TOOL_CALLS {
        let began = Instant::now();
        work(takes).await;
        took.push(began.elapsed());
    }
    took.sort();
    took[TOOL_CALLS / 2]
}

/// Asks a worker of a factory and goes on when it has answered, over and over.
struct Loop;

struct Looping {
    factory: FactoryRef<u32, ActorRef<()>>,
    left: u32,
    done: Option<oneshot::Sender<()>>,
}

impl Actor for Loop {
    type Msg = ();
    type State = Looping;
    type Arguments = (FactoryRef<u32, ActorRef<()>>, oneshot::Sender<()>);

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        (factory, done): Self::Arguments,
    ) -> Result<Looping, ActorProcessingErr> {
        Ok(Looping { factory, left: ROUNDS, done: Some(done) })
    }

    async fn handle(&self, me: ActorRef<()>, (): (), state: &mut Looping) -> Result<(), ActorProcessingErr> {
        if state.left > 0 {
            state.left -= 1;
            state.factory.dispatch(state.left, me)?;
        } else if let Some(done) = state.done.take() {
            // Whoever waits has the other end.
            let _ = done.send(());
        }
        Ok(())
    }
}

struct Answerer;

impl Worker for Answerer {
    type Key = u32;
    type Message = ActorRef<()>;
    type Arguments = ();
    type State = ();

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &FactoryRef<u32, ActorRef<()>>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &FactoryRef<u32, ActorRef<()>>,
        Job { key, msg: asker, .. }: Job<u32, ActorRef<()>>,
        (): &mut (),
    ) -> Result<u32, ActorProcessingErr> {
        asker.cast(())?;
        Ok(key)
    }
}

type Pool = Factory<
    u32,
    ActorRef<()>,
    (),
    Answerer,
    QueuerRouting<u32, ActorRef<()>>,
    DefaultQueue<u32, ActorRef<()>>,
>;

async fn ractor_round_us() -> anyhow::Result<f64> {
    let arguments = FactoryArguments::builder()
        .worker_builder(Box::new(worker_builder(|_| (Answerer, ()))))
        .queue(DefaultQueue::default())
        .router(QueuerRouting::default())
        .num_initial_workers(1)
        .build();
    let (factory, _) = Actor::spawn(None, Pool::default(), arguments).await?;
    let (done, finished) = oneshot::channel();
    let (looping, _) = Actor::spawn(None, Loop, (factory.clone(), done)).await?;
    let began = Instant::now();
    looping.cast(())?;
    finished.await?;
    let round_us = began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
    looping.stop(None);
    factory.stop(None);
    Ok(round_us)
}

/// Returns what one row costs in transactions of so many rows.
fn sqlite_us(dir: &Path, synchronous: &str, commits: u32, rows: u32) -> anyhow::Result<f64> {
    let path = dir.join(format!("floor-{synchronous}-{rows}.db"));
    let mut store = Connection::open(path)?;
    store.pragma_update(None, "journal_mode", "wal")?;
    store.pragma_update(None, "synchronous", synchronous)?;
    store.execute_batch("create table entry(run integer, seq integer, body blob, primary key(run, seq)) strict, without rowid")?;
    let body = vec![b'x'; ROW_BYTES];
    let began = Instant::now();
    for run in 0..commits {
        let transaction = store.transaction()?;
        {
            let mut insert = transaction.prepare_cached("insert into entry values (?1, ?2, ?3)")?;
            for seq in 0..rows {
                insert.execute((run, seq, &body))?;
            }
        }
        transaction.commit()?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(commits * rows))
}
