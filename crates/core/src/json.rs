//! Strict JSON for documents that people and models write: I-JSON (RFC 7493), so that a digest over
//! the canonical form means one thing only.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// The largest integer that every JSON reader understands: 2^53 − 1.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// A document that cannot be read, and where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, a duplicate key, or an integer beyond ±(2^53−1).
    #[error("{0}")]
    Syntax(#[source] serde_json::Error),
    /// JSON of the wrong shape.
    #[error("at `{path}`: {source}")]
    Shape {
        /// Where in the document, as `steps[2].input`.
        path: String,
        /// What was expected there.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads a document.
///
/// # Errors
///
/// See [`Error`].
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    from_value(parse_value(text)?)
}

/// Reads a JSON value, refusing duplicate keys and integers beyond ±(2^53−1).
///
/// # Errors
///
/// [`Error::Syntax`] with line and column.
pub fn parse_value(text: &str) -> Result<Value, Error> {
    serde_json::from_str::<Strict>(text).map(|strict| strict.0).map_err(Error::Syntax)
}

/// Reads a document from a value that is already parsed.
///
/// # Errors
///
/// [`Error::Shape`] with the path.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(value)
        .map_err(|e| Error::Shape { path: e.path().to_string(), source: e.into_inner() })
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Value, E> {
        if n > INTEGER_MAX {
            return Err(E::custom(format_args!("the integer {n} is beyond 2^53-1; write it as a string")));
        }
        Ok(n.into())
    }

    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Value, E> {
        if n.unsigned_abs() > INTEGER_MAX {
            return Err(E::custom(format_args!("the integer {n} is beyond -(2^53-1); write it as a string")));
        }
        Ok(n.into())
    }

    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<Value, E> {
        if n.fract() == 0.0 && n.abs() > INTEGER_MAX as f64 && n.abs() < 1e21 {
            return Err(E::custom(format_args!("the integer {n} is beyond 2^53-1; write it as a string")));
        }
        Number::from_f64(n).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, s: &str) -> Result<Value, E> {
        Ok(Value::String(s.to_owned()))
    }

    fn visit_string<E>(self, s: String) -> Result<Value, E> {
        Ok(Value::String(s))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key `{key}` stands twice in one object")));
            }
            let Strict(value) = map.next_value()?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse_value(text).unwrap_err().to_string()
    }

    #[test]
    fn duplicate_keys_are_refused_with_their_place() {
        let message = refused("{\"a\": 1,\n \"a\": 2}");
        assert!(message.contains("`a` stands twice") && message.contains("line 2"), "{message}");
    }

    #[test]
    fn integers_beyond_the_common_range_are_refused() {
        assert!(refused("[9007199254740992]").contains("beyond 2^53-1"));
        assert!(refused("[-9007199254740992]").contains("beyond"));
        assert!(refused("[1e19]").contains("beyond"));
        assert!(parse_value("[9007199254740991, -9007199254740991, 1.5e300]").is_ok());
    }

    #[test]
    fn a_wrong_shape_is_named_by_its_path() {
        let plan = r#"{"format": 1, "steps": [{"id": "a", "tool": "t", "needs": "b"}]}"#;
        let message = parse::<crate::plan::Plan>(plan).unwrap_err().to_string();
        assert!(message.starts_with("at `steps[0].needs`"), "{message}");
    }
}
