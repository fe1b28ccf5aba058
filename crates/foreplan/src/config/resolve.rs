//! From a project file to what a run is for.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use foreplan_core::{
    goal::{Approval, ApprovalMode, PlannerSpec, RunSpec},
    plan::Plan,
    policy::Rule,
};
use serde_json::{Map, Value};

use super::{
    Error, FILE_NAME, File, PlanFile, PlannerKind, PlannerName, Problem, Source, find, nearest, params,
};

/// A project: its file, read and checked, and the folder that it lies in.
#[derive(Clone, Debug)]
pub struct Project {
    folder: PathBuf,
    source: Source,
    file: File,
    is_absent: bool,
}

/// What the command line sets beside the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// What the run is for.
    pub goal: Option<String>,
    /// Who plans.
    pub planner: PlannerName,
    /// The artifacts wanted.
    pub produce: Vec<String>,
    /// Params as text, `name` and value.
    pub params: Vec<(String, String)>,
    /// When a person is asked.
    pub approval: Option<ApprovalMode>,
    /// The same project and key are the same run.
    pub key: Option<String>,
    /// A plan to execute instead of making one.
    pub plan: Option<Arc<Plan>>,
}

impl Project {
    /// Reads the project that `from` lies in.
    ///
    /// # Errors
    ///
    /// If there is none, or its file is wrong.
    pub fn load(from: &Path) -> Result<Self, Error> {
        let folder = find(from)?;
        let path = folder.join(FILE_NAME);
        let text =
            std::fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        Self::parse(folder, &text)
    }

    /// Returns what stands for a project where none is needed: runs of a deployment are looked after
    /// from anywhere. It begins none.
    #[must_use]
    pub fn absent(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        let source = Source::new(folder.join(FILE_NAME), "");
        Self { folder, source, file: File::default(), is_absent: true }
    }

    /// Reads a project file's text as if it lay in `folder`.
    ///
    /// # Errors
    ///
    /// If the text is no project file.
    pub fn parse(folder: impl Into<PathBuf>, text: &str) -> Result<Self, Error> {
        let folder = folder.into();
        let source = Source::new(folder.join(FILE_NAME), text);
        let file: File = source.read()?;
        let project = Self { folder, source, file, is_absent: false };
        project.check().map_err(|problem| project.source.place(problem))?;
        Ok(project)
    }

    /// Returns the folder that paths in the file are relative to.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the file as read.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the project's name: the one that the file gives, or the folder's.
    #[must_use]
    pub fn name(&self) -> String {
        let folder = || self.folder.file_name().map(|name| name.to_string_lossy().into_owned());
        self.file.project.name.clone().or_else(folder).unwrap_or_else(|| "project".to_owned())
    }

