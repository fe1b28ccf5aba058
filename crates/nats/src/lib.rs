//! NATS JetStream behind the traits of the bus, the journal and the payload store: what makes one
//! deployment of many processes.
//!
//! ```text
//!  RUNS       entries of runs, one subject each     NatsJournal
//!  PAYLOADS   values too large for an entry         NatsPayloads
//!  WORK       requests to planners and executors    NatsBus
//!  CMD        commands and replies, by queue        Shards ──▶ NatsBus ──▶ tracker
//!  OWNERS     which tracker has which queue         Shards
//!  OPEN       runs that are to be looked after      NatsJournal, Shards
//!  CURSORS    how far each place has the traces     NatsJournal
//!  CAPABILITIES, WORKERS                            Registry
//!  SECRETS    what makes leases                     Shards
//! ```
//!
//! Correctness rests on the expected sequence of `RUNS` alone; everything else is for liveness. It
//! decides nothing about a run.

mod account;
mod acks;
mod bus;
mod client;
mod connection;
mod cursors;
mod direct;
mod error;
mod gather;
mod hands;
mod index;
mod inventory;
mod journal;
mod lease;
mod pack;
mod payloads;
mod pull;
mod queues;
mod read;
mod run_store;
mod setup;
mod shards;
mod together;
mod unserved;
mod work;

pub use account::{Account, inbox};
pub use bus::{BusOptions, NatsBus};
pub use client::{Answer, Client, Refusal};
pub use connection::{Connection, Options, Tls, VERSION_FLOOR};
pub use error::Error;
pub use hands::InHand;
pub use inventory::{Alive, Announcement, Registry};
pub use journal::NatsJournal;
pub use payloads::NatsPayloads;
pub use setup::{Part, PartState, Setup};
pub use shards::{Desk, Shards};
