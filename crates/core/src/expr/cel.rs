//! CEL: parsed once, evaluated over JSON values.
//!
//! An expression sees only the variables it is given: no clock, no files, no randomness. The
//! interpreter counts no fuel, so its work is bounded by what goes in: the length of the source, its
//! nesting, one loop inside another, and the number of values it looks at. What is left is linear in
//! the values, and may still be long: the shell evaluates off the actors and under a time limit.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use cel::{Context, Env, Program};
use serde_json::Value;

use super::{
    cel_names::{self, Names},
    cel_value::{FromJson, to_json},
    path::{Path, Segment},
    project::{Convert, project},
};
use crate::id::RESERVED_STEP_IDS;

/// Longest expression: what a person can still read.
pub const SOURCE_BYTES_MAX: usize = 4 * 1024;

/// Most tokens in an expression: parser and interpreter call themselves once for each operator of
/// `a + b + …`, and this many fit the stack of a thread several times over.
const TOKENS_MAX: usize = 400;

/// Longest message about an expression: the interpreter quotes whole values.
const REASON_BYTES_MAX: usize = 400;

/// What an expression can call.
const FUNCTIONS: [&str; 14] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "has",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A CEL expression that parsed.
#[derive(Clone)]
pub struct Cel {
    source: Arc<str>,
    parsed: Arc<Parsed>,
}

struct Parsed {
    program: Program,
    names: Names,
}

/// An expression that does not parse, or that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{source_text}`: {reason}")]
pub struct CelError {
    /// The expression.
    pub source_text: String,
    /// Why.
    pub reason: String,
}

impl CelError {
    fn new(source: &str, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        cut(&mut reason, REASON_BYTES_MAX);
        let mut source_text = source.to_owned();
        cut(&mut source_text, REASON_BYTES_MAX);
        Self { source_text, reason }
    }
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
}

impl Cel {
    /// Parses an expression.
    ///
    /// # Errors
    ///
    /// If it is too long, is not CEL, calls what there is not, or runs a loop inside a loop.
    pub fn parse(source: &str) -> Result<Self, CelError> {
        let error = |reason: String| CelError::new(source, reason);
        if source.len() > SOURCE_BYTES_MAX {
            return Err(error(format!("longer than {SOURCE_BYTES_MAX} bytes; move the work into a tool")));
        }
        if tokens(source) > TOKENS_MAX {
            return Err(error(format!("more than {TOKENS_MAX} words and signs; move the work into a tool")));
        }
        let program =
            guarded(|| Program::compile(source)).map_err(error)?.map_err(|e| error(parse_reason(&e)))?;
        let names = cel_names::names(program.expression());
        if names.nested {
            return Err(error("runs one loop inside another; move the work into a tool".to_owned()));
        }
        if let Some(unknown) = names.functions.iter().find(|name| !FUNCTIONS.contains(&name.as_str())) {
            return Err(error(format!(
                "there is no function `{unknown}`; there are {} and the macros has, all, exists, exists_one, \
                 map and filter",
                FUNCTIONS.join(", ")
            )));
        }
        Ok(Self { source: source.into(), parsed: Arc::new(Parsed { program, names }) })
    }

