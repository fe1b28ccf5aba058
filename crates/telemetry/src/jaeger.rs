//! What Jaeger holds of a run, against what its journal says.

use std::{collections::BTreeMap, time::Duration};

use foreplan_core::{id::RunId, trace::SpanId};
use reqwest::{Client, StatusCode, Url, redirect::Policy};
use serde_json::Value;

use crate::{AuditSpan, semconv, to_json};

/// How long Jaeger may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How much Jaeger may answer: ten times a trace of 2,000 spans.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Asks for spans as they are kept: what Jaeger shows has times that it corrected, and no repetitions.
/// Its versions spell that in two ways.
const AS_KEPT: &str = "raw_traces=true&rawTraces=true";

/// Attributes with which Jaeger says what it thinks of a span: that it corrected the times that it
/// shows, for one. Its store in memory keeps them.
const JAEGERS_OWN: &str = "@jaeger@";

/// A span on which Jaeger and the journal do not agree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The entry that completed the span; absent: the journal knows of none.
    pub seq: Option<u64>,
    /// The span.
    pub span: SpanId,
    /// Its name.
    pub name: String,
    /// What does not agree.
    pub what: What,
}

/// What does not agree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Jaeger does not hold the span.
    Missing,
    /// Jaeger holds an audit span that no entry of the journal makes.
    Unknown,
    /// Jaeger holds something else: the names of the fields, or of the attributes, that differ.
    Differs(Vec<String>),
}

/// Fetches a run's trace from Jaeger: `None` if it holds nothing of it.
///
/// # Errors
///
/// If Jaeger cannot be asked, or answers something else.
pub async fn fetch(base: &str, run: RunId) -> Result<Option<Vec<Value>>, String> {
    let id = run.0.simple();
    let url = format!("{}/api/v3/traces/{id}?{AS_KEPT}", base.trim_end_matches('/'));
    let url = Url::parse(&url).map_err(|e| format!("`{base}` is no URL: {e}"))?;
    let client = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build();
    let client = client.map_err(|e| e.to_string())?;
    let mut response = client.get(url).send().await.map_err(|e| format!("Jaeger does not answer: {e}"))?;
    let status = response.status();
    if status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| format!("Jaeger does not answer: {e}"))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("Jaeger answers more than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        return Err(format!("Jaeger answers {status}"));
    }
    let answers = serde_json::Deserializer::from_slice(&body).into_iter::<Value>();
    let answers: Result<Vec<Value>, _> = answers.collect();
    let answers = answers.map_err(|e| format!("what answers at `{base}` is not Jaeger: {e}"))?;
    if answers.iter().any(|answer| answer.get("result").is_none()) {
        return Err(format!("what answers at `{base}` is not Jaeger"));
    }
    Ok(Some(answers.iter().flat_map(|answer| spans_in(&answer["result"])).collect()))
}

/// Returns where what Jaeger holds and the spans of the journal do not agree, in the order of the
/// journal. Spans of workers' own are none of the journal's business.
///
/// # Errors
///
/// If a span cannot be written as JSON, which none can that this crate makes.
pub fn compare(expected: &[AuditSpan], held: &[Value]) -> serde_json::Result<Vec<Difference>> {
    let mut holds: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for span in held.iter().filter(|span| is_audit(span)) {
        holds.entry(text(span, "spanId")).or_default().push(span);
    }
    let mut differences = Vec::new();
    for one in expected {
        let difference =
            |what| Difference { seq: Some(one.seq), span: one.id(), name: one.span.name.clone(), what };
        let Some(found) = holds.remove(&one.id().to_string()) else {
            differences.push(difference(What::Missing));
            continue;
        };
        let written: Value = serde_json::from_str(&to_json(std::slice::from_ref(one))?)?;
        let own = spans_in(&written).pop().unwrap_or_default();
        // A span that was sent twice must be the same both times.
        let mut fields: Vec<String> = found.iter().flat_map(|copy| differing(&own, copy)).collect();
        fields.sort();
        fields.dedup();
        if !fields.is_empty() {
            differences.push(difference(What::Differs(fields)));
        }
    }
    for (id, copies) in holds {
        let mut bytes = [0; 8];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = id.get(2 * at..2 * at + 2).unwrap_or("00");
            *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
        }
        let name = copies.first().map(|span| text(span, "name")).unwrap_or_default();
        let what = What::Unknown;
        differences.push(Difference { seq: None, span: SpanId(bytes), name, what });
    }
    Ok(differences)
}

