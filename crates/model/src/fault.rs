//! What a failed request means: which kind of error it is, and whether to send it again.

use std::time::{Duration, SystemTime};

use foreplan_core::call::Tokens;
use genai::{Error as Cause, webc};
use serde_json::{Value, json};

use crate::error::ErrorKind;

/// What stands where a key stood.
pub(crate) const REDACTED: &str = "[redacted]";

/// Characters of a server's own words that an error repeats.
const WORDS_CHARS_MAX: usize = 300;

/// A request that failed.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault {
    pub kind: ErrorKind,
    /// Why, and what to do. May hold what the server said, so a key must be replaced in it.
    pub message: String,
    /// Whether sending it again may help.
    pub transient: bool,
    /// How long the server asks to wait before that.
    pub wait: Option<Duration>,
    /// Tokens that the provider has counted for it all the same.
    pub spent: Tokens,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), transient: false, wait: None, spent: Tokens::default() }
    }

    fn transient(message: impl Into<String>) -> Self {
        Self { transient: true, ..Self::new(ErrorKind::Unavailable, message) }
    }

    /// Says what `cause` means. The key is replaced before words are cut, so that no part of it stays.
    pub(crate) fn of(cause: &Cause, key: Option<&str>) -> Self {
        if let Some(status) = cause.status() {
            let (mut text, wait) = (body(cause), wait_asked(cause));
            if let Some(key) = key {
                text = text.replace(key, REDACTED);
            }
            return Self { wait, ..of_status(status.as_u16(), &text) };
        }
        match cause {
            Cause::WebModelCall { webc_error, .. } | Cause::WebAdapterCall { webc_error, .. } => {
                of_web(webc_error)
            }
            Cause::ChatResponse { body, .. } => of_status(500, &body.to_string()),
            Cause::ChatResponseGeneration { cause, .. } => Self::malformed(&words(cause)),
            Cause::NoChatResponse { .. } => Self::malformed("it held no message"),
            Cause::InvalidJsonResponseElement { info } => Self::malformed(info),
            Cause::StreamParse { serde_error, .. } => Self::malformed(&words(&serde_error.to_string())),
            Cause::JsonValueExt(e) => Self::malformed(&words(&e.to_string())),
            Cause::SerdeJson(e) => Self::malformed(&words(&e.to_string())),
            other => Self::new(
                ErrorKind::BadRequest,
                format!(
                    "the request cannot be sent: {}; check base_url and the model's name",
                    words(&other.to_string())
                ),
            ),
        }
    }

    /// Says what `cause` means in a stream of which `count` pieces came.
    pub(crate) fn of_stream(cause: &Cause, count: usize, key: Option<&str>) -> Self {
        let Cause::WebStream { error, .. } = cause else { return Self::of(cause, key) };
        if let Some(answered) = error.downcast_ref::<Cause>() {
            return Self::of(answered, key);
        }
        match error.downcast_ref::<reqwest::Error>() {
            Some(e) if count == 0 => of_reqwest(e),
            _ => Self::broke_off(count, &chain(error.as_ref())),
        }
    }

    /// Says that an answer did not come to its end.
    pub(crate) fn broke_off(count: usize, why: &str) -> Self {
        Self::transient(format!(
            "the answer broke off after {count} pieces: {why}; if it does so again and again, look at the server and at the proxies before it, or set stream = false"
        ))
    }

    /// Says what an error means that came in place of a piece, given what the server says of it.
    pub(crate) fn of_event(error: &Value, key: Option<&str>) -> Self {
        let mut text = json!({"error": error}).to_string();
        if let Some(key) = key {
            text = text.replace(key, REDACTED);
        }
        let kind = error["type"].as_str().unwrap_or("of no kind");
        let code = error["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        let code = code.filter(|code| (400..600).contains(code)).unwrap_or(status_of(kind));
        let fault = of_status(code, &text);
        let message = match code {
            500.. => format!(
                "the answer broke off with an error ({}){}; try later, or ask another model",
                words(kind),
                said(&text)
            ),
            _ => format!("the answer broke off: {}", fault.message),
        };
        Self { message, ..fault }
    }

    pub(crate) fn malformed(what: &str) -> Self {
        Self::new(
            ErrorKind::Malformed,
            format!(
                "the answer is not what the provider's interface promises: {what}; check that base_url and api fit"
            ),
        )
    }
}

/// Returns the status that stands for a provider's word for an error: inside a stream there is none.
fn status_of(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" | "insufficient_quota" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    }
}

fn of_web(error: &webc::Error) -> Fault {
    match error {
        webc::Error::ResponseFailedNotJson { content_type, .. } => {
            Fault::malformed(&format!("its content type is `{}`", words(content_type)))
        }
        webc::Error::ResponseFailedInvalidJson { cause, .. } => Fault::malformed(&words(cause)),
        webc::Error::JsonValueExt(e) => Fault::malformed(&words(&e.to_string())),
        webc::Error::ResponseFailedStatus { status, body, .. } => of_status(status.as_u16(), body),
        webc::Error::Reqwest(e) => of_reqwest(e),
    }
}

fn of_reqwest(e: &reqwest::Error) -> Fault {
    let chain = chain(e);
    if chain.to_ascii_lowercase().contains("certificate") {
        return Fault::new(
            ErrorKind::Unavailable,
            format!(
                "the certificate of the server does not fit: {chain}; check base_url, or trust its authority"
            ),
        );
    }
    if e.is_builder() {
        return Fault::new(
            ErrorKind::BadRequest,
            format!("the request cannot be sent: {chain}; check base_url"),
        );
    }
    Fault::transient(match e.is_connect() {
        true => format!("the server cannot be reached: {chain}; check base_url and that it runs"),
        false => format!("the connection broke: {chain}"),
    })
}

