//! Models behind HTTP: the providers, and any server that speaks like one of them.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use foreplan_core::call::Tokens;
use futures::future::BoxFuture;
use genai::{
    ModelIden, ServiceTarget,
    adapter::AdapterKind,
    resolver::{AuthData, Endpoint},
};

use crate::{
    Answer, Error, ErrorKind, Model, Models, Request,
    config::{Api, CONCURRENCY, Config, Configs, Key, TIMEOUT},
    exchange,
    fault::{Fault, REDACTED},
    limits::Limits,
    price::{Price, PriceTable},
    retry::Retries,
    stream::{self, Patience},
};

/// How long a server may take to accept a connection: one that drops packets is told apart from one
/// that thinks.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is sent to a server that wants no key: some interfaces cannot do without one.
const NO_KEY: &str = "none";

/// Reads variables of the environment.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Finds models at their providers. Copies share connections and limits.
#[derive(Clone)]
pub struct Client {
    /// Set when the first model is asked for.
    http: Arc<OnceLock<genai::Client>>,
    configs: Arc<Configs>,
    /// By provider.
    limits: Arc<HashMap<String, Arc<Limits>>>,
    variables: Variables,
    retries: Retries,
}

impl Client {
    /// Makes a client. Keys and the system's certificates are read when a model is asked for, so
    /// that a project whose models are not used needs neither.
    #[must_use]
    pub fn new(configs: Configs, variables: Variables) -> Self {
        let limits = Arc::new(limits(&configs));
        Self {
            http: Arc::default(),
            configs: Arc::new(configs),
            limits,
            variables,
            retries: Retries::default(),
        }
    }

    /// Tries transient errors again as `retries` says.
    #[must_use]
    pub fn retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// Returns the address at which a model is asked.
    ///
    /// # Errors
    ///
    /// If the name cannot be resolved: an unknown provider, or no key.
    pub fn address(&self, name: &str) -> Result<String, Error> {
        Ok(self.remote(name)?.target.endpoint.base_url().to_owned())
    }

    /// Returns the table of one model, with what holds for its provider.
    fn config(&self, provider: &str, name: &str) -> Option<Config> {
        match (self.configs.get(name), self.configs.get(provider)) {
            (Some(own), Some(all)) => Some(own.or(all)),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        }
    }

    fn remote(&self, name: &str) -> Result<Remote, Error> {
        let error = |kind, message: String| Error::new(name, kind, message);
        let Some((provider, model)) = name.split_once('/').filter(|(p, m)| !p.is_empty() && !m.is_empty())
        else {
            return Err(error(ErrorKind::UnknownModel, "a model is named `provider/name`".to_owned()));
        };
        let known = Api::of_provider(provider);
        let config = self.config(provider, name).unwrap_or_default();
        let Some(api) = config.api.or(known).or(config.base_url.is_some().then_some(Api::Openai)) else {
            return Err(error(ErrorKind::UnknownModel, unknown_provider(provider, name)));
        };
        let base_url = match (&config.base_url, known) {
            (Some(url), _) => with_slash(url),
            (None, Some(known)) => known.base_url().to_owned(),
            (None, None) => return Err(error(ErrorKind::UnknownModel, unknown_provider(provider, name))),
        };
        let key = self.key(&config, known, name).map_err(|why| error(ErrorKind::Authentication, why))?;
        let target = ServiceTarget {
            endpoint: Endpoint::from_owned(base_url),
            auth: AuthData::from_single(key.as_deref().unwrap_or(NO_KEY)),
            model: ModelIden::new(adapter(api, model, config.base_url.is_none()), model),
        };
        Ok(Remote {
            http: self.http().map_err(|why| error(ErrorKind::Unavailable, why))?,
            name: name.to_owned(),
            target,
            key,
            price: config.price.or_else(|| PriceTable::built_in().of(name)).unwrap_or_default(),
            timeout: config.timeout.unwrap_or(TIMEOUT),
            stream: config.stream.unwrap_or(false),
            limits: self
                .limits
                .get(provider)
                .cloned()
                .unwrap_or_else(|| Arc::new(Limits::new(CONCURRENCY, None))),
            retries: self.retries,
        })
    }

    fn http(&self) -> Result<genai::Client, String> {
        if let Some(http) = self.http.get() {
            return Ok(http.clone());
        }
        // A redirect could carry a key in a header of the provider's own to another server.
        let http = genai::WebConfig::default()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .apply_to_builder(reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()))
            .build()
            .map_err(|e| format!("the HTTP client cannot be set up: {e}"))?;
        let http = genai::Client::builder()
            .with_reqwest(http)
            .build()
            .map_err(|e| format!("the HTTP client cannot be set up: {e}"))?;
        Ok(self.http.get_or_init(|| http).clone())
    }

    /// Returns the key, if one is needed. The provider's own variable is never sent elsewhere.
    fn key(&self, config: &Config, known: Option<Api>, name: &str) -> Result<Option<String>, String> {
        let hint = format!(
            "set it in the environment or in .env, or say where it is by `api_key` in [models.\"{name}\"]"
        );
        match (&config.key, &config.base_url, known.and_then(Api::key_variable)) {
            (Key::Given(key), _, _) if key.trim().is_empty() => Err("its key is empty".to_owned()),
            (Key::Given(key), _, _) => Ok(Some(key.trim().to_owned())),
            (Key::Missing(why), _, _) => Err(format!("there is no key: {why}")),
            (Key::Usual, None, Some(variable)) => match (self.variables)(variable) {
                Some(key) if !key.trim().is_empty() => Ok(Some(key.trim().to_owned())),
                _ => Err(format!("there is no key: the variable {variable} is not set; {hint}")),
            },
            (Key::Usual, _, _) => Ok(None),
        }
    }
}