/// Returns the spans in an OTLP document, each with its scope.
fn spans_in(document: &Value) -> Vec<Value> {
    let list =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for resource in list(document, "resourceSpans") {
        for scope in list(&resource, "scopeSpans") {
            for mut span in list(&scope, "spans") {
                if let Some(fields) = span.as_object_mut() {
                    fields.insert("scope".to_owned(), scope["scope"]["name"].clone());
                    fields.insert(
                        "resource".to_owned(),
                        attributes(&resource["resource"]).into_iter().collect(),
                    );
                }
                spans.push(span);
            }
        }
    }
    spans
}

/// Returns whether a span that Jaeger holds is one of the audit trail.
#[must_use]
pub fn is_audit(span: &Value) -> bool {
    span.get("scope").and_then(Value::as_str) == Some(semconv::SCOPE.0)
}

fn text(span: &Value, key: &str) -> String {
    span.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Returns the names of what differs between two forms of a span.
fn differing(own: &Value, found: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for key in ["name", "parentSpanId", "traceId", "resource"] {
        if own.get(key).filter(|v| **v != "") != found.get(key).filter(|v| **v != "") {
            names.push(key.to_owned());
        }
    }
    for key in ["startTimeUnixNano", "endTimeUnixNano", "kind"] {
        if number(own, key) != number(found, key) {
            names.push(key.to_owned());
        }
    }
    if number(&own["status"], "code") != number(&found["status"], "code") {
        names.push("status".to_owned());
    }
    let links = |span: &Value| {
        let list = span.get("links").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut ids: Vec<_> = list.iter().map(|l| (text(l, "traceId"), text(l, "spanId"))).collect();
        ids.sort();
        ids
    };
    if links(own) != links(found) {
        names.push("links".to_owned());
    }
    let (own, found) = (attributes(own), attributes(found));
    for (key, value) in &own {
        if found.get(key) != Some(value) {
            names.push(key.clone());
        }
    }
    let is_more = |key: &&String| !own.contains_key(*key) && !key.starts_with(JAEGERS_OWN);
    names.extend(found.keys().filter(is_more).cloned());
    names
}

/// Returns attributes by name. Integers are texts in one form and numbers in another.
fn attributes(value: &Value) -> BTreeMap<String, Value> {
    let list = value.get("attributes").and_then(Value::as_array).cloned().unwrap_or_default();
    let entry = |attribute: &Value| {
        let value = match attribute["value"].get("intValue") {
            Some(Value::String(number)) => number.parse::<i64>().map_or(Value::Null, Value::from),
            Some(number) => number.clone(),
            None => attribute["value"].clone(),
        };
        (text(attribute, "key"), value)
    };
    list.iter().map(entry).collect()
}

fn number(value: &Value, key: &str) -> Option<u64> {
    match value.get(key)? {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    }
    .filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_differ_are_named() {
        let span = |code: u32, hash: &str, number: Value| {
            json!({"name": "a", "spanId": "01", "startTimeUnixNano": "5", "status": {"code": code},
                "attributes": [{"key": "hash", "value": {"stringValue": hash}}, {"key": "n", "value": {"intValue": number}}]})
        };
        let own = span(2, "x", json!("7"));
        assert_eq!(differing(&own, &span(2, "x", json!(7))), Vec::<String>::new());
        assert_eq!(differing(&own, &span(0, "y", json!(7))), ["status", "hash"]);
        let mut warned = span(2, "x", json!(7));
        let more = [json!({"key": "@jaeger@warnings"}), json!({"key": "more"})];
        warned["attributes"].as_array_mut().expect("a list").extend(more);
        assert_eq!(differing(&own, &warned), ["more"]);
        let found = json!({"name": "a", "startTimeUnixNano": "6"});
        assert_eq!(differing(&own, &found), ["startTimeUnixNano", "status", "hash", "n"]);
    }
}
