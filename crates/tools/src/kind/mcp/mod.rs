//! `[[tools.mcp]]`: the tools of MCP servers, over standard input and output or streamable HTTP.
//!
//! A server's list is read when the tools are loaded, and again when the server says that it changed
//! or after it was lost. A tool that is not what it was is not called. What a server hints about its
//! tools decides nothing unless the project says so.

mod answer;
mod launch;
mod printed;
mod server;

use std::{collections::BTreeMap, sync::Arc};

use foreplan_core::{digest::Digest, failure::Failure, id::ToolName, tool::Effect};
use futures::future::{BoxFuture, FutureExt as _};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use rmcp::model::{CallToolRequestParams, RequestMetaObject, Tool as McpTool};
use serde_json::{Value, json};

use self::{
    launch::Launch,
    printed::Printed,
    server::{Server, Unusable, Way},
};
use super::{
    command::{environment, files_in},
    http, refused, sole_field_schema,
};
use crate::{
    call::{Call, Handler},
    declare::{Annotations, Error, Header, Listed, Listing, Mcp},
    project::Project,
    secrets::Secrets,
    tool::{Signature, Tool},
};

/// What every child gets of the environment: what programs need to be found and to find their user's
/// folder. The protocol's own clients pass the same.
const ENV_BASE: [&str; 8] = ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER"];

/// Providers of models accept no longer name of a tool.
const TOOL_NAME_BYTES_MAX: usize = 64;

/// How much of a digest makes a cut name unique.
const NAME_DIGEST_BYTES: usize = 8;

impl Mcp {
    /// Reaches the server and makes its tools.
    pub(crate) async fn connect(&self, project: &Project) -> Result<(Vec<Tool>, Listing, Secrets), Error> {
        let (way, identity, secrets) = self.way(project)?;
        let reached_by = if self.url.is_some() { "url" } else { "command" };
        let printed = Arc::new(Printed::new(secrets.clone()));
        let trusts = self.annotations == Annotations::Trust;
        let server = Arc::new(Server::new(self.name.clone(), way, self.starts_within(), trusts, printed));
        let listed = server.tools().await.map_err(|unusable| {
            let (Unusable::NotStarted(why) | Unusable::Changed(why)) = unusable;
            let why = secrets.redact_text(&why).unwrap_or(why);
            self.error(reached_by, format!("the MCP server `{}` cannot be used: {why}", self.name))
        })?;
        let taken = self.taken(listed)?;
        let names = self.names(&taken)?;
        let mut tools = Vec::with_capacity(taken.len());
        let mut listing = Listing { server: self.name.clone(), tools: Vec::with_capacity(taken.len()) };
        for (listed, name) in taken.iter().zip(names) {
            listing.tools.push(Listed {
                name: listed.name.to_string(),
                tool: name.clone(),
                hint: hint(listed),
                is_declared: self.effects.contains_key(listed.name.as_ref()),
            });
            tools.push(self.tool(&server, listed, name, &identity));
        }
        Ok((tools, listing, secrets))
    }

    fn tool(&self, server: &Arc<Server>, listed: &McpTool, name: ToolName, identity: &Value) -> Tool {
        let key = listed.name.as_ref();
        let declared = match self.outputs.get(key) {
            Some(fields) => Some(fields.schema(false)),
            None => listed.output_schema.as_deref().cloned().map(Value::Object),
        };
        let trusted = hint(listed).filter(|_| self.annotations == Annotations::Trust);
        let effect = self.effects.get(key).copied().or(trusted).unwrap_or(Effect::Irreversible);
        let identity = json!({
            "kind": "mcp",
            "server": identity,
            "tool": key,
            "description": listed.description,
        });
        let output = declared.clone().unwrap_or_else(|| sole_field_schema("text", json!({"type": "string"})));
        let signature = Signature {
            name,
            description: listed.description.as_deref().unwrap_or_default().to_owned(),
            effect,
            input: Value::Object(listed.input_schema.as_ref().clone()),
            output,
        };
        let expected = fingerprint(listed, self.annotations == Annotations::Trust);
        let caller = Caller { server: Arc::clone(server), tool: key.to_owned(), expected, declared };
        let tool = Tool::new(signature, identity, Arc::new(caller));
        match self.timeout {
            Some(timeout) => tool.timeout(timeout),
            None => tool,
        }
    }

