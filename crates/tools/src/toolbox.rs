//! The tools of one process, and who executes them.

use std::{fmt, io, sync::Arc};

use foreplan_core::{
    digest::Digest,
    failure::{EffectState, Failure, FailureKind},
    id::{Capability, ToolName},
    map::IdMap,
    tool::{AgentDescriptor, Effect, Inventory},
};
use serde_json::Value;

use crate::{
    call::{Call, LogSink, Stream},
    groups::Groups,
    kind::blocking,
    schema::{Check, InvalidSchema},
    secrets::Secrets,
    tool::Tool,
};

/// The pool that serves every tool that no specialist names.
pub const DEFAULT_CAPABILITY: &str = "default";

/// How many calls a specialist makes at a time unless it says otherwise: enough to keep commands
/// that wait for others busy, few enough for a laptop.
pub const CONCURRENCY_DEFAULT: usize = 8;

/// A pool of executors: who executes what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Specialist {
    /// Its name.
    pub capability: Capability,
    /// What it executes.
    pub tools: Vec<ToolName>,
    /// How many calls at a time.
    pub concurrency: usize,
    /// Carries out agent steps, if it has a model.
    pub agent: Option<AgentSpec>,
}

/// What a specialist needs for agent steps.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AgentSpec {
    /// The model: `provider/name`.
    pub model: String,
    /// What the model is told in every step of this specialist: its role.
    pub instructions: Option<String>,
}

impl Specialist {
    /// Returns what planners and the checker see of a specialist that has a model.
    #[must_use]
    pub fn agent(&self) -> Option<AgentDescriptor> {
        let agent = self.agent.as_ref()?;
        Some(AgentDescriptor {
            capability: self.capability.clone(),
            model: agent.model.clone(),
            digest: Digest::of(agent),
        })
    }
}

/// Why tools and specialists do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Two tools share a name.
    #[error("two tools are named `{0}`; rename one of them")]
    DuplicateTool(ToolName),
    /// A schema cannot be compiled.
    #[error("the {side} schema of tool `{tool}` is no JSON Schema: {source}")]
    Schema {
        /// The tool.
        tool: ToolName,
        /// `input` or `output`.
        side: &'static str,
        /// Why not.
        #[source]
        source: InvalidSchema,
    },
    /// Two specialists share a capability.
    #[error("two specialists have the capability `{0}`; make them one, or rename one of them")]
    DuplicateSpecialist(Capability),
    /// A specialist that can never run anything.
    #[error("the specialist `{0}` has concurrency 0; it needs at least 1")]
    NoConcurrency(Capability),
    /// A specialist names a tool that does not exist.
    #[error(
        "the specialist `{capability}` names the tool `{tool}`, which is not declared; there are: {known}"
    )]
    UnknownTool {
        /// The specialist.
        capability: Capability,
        /// What it names.
        tool: ToolName,
        /// The tools that exist.
        known: String,
    },
    /// A tool is verified by one that does not exist.
    #[error("the tool `{tool}` is verified by `{verify}`, which is not declared; there are: {known}")]
    UnknownVerify {
        /// The tool.
        tool: ToolName,
        /// What it names.
        verify: ToolName,
        /// The tools that exist.
        known: String,
    },
    /// A tool is verified by one that acts.
    #[error("the tool `{tool}` is verified by `{verify}`, whose effect is `{effect}`; it must be `read`",
        effect = .effect.as_str())]
    VerifyActs {
        /// The tool.
        tool: ToolName,
        /// What it names.
        verify: ToolName,
        /// The effect of that.
        effect: Effect,
    },
}

/// The tools of this process with their compiled schemas.
pub struct Toolbox {
    tools: IdMap<ToolName, Entry>,
    inventory: Inventory,
    specialists: Vec<Specialist>,
    secrets: Arc<Secrets>,
    groups: Option<Groups>,
}

struct Entry {
    tool: Tool,
    input: Check,
    output: Check,
}

/// Puts a [`Toolbox`] together.
#[derive(Default)]
pub struct Builder {
    tools: Vec<Tool>,
    specialists: Vec<Specialist>,
    secrets: Secrets,
    groups: Option<Groups>,
}

impl Builder {
    /// Adds a tool.
    #[must_use]
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Adds tools.
    #[must_use]
    pub fn tools(mut self, tools: impl IntoIterator<Item = Tool>) -> Self {
        self.tools.extend(tools);
        self
    }

    /// Adds a pool.
    #[must_use]
    pub fn specialist(mut self, specialist: Specialist) -> Self {
        self.specialists.push(specialist);
        self
    }

    /// Adds values that must not leave this process.
    #[must_use]
    pub fn secrets(mut self, secrets: &Secrets) -> Self {
        self.secrets.extend(secrets);
        self
    }

