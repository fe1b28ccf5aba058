//! One MCP server: reached when a call needs it, reached again after it was lost, within bounds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use foreplan_core::{
    digest::Digest,
    failure::{EffectState, Failure, FailureKind, chain},
};
use reqwest::{Client as HttpClient, header::HeaderMap};
use rmcp::{
    ClientHandler, RoleClient, ServiceExt as _,
    model::{
        CallToolRequestParams, CallToolResponse, ClientConfig, ClientRequest, Implementation,
        PaginatedRequestParams, PingRequest, Tool as McpTool,
    },
    service::{NotificationContext, Peer, RunningService, ServiceError},
    transport::{
        StreamableHttpClientTransport, async_rw::AsyncRwTransport,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout as within},
};
use tokio_util::sync::DropGuard;

use super::{
    super::OUTPUT_BYTES_MAX,
    launch::{Launch, NotStarted},
    printed::Printed,
};
use crate::call::Call;

/// After so many losses without an answer in between a server is left alone for [`COOLDOWN`].
const LOST_MAX: u32 = 5;

/// How long a server that is lost again and again is left alone.
const COOLDOWN: Duration = Duration::from_secs(30);

/// How long to wait before a lost server is reached again; doubled with every further loss.
const BACKOFF: Duration = Duration::from_millis(100);

/// How long a server that did not answer a call in time has to answer a ping, or it is ended.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// More tools than this are no list that a planner can use.
const TOOLS_MAX: usize = 1000;

/// How a server is reached.
pub(super) enum Way {
    /// A child process.
    Launch(Launch),
    /// Streamable HTTP.
    Http { client: HttpClient, url: String, headers: HeaderMap, missing: Option<String> },
}

/// A server, and the connection to it.
pub(super) struct Server {
    name: String,
    way: Way,
    starts_within: Duration,
    /// What a tool of the list is, as a digest.
    fingerprint: fn(&McpTool, bool) -> Digest,
    trusts_hints: bool,
    printed: Arc<Printed>,
    /// How often the server said that its list changed.
    changes: Arc<AtomicU64>,
    /// Whether a call was given up, so that nobody knows whether the server still answers.
    is_suspect: AtomicBool,
    /// Losses since the last answer.
    lost: AtomicU32,
    connection: Mutex<Connection>,
}

#[derive(Default)]
struct Connection {
    live: Option<Live>,
    /// What the server listed, by its names, as of `changes_seen`.
    listed: BTreeMap<String, Digest>,
    changes_seen: u64,
    lost_at: Option<Instant>,
}

struct Live {
    service: RunningService<RoleClient, Client>,
    /// Ends the child process.
    _process: Option<DropGuard>,
}

/// Why a server cannot be used, for a person.
pub(super) enum Unusable {
    NotStarted(String),
    Changed(String),
}

impl Server {
    pub(super) fn new(
        name: String,
        way: Way,
        starts_within: Duration,
        trusts_hints: bool,
        printed: Arc<Printed>,
    ) -> Self {
        Self {
            name,
            way,
            starts_within,
            fingerprint: super::fingerprint,
            trusts_hints,
            printed,
            changes: Arc::default(),
            is_suspect: AtomicBool::new(false),
            lost: AtomicU32::new(0),
            connection: Mutex::default(),
        }
    }

    /// Reaches the server and returns its tools.
    pub(super) async fn tools(&self) -> Result<Vec<McpTool>, Unusable> {
        let mut connection = self.connection.lock().await;
        self.reach(&mut connection).await
    }

    /// Makes a call, if the tool is still what it was.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future tells the server that the call is cancelled.
    pub(super) async fn call(
        &self,
        tool: &str,
        expected: Digest,
        params: CallToolRequestParams,
        call: &Call,
    ) -> Result<CallToolResponse, Failure> {
        let _log = self.printed.attach(call.log.clone());
        let peer = self.peer(tool, expected).await?;
        call.check_permit()?;
        let given_up = GivenUp(&self.is_suspect);
        let answer = peer.call_tool_once(params).await;
        std::mem::forget(given_up);
        if !matches!(answer, Err(ServiceError::TransportClosed | ServiceError::TransportSend(_))) {
            self.lost.store(0, Ordering::Relaxed);
        }
        answer.map_err(|error| self.failed(&error))
    }

    /// Returns the way to a server that has the tool as it was.
    async fn peer(&self, tool: &str, expected: Digest) -> Result<Peer<RoleClient>, Failure> {
        let mut connection = self.connection.lock().await;
        self.drop_if_lost(&mut connection).await;
        if connection.live.is_none() {
            self.wait_to_reach(&connection).await?;
            self.reach(&mut connection).await.map_err(|e| self.unusable(e))?;
        } else if connection.changes_seen != self.changes.load(Ordering::Acquire) {
            self.list(&mut connection).await.map_err(|e| self.unusable(Unusable::NotStarted(e)))?;
        }
        if connection.listed.get(tool) != Some(&expected) {
            let what = if connection.listed.contains_key(tool) { "changed" } else { "is gone" };
            let message = format!(
                "the tool `{tool}` of the MCP server `{}` {what} since it was listed; plan again with what the \
                 server offers now",
                self.name
            );
            return Err(changed(message));
        }
        match &connection.live {
            Some(live) => Ok(live.service.peer().clone()),
            None => Err(self.unusable(Unusable::NotStarted("the connection was lost".to_owned()))),
        }
    }

