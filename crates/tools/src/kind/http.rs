//! `[[tools.http]]`: makes a request.

use std::{sync::Arc, time::Duration};

use foreplan_core::{
    failure::{EffectState, Failure, FailureKind, chain},
    tool::Effect,
};
use futures::future::{BoxFuture, FutureExt};
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    redirect::Policy,
};
use serde_json::{Value, json};

use super::{OUTPUT_BYTES_MAX, output_too_large, refused, text};
use crate::{
    call::{Call, Handler},
    declare::{Error, Header, HeaderSecret, Http, SecretRef, Shape, Side},
    pattern::{Pattern, missing},
    project::Project,
    secrets::Secrets,
    tool::Tool,
};

/// How long connecting may take: a server that does not answer this long is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The header of the W3C standard by which a server's own spans join the run's trace.
const TRACEPARENT: &str = "traceparent";

/// How many redirects are followed, all on the same origin.
const REDIRECTS_MAX: usize = 5;

/// How much of an answer a failure's message shows.
const BODY_SHOWN_BYTES_MAX: usize = 1024;

/// How much of the answer to a failed request is read.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// Returns the client that all tools of a project share. It follows redirects on the same origin
/// only, so that no header with a secret reaches another server.
pub(crate) fn client() -> reqwest::Result<Client> {
    let same_origin = Policy::custom(|attempt| {
        let stays = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
        if stays && attempt.previous().len() <= REDIRECTS_MAX { attempt.follow() } else { attempt.stop() }
    });
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(same_origin)
        .user_agent(concat!("foreplan/", env!("CARGO_PKG_VERSION")))
        .build()
}

impl Http {
    pub(crate) fn tool(
        &self,
        project: &Project,
        client: &Client,
        known: &mut Secrets,
    ) -> Result<Tool, Error> {
        let common = self.common();
        let method = self.method.as_deref().unwrap_or("GET").to_ascii_uppercase();
        let url = Pattern::parse(&self.url);
        check_url(&self.url).map_err(|e| common.error("url", e))?;
        let mut own = Secrets::default();
        let headers = self.headers(project, &mut own)?;
        let body = self.body.as_ref().map(Body::parse);
        let mut patterns = vec![("url", &url)];
        patterns.extend(headers.iter().filter_map(|(_, header)| match header {
            HeaderText::Pattern(pattern) => Some(("headers", pattern)),
            HeaderText::Secret(_) => None,
        }));
        if let Some(body) = &body {
            body.each_pattern(&mut |pattern| patterns.push(("body", pattern)));
        }
        let input = Side { fields: self.input.as_ref(), file: self.input_schema.as_ref() };
        let output = Side { fields: self.output.as_ref(), file: self.output_schema.as_ref() };
        let declared = output.output(common, project)?;
        let renames = common.renames()?;
        let shape = Shape {
            input: input.input(common, project, patterns)?,
            output: text::output_schema(declared.as_ref(), &renames),
        };
        let identity = json!({
            "kind": "http",
            "method": method,
            "url": self.url,
            "headers": self.headers.keys().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>(),
            "body": self.body,
        });
        let method =
            Method::from_bytes(method.as_bytes()).map_err(|e| common.error("method", e.to_string()))?;
        known.extend(&own);
        let handler =
            Requester { client: client.clone(), method, url, headers, body, declared, secrets: own };
        let signature = common.signature(shape, Effect::Irreversible)?;
        Ok(common.finish(Tool::new(signature, identity, Arc::new(handler)), renames))
    }

    fn headers(
        &self,
        project: &Project,
        secrets: &mut Secrets,
    ) -> Result<Vec<(HeaderName, HeaderText)>, Error> {
        let common = self.common();
        self.headers
            .iter()
            .map(|(name, header)| {
                let text = match header {
                    Header::Text(text) => HeaderText::Pattern(Pattern::parse(text)),
                    Header::Secret(secret) => {
                        let from = secret.reference().map_err(|e| common.error("headers", e))?;
                        HeaderText::Secret(from.read(project).map(|value| {
                            secrets.add(&value);
                            format!("{}{value}", secret.prefix)
                        }))
                    }
                };
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|e| common.error("headers", format!("`{name}`: {e}")))?;
                Ok((name, text))
            })
            .collect()
    }
}