    /// Returns the folder that runs are kept in.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.join(self.file.store.path.as_deref().unwrap_or(Path::new(".foreplan")))
    }

    /// Adds to a problem where in the file its key stands.
    #[must_use]
    pub fn place(&self, problem: Problem) -> Problem {
        self.source.place(problem)
    }

    /// Returns what a run is for: the file, with what the command line sets beside it.
    ///
    /// # Errors
    ///
    /// If a param is unknown, missing or of the wrong type, or the planner lacks what it needs.
    /// [`Error::NotFound`] if the project is [`Project::absent`].
    pub fn spec(&self, overrides: &Overrides) -> Result<RunSpec, Error> {
        if self.is_absent {
            return Err(Error::NotFound { from: self.folder.clone() });
        }
        let values = self.params(&overrides.params)?;
        let planner = self.planner(overrides)?;
        let goal = overrides.goal.as_ref().or(self.file.goal.as_ref());
        let goal = match goal {
            Some(text) => params::fill(text, &values).map_err(|p| self.source.place(p))?,
            None => self.goal_of(&planner)?,
        };
        Ok(RunSpec {
            project: self.name(),
            goal,
            params: values,
            planner,
            guidance: self.guidance()?,
            approval: Approval {
                mode: overrides.approval.unwrap_or(self.file.approval.mode),
                timeout: self.file.approval.timeout,
                envelope: None,
            },
            review: self.file.review.clone(),
            replan: self.file.replan.clone(),
            limits: self.file.limits.clone(),
            group: self.file.concurrency.clone(),
            key: overrides.key.clone(),
            origin: None,
            parent: None,
        })
    }

    fn goal_of(&self, planner: &PlannerSpec) -> Result<String, Error> {
        match planner {
            PlannerSpec::Runbook { plan } if !plan.goal.is_empty() => Ok(plan.goal.clone()),
            PlannerSpec::Derive { produce } => Ok(format!("Produce {}", produce.join(", "))),
            _ => Err(self.source.place(
                Problem::new("goal", "the project has no goal")
                    .fix("add `goal = \"…\"` at the top of foreplan.toml, or give --goal TEXT"),
            ))?,
        }
    }

    /// Returns the values of all params.
    ///
    /// # Errors
    ///
    /// If one is unknown, missing or of the wrong type.
    pub fn params(&self, given: &[(String, String)]) -> Result<Map<String, Value>, Error> {
        let declared = &self.file.params;
        let mut values = Map::new();
        for (name, param) in declared {
            if let Some(default) = &param.default {
                values.insert(name.clone(), default.clone());
            }
        }
        for (name, value) in self.given(given)? {
            values.insert(name, value);
        }
        let missing = declared.keys().find(|name| !values.contains_key(*name));
        if let Some(name) = missing {
            let problem = Problem::new(format!("params.{name}"), format!("the param `{name}` has no value"))
                .fix(format!("give it: --param {name}=…"));
            return Err(self.source.place(problem).into());
        }
        Ok(values)
    }

    /// Returns the values of the params that were given, and no others.
    ///
    /// # Errors
    ///
    /// If one is unknown or of the wrong type. [`Error::NotFound`] if any was given and the project is
    /// [`Project::absent`], so that nobody knows their types.
    pub fn given(&self, given: &[(String, String)]) -> Result<Map<String, Value>, Error> {
        if self.is_absent && !given.is_empty() {
            return Err(Error::NotFound { from: self.folder.clone() });
        }
        let declared = &self.file.params;
        let mut values = Map::new();
        for (name, text) in given {
            let param = declared
                .get(name)
                .ok_or_else(|| params::unknown(name, declared.keys().map(String::as_str)))?;
            values.insert(name.clone(), params::parse(name, text, param)?);
        }
        Ok(values)
    }

    fn planner(&self, overrides: &Overrides) -> Result<PlannerSpec, Error> {
        let section = &self.file.planner;
        if let Some(plan) = &overrides.plan {
            return Ok(PlannerSpec::Runbook { plan: plan.clone() });
        }
        match &overrides.planner {
            PlannerName::Project => {}
            PlannerName::Derive(wanted) if !wanted.is_empty() => {
                return Ok(PlannerSpec::Derive { produce: wanted.clone() });
            }
            PlannerName::Derive(_) => return self.derive(overrides),
            PlannerName::Runbook(path) => {
                return Ok(PlannerSpec::Runbook { plan: Arc::new(PlanFile::read(path)?.plan) });
            }
            PlannerName::Model(model) => return Ok(PlannerSpec::Model { model: model.clone() }),
        }
        match section.kind {
            PlannerKind::Derive => self.derive(overrides),
            PlannerKind::Runbook => {
                let path = section.plan.as_ref().ok_or_else(|| {
                    self.source.place(
                        Problem::new("planner", "a runbook planner needs a plan file")
                            .fix("add `plan = \"plan.json\"`; `foreplan plan -o plan.json` writes one"),
                    )
                })?;
                Ok(PlannerSpec::Runbook { plan: Arc::new(PlanFile::read(&self.folder.join(path))?.plan) })
            }
            PlannerKind::Model => self.model().map(|model| PlannerSpec::Model { model }),
        }
    }

    fn model(&self) -> Result<String, Error> {
        let problem = match self.file.planner.model.as_deref() {
            Some(model)
                if model.split_once('/').is_some_and(|(by, name)| !by.is_empty() && !name.is_empty()) =>
            {
                return Ok(model.to_owned());
            }
            Some(model) => {
                Problem::new("planner.model", format!("`{model}` does not name a provider and a model"))
            }
            None => Problem::new("planner", "a model planner needs a model"),
        };
        Err(self.source.place(problem.fix("add `model = \"provider/name\"` under [planner]")).into())
    }

    fn derive(&self, overrides: &Overrides) -> Result<PlannerSpec, Error> {
        let section = &self.file.planner;
        if !overrides.produce.is_empty() {
            return Ok(PlannerSpec::Derive { produce: overrides.produce.clone() });
        }
        if overrides.goal.is_some() {
            return Err(Problem::new("--goal", "the derive planner does not read goals in words")
                .fix("name the artifacts wanted as well: --produce NAME")
                .into());
        }
        if section.produce.is_empty() {
            let problem = Problem::new("planner.produce", "the derive planner needs to know what is wanted")
                .fix("add `produce = [\"…\"]` under [planner], or give --produce NAME");
            return Err(self.source.place(problem).into());
        }
        Ok(PlannerSpec::Derive { produce: section.produce.clone() })
    }

    fn guidance(&self) -> Result<Option<String>, Error> {
        let Some(path) = &self.file.planner.guidance else { return Ok(None) };
        let path = self.folder.join(path);
        std::fs::read_to_string(&path).map(Some).map_err(|source| Error::Read { path, source })
    }

    fn check(&self) -> Result<(), Problem> {
        for (name, param) in &self.file.params {
            if let Some(default) = &param.default {
                params::fits(name, default, param)
                    .map_err(|problem| Problem { key: format!("params.{name}.default"), ..problem })?;
            }
        }
        for (at, rule) in self.file.replan.rules.iter().enumerate() {
            check_rule(rule).map_err(|problem| Problem {
                key: match problem.key.as_str() {
                    "" => format!("replan.rules[{at}]"),
                    key => format!("replan.rules[{at}].{key}"),
                },
                ..problem
            })?;
        }
        self.check_models()?;
        self.check_specialists()?;
        self.check_notify()
    }

    fn check_specialists(&self) -> Result<(), Problem> {
        let tools: Vec<&str> = self.file.tools.names().collect();
        for (at, specialist) in self.file.specialists.iter().enumerate() {
            let unknown = specialist.tools.iter().flatten().find(|tool| !tools.contains(&tool.as_str()));
            if let Some(tool) = unknown {
                let problem =
                    Problem::new(format!("specialists[{at}].tools"), format!("there is no tool `{tool}`"));
                return Err(match nearest(tool.as_str(), tools.iter().copied()) {
                    Some(near) => problem.fix(format!("did you mean `{near}`?")),
                    None => problem.fix(format!("tools of the project: {}", tools.join(", "))),
                });
            }
            if specialist.concurrency == Some(0) {
                return Err(Problem::new(
                    format!("specialists[{at}].concurrency"),
                    "a pool of 0 runs nothing",
                )
                .fix("take at least 1"));
            }
            if specialist.instructions.is_some() && specialist.model.is_none() {
                let problem = Problem::new(
                    format!("specialists[{at}].instructions"),
                    "a specialist without a model carries out no agent steps",
                );
                return Err(problem.fix("give it a `model`"));
            }
        }
        Ok(())
    }

    fn check_notify(&self) -> Result<(), Problem> {
        let Some(notify) = &self.file.notify else { return Ok(()) };
        match (&notify.command, &notify.http) {
            (Some(command), None) if command.is_empty() => {
                Err(Problem::new("notify.command", "the command is empty").fix("name a program"))
            }
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => Err(Problem::new("notify", "a notification needs one way out")
                .fix("give either `command` or `http`")),
        }
    }
}

fn check_rule(rule: &Rule) -> Result<(), Problem> {
    let answers = [
        rule.retry,
        rule.skip,
        rule.insert.is_some(),
        rule.replace.is_some(),
        rule.full_replan,
        rule.finish,
        rule.fail.is_some(),
        rule.ask.is_some(),
    ];
    if answers.iter().filter(|given| **given).count() != 1 {
        return Err(Problem::new("", "a rule has exactly one answer")
            .fix("give one of: retry, skip, insert, replace, full_replan, finish, fail, ask"));
    }
    foreplan_core::expr::Cel::parse(&rule.when).map(|_| ()).map_err(|e| {
        Problem::new("when", e.to_string()).fix("see `failure`, `step`, `steps` and `params` in CEL")
    })
}
