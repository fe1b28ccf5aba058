//! Templates: minijinja texts in inputs and questions.
//!
//! A template has no loader and no clock; undefined names are errors, and fuel and output are
//! bounded.

use std::{collections::BTreeMap, io, sync::LazyLock};

use minijinja::{
    Environment, UndefinedBehavior, Value as Jinja,
    machinery::{self, Token},
};
use serde_json::Value;

use super::{
    path::{Path, Segment},
    project::{Convert, project},
    template_names::{self, Builtin},
};

/// Longest template: a prompt of many pages.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;

/// Most words and signs inside the tags of a template: the engine calls itself once for each
/// operator, and this many fit the stack of a thread several times over.
const TOKENS_MAX: usize = 1_000;

/// Instructions that one rendering may run: a report over some ten thousand rows.
const FUEL: u64 = 1_000_000;

/// Longest rendered text; a larger one belongs into a file that a tool writes.
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

static ENV: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.set_debug(false);
    env.remove_global("debug");
    env
});

/// A template that parsed.
#[derive(Clone, Debug)]
pub struct Template {
    source: String,
    paths: Vec<Path>,
}

/// A template that does not parse, or cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template{}: {reason}", .line.map(|l| format!(", line {l}")).unwrap_or_default())]
pub struct TemplateError {
    /// Where in the template.
    pub line: Option<usize>,
    /// Why.
    pub reason: String,
}

impl TemplateError {
    fn new(reason: impl Into<String>) -> Self {
        Self { line: None, reason: reason.into() }
    }
}

impl From<minijinja::Error> for TemplateError {
    fn from(error: minijinja::Error) -> Self {
        use std::error::Error;
        let detail = error.detail().map(|d| format!(": {d}")).unwrap_or_default();
        let cause = error.source().map(|c| format!(": {c}")).unwrap_or_default();
        Self { line: error.line(), reason: format!("{}{detail}{cause}", error.kind()) }
    }
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// If it is too long, does not parse, or uses other templates.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::new(format!("longer than {TEMPLATE_BYTES_MAX} bytes")));
        }
        let in_tags = |token: &Token<'_>| !matches!(token, Token::TemplateData(_));
        let tokens = machinery::tokenize(source, false, minijinja::syntax::SyntaxConfig::default())
            .map_while(Result::ok)
            .filter(|(token, _)| in_tags(token))
            .take(TOKENS_MAX + 1)
            .count();
        if tokens > TOKENS_MAX {
            return Err(TemplateError::new(format!("more than {TOKENS_MAX} words and signs in its tags")));
        }
        let paths = template_names::names(source, |kind, name| match kind {
            Builtin::Function => ENV.globals().any(|(global, _)| global == name),
            Builtin::Filter => knows("name is filter", name),
            Builtin::Test => knows("name is test", name),
        })?;
        // What parses may still not compile: two loops deep in a macro.
        ENV.template_from_named_str("template", source)?;
        Ok(Self { source: source.to_owned(), paths })
    }

    /// Returns the places that the template looks at, as far as they are written with constants.
    /// `steps.a.b` and `steps["a"].b` are the place `a.b`.
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Renders the template. Of `vars` only those that it names are converted, and of these only
    /// what it looks at.
    ///
    /// # Errors
    ///
    /// If a name is undefined, an operation does not fit its values, or a bound is reached.
    pub fn render(&self, vars: &[(&str, &Value)]) -> Result<String, TemplateError> {
        let mut context: BTreeMap<String, Jinja> = BTreeMap::new();
        for (name, value) in vars {
            let places: Vec<&[Segment]> =
                self.paths.iter().filter(|p| p.root == *name).map(|p| p.segments.as_slice()).collect();
            if !places.is_empty() {
                let Ok(value) = project(value, &places, &mut ToJinja);
                context.insert((*name).to_owned(), value);
            }
        }
        let steps: BTreeMap<String, Jinja> = context.clone();
        context.insert("steps".to_owned(), steps.into());
        let mut out = Bounded(Vec::new());
        ENV.template_from_named_str("template", &self.source)?
            .render_captured_to(Jinja::from(context), &mut out)?;
        String::from_utf8(out.0).map_err(|e| TemplateError::new(e.to_string()))
    }
}

/// Asks the engine whether it has something of this name.
fn knows(question: &'static str, name: &str) -> bool {
    let context = BTreeMap::from([("name", Jinja::from(name))]);
    ENV.compile_expression(question)
        .and_then(|question| question.eval(Jinja::from(context)))
        .is_ok_and(|answer| answer.is_true())
}

struct ToJinja;

impl<'v> Convert<'v> for ToJinja {
    type Out = Jinja;
    type Error = std::convert::Infallible;

    fn whole(&mut self, value: &'v Value) -> Result<Jinja, Self::Error> {
        Ok(Jinja::from(minijinja::value::Serde(value)))
    }

    fn list(&mut self, items: Vec<Jinja>) -> Jinja {
        Jinja::from(items)
    }

    fn object(&mut self, fields: Vec<(&'v str, Jinja)>) -> Jinja {
        fields.into_iter().collect::<BTreeMap<_, _>>().into()
    }

    fn unused(&mut self) -> Jinja {
        Jinja::from(())
    }
}

struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(io::Error::other(format!("the text is longer than {OUTPUT_BYTES_MAX} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
