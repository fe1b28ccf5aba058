//! Answers that come in pieces, over the client library's streams. Only a whole answer leaves here.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use genai::{
    Error as Cause, ModelIden, ServiceTarget,
    adapter::AdapterKind,
    chat::{ChatOptions, ChatRequest, ChatResponse, ChatStream, ChatStreamEvent, MessageContent, StreamEnd},
};
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use tracing::{Dispatch, instrument::WithSubscriber as _};

use crate::{
    config::STREAM_TIME_MAX,
    error::ErrorKind,
    fault::Fault,
    pieces::{Pieces, Seen},
};

/// The most bytes of a streamed answer, as they come: the longest answers of today in pieces of one token,
/// of which each has some hundred bytes around it, and as much again.
const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an answer may take.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// How long nothing may come.
    pub silence: Duration,
    /// How long the whole may take.
    pub whole: Duration,
}

impl Patience {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { silence: timeout, whole: timeout.max(STREAM_TIME_MAX) }
    }
}

/// Asks for a stream and returns the answer that its pieces make.
///
/// # Errors
///
/// If it did not come to its end. The tokens that the provider had counted by then are in the fault.
pub(crate) async fn ask(
    http: &genai::Client,
    target: ServiceTarget,
    chat: ChatRequest,
    options: ChatOptions,
    patience: Patience,
    key: Option<&str>,
) -> Result<ChatResponse, Fault> {
    let model = target.model.clone();
    let pieces = Arc::new(Pieces::new(model.adapter_kind));
    // The library puts calls of OpenAI's form where their index says, and reserves as much: they are put
    // together from the pieces instead.
    let options = options
        .with_capture_content(true)
        .with_capture_usage(true)
        .with_capture_tool_calls(model.adapter_kind != AdapterKind::OpenAI)
        .with_raw_frame_sink_arc(pieces.clone());
    let reading = async {
        let response = http.exec_chat_stream(target, chat, Some(&options)).await;
        let mut stream = response.map_err(|cause| Fault::of(&cause, key))?.stream;
        let end = read(&mut stream, &pieces, patience, key).await?;
        whole(model, end, &mut pieces.seen())
    };
    // The library logs what servers say, keys that they repeat included.
    let result = reading.with_subscriber(Dispatch::none()).await;
    result.map_err(|fault| Fault { spent: pieces.tokens(), ..fault })
}

/// Reads to the end mark.
async fn read(
    stream: &mut ChatStream,
    pieces: &Pieces,
    patience: Patience,
    key: Option<&str>,
) -> Result<StreamEnd, Fault> {
    let end = Instant::now() + patience.whole;
    loop {
        let silent = pieces.seen().last + patience.silence;
        let next = timeout_at(silent.min(end), stream.next()).await;
        let now = Instant::now();
        if pieces.seen().bytes > STREAM_BYTES_MAX {
            return Err(too_long());
        }
        match next {
            Ok(Some(Ok(ChatStreamEvent::End(end)))) => return ended(end, &pieces.seen(), key),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(cause))) => return Err(failed(&cause, stream, pieces, silent.min(end), key).await),
            Ok(None) => return Err(unfinished(&pieces.seen(), key)),
            Err(_) if now >= end => {
                let message = format!("the answer was not whole after {:?}; ask for less", patience.whole);
                return Err(Fault::new(ErrorKind::Unavailable, message));
            }
            // Signs of life without content do not come up to here.
            Err(_) if pieces.seen().last + patience.silence > now => {}
            Err(_) => return Err(silence(patience.silence, pieces.seen().count)),
        }
    }
}

/// Some forms have no mark that the library waits for: it ends those answers wherever they stop.
fn ended(end: StreamEnd, seen: &Seen, key: Option<&str>) -> Result<StreamEnd, Fault> {
    match (seen.ended, seen.unread) {
        (true, false) => Ok(end),
        (true, true) => Err(Fault::malformed("a piece of it is no JSON")),
        (false, _) => Err(unfinished(seen, key)),
    }
}

/// Says what became of a stream that ended without its mark.
fn unfinished(seen: &Seen, key: Option<&str>) -> Fault {
    match &seen.error {
        Some(error) => Fault::of_event(error, key),
        None if seen.count == 0 => Fault::new(
            ErrorKind::Malformed,
            "the server sent no answer in pieces; check that base_url and api fit, or set stream = false",
        ),
        None => Fault::broke_off(seen.count, "the mark of its end is missing"),
    }
}

/// Says what an error of the library means. Text that is no JSON is the torn end of a stream if nothing
/// follows, else an answer that nobody can read.
async fn failed(
    cause: &Cause,
    stream: &mut ChatStream,
    pieces: &Pieces,
    until: Instant,
    key: Option<&str>,
) -> Fault {
    if let Some(error) = &pieces.seen().error {
        return Fault::of_event(error, key);
    }
    if matches!(cause, Cause::ChatResponse { .. }) {
        // The library takes the field for an error whatever it holds, and the piece is lost.
        return Fault::malformed(
            "its pieces have an empty `error`, which cannot be read; set stream = false",
        );
    }
    if matches!(cause, Cause::StreamParse { .. }) {
        let follows = timeout_at(until, stream.next()).await;
        if matches!(follows, Ok(None | Some(Err(Cause::WebStream { .. })))) {
            return Fault::broke_off(pieces.seen().count, "it stops in the middle of a piece");
        }
    }
    Fault::of_stream(cause, pieces.seen().count, key)
}

fn silence(silence: Duration, count: usize) -> Fault {
    let message = match count {
        0 => format!("no answer within {silence:?}; raise timeout, or ask for less"),
        _ => format!(
            "the answer fell silent: nothing came for {silence:?} after {count} pieces; look at the server, or raise timeout"
        ),
    };
    Fault::new(ErrorKind::Unavailable, message)
}

