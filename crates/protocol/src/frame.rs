//! A message as it leaves a process: JSON with its header.

use foreplan_core::payload::ENTRY_BYTES_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Header, Message, VERSION};

/// Most messages fit into so many bytes: what is written grows seldom.
const FRAME_BYTES: usize = 1024;

/// A message with its header: `{"header": {…}, "body": {…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// What travels with it.
    pub header: Header,
    /// The message.
    pub body: Message,
}

/// Why bytes are no message, or a message cannot become bytes.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The message is too large to travel.
    #[error("a message of {bytes} bytes is larger than {max}: large values travel by reference")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes are no message.
    #[error("the bytes are no message")]
    Malformed(#[source] serde_json::Error),
    /// The message has a form that this program does not know.
    #[error("the message has version {found}; this program reads up to {known}: upgrade it")]
    TooNew {
        /// Its version.
        found: u32,
        /// What this program reads.
        known: u32,
    },
}

impl Frame {
    /// Makes the frame of a message, which says where in the run's trace it belongs.
    #[must_use]
    pub fn new(id: Uuid, body: Message) -> Self {
        let traceparent = Some(body.trace().to_string());
        Self { header: Header { traceparent, ..Header::new(id) }, body }
    }

    /// Writes the message.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLarge`].
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        let mut bytes = Vec::with_capacity(FRAME_BYTES);
        serde_json::to_writer(&mut bytes, self).map_err(FrameError::Malformed)?;
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(FrameError::TooLarge { bytes: bytes.len(), max: ENTRY_BYTES_MAX });
        }
        Ok(bytes)
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// See [`FrameError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(FrameError::TooLarge { bytes: bytes.len(), max: ENTRY_BYTES_MAX });
        }
        match serde_json::from_slice::<Self>(bytes) {
            Ok(frame) if frame.header.v <= VERSION => Ok(frame),
            Ok(frame) => Err(FrameError::TooNew { found: frame.header.v, known: VERSION }),
            Err(error) => Err(newer(bytes).unwrap_or(FrameError::Malformed(error))),
        }
    }
}

/// Tells a message of a later version from one that is none.
fn newer(bytes: &[u8]) -> Option<FrameError> {
    #[derive(Deserialize)]
    struct Probe {
        header: ProbeHeader,
    }
    #[derive(Deserialize)]
    struct ProbeHeader {
        v: u32,
    }
    let found = serde_json::from_slice::<Probe>(bytes).ok()?.header.v;
    (found > VERSION).then_some(FrameError::TooNew { found, known: VERSION })
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreplan_core::{id::RunId, input::Input};

    fn frame() -> Frame {
        let body = Message::Input { run: RunId(Uuid::nil()), input: Input::Wake };
        Frame::new(Uuid::nil(), body)
    }

    #[test]
    fn a_message_reads_back() {
        let frame = frame();
        assert_eq!(Frame::decode(&frame.encode().unwrap()).unwrap(), frame);
        assert_eq!(frame.header.traceparent, Some(frame.body.trace().to_string()));
    }

    #[test]
    fn a_message_of_a_later_version_is_told_from_bytes_that_are_none() {
        let bytes = br#"{"header": {"v": 99, "id": "x"}, "body": {"message": "unheard_of"}}"#;
        assert!(matches!(Frame::decode(bytes), Err(FrameError::TooNew { found: 99, .. })));
        assert!(matches!(Frame::decode(b"{"), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn five_megabytes_are_refused_unread() {
        let bytes = vec![b' '; 5 << 20];
        assert!(matches!(Frame::decode(&bytes), Err(FrameError::TooLarge { .. })));
    }
}
