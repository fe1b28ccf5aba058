//! What can go wrong with a deployment as a whole.

pub(crate) use foreplan_core::failure::chain;

/// What can go wrong with a deployment as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot be reached, or refuses the connection.
    #[error(
        "the server {url} cannot be used: {reason}; check the address and the credentials, and that it runs"
    )]
    Connect {
        /// Its address.
        url: String,
        /// Why.
        reason: String,
    },
    /// The credentials cannot be read.
    #[error("the credentials cannot be read: {0}")]
    Credentials(String),
    /// The server is older than what works.
    #[error("the server has version {found}; {floor} is the oldest that works: upgrade it")]
    TooOld {
        /// Its version.
        found: String,
        /// The oldest that works.
        floor: String,
    },
    /// The server has no JetStream, or the account may not use it.
    #[error(
        "the server {url} has no JetStream for this account: {reason}; start it with `-js`, or enable JetStream for the account"
    )]
    NoJetStream {
        /// Its address.
        url: String,
        /// What it said.
        reason: String,
    },
    /// The user may not do what was tried.
    #[error(
        "this user may not {subject}, which is needed while {doing}: give it the permission (`foreplan nats account` prints what each role needs), or connect as another user"
    )]
    Denied {
        /// What was tried.
        doing: String,
        /// What the server refused: `publish to "…"`, `subscribe to "…"`.
        subject: String,
    },
    /// Streams or buckets are missing.
    #[error("the deployment `{tenant}` is not set up: {} is missing; run `foreplan nats setup`", .missing.join(", "))]
    NotSetUp {
        /// The tenant prefix.
        tenant: String,
        /// What is missing.
        missing: Vec<String>,
    },
    /// A stream has other settings than it needs.
    #[error("`{name}` has other settings than it needs: {}", .differences.join("; "))]
    Differs {
        /// The stream.
        name: String,
        /// What differs: what there is, and what is needed.
        differences: Vec<String>,
    },
    /// Something cannot be changed while others use it.
    #[error("{what} cannot be changed while these use it: {}; stop them first", .by.join(", "))]
    InUse {
        /// What was to be changed.
        what: &'static str,
        /// Who uses it.
        by: Vec<String>,
    },
    /// The tenant prefix cannot be used.
    #[error(transparent)]
    Tenant(#[from] foreplan_protocol::wire::InvalidTenant),
    /// The server did not do what it was asked for.
    #[error("the server failed while {doing}: {reason}")]
    Server {
        /// What was tried.
        doing: &'static str,
        /// What it said: a missing permission is named here.
        reason: String,
    },
}

impl Error {
    /// Wraps what the server, or the client, said.
    pub(crate) fn server(doing: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Server { doing, reason: reason.to_string() }
    }
}
