//! SHA-256 over canonical JSON (RFC 8785): what a plan, a tool or a payload is identified by.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::id::{RunId, StepId, ToolName};

/// A SHA-256 digest, written as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Digest(pub [u8; 32]);

/// What stands before the digits.
const PREFIX: &str = "sha256:";

impl Digest {
    /// Returns the key of a call: the same over all attempts of the same step with the same input.
    /// `occurrence` counts equal calls of one agent step, from 0.
    #[must_use]
    pub fn of_call(run: RunId, step: &StepId, tool: &ToolName, input: &Value, occurrence: u32) -> Self {
        let input = Self::of(input);
        let mut text = format!("{run}\0{step}\0{tool}\0{input}");
        if occurrence > 0 {
            text.push_str(&format!("\0{occurrence}"));
        }
        Self::of_bytes(text.as_bytes())
    }

    /// Returns the digest of `bytes` as they are.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the digest of the canonical JSON (RFC 8785) of `value`.
    ///
    /// # Panics
    ///
    /// If `value` does not serialize to JSON: a map with keys that are no strings. No type of this
    /// crate does that.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        let bytes = serde_json_canonicalizer::to_vec(value).expect("the domain's types serialize to JSON");
        Self::of_bytes(&bytes)
    }

    /// Returns the first twelve hexadecimal digits: enough for a person to compare.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.short())
    }
}

/// The digest of a value, found when somebody asks for it: what stays in memory is not serialized for it.
#[derive(Clone)]
pub struct LazyDigest(Found);

#[derive(Clone)]
enum Found {
    Already(Digest),
    Once(OnceLock<Digest>, Arc<Value>),
}

impl LazyDigest {
    /// Returns the digest of the canonical JSON.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match &self.0 {
            Found::Already(digest) => *digest,
            Found::Once(digest, value) => *digest.get_or_init(|| Digest::of(value.as_ref())),
        }
    }
}

impl From<Arc<Value>> for LazyDigest {
    fn from(value: Arc<Value>) -> Self {
        Self(Found::Once(OnceLock::new(), value))
    }
}

impl From<Digest> for LazyDigest {
    fn from(digest: Digest) -> Self {
        Self(Found::Already(digest))
    }
}

impl PartialEq for LazyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl fmt::Debug for LazyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest().fmt(f)
    }
}

impl Serialize for LazyDigest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.digest().serialize(to)
    }
}

impl<'de> Deserialize<'de> for LazyDigest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Digest::deserialize(from).map(Self::from)
    }
}

/// A text that is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: `sha256:` and 64 hexadecimal digits")]
pub struct InvalidDigest(String);

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(s: &str) -> Result<Self, InvalidDigest> {
        let mut bytes = [0; 32];
        s.strip_prefix(PREFIX)
            .and_then(|digits| hex::decode_to_slice(digits, &mut bytes).ok())
            .map(|()| Self(bytes))
            .ok_or_else(|| InvalidDigest(s.to_owned()))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(s: String) -> Result<Self, InvalidDigest> {
        s.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        let mut digits = [0; 64];
        // There is room for two digits of each byte, and digits are text.
        let _ = hex::encode_to_slice(digest.0, &mut digits);
        [PREFIX, std::str::from_utf8(&digits).unwrap_or_default()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_does_not_change_a_digest() {
        let a = serde_json::json!({"b": 1, "a": [1.0, "x"]});
        let b = serde_json::json!({"a": [1.0, "x"], "b": 1});
        assert_eq!(Digest::of(&a), Digest::of(&b));
    }

    #[test]
    fn a_digest_that_is_found_later_is_the_same() {
        let value = Arc::new(serde_json::json!({"b": 1, "a": 2}));
        let (later, known) = (LazyDigest::from(Arc::clone(&value)), LazyDigest::from(Digest::of(&value)));
        assert_eq!(later, known);
        let written = serde_json::to_value(&later).unwrap();
        assert_eq!(written, Digest::of(&value).to_string());
        assert_eq!(serde_json::from_value::<LazyDigest>(written).unwrap(), later);
    }

    #[test]
    fn a_digest_reads_back() {
        let digest = Digest::of_bytes(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("sha256:12".parse::<Digest>().is_err());
    }
}