impl HeaderSecret {
    pub(crate) fn reference(&self) -> Result<SecretRef, String> {
        match (&self.env, &self.file) {
            (Some(env), None) => Ok(SecretRef::Env(env.clone())),
            (None, Some(file)) => Ok(SecretRef::File(file.clone())),
            _ => Err("a secret is { env = \"NAME\" } or { file = \"…\" }".to_owned()),
        }
    }
}

/// The input chooses neither the scheme nor the server.
fn check_url(url: &str) -> Result<(), String> {
    let Some((scheme, rest)) = url.split_once("://").filter(|(s, _)| matches!(*s, "http" | "https")) else {
        return Err(format!("`{url}` is no URL like https://example.org/items/{{id}}"));
    };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if !Pattern::parse(authority).is_literal() {
        return Err(format!("`{url}`: a placeholder may stand after the host only"));
    }
    if authority.contains('@') {
        return Err("a URL holds no password; use a header with a secret".to_owned());
    }
    Url::parse(&format!("{scheme}://{authority}")).map(|_| ()).map_err(|e| format!("`{url}`: {e}"))
}

struct Requester {
    client: Client,
    method: Method,
    url: Pattern,
    headers: Vec<(HeaderName, HeaderText)>,
    body: Option<Body>,
    declared: Option<Value>,
    secrets: Secrets,
}

enum HeaderText {
    Pattern(Pattern),
    /// The value, or what is missing.
    Secret(Result<String, String>),
}

impl Handler for Requester {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        async move {
            let request = self.request(&call)?;
            let response = self.client.execute(request).await.map_err(|e| transport_failure(&e))?;
            self.outcome(response).await
        }
        .boxed()
    }
}

impl Requester {
    fn request(&self, call: &Call) -> Result<reqwest::Request, Failure> {
        let input = call.input.as_ref();
        let url = self.url.fill(input, percent_encode)?;
        let mut request = self.client.request(self.method.clone(), url);
        for (name, text) in &self.headers {
            let text = match text {
                HeaderText::Pattern(pattern) => pattern.fill(input, str::to_owned)?,
                HeaderText::Secret(Ok(value)) => value.clone(),
                HeaderText::Secret(Err(missing)) => {
                    return Err(refused("missing_secret", format!("the header `{name}`: {missing}")));
                }
            };
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| refused("invalid_header", format!("the header `{name}` gets no valid value")))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if let Some(key) = call.idempotency_key {
            request = request.header("Idempotency-Key", key.to_string());
        }
        if !self.headers.iter().any(|(name, _)| name == TRACEPARENT) {
            request = request.header(TRACEPARENT, call.trace().to_string());
        }
        let has_body = matches!(self.method, Method::POST | Method::PUT | Method::PATCH);
        let body = match &self.body {
            Some(body) => Some(body.fill(input)?),
            None => has_body.then(|| input.clone()),
        };
        if let Some(body) = body {
            if !self.headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
                request = request.header(CONTENT_TYPE, "application/json");
            }
            request = request.body(body.to_string());
        }
        request.build().map_err(|e| refused("invalid_request", e.to_string()))
    }

    async fn outcome(&self, response: Response) -> Result<Value, Failure> {
        let status = response.status();
        if !status.is_success() {
            let (body, _) = read(response, ERROR_BODY_BYTES_MAX).await.unwrap_or_default();
            return Err(self.status_failure(status, &body));
        }
        let (body, is_whole) = read(response, OUTPUT_BYTES_MAX).await.map_err(|e| transport_failure(&e))?;
        if !is_whole {
            return Err(output_too_large("the answer"));
        }
        let body = String::from_utf8(body).map_err(|e| {
            let message = format!("the answer is not UTF-8: {}", e.utf8_error());
            Failure::new(FailureKind::Tool, "invalid_utf8", message).retryable(false)
        })?;
        text::output(&body, self.declared.as_ref())
    }

    /// Returns the failure of an answer that says so. What a server refuses (4xx) did not happen,
    /// but for those answers that another request of the same kind may cause.
    fn status_failure(&self, status: StatusCode, body: &[u8]) -> Failure {
        let body = String::from_utf8_lossy(body);
        let body = self.secrets.redact_text(&body).unwrap_or_else(|| body.into_owned());
        let shown = body[..body.floor_char_boundary(BODY_SHOWN_BYTES_MAX)].trim();
        let message = format!("the server answered {status}: {shown}");
        let retryable = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let failure = Failure::new(FailureKind::Tool, format!("http_{}", status.as_u16()), message)
            .retryable(retryable);
        let maybe_done = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT);
        if status.is_client_error() && !maybe_done { failure.effect(EffectState::None) } else { failure }
    }
}

