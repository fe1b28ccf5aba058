//! Reading what a stream has now.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
    stream::{LastRawMessageErrorKind, Stream},
};
use async_nats::{HeaderMap, jetstream::message::StreamMessage};
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::{Error, error::chain};

/// Messages that are asked for at once.
const BATCH: usize = 500;

/// How long the server may take to deliver what it has.
const WAIT: Duration = Duration::from_secs(5);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the server keeps a reader that was forgotten.
const READER_AGE: Duration = Duration::from_secs(10);

/// One message of a stream.
pub(crate) struct Read {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Vec<u8>,
}

/// What is to be read.
pub(crate) struct Wanted {
    pub(crate) subject: String,
    pub(crate) from: DeliverPolicy,
    pub(crate) headers_only: bool,
    /// The last sequence there is, if the leader said so; else what the reader's own view holds.
    pub(crate) until: Option<u64>,
}

/// Returns what a stream has now.
pub(crate) async fn read(stream: &Stream, wanted: Wanted) -> Result<Vec<Read>, Error> {
    Ok(read_at_most(stream, wanted, usize::MAX).await?.unwrap_or_default())
}

/// Returns what a stream has now, if that is not more messages than `most`.
pub(crate) async fn read_at_most(
    stream: &Stream,
    wanted: Wanted,
    most: usize,
) -> Result<Option<Vec<Read>>, Error> {
    let config = pull::Config {
        filter_subject: wanted.subject,
        deliver_policy: wanted.from,
        headers_only: wanted.headers_only,
        ack_policy: AckPolicy::None,
        inactive_threshold: READER_AGE,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let failed = |reason: String| Error::server("a stream is read", reason);
    let reader: PullConsumer = stream.create_consumer(config).await.map_err(|e| failed(chain(&e)))?;
    let is_too_much = reader.cached_info().num_pending > most as u64;
    let result = match is_too_much {
        true => Ok(None),
        false => drain(&reader, wanted.until).await.map(Some),
    };
    let name = reader.cached_info().name.clone();
    if let Err(error) = stream.delete_consumer(&name).await {
        tracing::debug!(%error, "a reader was not deleted; it ends by itself");
    }
    result
}

async fn drain(reader: &PullConsumer, until: Option<u64>) -> Result<Vec<Read>, Error> {
    let mut expected = usize::try_from(reader.cached_info().num_pending).unwrap_or(usize::MAX);
    if until.is_some() {
        expected = expected.max(1);
    }
    let mut read: Vec<Read> = Vec::with_capacity(expected);
    let is_done = |read: &[Read]| match until {
        Some(until) => read.last().is_some_and(|last| last.sequence >= until),
        None => read.len() >= expected,
    };
    let end = Instant::now() + WAIT;
    while !is_done(&read) {
        let wanted = expected.saturating_sub(read.len()).clamp(1, BATCH);
        let before = read.len();
        match fetch(reader, wanted, &mut read).await {
            Ok(()) if read.len() > before => {}
            Ok(()) => return Err(Error::server("a stream is read", "it did not deliver what it has")),
            // Of a reader that another server of a cluster has, this one may not have heard yet.
            Err(error) if Instant::now() < end => {
                tracing::debug!(%error, "a reader is asked again");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Adds what comes next.
async fn fetch(reader: &PullConsumer, wanted: usize, read: &mut Vec<Read>) -> Result<(), Error> {
    let failed = |reason: String| Error::server("a stream is read", reason);
    let batch = reader.batch().max_messages(wanted).expires(WAIT).messages().await;
    let mut batch = batch.map_err(|e| failed(chain(&e)))?;
    while let Some(message) = batch.next().await {
        let message = message.map_err(|e| failed(e.to_string()))?;
        let sequence = message.info().map_err(|e| failed(e.to_string()))?.stream_sequence;
        read.push(Read {
            subject: message.subject.to_string(),
            sequence,
            headers: message.headers.clone().unwrap_or_default(),
            payload: message.payload.to_vec(),
        });
    }
    Ok(())
}

/// Returns the last message of a subject, as the stream's leader knows it.
pub(crate) async fn last(stream: &Stream, subject: &str) -> Result<Option<StreamMessage>, Error> {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(Error::server("the last message is read", chain(&error))),
    }
}
