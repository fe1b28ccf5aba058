//! Answers in pieces: when each is sent, and how a stream ends that does not end well.

use std::time::Duration;

use serde_json::{Value, json};

use super::script::WireFormat;

/// What a scripted stream does besides saying its pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Manner {
    /// The wait before every piece.
    pub(super) pause: Duration,
    /// The wait in the middle.
    pub(super) stall: Duration,
    pub(super) end: End,
}

/// How a stream ends.
#[derive(Clone, Debug, Default)]
pub(super) enum End {
    /// With its mark.
    #[default]
    Marked,
    /// In order, without its mark.
    Unmarked,
    /// In order, in the middle.
    Early,
    /// In the middle, with an error of this kind in the place of a piece.
    Error { kind: String, message: String },
    /// Never: a piece of the middle comes again and again.
    Never,
}

/// A stream that is ready to be sent.
pub(super) struct Stream {
    /// Its events, in order.
    pub(super) events: Vec<String>,
    pub(super) pause: Duration,
    /// Before which event it waits, and how long.
    pub(super) stall: (usize, Duration),
    /// The event that comes for ever after the last one.
    pub(super) again: Option<String>,
}

impl Stream {
    /// Makes a stream of the events of a whole answer, the last of which is the mark of its end.
    pub(super) fn new(mut events: Vec<String>, format: WireFormat, manner: &Manner) -> Self {
        let middle = events.len() / 2;
        let again = matches!(manner.end, End::Never).then(|| events[middle].clone());
        match &manner.end {
            End::Marked => {}
            End::Unmarked => drop(events.pop()),
            End::Early | End::Never => events.truncate(middle),
            End::Error { kind, message } => {
                events.truncate(middle);
                events.extend(error(format, kind, message));
            }
        }
        Self { events, pause: manner.pause, stall: (middle, manner.stall), again }
    }
}

/// Renders an event that is named after its type, as Anthropic's are.
pub(super) fn named(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default())
}

fn error(format: WireFormat, kind: &str, message: &str) -> Vec<String> {
    let error = json!({"type": kind, "message": message});
    match format {
        WireFormat::Anthropic => vec![named(&json!({"type": "error", "error": error}))],
        WireFormat::OpenAi => {
            let event = json!({"error": {"type": kind, "message": message, "param": null, "code": null}});
            vec![format!("data: {event}\n\n"), "data: [DONE]\n\n".to_owned()]
        }
    }
}
