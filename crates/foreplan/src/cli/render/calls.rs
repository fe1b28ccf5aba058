//! What a worker, a planner or a replanner called while it answered.

use foreplan_core::call::{Call, Target};

use crate::cli::paint::{clean, span};

/// Returns one line for each call: a model with its tokens, or a tool with its effect, its input and its
/// output.
#[must_use]
pub fn lines(calls: &[Call]) -> Vec<String> {
    calls.iter().map(line).collect()
}

fn line(call: &Call) -> String {
    let took = span(call.ended_at.since(call.started_at));
    let what = match &call.target {
        Target::Model(model) => {
            let retries = match model.retries {
                0 => String::new(),
                retries => format!(", asked {} times", retries + 1),
            };
            let tokens = model.tokens;
            format!("{}, {} tokens in, {} out{retries}", model.model, tokens.input, tokens.output)
        }
        Target::Tool(tool) => {
            let output = tool
                .output
                .as_ref()
                .map_or_else(String::new, |output| format!(", output sha256:{}", output.digest().short()));
            let (name, effect, input) = (&tool.tool, tool.effect.as_str(), tool.input.digest());
            format!("{name}, {effect}, input sha256:{}{output}", input.short())
        }
    };
    let failure = call.failure.as_ref().map_or_else(String::new, |failure| format!(", {failure}"));
    clean(&format!("  · {what}, {took}{failure}"))
}
