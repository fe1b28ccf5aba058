//! A connection to a server: how it is found, proved old enough, and kept.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, Event, jetstream};
use foreplan_protocol::wire::Names;

use crate::{Error, error::chain};

/// The oldest server that works: 2.10.20 to 2.10.24 could lose data when the process crashed.
pub const VERSION_FLOOR: (u32, u32, u32) = (2, 10, 25);

/// How long a request to the server may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a deployment is, and who connects.
#[derive(Clone, Debug)]
pub struct Options {
    /// `nats://host:port`, several separated by commas.
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
        }
    }
}

/// A connection to a server that is new enough and has JetStream. Copies are the same connection.
#[derive(Clone)]
pub struct Connection {
    pub(crate) client: Client,
    pub(crate) js: jetstream::Context,
    pub(crate) names: Arc<Names>,
}

impl Connection {
    /// Connects, and proves that the server can be used.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn open(options: &Options) -> Result<Self, Error> {
        let names = Arc::new(Names::new(&options.tenant)?);
        let refused = |error: async_nats::ConnectError| Error::Connect {
            url: options.url.clone(),
            reason: chain(&error),
        };
        let addresses: Vec<&str> = options.url.split(',').map(str::trim).collect();
        let client = connect_options(options).await?.connect(addresses).await.map_err(refused)?;
        let found = client.server_info().version;
        if version(&found).is_none_or(|found| found < VERSION_FLOOR) {
            let (major, minor, patch) = VERSION_FLOOR;
            return Err(Error::TooOld { found, floor: format!("{major}.{minor}.{patch}") });
        }
        let mut js = jetstream::new(client.clone());
        js.set_timeout(REQUEST_TIMEOUT);
        js.query_account()
            .await
            .map_err(|error| Error::NoJetStream { url: options.url.clone(), reason: chain(&error) })?;
        Ok(Self { client, js, names })
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

    /// Sends what is not sent yet and ends the connection.
    pub async fn close(&self) {
        if let Err(error) = self.client.drain().await {
            tracing::debug!(%error, "the connection had ended already");
        }
    }

    pub(crate) async fn stream(&self, name: &str) -> Result<jetstream::stream::Stream, Error> {
        let name = self.names.stream(name);
        self.js.get_stream(&name).await.map_err(|e| Error::server("a stream is looked up", chain(&e)))
    }

    pub(crate) async fn bucket(&self, name: &str) -> Result<jetstream::kv::Store, Error> {
        let name = self.names.stream(name);
        self.js.get_key_value(&name).await.map_err(|e| Error::server("a bucket is looked up", chain(&e)))
    }
}

async fn connect_options(options: &Options) -> Result<ConnectOptions, Error> {
    let unreadable =
        |path: &PathBuf, e: std::io::Error| Error::Credentials(format!("{}: {e}", path.display()));
    let mut connect = ConnectOptions::new()
        .name(&options.name)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .event_callback(|event| async move {
            match event {
                Event::Connected => tracing::info!("connected to the server"),
                Event::ServerError(error) => tracing::warn!(%error, "the server refused something"),
                other => tracing::warn!(event = %other, "the connection to the server changed"),
            }
        });
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
    fn versions_are_ordered_by_their_numbers() {
        assert!(version("2.9.10") < Some(VERSION_FLOOR));
        assert!(version("2.10.24") < Some(VERSION_FLOOR));
        assert!(version("2.10.26") > Some(VERSION_FLOOR));
        assert_eq!(version("2.15.1-RC.2"), Some((2, 15, 1)));
        assert_eq!(version("new"), None);
    }
}
