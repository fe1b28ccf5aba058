//! How models are reached: what a project says about providers and models.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use crate::price::Price;

/// Requests to one provider at a time, unless configured: enough for a wide plan, and below what
/// providers allow small accounts.
pub const CONCURRENCY: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

/// How long one request may take, unless configured: long plans of reasoning models take minutes.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// How long an answer in pieces may take as a whole, unless the timeout is longer: pieces that come for
/// ever are no answer, and the longest ones of today take less than half of it.
pub const STREAM_TIME_MAX: Duration = Duration::from_secs(3600);

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// Chat completions of `OpenAI`, and of all servers that are compatible with it.
    Openai,
    /// Messages of Anthropic.
    Anthropic,
    /// Content generation of Google.
    Gemini,
    /// Ollama's own.
    Ollama,
}

impl Api {
    /// The providers that need no configuration but a key, by name.
    pub const PROVIDERS: [(&'static str, Self); 4] = [
        ("anthropic", Self::Anthropic),
        ("gemini", Self::Gemini),
        ("ollama", Self::Ollama),
        ("openai", Self::Openai),
    ];

    /// Returns the address of the provider itself.
    #[must_use]
    pub fn base_url(self) -> &'static str {
        match self {
            Self::Openai => "https://api.openai.com/v1/",
            Self::Anthropic => "https://api.anthropic.com/v1/",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta/",
            Self::Ollama => "http://localhost:11434/",
        }
    }

    /// Returns the variable in which the key of the provider usually stands, if it takes one.
    #[must_use]
    pub fn key_variable(self) -> Option<&'static str> {
        match self {
            Self::Openai => Some("OPENAI_API_KEY"),
            Self::Anthropic => Some("ANTHROPIC_API_KEY"),
            Self::Gemini => Some("GEMINI_API_KEY"),
            Self::Ollama => None,
        }
    }

    /// Returns what the provider called `name` speaks.
    #[must_use]
    pub fn of_provider(name: &str) -> Option<Self> {
        Self::PROVIDERS.iter().find(|(known, _)| *known == name).map(|(_, api)| *api)
    }
}

/// What is configured for one model (`provider/name`) or for all of a provider (`provider`).
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What the server speaks; absent: as the provider's name says, else [`Api::Openai`].
    pub api: Option<Api>,
    /// The address that the paths of the interface follow, such as `http://localhost:8000/v1`;
    /// absent: the provider's own.
    pub base_url: Option<String>,
    /// The key.
    pub key: Key,
    /// What tokens cost; absent: as the built-in table says.
    pub price: Option<Price>,
    /// Requests to the provider at a time. Of several tables of one provider the least counts.
    pub concurrency: Option<NonZeroU32>,
    /// Requests to the provider that may begin within a minute. The least counts, as above.
    pub rate_per_minute: Option<NonZeroU32>,
    /// How long one request may take; with `stream`, how long nothing may come.
    pub timeout: Option<Duration>,
    /// Whether answers come in pieces; absent: as a whole.
    pub stream: Option<bool>,
}

/// The key of a provider. It shows in no debug output.
#[derive(Clone, Default)]
pub enum Key {
    /// As usual: the provider's own variable at the provider's own address, else none.
    #[default]
    Usual,
    /// This one.
    Given(String),
    /// It could not be read; the text says why.
    Missing(String),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usual => f.write_str("Usual"),
            Self::Given(_) => f.write_str("Given([redacted])"),
            Self::Missing(why) => f.debug_tuple("Missing").field(why).finish(),
        }
    }
}

/// The tables of all models and providers, by `provider/name` or `provider`.
pub type Configs = BTreeMap<String, Config>;

impl Config {
    /// Returns this table, with what it leaves open taken from the provider's table.
    #[must_use]
    pub(crate) fn or(&self, provider: &Self) -> Self {
        let key = match &self.key {
            Key::Usual => provider.key.clone(),
            own => own.clone(),
        };
        Self {
            api: self.api.or(provider.api),
            base_url: self.base_url.clone().or_else(|| provider.base_url.clone()),
            key,
            price: self.price.or(provider.price),
            concurrency: self.concurrency.or(provider.concurrency),
            rate_per_minute: self.rate_per_minute.or(provider.rate_per_minute),
            timeout: self.timeout.or(provider.timeout),
            stream: self.stream.or(provider.stream),
        }
    }
}
