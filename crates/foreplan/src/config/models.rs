//! `[models]`: how models and their providers are reached.

use std::{num::NonZeroU32, time::Duration};

use foreplan_core::time;
use foreplan_model::{Api, Config, Configs, Key, Price};
use foreplan_tools::{self as tools, Secrets, declare::SecretRef};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Problem, Project, nearest};

/// How one model (`provider/name`) or all models of a provider (`provider`) are reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// What the server speaks; absent: as the provider's name says, else `openai`.
    pub api: Option<Api>,
    /// The server's address up to the version, such as `http://localhost:8000/v1`; absent: the
    /// provider's own.
    pub base_url: Option<String>,
    /// Where the key is; absent: the provider's usual variable at its own address, else none.
    pub api_key: Option<SecretRef>,
    /// Dollars per million tokens; absent: as the built-in table says.
    pub price: Option<Price>,
    /// How many requests run at a time. It holds for the provider: the least of its tables counts.
    pub concurrency: Option<NonZeroU32>,
    /// How many requests begin within a minute. It holds for the provider, as above.
    pub rate_per_minute: Option<NonZeroU32>,
    /// How long one request may take; with `stream`, how long nothing may come.
    #[serde(with = "time::text::option")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
    /// Whether answers come in pieces, so that silence is told from a long answer; absent: they come whole.
    pub stream: Option<bool>,
}

impl ModelSection {
    fn config(&self, place: &tools::Project) -> Config {
        let key = match self.api_key.as_ref().map(|secret| secret.read(place)) {
            None => Key::Usual,
            Some(Ok(value)) => Key::Given(value),
            Some(Err(why)) => Key::Missing(why),
        };
        Config {
            api: self.api,
            base_url: self.base_url.clone(),
            key,
            price: self.price,
            concurrency: self.concurrency,
            rate_per_minute: self.rate_per_minute,
            timeout: self.timeout,
            stream: self.stream,
        }
    }
}

impl Project {
    /// Returns how models are reached. A key that cannot be read is an error only where its model
    /// is asked.
    #[must_use]
    pub fn models(&self) -> Configs {
        let place = tools::Project::new(self.folder());
        self.file().models.iter().map(|(name, section)| (name.clone(), section.config(&place))).collect()
    }

    /// Returns the keys of models that this process knows, so that nothing repeats them.
    pub(super) fn model_secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        for config in self.models().values() {
            if let Key::Given(key) = &config.key {
                secrets.add(key);
            }
        }
        let place = tools::Project::new(self.folder());
        let usual = Api::PROVIDERS.iter().filter_map(|(_, api)| api.key_variable());
        usual.filter_map(|variable| place.var(variable)).for_each(|key| secrets.add(key));
        secrets
    }

    /// Checks what the types cannot: prices, addresses, and that a server is named where one is
    /// needed.
    pub(super) fn check_models(&self) -> Result<(), Problem> {
        let models = &self.file().models;
        for (name, section) in models {
            let key = |field: &str| format!("models.{name}.{field}");
            if section.price.is_some_and(|price| !price.is_valid()) {
                return Err(Problem::new(key("price"), "a price is a number of dollars from 0 on"));
            }
            if let Some(url) = &section.base_url
                && !(url.starts_with("http://") || url.starts_with("https://"))
            {
                let problem = Problem::new(key("base_url"), format!("`{url}` is no address of a server"));
                return Err(problem.fix("write it as \"http://localhost:8000/v1\""));
            }
            let provider = name.split('/').next().unwrap_or_default();
            let all = models.get(provider).and_then(|all| all.base_url.as_ref());
            if Api::of_provider(provider).is_none() && section.base_url.as_ref().or(all).is_none() {
                return Err(unknown_provider(name, provider));
            }
        }
        Ok(())
    }
}

fn unknown_provider(name: &str, provider: &str) -> Problem {
    let known = Api::PROVIDERS.map(|(name, _)| name);
    let message = format!("there is no provider `{provider}`, and no base_url says where its server is");
    Problem::new(format!("models.{name}"), message).fix(match nearest(provider, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}; for a server of your own set base_url", known.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Error;

    fn parse(text: &str) -> Project {
        Project::parse("/srv/x", text).unwrap()
    }

    fn problem(text: &str) -> Problem {
        match Project::parse("/srv/x", text) {
            Err(Error::Invalid(problem)) => *problem,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_table_says_how_a_model_is_reached() {
        let configs = parse(
            r#"
            [models."local/qwen"]
            base_url = "http://localhost:8000/v1"
            api = "anthropic"
            price = { input = 0.1, output = 0.3 }
            concurrency = 2
            rate_per_minute = 30
            timeout = "90s"
            stream = true
            "#,
        )
        .models();
        let config = &configs["local/qwen"];
        assert_eq!(config.base_url.as_deref(), Some("http://localhost:8000/v1"));
        assert_eq!(config.api, Some(Api::Anthropic));
        assert_eq!(config.price, Some(Price { input: 0.1, output: 0.3, cached: None }));
        assert_eq!(config.concurrency.map(NonZeroU32::get), Some(2));
        assert_eq!(config.rate_per_minute.map(NonZeroU32::get), Some(30));
        assert_eq!(config.timeout, Some(Duration::from_secs(90)));
        assert_eq!(config.stream, Some(true));
    }

    #[test]
    fn a_key_is_a_variable_or_a_file_and_is_never_repeated() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "sk-secret-1234\n").unwrap();
        let text = "[models.openai]\napi_key = { file = \"key\" }\n";
        let project = Project::parse(folder.path(), text).unwrap();
        assert!(matches!(&project.models()["openai"].key, Key::Given(key) if key == "sk-secret-1234"));
        assert!(!format!("{project:?} {:?}", project.models()).contains("sk-secret"));
        let secrets = project.toolbox().unwrap().secrets().clone();
        assert_eq!(secrets.redact_text("a sk-secret-1234 b").as_deref(), Some("a [redacted] b"));

        let missing = parse("[models.openai]\napi_key = { file = \"no/such\" }\n").models();
        assert!(matches!(&missing["openai"].key, Key::Missing(why) if why.contains("no/such")));
        problem("[models.openai]\napi_key = \"sk-secret-1234\"\n");
    }

    #[test]
    fn a_slip_is_answered_with_its_place_also_under_a_name_with_dots() {
        let text = "[models.\"openai/gpt-4.1\"]\nbase_ur = \"http://x\"\n";
        let found = problem(text);
        assert_eq!((found.at(), found.fix.as_deref()), (Some((2, 1)), Some("did you mean `base_url`?")));

        let found = problem("[models.\"openai/gpt-4.1\"]\nprice = { input = -1.0, output = 0.0 }\n");
        assert_eq!((found.at(), found.key.as_str()), (Some((2, 1)), "models.openai/gpt-4.1.price"));

        let found = problem("[models.\"opnai/gpt-4.1\"]\n");
        assert_eq!(
            (found.at().map(|at| at.0), found.fix.as_deref()),
            (Some(1), Some("did you mean `openai`?"))
        );

        let found = problem("[models.\"local/x\"]\nbase_url = \"localhost:80\"\n");
        assert_eq!(found.at(), Some((2, 1)));
    }

    #[test]
    fn a_provider_of_ones_own_is_named_once_for_all_its_models() {
        let text = "[models.local]\nbase_url = \"http://x/v1\"\n[models.\"local/a\"]\nconcurrency = 1\n";
        assert_eq!(parse(text).models().len(), 2);
    }
}