    /// Returns the expression as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the variables that the expression uses, each once, sorted. A step that is named
    /// through `steps` counts as itself; `steps` is among them only if it is used in another way.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.paths().map(|path| path.root).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the ids of the steps that the expression names, each once, sorted; some may be no
    /// steps of the plan.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        let mut names = self.names();
        names.retain(|name| !RESERVED_STEP_IDS.contains(&name.as_str()));
        names
    }

    /// Returns the places that the expression looks at, as far as they are written with constants.
    /// `steps.a.b` and `steps["a"].b` are the place `a.b`.
    pub fn paths(&self) -> impl Iterator<Item = Path> {
        self.parsed.names.paths.iter().map(|path| through_steps(path).unwrap_or_else(|| path.clone()))
    }

    /// Returns those of [`Cel::paths`] that the expression takes to be there: not those it asks for
    /// with `has`, nor what lies behind them.
    pub fn assumed_paths(&self) -> impl Iterator<Item = Path> {
        let names = &self.parsed.names;
        let asked = |path: &Path| {
            names.tested.iter().any(|t| t.root == path.root && path.segments.starts_with(&t.segments))
        };
        let assumed = names.paths.iter().filter(move |path| !asked(path));
        assumed.map(|path| through_steps(path).unwrap_or_else(|| path.clone()))
    }

    /// Returns the places as they are written: `steps.a.b` is a place inside `steps`.
    pub fn raw_paths(&self) -> impl Iterator<Item = &Path> {
        self.parsed.names.paths.iter()
    }

    /// Evaluates the expression. Of `vars` only those that the expression names are converted, and
    /// of these only what it looks at. `steps` is made of the variables that it is asked for, unless
    /// it is among them itself.
    ///
    /// JSON integers are `int`, other numbers `double`; objects are walked in the order of their
    /// keys.
    ///
    /// # Errors
    ///
    /// If a name is missing, an operation does not fit its values, there is too much to look at, or
    /// the value has no form in JSON.
    pub fn evaluate(&self, vars: &[(&str, &Value)]) -> Result<Value, CelError> {
        let error = |reason| CelError::new(&self.source, reason);
        let value = guarded(|| self.run(vars)).and_then(|result| result).map_err(error)?;
        to_json(&value).map_err(error)
    }

    /// Evaluates the expression as a condition.
    ///
    /// # Errors
    ///
    /// As [`Cel::evaluate`], and if the value is not a bool.
    pub fn holds(&self, vars: &[(&str, &Value)]) -> Result<bool, CelError> {
        match self.evaluate(vars)? {
            Value::Bool(holds) => Ok(holds),
            other => {
                let kind = match other {
                    Value::Null => "null",
                    Value::Number(_) => "a number",
                    Value::String(_) => "a string",
                    Value::Array(_) => "a list",
                    Value::Object(_) | Value::Bool(_) => "a map",
                };
                Err(CelError::new(&self.source, format!("is {kind}; a condition must be true or false")))
            }
        }
    }

    fn run(&self, vars: &[(&str, &Value)]) -> Result<cel::Value, String> {
        let find = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        let whole_steps = find("steps").is_some();
        let mut context = Context::with_env(Arc::clone(&ENV));
        let mut to = FromJson::new();
        let mut steps = Vec::new();
        let mut done: Vec<(bool, &str)> = Vec::new();
        for path in &self.parsed.names.paths {
            let step = if whole_steps { None } else { step_of(path) };
            let name = step.unwrap_or(&path.root);
            if done.contains(&(step.is_some(), name)) {
                continue;
            }
            done.push((step.is_some(), name));
            let Some((name, value)) = vars.iter().find(|(n, _)| *n == name) else { continue };
            let skipped = usize::from(step.is_some());
            let places: Vec<&[Segment]> = self
                .parsed
                .names
                .paths
                .iter()
                .filter(|p| if step.is_some() { step_of(p) == step } else { p.root == *path.root })
                .map(|p| &p.segments[skipped..])
                .collect();
            let value = project(value, &places, &mut to)?;
            match step {
                Some(_) => steps.push((*name, value)),
                None => context.add_variable_as_val(*name, value),
            }
        }
        if !whole_steps {
            context.add_variable_as_val("steps", to.object(steps));
        }
        self.parsed.program.execute(&context).map_err(|e| e.to_string())
    }
}

impl fmt::Debug for Cel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cel({})", self.source)
    }
}

/// Returns the step that a place names through `steps`.
fn step_of(path: &Path) -> Option<&str> {
    match path.segments.first() {
        Some(Segment::Field(step)) if path.root == "steps" => Some(step),
        _ => None,
    }
}

fn through_steps(path: &Path) -> Option<Path> {
    let root = step_of(path)?.to_owned();
    Some(Path { root, segments: path.segments[1..].to_vec() })
}

/// Runs the interpreter, which holds a few assertions about itself, so that none of them ends the
/// thread.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|_| "the CEL interpreter failed on this expression".to_owned())
}

/// Returns a number of tokens that is never too small: every word and every sign counts, those
/// inside quoted text too.
fn tokens(source: &str) -> usize {
    let mut in_word = false;
    let mut count = 0;
    for c in source.chars() {
        let word = c.is_alphanumeric() || c == '_';
        if !(c.is_whitespace() || word && in_word) {
            count += 1;
        }
        in_word = word;
    }
    count
}

/// Returns the first thing that the parser has to say, without its own decoration.
fn parse_reason(errors: &cel::ParseErrors) -> String {
    let text = errors.to_string();
    let line = text.lines().next().unwrap_or("is not CEL");
    line.trim_start_matches("ERROR: <input>:").replace("Syntax error: ", "")
}
