//! Tools as a project file declares them: `[[tools.file]]`, `[[tools.jq]]`, `[[tools.command]]`,
//! `[[tools.http]]`, `[[tools.template]]`, `[[tools.mcp]]`.
//!
//! The configuration reader embeds [`Declarations`] and turns them into [`Tool`]s with
//! [`Declarations::load`], which finds everything that can be found before a call: paths that lead
//! out of the project, placeholders without a field, filters and templates that do not parse.

mod common;
mod kinds;
mod mcp;
mod secret;
mod shape;

use std::collections::BTreeMap;

use foreplan_core::{id::ToolName, tool::Effect};
use serde::Deserialize;

pub use common::As;
pub(crate) use common::Common;
pub use kinds::{Command, File, Format, Header, HeaderSecret, Http, Jq, Template};
pub use mcp::{Annotations, Mcp};
pub use secret::SecretRef;
pub(crate) use secret::looks_secret;
pub use shape::Fields;
pub(crate) use shape::{Shape, Side};

use crate::{project::Project, secrets::Secrets, tool::Tool};

/// The tools of a project file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declarations {
    /// Files that are read.
    #[serde(default)]
    pub file: Vec<File>,
    /// Filters over the input, in process.
    #[serde(default)]
    pub jq: Vec<Jq>,
    /// Programs.
    #[serde(default)]
    pub command: Vec<Command>,
    /// HTTP requests.
    #[serde(default)]
    pub http: Vec<Http>,
    /// Texts with values in them.
    #[serde(default)]
    pub template: Vec<Template>,
    /// MCP servers, each with its tools.
    #[serde(default)]
    pub mcp: Vec<Mcp>,
}

/// A declaration that cannot become a tool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tool `{tool}`, `{field}`: {message}")]
pub struct Error {
    /// The tool's name as declared.
    pub tool: String,
    /// The key that is wrong.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// The tools of a project, and the secrets that they know.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The tools, in the order of their declaration within each kind.
    pub tools: Vec<Tool>,
    /// What the MCP servers list.
    pub servers: Vec<Listing>,
    /// What must not leave this process; give it to the toolbox.
    pub secrets: Secrets,
}

/// What an MCP server lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The server's name.
    pub server: String,
    /// Its tools that are taken, in the server's order.
    pub tools: Vec<Listed>,
}

/// One tool of an MCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As the server names it.
    pub name: String,
    /// What the tool is called here.
    pub tool: ToolName,
    /// What the server hints of its effect, which nobody vouches for.
    pub hint: Option<Effect>,
    /// Whether the project declares its effect.
    pub is_declared: bool,
}

impl Declarations {
    /// Makes all tools: those that [`Self::load`] makes, and those of the MCP servers, which are
    /// started or reached for it, all at a time.
    ///
    /// # Errors
    ///
    /// The first declaration that cannot become a tool; a server that does not start is one.
    pub async fn connect(&self, project: &Project) -> Result<Loaded, Error> {
        let mut loaded = self.load(project)?;
        self.connect_mcp(project, &mut loaded).await?;
        Ok(loaded)
    }

    #[cfg(feature = "mcp")]
    async fn connect_mcp(&self, project: &Project, loaded: &mut Loaded) -> Result<(), Error> {
        for (at, mcp) in self.mcp.iter().enumerate() {
            mcp.check()?;
            if self.mcp[..at].iter().any(|earlier| earlier.name == mcp.name) {
                return Err(mcp.error("name", "two servers have this name; rename one of them"));
            }
        }
        let servers = self.mcp.iter().map(|mcp| mcp.connect(project));
        for connected in futures::future::join_all(servers).await {
            let (tools, listing, secrets) = connected?;
            loaded.tools.extend(tools);
            loaded.servers.push(listing);
            loaded.secrets.extend(&secrets);
        }
        Ok(())
    }

    #[cfg(not(feature = "mcp"))]
    async fn connect_mcp(&self, _: &Project, _: &mut Loaded) -> Result<(), Error> {
        match self.mcp.first() {
            None => Ok(()),
            Some(mcp) => {
                Err(mcp.error("name", "this build reaches no MCP servers; build with the feature `mcp`"))
            }
        }
    }

    /// Makes the tools of every kind but MCP servers. Files that a command names are read for its digest; secrets are read from
    /// the environment or their file.
    ///
    /// # Errors
    ///
    /// The first declaration that cannot become a tool.
    pub fn load(&self, project: &Project) -> Result<Loaded, Error> {
        let mut loaded = Loaded::default();
        for file in &self.file {
            loaded.tools.push(file.tool(project)?);
        }
        for jq in &self.jq {
            loaded.tools.push(jq.tool(project)?);
        }
        for command in &self.command {
            loaded.tools.push(command.tool(project, &mut loaded.secrets)?);
        }
        self.load_http(project, &mut loaded)?;
        for template in &self.template {
            loaded.tools.push(template.tool(project)?);
        }
        Ok(loaded)
    }

    #[cfg(feature = "http")]
    fn load_http(&self, project: &Project, loaded: &mut Loaded) -> Result<(), Error> {
        let Some(first) = self.http.first() else { return Ok(()) };
        let client = crate::kind::http::client()
            .map_err(|e| first.common().error("url", format!("the HTTP client cannot be set up: {e}")))?;
        for http in &self.http {
            loaded.tools.push(http.tool(project, &client, &mut loaded.secrets)?);
        }
        Ok(())
    }

    #[cfg(not(feature = "http"))]
    fn load_http(&self, _: &Project, _: &mut Loaded) -> Result<(), Error> {
        match self.http.first() {
            None => Ok(()),
            Some(http) => {
                let message = "this build makes no HTTP requests; build with the feature `http`";
                Err(http.common().error("url", message))
            }
        }
    }
}

/// Returns the values of a map of secrets, known to `secrets` from now on; of one that is not set,
/// what is missing.
pub(crate) fn read_secrets<'a>(
    refs: impl IntoIterator<Item = (&'a String, &'a SecretRef)>,
    project: &Project,
    secrets: &mut Secrets,
) -> BTreeMap<String, Result<String, String>> {
    refs.into_iter()
        .map(|(name, secret)| {
            let value = secret.read(project);
            if let Ok(value) = &value {
                secrets.add(value);
            }
            (name.clone(), value)
        })
        .collect()
}
