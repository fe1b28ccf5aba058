//! Prompts: texts in files of the crates that ask, filled with values, named on record by their
//! digest.

use std::{error::Error as _, sync::LazyLock};

use foreplan_core::digest::Digest;
use minijinja::{Environment, UndefinedBehavior, syntax::SyntaxConfig, value::Serde};
use serde::Serialize;

/// Instructions that one rendering may run: a listing of the largest inventory that is shown, many
/// times over.
const FUEL: u64 = 1_000_000;

static ENV: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.expect("the usual delimiters are valid"));
    env
});

/// What a model is told: one text that holds for the conversation, and one that begins it.
#[derive(Clone, Copy, Debug)]
pub struct Prompt {
    /// The template of what holds for the whole conversation.
    pub system: &'static str,
    /// The template of the first message.
    pub user: &'static str,
}

/// A prompt whose template and values do not fit: a bug of the crate that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the prompt cannot be made: {0}")]
pub struct PromptError(String);

impl Prompt {
    /// Returns the SHA-256 of both templates: the version of the prompt.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(format!("{}\0{}", self.system, self.user).as_bytes())
    }

    /// Fills both templates: the system text, then the first message.
    ///
    /// # Errors
    ///
    /// If a template names a value that there is not.
    pub fn render(&self, values: &impl Serialize) -> Result<(String, String), PromptError> {
        let values = minijinja::Value::from(Serde(values));
        Ok((fill(self.system, &values)?, fill(self.user, &values)?))
    }
}

fn fill(template: &str, values: &minijinja::Value) -> Result<String, PromptError> {
    let text = ENV.render_str(template, values).map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        PromptError(format!("{error}{cause}"))
    })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PROMPT: Prompt =
        Prompt { system: "You are {{ who }}.\n", user: "{% if goal %}\n{{ goal }}\n{% endif %}" };

    #[test]
    fn both_texts_are_filled_and_values_are_never_templates() {
        let values = json!({"who": "<b>", "goal": "say {{ who }}"});
        let rendered = PROMPT.render(&values).unwrap();
        assert_eq!(rendered, ("You are <b>.".to_owned(), "say {{ who }}".to_owned()));
    }

    #[test]
    fn a_value_that_is_missing_is_an_error() {
        assert!(PROMPT.render(&json!({"who": "x"})).is_err());
    }

    #[test]
    fn the_digest_tells_which_text_changed() {
        let other = Prompt { system: PROMPT.user, user: PROMPT.system };
        assert_ne!(PROMPT.digest(), other.digest());
    }
}
