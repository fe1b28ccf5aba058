//! A connection to a server: how it is found, proved old enough, and kept.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, Event, jetstream};
use foreplan_protocol::wire::Names;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Error, error::chain, gather::Gather};

/// The oldest server that works: 2.10.20 to 2.10.24 could lose data when the process crashed.
pub const VERSION_FLOOR: (u32, u32, u32) = (2, 10, 25);

/// How long a request to the server may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a deployment is, and who connects.
#[derive(Clone, Debug)]
pub struct Options {
    /// `nats://host:port`, several separated by commas; `nats://user:password@host:port`.
    pub url: String,
    /// A credentials file.
    pub creds: Option<PathBuf>,
    /// A file with an nkey seed.
    pub nkey: Option<PathBuf>,
    /// TLS beyond what the server asks for.
    pub tls: Tls,
    /// The tenant prefix.
    pub tenant: String,
    /// The connection's name, for those who look at the server.
    pub name: String,
    /// The prefix of what this connection receives answers on, where the user's permissions pin it.
    pub inbox: Option<String>,
}

/// Certificates.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Refuse a connection without TLS.
    pub required: bool,
    /// Trusted roots.
    pub ca: Option<PathBuf>,
    /// The client's certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Options {
    /// Makes the options of a deployment at `url`, with the default tenant.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            creds: None,
            nkey: None,
            tls: Tls::default(),
            tenant: "fp".to_owned(),
            name: "foreplan".to_owned(),
            inbox: None,
        }
    }
}

/// A connection to a server that is new enough and has JetStream. Copies are the same connection.
#[derive(Clone)]
pub struct Connection {
    pub(crate) client: Client,
    pub(crate) js: jetstream::Context,
    pub(crate) names: Arc<Names>,
    denied: Denied,
    /// How often it was made.
    made: watch::Receiver<u64>,
    pub(crate) gather: Gather,
}

/// What the server refused last for want of a permission. It says so beside the answer, which never
/// comes.
type Denied = Arc<Mutex<Option<String>>>;

impl Connection {
    /// Connects, and proves that the server can be used.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn open(options: &Options) -> Result<Self, Error> {
        let names = Arc::new(Names::new(&options.tenant)?);
        let (addresses, login) = addresses(&options.url);
        let url = addresses.join(",");
        let refused =
            |error: async_nats::ConnectError| Error::Connect { url: url.clone(), reason: chain(&error) };
        let denied = Denied::default();
        let (making, made) = watch::channel(0);
        let mut connect = connect_options(options, &denied, making).await?;
        if let Some((user, password)) = login {
            connect = connect.user_and_password(user, password);
        }
        let client = connect.connect(addresses).await.map_err(refused)?;
        let found = client.server_info().version;
        if version(&found).is_none_or(|found| found < VERSION_FLOOR) {
            let (major, minor, patch) = VERSION_FLOOR;
            return Err(Error::TooOld { found, floor: format!("{major}.{minor}.{patch}") });
        }
        let mut js = jetstream::new(client.clone());
        js.set_timeout(REQUEST_TIMEOUT);
        let connection = Self { client, js, names, denied, made, gather: Gather::start() };
        match connection.js.query_account().await {
            Ok(_) => Ok(connection),
            Err(error) => Err(connection.explain(Error::NoJetStream { url, reason: chain(&error) })),
        }
    }

    /// Names the permission whose want led to an error, if one did: to the client such a refusal is
    /// only an answer that does not come.
    #[must_use]
    pub fn explain(&self, error: Error) -> Error {
        let doing = match &error {
            Error::Server { doing, .. } => (*doing).to_owned(),
            Error::NoJetStream { .. } => "the account is looked up".to_owned(),
            _ => return error,
        };
        match self.denied.lock().take() {
            Some(subject) => Error::Denied { doing, subject },
            None => error,
        }
    }

    /// Returns the names of the deployment.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Returns whether the server is there now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Returns how often the connection was made. A server that was gone may have forgotten what it kept in
    /// memory.
    pub(crate) fn made(&self) -> watch::Receiver<u64> {
        self.made.clone()
    }

    /// Returns whether the server is at least of this version.
    pub(crate) fn is_at_least(&self, wanted: (u32, u32, u32)) -> bool {
        version(&self.client.server_info().version).is_some_and(|found| found >= wanted)
    }

    /// Sends what is not sent yet and ends the connection.
    pub async fn close(&self) {
        if let Err(error) = self.client.drain().await {
            tracing::debug!(%error, "the connection had ended already");
        }
    }

    pub(crate) async fn stream(&self, name: &str) -> Result<jetstream::stream::Stream, Error> {
        let name = self.names.stream(name);
        let stream = self.js.get_stream(&name).await;
        stream.map_err(|e| self.explain(Error::server("a stream is looked up", chain(&e))))
    }

    pub(crate) async fn bucket(&self, name: &str) -> Result<jetstream::kv::Store, Error> {
        let name = self.names.stream(name);
        let bucket = self.js.get_key_value(&name).await;
        bucket.map_err(|e| self.explain(Error::server("a bucket is looked up", chain(&e))))
    }
}

