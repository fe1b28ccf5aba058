//! Reading one subject with one question: servers from 2.11 on answer a direct get with many messages.
//! A consumer, which costs the server much more, is for older ones, and where the answer is not whole.

use std::time::Duration;

use async_nats::{HeaderMap, Message, StatusCode};
use futures::StreamExt as _;
use serde_json::json;

use crate::{Connection, Error, error::chain, read::Read};

/// The first server that answers so. Older ones do not know the field and send one message.
const VERSION: (u32, u32, u32) = (2, 11, 0);

/// Messages that are asked for at once: more than a run has entries.
const BATCH: usize = 100_000;

/// How long the server may take to send the next message.
const WAIT: Duration = Duration::from_secs(5);

/// Headers that the server adds.
const SEQUENCE: &str = "Nats-Sequence";
const PENDING: &str = "Nats-Num-Pending";

/// Returns the messages of a subject between two sequences of its stream, of which the last must be
/// there; `None` if the server cannot answer so, or the replica that did lags behind.
pub(crate) async fn read(
    connection: &Connection,
    stream: &str,
    subject: &str,
    (from, until): (u64, u64),
) -> Result<Option<Vec<Read>>, Error> {
    if !connection.is_at_least(VERSION) {
        return Ok(None);
    }
    let failed = |reason: String| Error::server("a stream is read", reason);
    let client = &connection.client;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|e| failed(chain(&e)))?;
    let question = json!({"seq": from.max(1), "next_by_subj": subject, "batch": BATCH}).to_string();
    let to = format!("$JS.API.DIRECT.GET.{stream}");
    client.publish_with_reply(to, inbox, question.into()).await.map_err(|e| failed(chain(&e)))?;
    let mut read = Vec::new();
    loop {
        let Ok(Some(message)) = tokio::time::timeout(WAIT, answers.next()).await else { return Ok(None) };
        let Some(one) = message_of(message, subject) else { return Ok(None) };
        let is_last = one.sequence >= until;
        if one.sequence <= until {
            read.push(one);
        }
        if is_last {
            return Ok(read.last().is_some_and(|last| last.sequence == until).then_some(read));
        }
    }
}

/// Returns a message of the answer; `None` of its end, and of what is no answer of many messages.
fn message_of(message: Message, subject: &str) -> Option<Read> {
    if message.status.is_some_and(|status| status != StatusCode::OK) {
        return None;
    }
    let headers = message.headers?;
    headers.get(PENDING)?;
    let sequence = number(&headers, SEQUENCE)?;
    Some(Read { subject: subject.to_owned(), sequence, headers, payload: message.payload.to_vec() })
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}
