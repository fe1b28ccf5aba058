//! Values that travel by themselves or by reference.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;

/// Values above this size go to the payload store: 64 KiB, so that an entry with a few of them
/// stays under [`ENTRY_BYTES_MAX`].
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// No message and no journal entry is larger: half of the NATS default limit of 1 MiB.
pub const ENTRY_BYTES_MAX: usize = 512 * 1024;

/// The key of a reference to a payload in JSON.
pub const PAYLOAD_KEY: &str = "$payload";

/// Names the bytes of a stored value: the JSON text with this digest and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PayloadRef {
    /// SHA-256 of the stored bytes.
    pub sha256: Digest,
    /// How many bytes there are.
    pub bytes: u64,
}

impl PayloadRef {
    /// Returns the reference as it stands inside a JSON value: `{"$payload": {…}}`.
    #[must_use]
    pub fn to_value(self) -> Value {
        serde_json::json!({ PAYLOAD_KEY: self })
    }

    /// Returns the reference that `value` is, if it is one.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let object = value.as_object().filter(|o| o.len() == 1)?;
        serde_json::from_value(object.get(PAYLOAD_KEY)?.clone()).ok()
    }
}

/// What a step returned: the value, or where it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// A value of at most [`INLINE_BYTES_MAX`] bytes, shared and never changed.
    Inline(Arc<Value>),
    /// A larger value, kept in the payload store.
    Payload(PayloadRef),
}

impl Output {
    /// Wraps a value that is known to be small.
    #[must_use]
    pub fn inline(value: Value) -> Self {
        Self::Inline(Arc::new(value))
    }

    /// Returns the value as people and expressions see it before payloads are loaded.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Inline(value) => value.as_ref().clone(),
            Self::Payload(payload) => payload.to_value(),
        }
    }

    /// Returns the digest of the canonical JSON, or of the stored bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Inline(value) => Digest::of(value.as_ref()),
            Self::Payload(payload) => payload.sha256,
        }
    }
}

/// Returns whether the JSON text of `value` has at most `bytes_max` bytes, looking no further than
/// needed.
#[must_use]
pub fn fits_within(value: &Value, bytes_max: usize) -> bool {
    fn spend(value: &Value, left: &mut usize) -> bool {
        let own = match value {
            Value::Null | Value::Bool(_) => 5,
            Value::Number(_) => 20,
            Value::String(s) => {
                s.len() + 2 + s.bytes().filter(|b| *b < 0x20 || *b == b'"' || *b == b'\\').count() * 5
            }
            Value::Array(items) => items.len() + 2,
            Value::Object(fields) => fields.iter().map(|(k, _)| k.len() + 4).sum::<usize>() + 2,
        };
        let Some(rest) = left.checked_sub(own) else { return false };
        *left = rest;
        match value {
            Value::Array(items) => items.iter().all(|v| spend(v, left)),
            Value::Object(fields) => fields.values().all(|v| spend(v, left)),
            _ => true,
        }
    }
    spend(value, &mut bytes_max.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reference_is_recognized_only_in_its_own_form() {
        let reference = PayloadRef { sha256: Digest::of_bytes(b"x"), bytes: 1 };
        assert_eq!(PayloadRef::from_value(&reference.to_value()), Some(reference));
        assert_eq!(PayloadRef::from_value(&json!({"$payload": {"bytes": 1}})), None);
        assert_eq!(PayloadRef::from_value(&json!({"$payload": reference, "more": 1})), None);
    }

    #[test]
    fn size_is_judged_without_serializing() {
        let value = json!({"rows": vec![json!({"a": 1, "b": "text"}); 100]});
        let bytes = value.to_string().len();
        assert!(fits_within(&value, bytes * 4));
        assert!(!fits_within(&value, bytes / 2));
    }
}