    /// Gives a connection up that ended, or behind which nobody answers.
    async fn drop_if_lost(&self, connection: &mut Connection) {
        let Some(live) = &connection.live else { return };
        let mut is_lost = live.service.is_closed() || live.service.peer().is_transport_closed();
        if !is_lost && self.is_suspect.load(Ordering::Relaxed) {
            let ping = live.service.peer().send_request(ClientRequest::PingRequest(PingRequest::default()));
            let answer = within(PING_TIMEOUT, ping).await;
            is_lost = !matches!(answer, Ok(Ok(_) | Err(ServiceError::McpError(_))));
        }
        self.is_suspect.store(false, Ordering::Relaxed);
        if is_lost {
            self.lose(connection);
        }
    }

    fn lose(&self, connection: &mut Connection) {
        connection.live = None;
        connection.lost_at = Some(Instant::now());
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(server = self.name, lost, "an MCP server was lost");
    }

    async fn wait_to_reach(&self, connection: &Connection) -> Result<(), Failure> {
        let (lost, Some(lost_at)) = (self.lost.load(Ordering::Relaxed), connection.lost_at) else {
            return Ok(());
        };
        if lost >= LOST_MAX && lost_at.elapsed() < COOLDOWN {
            let message = format!(
                "it was lost {lost} times in a row and is left alone for {} s{}",
                COOLDOWN.as_secs(),
                self.printed.tail()
            );
            return Err(self.unusable(Unusable::NotStarted(message)));
        }
        sleep_until(lost_at + BACKOFF * 2_u32.pow(lost.min(LOST_MAX))).await;
        Ok(())
    }

    async fn reach(&self, connection: &mut Connection) -> Result<Vec<McpTool>, Unusable> {
        let reached = within(self.starts_within, async {
            connection.live = Some(self.connect().await?);
            self.list(connection).await.map_err(Unusable::NotStarted)
        })
        .await
        .unwrap_or_else(|_| Err(Unusable::NotStarted(format!("no answer within {:?}", self.starts_within))));
        if let Err(unusable) = reached {
            self.lose(connection);
            return Err(match unusable {
                Unusable::NotStarted(why) => Unusable::NotStarted(format!("{why}{}", self.printed.tail())),
                Unusable::Changed(why) => Unusable::Changed(why),
            });
        }
        reached
    }

    async fn connect(&self) -> Result<Live, Unusable> {
        let client = Client { changes: Arc::clone(&self.changes) };
        let (service, process) = match &self.way {
            Way::Launch(launch) => {
                let started = launch.start(&self.printed).map_err(|e| match e {
                    NotStarted::Failed(why) => Unusable::NotStarted(why),
                    NotStarted::Changed(path) => {
                        Unusable::Changed(format!("the file `{path}`, which is part of its tools, changed"))
                    }
                })?;
                let transport =
                    AsyncRwTransport::new(started.stdout, started.stdin).with_max_line_length(usize::MAX);
                (client.serve(transport).await, Some(started.end))
            }
            Way::Http { missing: Some(missing), .. } => return Err(Unusable::NotStarted(missing.clone())),
            Way::Http { client: http, url, headers, missing: None } => {
                let headers = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                let config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
                    .custom_headers(headers)
                    .max_sse_event_size(4 * OUTPUT_BYTES_MAX);
                (client.serve(StreamableHttpClientTransport::with_client(http.clone(), config)).await, None)
            }
        };
        match service {
            Ok(service) => Ok(Live { service, _process: process }),
            Err(error) => Err(Unusable::NotStarted(chain(&error))),
        }
    }

    /// Asks for the list of tools and keeps what they are.
    async fn list(&self, connection: &mut Connection) -> Result<Vec<McpTool>, String> {
        let Some(live) = &connection.live else { return Err("there is no connection".to_owned()) };
        let peer = live.service.peer();
        let changes = self.changes.load(Ordering::Acquire);
        let (mut tools, mut cursor) = (Vec::new(), None);
        loop {
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            let page =
                peer.list_tools(Some(params)).await.map_err(|e| format!("tools/list: {}", chain(&e)))?;
            tools.extend(page.tools);
            if tools.len() > TOOLS_MAX {
                return Err(format!("it lists more than {TOOLS_MAX} tools"));
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        connection.listed = tools
            .iter()
            .map(|tool| (tool.name.to_string(), (self.fingerprint)(tool, self.trusts_hints)))
            .collect();
        connection.changes_seen = changes;
        Ok(tools)
    }

    fn unusable(&self, unusable: Unusable) -> Failure {
        match unusable {
            Unusable::NotStarted(why) => {
                let message = format!("the MCP server `{}` cannot be used: {why}", self.name);
                Failure::new(FailureKind::Tool, "mcp_server_unusable", message).effect(EffectState::None)
            }
            Unusable::Changed(why) => {
                changed(format!("the MCP server `{}` was not started again: {why}", self.name))
            }
        }
    }

    fn failed(&self, error: &ServiceError) -> Failure {
        match error {
            ServiceError::McpError(error) => {
                let message = format!("the MCP server `{}` refused the call: {}", self.name, error.message);
                Failure::new(FailureKind::Tool, "mcp_refused", message).retryable(false)
            }
            error => {
                let message = format!(
                    "the MCP server `{}` was lost during the call: {}{}",
                    self.name,
                    chain(error),
                    self.printed.tail()
                );
                Failure::new(FailureKind::Tool, "mcp_server_lost", message)
            }
        }
    }
}

fn changed(message: String) -> Failure {
    Failure::new(FailureKind::ToolChanged, "tool_changed", message).effect(EffectState::None)
}

/// Marks the server when it is dropped: a call was given up.
struct GivenUp<'a>(&'a AtomicBool);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a server sees of its client. It offers nothing: no files, no model, no person to ask.
struct Client {
    changes: Arc<AtomicU64>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            rmcp::model::ClientCapabilities::default(),
            Implementation::new("foreplan", env!("CARGO_PKG_VERSION")),
        )
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}