impl Models for Client {
    fn model(&self, name: &str) -> Result<Arc<dyn Model>, Error> {
        Ok(Arc::new(self.remote(name)?))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("configs", &self.configs).finish_non_exhaustive()
    }
}

/// Returns the limits of every provider that is configured or known.
fn limits(configs: &Configs) -> HashMap<String, Arc<Limits>> {
    let provider = |name: &str| name.split_once('/').map_or(name, |(provider, _)| provider).to_owned();
    let names =
        configs.keys().map(|name| provider(name)).chain(Api::PROVIDERS.map(|(name, _)| name.to_owned()));
    names
        .map(|name| {
            let tables = || configs.iter().filter(|(key, _)| provider(key) == name).map(|(_, config)| config);
            let concurrency = tables().filter_map(|config| config.concurrency).min().unwrap_or(CONCURRENCY);
            let rate = tables().filter_map(|config| config.rate_per_minute).min();
            (name, Arc::new(Limits::new(concurrency, rate)))
        })
        .collect()
}

fn unknown_provider(provider: &str, name: &str) -> String {
    let known: Vec<_> = Api::PROVIDERS.iter().map(|(name, _)| *name).collect();
    format!(
        "there is no provider `{provider}`: known are {}; for a server of your own set base_url in [models.\"{name}\"]",
        known.join(", ")
    )
}

/// Returns the form that the server speaks. A few models of `OpenAI` itself speak only its newer one.
fn adapter(api: Api, model: &str, own_address: bool) -> AdapterKind {
    match api {
        Api::Openai if own_address => match AdapterKind::from_model(model) {
            Ok(AdapterKind::OpenAIResp) => AdapterKind::OpenAIResp,
            _ => AdapterKind::OpenAI,
        },
        Api::Openai => AdapterKind::OpenAI,
        Api::Anthropic => AdapterKind::Anthropic,
        Api::Gemini => AdapterKind::Gemini,
        Api::Ollama => AdapterKind::Ollama,
    }
}

fn sum(a: Tokens, b: Tokens) -> Tokens {
    Tokens {
        input: a.input + b.input,
        cached: a.cached + b.cached,
        output: a.output + b.output,
        reasoning: a.reasoning + b.reasoning,
    }
}

/// Paths are appended to the address, so it ends with a slash.
fn with_slash(url: &str) -> String {
    format!("{}/", url.trim_end_matches('/'))
}

/// One model at its server.
struct Remote {
    http: genai::Client,
    name: String,
    target: ServiceTarget,
    key: Option<String>,
    price: Price,
    timeout: Duration,
    stream: bool,
    limits: Arc<Limits>,
    retries: Retries,
}

impl Remote {
    /// Asks until there is an answer, an error that stays, or no repetition left.
    async fn ask(&self, request: &Request) -> Result<Answer, Error> {
        let (mut retries, mut lost) = (0, Tokens::default());
        loop {
            let fault = match self.ask_once(request).await {
                Ok(answer) => return Ok(self.with_lost(Answer { retries, ..answer }, lost)),
                Err(fault) => fault,
            };
            lost = sum(lost, fault.spent);
            let wait = match fault.transient {
                true => self.retries.wait(retries + 1, fault.wait, fastrand::f64()),
                false => None,
            };
            let Some(wait) = wait else { return Err(self.error(&fault, retries, lost)) };
            tracing::debug!(model = %self.name, ?wait, "a request to a model failed and is sent again");
            tokio::time::sleep(wait).await;
            retries += 1;
        }
    }

    async fn ask_once(&self, request: &Request) -> Result<Answer, Fault> {
        let (chat, options) = exchange::request(request, self.target.model.adapter_kind);
        let _permit = self.limits.enter().await;
        if self.stream {
            let (target, patience) = (self.target.clone(), Patience::new(self.timeout));
            let response = stream::ask(&self.http, target, chat, options, patience, self.key.as_deref());
            return exchange::answer(response.await?, &self.price);
        }
        let response = self.http.exec_chat(self.target.clone(), chat, Some(&options));
        match tokio::time::timeout(self.timeout, response).await {
            Ok(Ok(response)) => exchange::answer(response, &self.price),
            Ok(Err(cause)) => {
                exchange::salvaged(&cause, &self.price).ok_or_else(|| Fault::of(&cause, self.key.as_deref()))
            }
            Err(_) => Err(Fault::new(
                ErrorKind::Unavailable,
                format!("no answer within {:?}; raise timeout, or ask for less", self.timeout),
            )),
        }
    }

    /// Counts what attempts have used that came to nothing.
    fn with_lost(&self, answer: Answer, lost: Tokens) -> Answer {
        if lost == Tokens::default() {
            return answer;
        }
        let tokens = sum(answer.tokens, lost);
        Answer { tokens, cost_microusd: self.price.cost_microusd(&tokens), ..answer }
    }

    /// Makes the error that leaves the crate: no key in it, how often it was tried, and what that used.
    fn error(&self, fault: &Fault, retries: u32, lost: Tokens) -> Error {
        let mut message = match &self.key {
            Some(key) => fault.message.replace(key.as_str(), REDACTED),
            None => fault.message.clone(),
        };
        if let Some(wait) = fault.wait.filter(|wait| *wait > self.retries.longest) {
            message.push_str(&format!("; it asks to wait {} s", wait.as_secs()));
        }
        if retries > 0 {
            message.push_str(&format!("; tried {} times", retries + 1));
        }
        let cost_microusd = self.price.cost_microusd(&lost);
        Error { tokens: lost, cost_microusd, ..Error::new(&self.name, fault.kind, message) }
    }
}

impl Model for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn chat(&self, request: Arc<Request>) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(async move { self.ask(&request).await })
    }
}