    /// Returns the tools to take, in the server's order.
    fn taken(&self, listed: Vec<McpTool>) -> Result<Vec<McpTool>, Error> {
        let known: Vec<String> = listed.iter().map(|tool| tool.name.to_string()).collect();
        let wanted = self.tools.as_deref().unwrap_or_default();
        let keys = [
            ("tools", wanted.iter().collect::<Vec<_>>()),
            ("effects", self.effects.keys().collect()),
            ("outputs", self.outputs.keys().collect()),
        ];
        for (field, names) in keys {
            if let Some(name) = names.into_iter().find(|name| !known.contains(name)) {
                let message = format!("the server has no tool `{name}`; it has: {}", known.join(", "));
                return Err(self.error(field, message));
            }
        }
        let is_taken = |tool: &McpTool| self.tools.is_none() || wanted.iter().any(|name| *name == tool.name);
        Ok(listed.into_iter().filter(is_taken).collect())
    }

    fn names(&self, taken: &[McpTool]) -> Result<Vec<ToolName>, Error> {
        let mut names = BTreeMap::new();
        for tool in taken {
            if let Some(other) = names.insert(tool_name(&self.name, &tool.name), &tool.name) {
                let message = format!(
                    "the server lists `{other}` and `{}`, which is one name here; take one \
                                       of them",
                    tool.name
                );
                return Err(self.error("tools", message));
            }
        }
        Ok(taken.iter().map(|tool| tool_name(&self.name, &tool.name)).collect())
    }

    /// Returns how the server is reached, what of that is part of its tools, and what must not leave
    /// this process.
    fn way(&self, project: &Project) -> Result<(Way, Value, Secrets), Error> {
        match (&self.command, &self.url) {
            (Some(command), _) => self.launch(command, project),
            (None, Some(url)) => self.over_http(url, project),
            (None, None) => Err(self.error("command", "say how to reach the server: `command` or `url`")),
        }
    }

    fn launch(&self, command: &[String], project: &Project) -> Result<(Way, Value, Secrets), Error> {
        if command.first().is_none_or(String::is_empty) {
            return Err(self.error("command", "give at least a program: command = [\"npx\", \"…\"]"));
        }
        let cwd = self.cwd.clone().unwrap_or_else(|| ".".to_owned());
        project.lexical(&cwd).map_err(|e| self.error("cwd", e.to_string()))?;
        let files = files_in(command, project, &cwd).map_err(|e| self.error("command", e))?;
        let identity = json!({
            "command": command,
            "cwd": cwd,
            "env": self.env,
            "secrets": self.secrets.keys().collect::<Vec<_>>(),
            "files": files.iter().map(|(path, digest)| json!([path, digest])).collect::<Vec<_>>(),
        });
        let names: Vec<String> =
            ENV_BASE.into_iter().map(str::to_owned).chain(self.env.iter().cloned()).collect();
        let (env, missing, secrets) = environment(&names, &self.secrets, project);
        let launch = Launch { project: project.clone(), command: command.to_vec(), cwd, env, missing, files };
        Ok((Way::Launch(launch), identity, secrets))
    }

