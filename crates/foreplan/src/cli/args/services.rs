//! What the verbs of a deployment take.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Subcommand};
use foreplan_core::id::Capability;
use foreplan_protocol::wire::Queues;

use super::ProjectArg;
use crate::serve::Role;

/// Arguments of `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// The project whose tools are served; planners, replanners and trackers need none.
    #[command(flatten)]
    pub project: ProjectArg,
    /// What this process does [default: all]
    #[arg(long, value_name = "ROLE", value_enum, value_delimiter = ',')]
    pub roles: Vec<Role>,
    /// A capability to serve; may be repeated [default: all of the project]
    #[arg(long, value_name = "NAME", value_parser = capability)]
    pub capability: Vec<Capability>,
    /// Address for /livez, /readyz and /metrics
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
}

fn capability(text: &str) -> Result<Capability, std::convert::Infallible> {
    Ok(text.into())
}

/// Verbs about the server.
#[derive(Clone, Debug, Subcommand)]
pub enum NatsVerb {
    /// Make what is missing, and verify the rest
    Setup(SetupArgs),
    /// Print a server's account with one user for each role, and what each may do
    Account(AccountArgs),
}

/// Arguments of `nats account`.
#[derive(Clone, Debug, Args)]
pub struct AccountArgs {
    /// A pool of executors; may be repeated
    #[arg(long, value_name = "PROJECT/CAPABILITY", value_parser = pool)]
    pub executor: Vec<(String, Capability)>,
    /// Who submits and commands, as the record names them; may be repeated
    #[arg(long, value_name = "NAME")]
    pub client: Vec<String>,
}

fn pool(text: &str) -> Result<(String, Capability), String> {
    match text.split_once('/') {
        Some((project, capability)) if !project.is_empty() && !capability.is_empty() => {
            Ok((project.to_owned(), capability.into()))
        }
        _ => Err("a pool is given as PROJECT/CAPABILITY".to_owned()),
    }
}

fn queues(text: &str) -> Result<Queues, String> {
    let count = text.parse().ok().and_then(Queues::new);
    count.ok_or_else(|| "a power of two up to 64 is wanted".to_owned())
}

/// Arguments of `nats setup`.
#[derive(Clone, Copy, Debug, Args)]
pub struct SetupArgs {
    /// Copies of everything: 3 in production
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replicas: usize,
    /// Only say what is missing
    #[arg(long)]
    pub dry_run: bool,
    /// How long a worker may be silent before its step counts as lost [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub ack_wait: Option<Duration>,
    /// So many trackers can share the runs: a power of two up to 64, to be changed while none runs
    /// [default: 16, or what it is]
    #[arg(long, value_name = "N", value_parser = queues)]
    pub queues: Option<Queues>,
}

/// Arguments of `dead`.
#[derive(Clone, Copy, Debug, Args)]
pub struct DeadArgs {}
