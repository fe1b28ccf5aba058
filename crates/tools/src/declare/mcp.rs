//! `[[tools.mcp]]`: the tools of an MCP server.

use std::{collections::BTreeMap, time::Duration};

use foreplan_core::{time, tool::Effect};
use serde::Deserialize;

use super::{Error, Fields, Header, SecretRef};

/// How long a server may take to start and to list its tools: a package manager may fetch it first.
const START_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// A server's name leaves room for its tools' names within what providers of models accept.
const NAME_BYTES_MAX: usize = 32;

/// `[[tools.mcp]]`: every tool of an MCP server, or those that are listed, as `server__tool`. The
/// server is a child process (`command`) or is reached over streamable HTTP (`url`).
#[derive(Clone, Debug, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mcp {
    /// Unique among the servers; the first part of its tools' names.
    pub name: String,
    /// The program and its arguments.
    pub command: Option<Vec<String>>,
    /// The folder the program runs in, inside the project.
    pub cwd: Option<String>,
    /// What the program gets of the environment, by name, besides what programs need to be found and
    /// to find their user's folder.
    #[serde(default)]
    pub env: Vec<String>,
    /// Secrets that the program gets as variables: variable → where the value is.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretRef>,
    /// The URL, instead of `command`.
    pub url: Option<String>,
    /// The headers of every request to the URL.
    #[serde(default)]
    pub headers: BTreeMap<String, Header>,
    /// The tools to take, as the server names them; all if absent.
    pub tools: Option<Vec<String>>,
    /// Whether the server's hints about its tools decide about their effects.
    #[serde(default)]
    pub annotations: Annotations,
    /// What a call does to the world, by tool. A tool that is not here is irreversible, unless its
    /// hint is trusted.
    #[serde(default)]
    pub effects: BTreeMap<String, Effect>,
    /// The fields of outputs that the server does not declare, by tool.
    #[serde(default)]
    pub outputs: BTreeMap<String, Fields>,
    /// How long a call may take.
    #[serde(default, with = "time::text::option")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
    /// How long the server may take to start and to list its tools; a minute if absent.
    #[serde(default, with = "time::text::option")]
    #[schemars(with = "Option<String>")]
    pub start_timeout: Option<Duration>,
}

/// What a server's hints about its tools are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Annotations {
    /// Nothing: a server can say what it likes.
    #[default]
    Ignore,
    /// They stand where the project declares no effect.
    Trust,
}

impl Mcp {
    pub(crate) fn error(&self, field: &'static str, message: impl Into<String>) -> Error {
        Error { tool: self.name.clone(), field, message: message.into() }
    }

    /// Checks what can be checked without the server.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let letters = self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !letters {
            let message = format!("a server's name has 1 to {NAME_BYTES_MAX} letters, digits, `_` and `-`");
            return Err(self.error("name", message));
        }
        match (&self.command, &self.url) {
            (Some(_), Some(_)) => Err(self.error("url", "there is a `command` too; keep one of the two")),
            (None, None) => Err(self.error("command", "say how to reach the server: `command` or `url`")),
            (None, Some(_)) if !self.env.is_empty() || !self.secrets.is_empty() || self.cwd.is_some() => {
                Err(self.error("url", "`cwd`, `env` and `secrets` are for a server with a `command`"))
            }
            (Some(_), None) if !self.headers.is_empty() => {
                Err(self.error("headers", "headers are for a server with a `url`"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn starts_within(&self) -> Duration {
        self.start_timeout.unwrap_or(START_TIMEOUT_DEFAULT)
    }
}
