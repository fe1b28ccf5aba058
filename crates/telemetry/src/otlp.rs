//! OTLP over HTTP, in protobuf: collectors, and Jaeger itself.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use foreplan_core::failure::chain;
use futures::future::BoxFuture;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use reqwest::{
    Certificate, Client, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};

use crate::{Batch, SendError, Sink};

/// How long one batch may take: what OpenTelemetry's own exporters wait.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How much of an answer a warning shows.
const SHOWN_BYTES_MAX: usize = 200;

/// Where a collector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The URL of the trace endpoint.
    pub url: String,
    /// Headers of each request: they may hold secrets.
    pub headers: Vec<(String, String)>,
    /// A file with certificates, as PEM, that are trusted beside those of the system.
    pub certificate: Option<PathBuf>,
}

impl Settings {
    /// Reads what OpenTelemetry's environment variables say, else `endpoint`; `None` if nothing
    /// names a collector. A base URL gets `/v1/traces`.
    ///
    /// # Errors
    ///
    /// If the headers are not `name=value,…`.
    pub fn from_env(
        endpoint: Option<&str>,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let set = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let base = || set("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| endpoint.map(str::to_owned));
        let whole = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let of_base = |base: String| format!("{}/v1/traces", base.trim_end_matches('/'));
        let Some(url) = whole.or_else(|| base().map(of_base)) else { return Ok(None) };
        Self::of("TRACES", url, set).map(Some)
    }
}

impl Settings {
    /// Reads where metrics are wanted: nowhere, unless an endpoint of their own is named, or
    /// `OTEL_METRICS_EXPORTER` is `otlp`. Jaeger takes none.
    ///
    /// # Errors
    ///
    /// If the headers are not `name=value,…`.
    pub fn of_metrics(
        endpoint: Option<&str>,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let set = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let base = || set("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| endpoint.map(str::to_owned));
        let of_base = |base: String| format!("{}/v1/metrics", base.trim_end_matches('/'));
        let is_wanted = set("OTEL_METRICS_EXPORTER").is_some_and(|exporter| exporter == "otlp");
        let whole = set("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT");
        let url = whole.or_else(|| base().filter(|_| is_wanted).map(of_base));
        let Some(url) = url else { return Ok(None) };
        Self::of("METRICS", url, set).map(Some)
    }

    /// Reads what goes with a URL: the variables of this signal go before those of all.
    fn of(signal: &str, url: String, set: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let either = |what: &str| {
            let own = set(&format!("OTEL_EXPORTER_OTLP_{signal}_{what}"));
            own.or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{what}")))
        };
        let headers = parse_headers(either("HEADERS").as_deref().unwrap_or_default())?;
        Ok(Self { url, headers, certificate: either("CERTIFICATE").map(PathBuf::from) })
    }
}

fn parse_headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let header = |part: &str| match part.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), percent_decode(value.trim()))),
        None => Err("OTEL_EXPORTER_OTLP_HEADERS is not a list of `name=value`".to_owned()),
    };
    parts.map(header).collect()
}

fn percent_decode(text: &str) -> String {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let digits = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Sends batches to a collector.
#[derive(Clone, Debug)]
pub struct OtlpSink {
    client: Client,
    url: Url,
    name: String,
}

impl OtlpSink {
    /// Makes a sink; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// If the URL, a header or the certificate cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        Self::with_timeout(settings, TIMEOUT)
    }

    /// Makes a sink whose batches may take this long.
    ///
    /// # Errors
    ///
    /// If the URL, a header or the certificate cannot be used.
    pub fn with_timeout(settings: &Settings, timeout: Duration) -> Result<Self, String> {
        let url = Url::parse(&settings.url).map_err(|e| format!("`{}` is no URL: {e}", settings.url))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`{}` is no URL of HTTP", settings.url));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        for (name, value) in &settings.headers {
            let known = HeaderName::try_from(name.as_str()).map_err(|_| format!("`{name}` is no header"))?;
            let mut value = HeaderValue::try_from(value.as_str())
                .map_err(|_| format!("the header `{name}` has no valid value"))?;
            value.set_sensitive(true);
            headers.insert(known, value);
        }
        let mut client = Client::builder().timeout(timeout).redirect(Policy::none()).default_headers(headers);
        if let Some(path) = &settings.certificate {
            client = client.tls_certs_merge(trusted(path)?);
        }
        let client = client.build().map_err(|e| e.to_string())?;
        let port = url.port_or_known_default().unwrap_or_default();
        let name = format!("otlp {}:{port}{}", url.host_str().unwrap_or_default(), url.path());
        Ok(Self { client, url, name })
    }
}

impl OtlpSink {
    /// Sends the bytes of an OTLP request.
    ///
    /// # Errors
    ///
    /// If it is not taken.
    pub async fn post(&self, request: Vec<u8>) -> Result<(), SendError> {
        match self.client.post(self.url.clone()).body(request).send().await {
            Ok(response) => judge(response).await,
            Err(error) => Err(unavailable(chain(&error.without_url()), None)),
        }
    }
}

impl Sink for OtlpSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(self.post(batch.to_protobuf()))
    }
}

/// Reads certificates.
fn trusted(path: &Path) -> Result<Vec<Certificate>, String> {
    let unusable = |why: String| format!("the certificate `{}` cannot be used: {why}", path.display());
    let pem = std::fs::read(path).map_err(|e| unusable(e.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| unusable(e.to_string()))?;
    if certificates.is_empty() { Err(unusable("it holds none".to_owned())) } else { Ok(certificates) }
}

async fn judge(response: Response) -> Result<(), SendError> {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
    let after = after.map(Duration::from_secs);
    let is_json =
        response.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    let body = match read(response).await {
        Ok(body) => body,
        Err(error) => return Err(unavailable(chain(&error.without_url()), None)),
    };
    let shown = || {
        let text = String::from_utf8_lossy(&body);
        let text: String = text.chars().filter(|c| !c.is_control()).take(SHOWN_BYTES_MAX).collect();
        if text.is_empty() {
            format!("it answered {status}")
        } else {
            format!("it answered {status}: {text}")
        }
    };
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Err(SendError::TooLarge),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Err(SendError::Refused(shown())),
        status if status.is_success() => accepted(&body, is_json)
            .ok_or_else(|| unavailable(format!("{}, which is no answer of a collector", shown()), None))?,
        _ => Err(unavailable(shown(), after)),
    }
}

/// Returns what an answer says of the spans; `None` if it is none.
fn accepted(body: &[u8], is_json: bool) -> Option<Result<(), SendError>> {
    let answer: ExportTraceServiceResponse = if is_json {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        let partial = value.get("partialSuccess").filter(|partial| !partial.is_null());
        let rejected = partial.and_then(|p| p.get("rejectedSpans"));
        let rejected = rejected.and_then(|r| r.as_i64().or_else(|| r.as_str()?.parse().ok())).unwrap_or(0);
        return Some(refused(
            rejected,
            partial.and_then(|p| p.get("errorMessage")?.as_str()).unwrap_or_default(),
        ));
    } else {
        ExportTraceServiceResponse::decode(body).ok()?
    };
    let partial = answer.partial_success.unwrap_or_default();
    Some(refused(partial.rejected_spans, &partial.error_message))
}

fn refused(rejected: i64, message: &str) -> Result<(), SendError> {
    if rejected == 0 {
        return Ok(());
    }
    Err(SendError::Refused(format!("{rejected} spans were rejected: {message}")))
}

async fn read(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            break;
        }
    }
    Ok(body)
}

fn unavailable(message: String, after: Option<Duration>) -> SendError {
    SendError::Unavailable { message, after }
}
