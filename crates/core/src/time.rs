//! Points in time and spans of time, as values that come in from outside.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: microseconds since the Unix epoch, UTC.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the point that lies `span` later; the far future if that cannot be represented.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// Returns the point that lies `span` earlier; the far past if that cannot be represented.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }

    /// Returns how long after `earlier` this point lies; zero if it does not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Durations in documents that people write: `30s`, `5m`, `1h 30m`.
pub mod text {
    use super::{Deserialize, Duration};
    use serde::{Deserializer, Serializer, de::Error};

    /// Writes a duration as people write it.
    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*span))
    }

    /// Reads a duration as people write it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        humantime::parse_duration(&text)
            .map_err(|e| D::Error::custom(format_args!("`{text}` is not a duration like `30s` or `5m`: {e}")))
    }

    /// The same for a duration that may be absent.
    pub mod option {
        use super::{Deserializer, Duration, Serializer};

        /// Writes a duration as people write it, or nothing.
        pub fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
            match span {
                Some(span) => super::serialize(span, to),
                None => to.serialize_none(),
            }
        }

        /// Reads a duration as people write it.
        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
            super::deserialize(from).map(Some)
        }
    }
}

/// Points in time in documents that programs read: RFC 3339 in UTC, with microseconds.
pub mod rfc3339 {
    use jiff::Timestamp as Instant;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Timestamp;

    /// Writes a point in time as RFC 3339.
    pub fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format(*at))
    }

    /// Reads a point in time from RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        let instant: Instant = text.parse().map_err(D::Error::custom)?;
        Ok(Timestamp(instant.as_microsecond()))
    }

    /// Returns the text of a point in time; the epoch's if it is beyond the calendar.
    #[must_use]
    pub fn format(at: Timestamp) -> String {
        Instant::from_microsecond(at.0).unwrap_or(Instant::UNIX_EPOCH).to_string()
    }

    /// The same for a point in time that may be absent.
    pub mod option {
        use serde::{Deserialize, Deserializer, Serializer};

        use super::Timestamp;

        /// Writes a point in time as RFC 3339, or null.
        pub fn serialize<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, to),
                None => to.serialize_none(),
            }
        }

        /// Reads a point in time from RFC 3339, or null.
        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
            #[derive(Deserialize)]
            struct Text(#[serde(with = "super")] Timestamp);
            Ok(Option::<Text>::deserialize(from)?.map(|text| text.0))
        }
    }
}
