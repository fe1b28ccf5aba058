//! From the `[tools]` section and the specialists to a toolbox.

use foreplan_core::id::{Capability, ToolName};
use foreplan_tools::{
    self as tools, AgentSpec, CONCURRENCY_DEFAULT, Groups, Specialist, Toolbox,
    declare::{self, Declarations, Listing, Loaded},
};

use super::{Error, Problem, Project, SpecialistSection, ToolsSection};

impl Project {
    /// Makes the toolbox without the tools of MCP servers, which [`Self::connect`] reaches: reads
    /// what the tools name, compiles their schemas, and checks that everything named exists.
    ///
    /// # Errors
    ///
    /// The first declaration that cannot become a tool, at its place in the file.
    pub fn toolbox(&self) -> Result<Toolbox, Error> {
        self.toolbox_of(&[])
    }

    /// Returns the tools, without those of MCP servers, with those pools alone that have one of
    /// these capabilities; without any capability, with all.
    ///
    /// # Errors
    ///
    /// As [`Project::toolbox`]; or the project has no such capability.
    pub fn toolbox_of(&self, capabilities: &[Capability]) -> Result<Toolbox, Error> {
        let section = &self.file().tools;
        let loaded = section.declarations().load(&self.tools_place());
        let loaded = loaded.map_err(|e| self.place(declared_problem(section, e)))?;
        self.assemble(loaded, capabilities, None).map(|(toolbox, _)| toolbox)
    }

    /// Makes the whole toolbox: starts or reaches the MCP servers too. Returns it with what the
    /// servers list. What it starts is on record in `groups`.
    ///
    /// # Errors
    ///
    /// As [`Project::toolbox_of`]. A server that cannot be used is a declaration that cannot become
    /// a tool.
    pub async fn connect(
        &self,
        capabilities: &[Capability],
        groups: Option<Groups>,
    ) -> Result<(Toolbox, Vec<Listing>), Error> {
        let section = &self.file().tools;
        let mut place = self.tools_place();
        if let Some(groups) = &groups {
            place = place.groups(groups.clone());
        }
        let loaded = section.declarations().connect(&place).await;
        let loaded = loaded.map_err(|e| self.place(declared_problem(section, e)))?;
        self.assemble(loaded, capabilities, groups)
    }

    fn tools_place(&self) -> tools::Project {
        tools::Project::new(self.folder())
    }

    fn assemble(
        &self,
        loaded: Loaded,
        capabilities: &[Capability],
        groups: Option<Groups>,
    ) -> Result<(Toolbox, Vec<Listing>), Error> {
        let known = || self.file().specialists.iter().map(|section| section.capability.as_str());
        if let Some(unknown) = capabilities.iter().find(|wanted| known().all(|name| name != wanted.as_str()))
        {
            let problem = Problem::new("specialists", format!("there is no capability `{unknown}`"));
            let names: Vec<&str> = known().collect();
            return Err(self.place(problem.fix(format!("the project has: {}", names.join(", ")))).into());
        }
        let Loaded { tools: loaded, servers, mut secrets } = loaded;
        secrets.extend(&self.model_secrets());
        let all: Vec<ToolName> = loaded.iter().map(|tool| tool.descriptor().name.clone()).collect();
        let specialists = self.file().specialists.iter().map(|section| specialist(section, &all));
        let mut builder = Toolbox::builder().tools(loaded).secrets(&secrets);
        if let Some(groups) = groups {
            builder = builder.groups(groups);
        }
        let toolbox = specialists.fold(builder, tools::Builder::specialist).build();
        let toolbox = toolbox.map_err(|error| self.place(self.toolbox_problem(&error)))?;
        Ok((toolbox.serving(capabilities), servers))
    }

    fn toolbox_problem(&self, error: &tools::Error) -> Problem {
        let section = &self.file().tools;
        let message = error.to_string();
        let capability = |wanted: &Capability| {
            self.file().specialists.iter().rposition(|s| s.capability == *wanted).unwrap_or(0)
        };
        let key = match error {
            tools::Error::DuplicateTool(tool) => match section.keys_of(tool.as_str()).last() {
                Some(key) => format!("{key}.name"),
                None => "tools".to_owned(),
            },
            tools::Error::Schema { tool, side, .. } => format!("{}.{side}", section.key_of(tool.as_str())),
            tools::Error::UnknownVerify { tool, .. } | tools::Error::VerifyActs { tool, .. } => {
                format!("{}.verify", section.key_of(tool.as_str()))
            }
            tools::Error::DuplicateSpecialist(name) => {
                format!("specialists[{}].capability", capability(name))
            }
            tools::Error::NoConcurrency(name) => format!("specialists[{}].concurrency", capability(name)),
            tools::Error::UnknownTool { capability: name, .. } => {
                format!("specialists[{}].tools", capability(name))
            }
        };
        Problem::new(key, message)
    }
}

fn specialist(section: &SpecialistSection, all: &[ToolName]) -> Specialist {
    Specialist {
        capability: section.capability.clone(),
        tools: section.tools.clone().unwrap_or_else(|| all.to_vec()),
        concurrency: section.concurrency.map_or(CONCURRENCY_DEFAULT, |n| n as usize),
        agent: section
            .model
            .as_ref()
            .map(|model| AgentSpec { model: model.clone(), instructions: section.instructions.clone() }),
    }
}

fn declared_problem(section: &ToolsSection, error: declare::Error) -> Problem {
    Problem::new(format!("{}.{}", section.key_of(&error.tool), error.field), error.message)
}

impl ToolsSection {
    /// Returns the tools that this build can make.
    fn declarations(&self) -> Declarations {
        let Self { file, jq, command, http, template, mcp } = self.clone();
        Declarations { file, jq, command, http, template, mcp }
    }

    /// Returns the names of all tools that the file declares, with the keys of their tables.
    fn named(&self) -> impl Iterator<Item = (String, &str)> {
        fn keyed<'a>(
            kind: &'static str,
            names: impl Iterator<Item = &'a ToolName> + 'a,
        ) -> impl Iterator<Item = (String, &'a str)> {
            names.enumerate().map(move |(at, name)| (format!("tools.{kind}[{at}]"), name.as_str()))
        }
        keyed("file", self.file.iter().map(|t| &t.name))
            .chain(keyed("jq", self.jq.iter().map(|t| &t.name)))
            .chain(keyed("command", self.command.iter().map(|t| &t.name)))
            .chain(keyed("http", self.http.iter().map(|t| &t.name)))
            .chain(keyed("template", self.template.iter().map(|t| &t.name)))
    }

    /// Returns the key of the MCP server that a tool or an error about a server names.
    fn server_key(&self, name: &str) -> Option<String> {
        let at = self.mcp.iter().position(|server| {
            name.strip_prefix(&server.name).is_some_and(|rest| rest.is_empty() || rest.starts_with("__"))
        })?;
        Some(format!("tools.mcp[{at}]"))
    }

    /// Returns the names of all tools that the file declares, but for those of MCP servers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named().map(|(_, name)| name)
    }

    fn keys_of(&self, tool: &str) -> Vec<String> {
        self.named().filter(|(_, name)| *name == tool).map(|(key, _)| key).collect()
    }

    fn key_of(&self, tool: &str) -> String {
        let key = self.keys_of(tool).into_iter().next().or_else(|| self.server_key(tool));
        key.unwrap_or_else(|| "tools".to_owned())
    }
}