    /// Sets where processes record the commands that they run; the tools' [`Project`](crate::Project)
    /// has the same.
    #[must_use]
    pub fn groups(mut self, groups: Groups) -> Self {
        self.groups = Some(groups);
        self
    }

    /// Compiles the schemas and checks that everything named exists.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn build(self) -> Result<Toolbox, Error> {
        let Self { tools, mut specialists, secrets, groups } = self;
        let mut entries = IdMap::default();
        for tool in tools {
            let name = tool.descriptor.name.clone();
            if entries.insert(name.clone(), Entry::compile(tool)?).is_some() {
                return Err(Error::DuplicateTool(name));
            }
        }
        check_verify(&entries)?;
        assign(&mut entries, &mut specialists)?;
        let inventory: Inventory = entries.values().map(|entry| entry.tool.descriptor.clone()).collect();
        let inventory = inventory.with_agents(specialists.iter().filter_map(Specialist::agent));
        Ok(Toolbox { tools: entries, inventory, specialists, secrets: Arc::new(secrets), groups })
    }
}

impl Toolbox {
    /// Starts a toolbox.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Makes a toolbox of tools and the pools that serve them.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn new(
        tools: impl IntoIterator<Item = Tool>,
        specialists: impl IntoIterator<Item = Specialist>,
    ) -> Result<Self, Error> {
        let builder = Self::builder().tools(tools);
        specialists.into_iter().fold(builder, Builder::specialist).build()
    }

    /// Returns what planners and the checker see.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        self.inventory.clone()
    }

    /// Returns the tool of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name).map(|entry| &entry.tool)
    }

    /// Returns the pools: those that were given, and [`DEFAULT_CAPABILITY`] if a tool is in none of
    /// them.
    #[must_use]
    pub fn specialists(&self) -> &[Specialist] {
        &self.specialists
    }

    /// Keeps those pools alone that have one of these capabilities; all, if none is named. What they
    /// leave is served elsewhere: it does not go to [`DEFAULT_CAPABILITY`].
    #[must_use]
    pub fn serving(mut self, capabilities: &[Capability]) -> Self {
        self.specialists.retain(|pool| capabilities.is_empty() || capabilities.contains(&pool.capability));
        self
    }

    /// Returns the values that are replaced in everything that leaves this process.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Kills the commands that processes which are gone left running, and returns how many. Runs of
    /// such a process must not be carried on before.
    ///
    /// # Errors
    ///
    /// If a command cannot be ended.
    pub async fn end_orphans(&self) -> io::Result<usize> {
        match self.groups.clone() {
            Some(groups) => blocking(move || groups.end_orphans()).await,
            None => Ok(0),
        }
    }

    /// Calls a tool: checks the input, makes the call within its timeout and until it is cancelled,
    /// checks the output, and replaces known secrets in it, in a failure, and in log lines.
    ///
    /// # Errors
    ///
    /// A [`Failure`]: `unknown_tool`, `input_schema`, `permit_denied`, `timeout`, `cancelled`, `output_schema`, or
    /// what the tool says.
    ///
    /// # Panics
    ///
    /// If the tool does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the call; a command is killed with its process group.
    pub async fn call(&self, name: &ToolName, call: Call) -> Result<Value, Failure> {
        let Some(entry) = self.tools.get(name) else {
            let message = format!("this process has no tool `{name}`");
            return Err(
                Failure::new(FailureKind::Unserved, "unknown_tool", message).effect(EffectState::None)
            );
        };
        self.fits(name, &call.input)?;
        call.check_permit()?;
        let outcome = entry.run(self.with_clean_log(call)).await.and_then(|output| {
            match entry.output.violation(&output) {
                None => Ok(output),
                Some(violation) => {
                    let message = format!("the output of `{name}` does not fit its schema: {violation}");
                    Err(Failure::new(FailureKind::OutputSchema, "output_schema", message))
                }
            }
        });
        match outcome {
            Ok(mut output) => {
                self.secrets.redact(&mut output);
                Ok(output)
            }
            Err(failure) => Err(self.secrets.redact_failure(failure)),
        }
    }

    /// Returns why an input does not fit a tool, if it does not.
    ///
    /// # Errors
    ///
    /// A [`Failure`] of kind `input_schema`.
    pub fn fits(&self, name: &ToolName, input: &Value) -> Result<(), Failure> {
        let Some(entry) = self.tools.get(name) else { return Ok(()) };
        let Some(violation) = entry.input.violation(input) else { return Ok(()) };
        let message = format!("the input of `{name}` does not fit its schema: {violation}");
        let failure = Failure::new(FailureKind::InputSchema, "input_schema", message);
        Err(self.secrets.redact_failure(failure.effect(EffectState::None)))
    }

    fn with_clean_log(&self, mut call: Call) -> Call {
        if !self.secrets.is_empty() {
            let secrets = &self.secrets;
            call.log = call
                .log
                .map(|sink| Arc::new(CleanLog { sink, secrets: Arc::clone(secrets) }) as Arc<dyn LogSink>);
        }
        call
    }
}

