//! What the tests of several crates share. No crate depends on it outside of its tests.
//!
//! * [`copy_project`]: a project folder that a test may change;
//! * [`TestClock`] and [`Ids`]: time and names that are the same at every run;
//! * [`Calls`], [`count_calls`], [`fail_times`] and [`Gate`]: tools that say how often they were
//!   called, fail as told, or wait for the test;
//! * [`ScriptedModels`]: models that answer what the test says;
//! * [`ModelServer`]: a language model that answers from a script, over real HTTP;
//! * [`tls_acceptor`]: a server behind TLS;
//! * [`nats::NatsServer`]: a real server, fetched if there is none;
//! * [`Normalizer`] and [`assert_golden`]: transcripts without what differs from run to run, compared
//!   with a file;
//! * [`skipped`]: the word of a test that cannot run on this machine.
//!
//! Its functions panic where a test would: a fixture that cannot be set up is a failed test.

mod clock;
mod golden;
mod ids;
mod model_server;
mod models;
pub mod nats;
mod normalize;
mod project;
mod skip;
mod tls;
mod tools;

pub use clock::TestClock;
pub use golden::assert_golden;
pub use ids::Ids;
pub use model_server::{Asked, ModelServer, Reply, WireFormat};
pub use models::ScriptedModels;
pub use normalize::Normalizer;
pub use project::copy_project;
pub use skip::skipped;
pub use tls::tls_acceptor;
pub use tools::{Calls, Gate, count_calls, fail_times};