/// Takes the user and the password out of the addresses, so that no message shows them.
fn addresses(url: &str) -> (Vec<String>, Option<(String, String)>) {
    let mut login = None;
    let bare = |address: &str| {
        let (scheme, rest) = address.trim().split_once("://").unwrap_or(("nats", address.trim()));
        let Some((who, host)) = rest.rsplit_once('@') else { return format!("{scheme}://{rest}") };
        let (user, password) = who.split_once(':').unwrap_or((who, ""));
        login.get_or_insert_with(|| (unescaped(user), unescaped(password)));
        format!("{scheme}://{host}")
    };
    (url.split(',').map(bare).collect(), login)
}

/// Reads `%40` as `@`. What is no such escape stays.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns what the server does not permit, if that is what it says: `Permissions Violation for
/// Publish to "fp.run.1.x"`.
fn denied_by(error: &str) -> Option<String> {
    let lower = error.to_ascii_lowercase();
    let at = lower.find("permissions violation for ")? + "permissions violation for ".len();
    let subject = error.get(at..)?.trim_end_matches('\'');
    Some(match subject.strip_prefix("Publish").or_else(|| subject.strip_prefix("publish")) {
        Some(rest) => format!("publish{rest}"),
        None => format!("subscribe{}", subject.get("subscription".len()..).unwrap_or_default()),
    })
}

async fn connect_options(
    options: &Options,
    denied: &Denied,
    making: watch::Sender<u64>,
) -> Result<ConnectOptions, Error> {
    let unreadable =
        |path: &PathBuf, e: std::io::Error| Error::Credentials(format!("{}: {e}", path.display()));
    let mut connect =
        ConnectOptions::new().name(&options.name).request_timeout(Some(REQUEST_TIMEOUT)).event_callback({
            let (denied, making) = (Arc::clone(denied), Arc::new(making));
            move |event| {
                let (denied, making) = (Arc::clone(&denied), Arc::clone(&making));
                async move {
                    match event {
                        Event::Connected => {
                            tracing::info!("connected to the server");
                            making.send_modify(|times| *times += 1);
                        }
                        Event::ServerError(error) => {
                            tracing::warn!(%error, "the server refused something");
                            if let Some(subject) = denied_by(&error.to_string()) {
                                *denied.lock() = Some(subject);
                            }
                        }
                        other => tracing::warn!(event = %other, "the connection to the server changed"),
                    }
                }
            }
        });
    if let Some(inbox) = &options.inbox {
        connect = connect.custom_inbox_prefix(inbox);
    }
    if let Some(path) = &options.creds {
        connect = connect.credentials_file(path).await.map_err(|e| unreadable(path, e))?;
    }
    if let Some(path) = &options.nkey {
        let seed = std::fs::read_to_string(path).map_err(|e| unreadable(path, e))?;
        connect = connect.nkey(seed.trim().to_owned());
    }
    if options.tls.required {
        connect = connect.require_tls(true);
    }
    if let Some(ca) = &options.tls.ca {
        connect = connect.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &options.tls.identity {
        connect = connect.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(connect)
}

/// Reads `2.10.25`, `2.11.0-RC.1`.
fn version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split('-').next()?.split('.').map(str::parse);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Some((major, minor, patch)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_permission_that_is_missing() {
        let said = "nats: Permissions Violation for Publish to \"fp.run.1.x\"";
        assert_eq!(denied_by(said).as_deref(), Some("publish to \"fp.run.1.x\""));
        let said = "Permissions Violation for Subscription to \"fp.hint\"";
        assert_eq!(denied_by(said).as_deref(), Some("subscribe to \"fp.hint\""));
        assert_eq!(denied_by("slow consumer"), None);
    }

    #[test]
    fn a_password_is_taken_out_of_the_address() {
        let (bare, login) = addresses("nats://ada:a%40b%@one:4222, tls://two");
        assert_eq!(bare, ["nats://one:4222", "tls://two"]);
        assert_eq!(login, Some(("ada".to_owned(), "a@b%".to_owned())));
        assert_eq!(addresses("one:4222"), (vec!["nats://one:4222".to_owned()], None));
    }

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        assert!(version("2.9.10") < Some(VERSION_FLOOR));
        assert!(version("2.10.24") < Some(VERSION_FLOOR));
        assert!(version("2.10.26") > Some(VERSION_FLOOR));
        assert_eq!(version("2.15.1-RC.2"), Some((2, 15, 1)));
        assert_eq!(version("new"), None);
    }
}
