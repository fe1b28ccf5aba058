//! `[[tools.jq]]`: a jq filter over the input, in this process.

mod meter;
mod value;

use std::sync::Arc;

use foreplan_core::{
    failure::{Failure, FailureKind},
    tool::Effect,
};
use futures::future::{BoxFuture, FutureExt};
use jaq_core::{
    Compiler, Ctx, Vars,
    load::{Arena, File, Loader},
};
use serde_json::{Value, json};

use self::meter::{Data, Meter, Metered};
use super::{blocking, refused};
use crate::{
    call::{Call, Handler},
    declare::{Error, Jq, Shape, Side},
    project::Project,
    tool::Tool,
    toolbox::{cancelled, timed_out},
};

type Filter = jaq_core::Filter<Metered>;

impl Jq {
    pub(crate) fn tool(&self, project: &Project) -> Result<Tool, Error> {
        let common = self.common();
        let input = Side { fields: self.input.as_ref(), file: self.input_schema.as_ref() };
        let output = Side { fields: self.output.as_ref(), file: self.output_schema.as_ref() };
        let shape = Shape {
            input: input.input(common, project, [])?,
            output: output.output(common, project)?.unwrap_or_else(|| json!({})),
        };
        let filter = compile(&self.filter).map_err(|e| common.error("filter", e))?;
        let identity = json!({"kind": "jq", "filter": self.filter});
        let handler = Evaluator(Arc::new(filter));
        let tool = Tool::new(common.signature(shape, Effect::Read)?, identity, Arc::new(handler));
        Ok(common.finish(tool, common.renames()?))
    }
}

struct Evaluator(Arc<Filter>);

impl Handler for Evaluator {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        let filter = Arc::clone(&self.0);
        blocking(move || evaluate(&filter, &call)).boxed()
    }

    /// The evaluation itself looks at the clock: a thread cannot be dropped.
    fn ends_itself(&self) -> bool {
        true
    }
}

fn evaluate(filter: &Filter, call: &Call) -> Result<Value, Failure> {
    let meter = Meter::new(call.timeout, call.cancel.clone());
    let outcome = meter.watch(|| {
        let data = Data { lut: &filter.lut, meter: &meter };
        let mut outputs =
            filter.id.run((Ctx::<Metered>::new(data, Vars::new([])), value::from_json(&call.input)));
        let output = match outputs.next() {
            Some(Ok(output)) => value::into_json(output)?,
            Some(Err(e)) => return Err(thrown(e.get_err().ok())),
            None => return Err(failed("the filter produced no value; it must produce one")),
        };
        match outputs.next() {
            None => Ok(output),
            Some(Err(e)) => Err(thrown(e.get_err().ok())),
            Some(Ok(_)) => Err(failed("the filter produced more than one value; put it in `[…]`")),
        }
    });
    match outcome {
        Ok(outcome) => outcome,
        Err(meter::Stop::Cancelled) => Err(cancelled()),
        Err(meter::Stop::Timeout) => Err(timed_out(call.timeout)),
        Err(meter::Stop::Work) => Err(failed(&format!(
            "the filter was stopped after {} steps; it most likely never ends",
            meter::STEPS_MAX
        ))),
        Err(meter::Stop::Depth) => {
            Err(failed("the filter calls itself too deeply; it most likely never ends"))
        }
    }
}

fn failed(message: &str) -> Failure {
    refused("jq_error", message)
}

/// Returns the failure for `error(…)` and for what jq itself refuses. An object with a `code` types
/// the failure, as it does for commands.
fn thrown(error: Option<jaq_json::Error>) -> Failure {
    let Some(error) = error else { return failed("the filter ended itself with `break` or `halt`") };
    let message = error.to_string();
    let value = value::into_json(error.into_val()).unwrap_or_default();
    match super::text::typed_failure(&value) {
        Some(mut failure) => {
            // The same input gives the same answer.
            failure.retryable.get_or_insert(false);
            failure
        }
        None => {
            let message = value.as_str().map_or(message, str::to_owned);
            Failure::new(FailureKind::Tool, "jq_error", message).retryable(false)
        }
    }
}

fn compile(code: &str) -> Result<Filter, String> {
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let arena = Arena::default();
    let modules = Loader::new(definitions)
        .load(&arena, File { code, path: () })
        .map_err(|errors| errors.iter().map(|(_, e)| load_error(code, e)).collect::<Vec<_>>().join("; "))?;
    Compiler::default().with_funs(meter::functions()).compile(modules).map_err(|errors| {
        let undefined = errors.iter().flat_map(|(_, errors)| errors);
        let messages: Vec<_> = undefined
            .map(|(name, kind)| match kind {
                jaq_core::compile::Undefined::Filter(arity) => format!("no filter `{name}/{arity}`"),
                other => format!("no {} `{name}`", other.as_str()),
            })
            .collect();
        messages.join("; ")
    })
}

fn load_error(code: &str, error: &jaq_core::load::Error<&str>) -> String {
    use jaq_core::load::{Error, span};
    let place = |part: &str| {
        let at = span(code, part).start.min(code.len());
        let line = code[..at].matches('\n').count() + 1;
        format!("line {line}, before `{}`", code[at..].chars().take(20).collect::<String>())
    };
    match error {
        Error::Io(files) => files.iter().map(|(path, e)| format!("`{path}`: {e}")).collect::<Vec<_>>(),
        Error::Lex(errors) => errors
            .iter()
            .map(|(expected, part)| format!("{} expected at {}", expected.as_str(), place(part)))
            .collect(),
        Error::Parse(errors) => errors
            .iter()
            .map(|(expected, part)| format!("{} expected at {}", expected.as_str(), place(part)))
            .collect(),
    }
    .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_names_the_place() {
        let message = compile("{a: 1,\n b: [1, 2}").err().unwrap();
        assert!(message.contains("line 2"), "{message}");
        let message = compile(". | nope(1)").err().unwrap();
        assert_eq!(message, "no filter `nope/1`");
    }

    #[test]
    fn a_filter_sees_neither_the_environment_nor_the_clock() {
        for code in ["env", "now", "$ENV", "inputs", "$__prog_args"] {
            assert!(compile(code).is_err(), "{code}");
        }
    }
}