impl fmt::Debug for Toolbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Toolbox").field("tools", &known(&self.tools)).finish_non_exhaustive()
    }
}

impl Entry {
    fn compile(tool: Tool) -> Result<Self, Error> {
        let side = |side, schema| {
            Check::compile(schema).map_err(|source| Error::Schema {
                tool: tool.descriptor.name.clone(),
                side,
                source,
            })
        };
        let input = side("input", &tool.descriptor.input)?;
        let output = side("output", &tool.descriptor.output)?;
        Ok(Self { tool, input, output })
    }

    /// Makes the call. The handler is polled first: one that is ready at once costs no timer.
    async fn run(&self, call: Call) -> Result<Value, Failure> {
        let handler = &self.tool.handler;
        if handler.ends_itself() {
            return handler.call(call).await;
        }
        let (cancel, timeout) = (call.cancel.clone(), call.timeout);
        tokio::select! {
            biased;
            outcome = handler.call(call) => outcome,
            () = cancel.cancelled() => Err(cancelled()),
            () = tokio::time::sleep(timeout) => Err(timed_out(timeout)),
        }
    }
}

/// Returns the failure of a call that was cancelled.
pub(crate) fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "cancelled", "the call was cancelled")
}

/// Returns the failure of a call that took too long.
pub(crate) fn timed_out(timeout: std::time::Duration) -> Failure {
    Failure::new(FailureKind::Timeout, "timeout", format!("no result within {timeout:?}"))
}

fn check_verify(entries: &IdMap<ToolName, Entry>) -> Result<(), Error> {
    for entry in entries.values() {
        let Some(verify) = entry.tool.descriptor.verify.clone() else { continue };
        let tool = entry.tool.descriptor.name.clone();
        match entries.get(&verify).map(|e| e.tool.descriptor.effect) {
            None => return Err(Error::UnknownVerify { tool, verify, known: known(entries) }),
            Some(Effect::Read) => {}
            Some(effect) => return Err(Error::VerifyActs { tool, verify, effect }),
        }
    }
    Ok(())
}

/// Writes into each tool the pools that serve it, in the order in which they are declared.
fn assign(entries: &mut IdMap<ToolName, Entry>, specialists: &mut Vec<Specialist>) -> Result<(), Error> {
    for (at, Specialist { capability, tools, concurrency, .. }) in specialists.iter().enumerate() {
        if specialists[..at].iter().any(|earlier| earlier.capability == *capability) {
            return Err(Error::DuplicateSpecialist(capability.clone()));
        }
        if *concurrency == 0 {
            return Err(Error::NoConcurrency(capability.clone()));
        }
        for tool in tools {
            let Some(entry) = entries.get_mut(tool) else {
                let (capability, tool) = (capability.clone(), tool.clone());
                return Err(Error::UnknownTool { capability, tool, known: known(entries) });
            };
            let served_by = &mut entry.tool.descriptor.capabilities;
            if !served_by.contains(capability) {
                served_by.push(capability.clone());
            }
        }
    }
    let mut rest: Vec<ToolName> = Vec::new();
    for (name, entry) in entries.iter_mut().filter(|(_, e)| e.tool.descriptor.capabilities.is_empty()) {
        entry.tool.descriptor.capabilities.push(DEFAULT_CAPABILITY.into());
        rest.push(name.clone());
    }
    rest.sort();
    match specialists.iter_mut().find(|s| s.capability.as_str() == DEFAULT_CAPABILITY) {
        Some(default) => default.tools.extend(rest),
        None if rest.is_empty() => {}
        None => specialists.push(Specialist {
            capability: DEFAULT_CAPABILITY.into(),
            tools: rest,
            concurrency: CONCURRENCY_DEFAULT,
            agent: None,
        }),
    }
    Ok(())
}

fn known(entries: &IdMap<ToolName, Entry>) -> String {
    let mut names: Vec<&str> = entries.keys().map(ToolName::as_str).collect();
    names.sort_unstable();
    names.join(", ")
}

/// Replaces secrets in log lines.
struct CleanLog {
    sink: Arc<dyn LogSink>,
    secrets: Arc<Secrets>,
}

impl LogSink for CleanLog {
    fn line(&self, stream: Stream, text: &str) {
        self.sink.line(stream, self.secrets.redact_text(text).as_deref().unwrap_or(text));
    }
}