    fn over_http(&self, url: &str, project: &Project) -> Result<(Way, Value, Secrets), Error> {
        let is_http = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_http {
            return Err(self.error("url", format!("`{url}` is no URL like https://example.org/mcp")));
        }
        let client = http::client()
            .map_err(|e| self.error("url", format!("the HTTP client cannot be set up: {e}")))?;
        let (mut secrets, mut missing, mut headers) = (Secrets::default(), None, HeaderMap::new());
        for (name, header) in &self.headers {
            let text = match header {
                Header::Text(text) => text.clone(),
                Header::Secret(secret) => {
                    let from = secret.reference().map_err(|e| self.error("headers", e))?;
                    match from.read(project) {
                        Ok(value) => {
                            secrets.add(&value);
                            format!("{}{value}", secret.prefix)
                        }
                        Err(e) => {
                            missing = missing.or(Some(format!("the secret of `{name}` is missing: {e}")));
                            continue;
                        }
                    }
                }
            };
            let wrong = |e: &dyn std::fmt::Display| self.error("headers", format!("`{name}`: {e}"));
            let mut value = HeaderValue::from_str(&text).map_err(|e| wrong(&e))?;
            value.set_sensitive(matches!(header, Header::Secret(_)));
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|e| wrong(&e))?, value);
        }
        let identity = json!({
            "url": url,
            "headers": self.headers.keys().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>(),
        });
        Ok((Way::Http { client, url: url.to_owned(), headers, missing }, identity, secrets))
    }
}

/// Returns `server__tool` with the letters and within the length that providers of models accept. A
/// name that is cut ends with a digest of the whole.
fn tool_name(server: &str, tool: &str) -> ToolName {
    let name: String = format!("{server}__{tool}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    if name.len() <= TOOL_NAME_BYTES_MAX {
        return name.into();
    }
    let digest = Digest::of_bytes(tool.as_bytes()).to_string();
    let digest = digest.rsplit(':').next().unwrap_or_default();
    let kept = TOOL_NAME_BYTES_MAX - NAME_DIGEST_BYTES - 1;
    format!("{}_{}", &name[..kept], &digest[..NAME_DIGEST_BYTES]).into()
}

/// Returns the effect that a server hints at.
fn hint(tool: &McpTool) -> Option<Effect> {
    let hints = tool.annotations.as_ref()?;
    match (hints.read_only_hint, hints.idempotent_hint) {
        (Some(true), _) => Some(Effect::Read),
        (_, Some(true)) => Some(Effect::Idempotent),
        (Some(false), _) | (_, Some(false)) => Some(Effect::Irreversible),
        (None, None) => hints.destructive_hint.map(|_| Effect::Irreversible),
    }
}

/// Returns the digest of what a server says of a tool. Hints belong to it where they are trusted.
fn fingerprint(tool: &McpTool, trusts_hints: bool) -> Digest {
    Digest::of(&json!({
        "description": tool.description,
        "input": tool.input_schema.as_ref(),
        "output": tool.output_schema.as_deref(),
        "hint": hint(tool).filter(|_| trusts_hints),
    }))
}

/// Calls one tool of a server.
struct Caller {
    server: Arc<Server>,
    tool: String,
    expected: Digest,
    declared: Option<Value>,
}

impl Handler for Caller {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        async move {
            let Value::Object(arguments) = call.input.as_ref().clone() else {
                return Err(refused("input_schema", "the input of an MCP tool is an object"));
            };
            let mut params = CallToolRequestParams::new(self.tool.clone()).with_arguments(arguments);
            params.meta = Some(meta(&call));
            let answer = self.server.call(&self.tool, self.expected, params, &call).await?;
            answer::output(answer, self.declared.as_ref())
        }
        .boxed()
    }
}

/// Returns what a server may know of a call: its place in the trace, and the key that is the same over
/// all attempts.
fn meta(call: &Call) -> RequestMetaObject {
    let mut meta = RequestMetaObject::new();
    meta.set_traceparent(call.trace().to_string());
    if let Some(key) = call.idempotency_key {
        meta.insert("foreplan/idempotencyKey".to_owned(), key.to_string().into());
    }
    meta
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_named_by_its_server_within_what_providers_accept() {
        assert_eq!(tool_name("files", "read_file").as_str(), "files__read_file");
        assert_eq!(tool_name("a", "x.y/ü").as_str(), "a__x_y__");
        let (one, other) = (tool_name("a", &format!("{}1", "x".repeat(80))), tool_name("a", &"x".repeat(80)));
        assert_eq!(one.as_str().len(), TOOL_NAME_BYTES_MAX);
        assert_ne!(one, other);
    }
}