fn too_long() -> Fault {
    Fault::new(
        ErrorKind::Malformed,
        format!(
            "the answer goes on after {STREAM_BYTES_MAX} bytes and was given up; ask for less, or look at the server"
        ),
    )
}

/// Makes of what came in pieces what would have come as a whole.
fn whole(model: ModelIden, end: StreamEnd, seen: &mut Seen) -> Result<ChatResponse, Fault> {
    let mut content = end.captured_content.unwrap_or_default();
    if model.adapter_kind == AdapterKind::OpenAI {
        let calls = seen.take_calls().ok_or_else(|| Fault::malformed("a call lacks its id or its name"))?;
        // Whole answers lose the space around them in the library.
        let text = content.texts().concat();
        content = MessageContent::default();
        if !text.trim().is_empty() {
            content.push(text.trim());
        }
        content.extend(MessageContent::from_tool_calls(calls));
    }
    let refusal = json!({"choices": [{"message": {"refusal": seen.refusal}}]});
    Ok(ChatResponse {
        content,
        reasoning_content: None,
        provider_model_iden: model.from_optional_name(seen.answered_by.take()),
        model_iden: model,
        stop_reason: end.captured_stop_reason,
        usage: end.captured_usage.unwrap_or_default(),
        captured_raw_body: Some(refusal),
        response_id: None,
    })
}

#[cfg(test)]
mod tests {
    use foreplan_testkit::{ModelServer, Reply};
    use genai::resolver::{AuthData, Endpoint};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Asks, in this form, a server that answers with this body and ends the connection.
    async fn said(form: AdapterKind, body: &str) -> Result<ChatResponse, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = ServiceTarget {
            endpoint: Endpoint::from_owned(format!("http://{}/", listener.local_addr().unwrap())),
            auth: AuthData::from_single("k"),
            model: ModelIden::new(form, "m"),
        };
        let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut vec![0; 64 * 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let patience = Patience::new(Duration::from_secs(60));
        let (http, chat) = (genai::Client::builder().build().unwrap(), ChatRequest::from_user("x"));
        let result = ask(&http, target, chat, ChatOptions::default(), patience, None).await;
        server.abort();
        result
    }

    #[tokio::test]
    async fn forms_whose_streams_the_library_ends_anywhere_end_at_their_mark_only() {
        let cases = [
            (
                AdapterKind::Ollama,
                "{\"message\": {\"content\": \"one\"}, \"done\": false}\n",
                "{\"message\": {\"content\": \" two\"}, \"done\": true, \"done_reason\": \"stop\"}\n",
                "{\"error\": \"out of memory\"}\n",
            ),
            (
                AdapterKind::Gemini,
                "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"one\"}]}}]}\n\n",
                "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \" two\"}]}, \"finishReason\": \"STOP\"}]}\n\n",
                "data: {\"error\": {\"code\": 503, \"message\": \"out of memory\"}}\n\n",
            ),
            (
                AdapterKind::OpenAIResp,
                "data: {\"type\": \"response.output_text.delta\", \"delta\": \"one\"}\n\n",
                "data: {\"type\": \"response.output_text.delta\", \"delta\": \" two\"}\n\ndata: {\"type\": \"response.completed\", \"response\": {\"id\": \"r\", \"model\": \"m\", \"status\": \"completed\", \"output\": []}}\n\n",
                "data: {\"type\": \"response.failed\", \"response\": {\"id\": \"r\", \"model\": \"m\", \"status\": \"failed\", \"output\": [], \"error\": {\"code\": \"server_error\", \"message\": \"out of memory\"}}}\n\n",
            ),
        ];
        for (form, first, last, error) in cases {
            let whole =
                said(form, &format!("{first}{last}")).await.unwrap_or_else(|e| panic!("{form:?}: {e:?}"));
            assert_eq!(whole.texts().concat(), "one two", "{form:?}");
            for (body, part) in
                [(first.to_owned(), "the mark of its end"), (format!("{first}{error}"), "out of memory")]
            {
                let fault = said(form, &body).await.unwrap_err();
                assert_eq!(
                    (fault.kind, fault.transient),
                    (ErrorKind::Unavailable, true),
                    "{form:?}: {fault:?}"
                );
                assert!(fault.message.contains(part), "{form:?}: {fault:?}");
            }
        }
    }

    #[tokio::test]
    async fn pieces_that_come_for_ever_are_given_up_after_a_time() {
        for form in [AdapterKind::OpenAI, AdapterKind::Anthropic] {
            let server = ModelServer::start().await;
            server.always(|_| true, Reply::text("one two").every(Duration::from_millis(20)).endless());
            let target = ServiceTarget {
                endpoint: Endpoint::from_owned(format!("{}/", server.base_url())),
                auth: AuthData::from_single("k"),
                model: ModelIden::new(form, "m"),
            };
            let patience = Patience { silence: Duration::from_secs(60), whole: Duration::from_millis(300) };
            let chat = ChatRequest::from_user("x");
            let http = genai::Client::builder().build().unwrap();
            let fault = ask(&http, target, chat, ChatOptions::default(), patience, None).await.unwrap_err();
            assert_eq!((fault.kind, fault.transient), (ErrorKind::Unavailable, false), "{fault:?}");
            assert!(fault.message.contains("was not whole after 300ms"), "{fault:?}");
        }
    }

    #[test]
    fn a_longer_timeout_is_the_longer_bound() {
        let minute = Patience::new(Duration::from_secs(60));
        assert_eq!((minute.silence, minute.whole), (Duration::from_secs(60), STREAM_TIME_MAX));
        let long = Patience::new(STREAM_TIME_MAX * 2);
        assert_eq!(long.whole, STREAM_TIME_MAX * 2);
    }
}
