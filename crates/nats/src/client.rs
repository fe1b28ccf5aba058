//! The client's side: runs are submitted and commanded over `CMD`, and answered.

use std::{sync::Arc, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{context::PublishErrorKind, message::PublishMessage},
};
use foreplan_core::{
    goal::RunSpec,
    id::RunId,
    input::{Command, Input},
    run::Rejection,
};
use foreplan_protocol::{Frame, Message};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Connection, Error, error::chain};

/// The header that names where an answer goes.
pub(crate) const REPLY_TO: &str = "Foreplan-Reply";

/// How long a deployment may take to answer: a takeover lies within.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// How long an answer may take before it is asked for again: it does not outlive a server that restarts.
const ASK_AGAIN: Duration = Duration::from_secs(4);

/// How often a command is sent whose confirmation does not come.
const TRIES: u32 = 3;

/// What a deployment says to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is durable.
    Accepted,
    /// It changes nothing.
    Refused(Refusal),
}

/// Why a command changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, schemars::JsonSchema)]
#[serde(tag = "code", content = "detail", rename_all = "snake_case")]
pub enum Refusal {
    /// The run refuses it.
    #[error(transparent)]
    Rejected(Rejection),
    /// There is a run with this project and key.
    #[error("the run {0} exists already")]
    Exists(RunId),
    /// There is no such run.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// No run can begin where it was to be forked.
    #[error("{0}")]
    Fork(String),
    /// Too much is going on.
    #[error("{0}")]
    Busy(String),
    /// The run cannot be carried on.
    #[error("{0}")]
    Stuck(String),
}

/// A client of a deployment.
#[derive(Clone)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Makes a client.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Submits a run in somebody's name. Submitting it twice is one run, so that an answer that was lost
    /// on its way is asked for again.
    ///
    /// # Errors
    ///
    /// If no answer comes.
    pub async fn submit(&self, run: RunId, spec: Arc<RunSpec>, by: &str) -> Result<Answer, Error> {
        self.ask(run, run.0, by, Input::Submit { spec, by: by.to_owned(), kept: Vec::new() }).await
    }

    /// Sends a command. Sending it twice is one command, so that an answer that was lost on its way is
    /// asked for again.
    ///
    /// # Errors
    ///
    /// If no answer comes.
    pub async fn command(&self, run: RunId, command: Command) -> Result<Answer, Error> {
        let (id, by) = (command.id, command.by.clone());
        self.ask(run, id, &by, Input::Command(command)).await
    }

    async fn ask(&self, run: RunId, id: Uuid, by: &str, input: Input) -> Result<Answer, Error> {
        self.send(run, id, by, input).await.map_err(|error| self.connection.explain(error))
    }

    async fn send(&self, run: RunId, id: Uuid, by: &str, input: Input) -> Result<Answer, Error> {
        let failed = |reason: String| Error::server("a command is sent", reason);
        let client = &self.connection.client;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|e| failed(chain(&e)))?;
        let frame = Frame::new(id, Message::Input { run, input });
        let bytes = frame.encode().map_err(|e| failed(e.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(REPLY_TO, inbox.as_str());
        let message = PublishMessage::build().payload(bytes.into()).headers(headers);
        let subject = self.connection.names.command(by, run);
        self.publish(subject.clone(), message.clone().message_id(id.to_string())).await?;
        let answered = async {
            let mut asked = 0;
            loop {
                if let Ok(answer) = tokio::time::timeout(ASK_AGAIN, answers.next()).await {
                    return answer;
                }
                // To the server another message, or it would be dropped; to the tracker the same command,
                // which is answered again and carried out once.
                asked += 1;
                let again = message.clone().message_id(format!("{id}.{asked}"));
                if let Err(error) = self.publish(subject.clone(), again).await {
                    tracing::debug!(%error, "an answer could not be asked for again");
                }
            }
        };
        match tokio::time::timeout(ANSWER_WAIT, answered).await {
            Ok(Some(answer)) => serde_json::from_slice(&answer.payload).map_err(|e| failed(e.to_string())),
            Ok(None) => Err(failed("the connection has ended".to_owned())),
            Err(_) => Err(failed(format!(
                "it is queued, but no tracker has answered within {} s: is one running? (`foreplan serve --roles tracker`)",
                ANSWER_WAIT.as_secs()
            ))),
        }
    }

    /// Publishes a message whose id makes a repetition harmless: a confirmation may be lost.
    async fn publish(&self, subject: String, message: PublishMessage) -> Result<(), Error> {
        let mut left = TRIES;
        loop {
            left -= 1;
            let sent = match self.connection.js.send_publish(subject.clone(), message.clone()).await {
                Ok(sent) => sent.await.map(|_| ()),
                Err(error) => Err(error),
            };
            let Err(error) = sent else { return Ok(()) };
            let is_lost = matches!(error.kind(), PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe);
            let error = self.connection.explain(Error::server("a command is sent", chain(&error)));
            if left == 0 || !is_lost || matches!(error, Error::Denied { .. }) {
                return Err(error);
            }
            tracing::debug!(%error, "a command is sent again");
        }
    }

    /// Returns a stream that has an item whenever the run may have a new entry.
    ///
    /// # Errors
    ///
    /// If the server refuses it.
    pub async fn news(&self, run: RunId) -> Result<impl futures::Stream<Item = ()> + Send + use<>, Error> {
        let subject = self.connection.names.run(run);
        let news = self.connection.client.subscribe(subject).await;
        Ok(news.map_err(|e| Error::server("a run is followed", chain(&e)))?.map(|_| ()))
    }

    /// Returns what could not be processed, oldest first: its subject and its bytes.
    ///
    /// # Errors
    ///
    /// If the server refuses it.
    pub async fn dead(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let stream = self.connection.stream("DEAD").await?;
        let wanted = crate::read::Wanted {
            subject: ">".to_owned(),
            from: async_nats::jetstream::consumer::DeliverPolicy::All,
            headers_only: false,
            until: None,
        };
        let read = crate::read::read(&stream, wanted).await?;
        Ok(read.into_iter().map(|one| (one.subject, one.payload)).collect())
    }
}