/// Returns the failure of a request that got no answer. The URL is left out: it may hold what the
/// server must not see in logs.
fn transport_failure(error: &reqwest::Error) -> Failure {
    let cause =
        std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {}", chain(cause)));
    let message = format!("the request got no answer{cause}");
    if error.is_connect() {
        return Failure::new(FailureKind::Tool, "http_connect", message)
            .retryable(true)
            .effect(EffectState::None);
    }
    Failure::new(FailureKind::Tool, "http_error", message).retryable(true)
}

/// Returns at most `bytes_max` bytes of the body, and whether that is all.
async fn read(mut response: Response, bytes_max: usize) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = bytes_max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

/// Returns `text` with everything but unreserved characters (RFC 3986) as `%XX`.
fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

/// A body with placeholders.
enum Body {
    Literal(Value),
    Text(Pattern),
    List(Vec<Body>),
    Fields(Vec<(String, Body)>),
}

impl Body {
    fn parse(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::Text(Pattern::parse(text)),
            Value::Array(items) => Self::List(items.iter().map(Self::parse).collect()),
            Value::Object(fields) => {
                Self::Fields(fields.iter().map(|(k, v)| (k.clone(), Self::parse(v))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Literal(value.clone()),
        }
    }

    fn each_pattern<'a>(&'a self, take: &mut impl FnMut(&'a Pattern)) {
        match self {
            Self::Literal(_) => {}
            Self::Text(pattern) => take(pattern),
            Self::List(items) => items.iter().for_each(|item| item.each_pattern(take)),
            Self::Fields(fields) => fields.iter().for_each(|(_, field)| field.each_pattern(take)),
        }
    }

    /// Returns the body with the input's fields. A text that is one placeholder becomes the field's
    /// value, of whatever type.
    fn fill(&self, input: &Value) -> Result<Value, Failure> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Text(pattern) => match pattern.sole_field() {
                Some(field) => input.get(field).cloned().ok_or_else(|| missing(field)),
                None => pattern.fill(input, str::to_owned).map(Value::String),
            },
            Self::List(items) => items.iter().map(|item| item.fill(input)).collect(),
            Self::Fields(fields) => {
                fields.iter().map(|(name, field)| Ok((name.clone(), field.fill(input)?))).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_chooses_no_server() {
        for url in ["{url}", "https://{host}/a", "https://a.{tld}:80/", "ftp://a", "https://user:pw@a/"] {
            assert!(check_url(url).is_err(), "{url}");
        }
        for url in ["https://a.org/{id}?q={q}", "http://127.0.0.1:80", "https://a?{q}"] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn a_value_in_a_url_stays_one_part_of_it() {
        assert_eq!(percent_encode("a/../b?c=d&ä"), "a%2F..%2Fb%3Fc%3Dd%26%C3%A4");
    }
}