/// Says what a status means, given the body that came with it.
fn of_status(status: u16, body: &str) -> Fault {
    let said = said(body);
    let low = body.to_ascii_lowercase();
    let any = |signs: &[&str]| signs.iter().any(|sign| low.contains(sign));
    match status {
        402 => quota(&said),
        _ if any(&["insufficient_quota", "credit balance", "billing_hard_limit"]) => quota(&said),
        401 | 403 => Fault::new(
            ErrorKind::Authentication,
            format!("the provider refuses the key{said}; check the key and what it is allowed to use"),
        ),
        404 => Fault::new(
            ErrorKind::UnknownModel,
            format!("the server knows no such model or path{said}; check the name and base_url"),
        ),
        400 | 413 | 422
            if any(&[
                "context_length",
                "context length",
                "context window",
                "prompt is too long",
                "too many tokens",
                "maximum number of tokens",
                "exceed_context_size",
                "request_too_large",
            ]) =>
        {
            Fault::new(
                ErrorKind::ContextTooLong,
                format!(
                    "the conversation is longer than the model takes{said}; shorten it, or use another model"
                ),
            )
        }
        400 | 422 if any(&["content_policy", "content_filter", "content management policy"]) => {
            Fault::new(ErrorKind::Refused, format!("the provider refuses the request{said}"))
        }
        408 | 429 | 500.. => Fault::transient(match status {
            429 => format!("the provider's rate limit is reached{said}; set rate_per_minute or wait"),
            _ => format!("the server answered {status}{said}"),
        }),
        _ => Fault::new(ErrorKind::BadRequest, format!("the server answered {status}{said}")),
    }
}

fn quota(said: &str) -> Fault {
    Fault::new(ErrorKind::Quota, format!("the account has no quota left{said}; check its plan and billing"))
}

fn body(cause: &Cause) -> String {
    match cause {
        Cause::HttpError { body, .. }
        | Cause::WebModelCall { webc_error: webc::Error::ResponseFailedStatus { body, .. }, .. }
        | Cause::WebAdapterCall { webc_error: webc::Error::ResponseFailedStatus { body, .. }, .. } => {
            body.clone()
        }
        _ => String::new(),
    }
}

/// Returns ` (…)` with the server's own words, or nothing.
fn said(body: &str) -> String {
    let json: Option<Value> = serde_json::from_str(body).ok();
    let message = json.as_ref().and_then(|json| {
        ["/error/message", "/message", "/error", "/detail", "/0/error/message"]
            .iter()
            .find_map(|path| json.pointer(path).and_then(Value::as_str))
    });
    match words(message.unwrap_or(if json.is_some() { "" } else { body })) {
        empty if empty.is_empty() => empty,
        text => format!(" (it says: {text})"),
    }
}

/// Returns the start of a foreign text on one line, without control characters.
pub(crate) fn words(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut short = String::new();
    for (at, word) in clean.split_whitespace().enumerate() {
        if at > 0 {
            short.push(' ');
        }
        short.push_str(word);
    }
    match short.char_indices().nth(WORDS_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &short[..end]),
        None => short,
    }
}

/// Returns what is behind a transport error, the deepest cause first in mind: reqwest's own text
/// names the address only.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    words(&deepest.to_string())
}

/// Reads `retry-after-ms` and `retry-after`, which is in seconds or a date.
fn wait_asked(cause: &Cause) -> Option<Duration> {
    let header = |name| cause.headers()?.get(name)?.to_str().ok();
    if let Some(ms) = header("retry-after-ms").and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_millis(ms));
    }
    let text = header("retry-after")?.trim();
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_and_the_words_of_the_server_decide_the_kind() {
        use ErrorKind::{
            Authentication, BadRequest, ContextTooLong, Quota, Refused, Unavailable, UnknownModel,
        };
        let cases = [
            (401, r#"{"error":{"message":"bad key"}}"#, Authentication, false),
            (403, "", Authentication, false),
            (404, r#"{"error":"model 'x' not found"}"#, UnknownModel, false),
            (429, r#"{"error":{"code":"insufficient_quota"}}"#, Quota, false),
            (400, r#"{"error":{"message":"Your credit balance is too low"}}"#, Quota, false),
            (402, "", Quota, false),
            (429, "slow down", Unavailable, true),
            (408, "", Unavailable, true),
            (500, "", Unavailable, true),
            (529, r#"{"error":{"type":"overloaded_error"}}"#, Unavailable, true),
            (400, r#"{"error":{"code":"context_length_exceeded"}}"#, ContextTooLong, false),
            (400, r#"{"error":{"message":"prompt is too long: 210000 tokens"}}"#, ContextTooLong, false),
            (400, r#"{"error":{"code":"content_policy_violation"}}"#, Refused, false),
            (400, r#"{"error":{"message":"no"}}"#, BadRequest, false),
        ];
        for (status, body, kind, transient) in cases {
            let fault = of_status(status, body);
            assert_eq!((fault.kind, fault.transient), (kind, transient), "{status} {body}: {fault:?}");
        }
    }

    #[test]
    fn the_words_of_a_server_stay_on_one_line() {
        assert_eq!(said("{\"error\":{\"message\":\"a\\n\\u001b[31mb\"}}"), " (it says: a [31mb)");
        assert_eq!(said("<html>"), " (it says: <html>)");
        assert_eq!(said("{}"), "");
        assert_eq!(words(&"x".repeat(1000)).chars().count(), WORDS_CHARS_MAX + 1);
    }
}
