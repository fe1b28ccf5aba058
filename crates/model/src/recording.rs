//! Recorded sessions: what models answered, kept in a file, and answers taken from it.
//!
//! A session is a file of JSON lines, one for each answer: the model's name, the digest of the
//! request, and the answer or the error. It holds no requests and no keys. A [`Recorder`] adds to it
//! what models answer; a [`Replayer`] answers from it and asks nobody.

use std::{
    collections::{HashMap, VecDeque},
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use foreplan_core::{
    call::{Purpose, Tokens},
    digest::Digest,
};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{Answer, Error, ErrorKind, Model, Models, Request};

/// The version of the lines. A reader takes this one.
const FORMAT: u32 = 1;

/// Why a session cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be opened or read.
    #[error("the session file `{}` cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line of it is not one of a session.
    #[error("`{}`, line {line}: {why}; record the session again", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// One line of a session.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    v: u32,
    model: String,
    /// For people who read the file.
    purpose: Purpose,
    request: Digest,
    #[serde(flatten)]
    said: Said,
}

/// What a model said to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Answer(Answer),
    Error {
        code: String,
        message: String,
        #[serde(default, skip_serializing_if = "is_default")]
        tokens: Tokens,
        #[serde(default, skip_serializing_if = "is_default")]
        cost_microusd: u64,
    },
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Passes requests on to other models and adds every answer to a session file.
pub struct Recorder {
    inner: Arc<dyn Models>,
    session: Arc<Session>,
}

struct Session {
    path: PathBuf,
    file: Mutex<File>,
}

impl Recorder {
    /// Opens a session file to add to, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened.
    pub fn open(inner: Arc<dyn Models>, path: &Path) -> Result<Self, RecordingError> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|source| RecordingError::File { path: path.to_owned(), source })?;
        Ok(Self { inner, session: Arc::new(Session { path: path.to_owned(), file: Mutex::new(file) }) })
    }
}

impl Models for Recorder {
    fn model(&self, name: &str) -> Result<Arc<dyn Model>, Error> {
        let inner = self.inner.model(name)?;
        Ok(Arc::new(Recorded { inner, session: Arc::clone(&self.session) }))
    }
}

struct Recorded {
    inner: Arc<dyn Model>,
    session: Arc<Session>,
}

impl Recorded {
    async fn ask(&self, request: Arc<Request>) -> Result<Answer, Error> {
        let (purpose, digest) = (request.purpose, request.digest());
        let result = self.inner.chat(request).await;
        let said = match &result {
            Ok(answer) => Said::Answer(answer.clone()),
            Err(error) => Said::Error {
                code: error.kind.code().to_owned(),
                message: error.message.clone(),
                tokens: error.tokens,
                cost_microusd: error.cost_microusd,
            },
        };
        let line = Line { v: FORMAT, model: self.name().to_owned(), purpose, request: digest, said };
        self.session.add(&line).map_err(|e| {
            let path = self.session.path.display();
            let message =
                format!("the answer cannot be added to the session `{path}`: {e}; see --record-models");
            Error::new(self.name(), ErrorKind::BadRequest, message)
        })?;
        result
    }
}

impl Model for Recorded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn chat(&self, request: Arc<Request>) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(self.ask(request))
    }
}

impl Session {
    /// Writes a line at once, whole, so that what was answered before a crash is in the file.
    fn add(&self, line: &Line) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes)
    }
}

/// Answers from a session file. Every model of the session is there; nobody is asked.
///
/// Answers to equal requests come in the order in which they were recorded; the last one stays.
pub struct Replayer {
    tape: Arc<Tape>,
}

struct Tape {
    path: PathBuf,
    /// Invariant: no queue is empty.
    said: Mutex<HashMap<(String, Digest), VecDeque<Said>>>,
}

impl Replayer {
    /// Reads a session file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or holds a line that is not one of a session.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let file = |source| RecordingError::File { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(file)?;
        let mut said: HashMap<_, VecDeque<Said>> = HashMap::new();
        for (at, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let wrong = |why| RecordingError::Line { path: path.to_owned(), line: at + 1, why };
            let line: Line = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
            if line.v != FORMAT {
                return Err(wrong(format!("it has format {}, and this version reads {FORMAT}", line.v)));
            }
            said.entry((line.model, line.request)).or_default().push_back(line.said);
        }
        Ok(Self { tape: Arc::new(Tape { path: path.to_owned(), said: Mutex::new(said) }) })
    }
}

impl Models for Replayer {
    fn model(&self, name: &str) -> Result<Arc<dyn Model>, Error> {
        Ok(Arc::new(Replayed { name: name.to_owned(), tape: Arc::clone(&self.tape) }))
    }
}

struct Replayed {
    name: String,
    tape: Arc<Tape>,
}

impl Replayed {
    fn answer(&self, request: &Request) -> Result<Answer, Error> {
        let digest = request.digest();
        match self.tape.next(&self.name, digest) {
            Some(Said::Answer(answer)) => Ok(answer),
            Some(Said::Error { code, message, tokens, cost_microusd }) => {
                let kind = ErrorKind::from_code(&code).unwrap_or(ErrorKind::Unavailable);
                Err(Error { tokens, cost_microusd, ..Error::new(&self.name, kind, message) })
            }
            None => Err(self.missing(request.purpose, digest)),
        }
    }

    fn missing(&self, purpose: Purpose, digest: Digest) -> Error {
        let path = self.tape.path.display();
        let purpose = match purpose {
            Purpose::Plan => "a plan",
            Purpose::Act => "a turn of an agent step",
            Purpose::Replan => "a replan",
            Purpose::Review => "a review",
        };
        let message = format!(
            "the session `{path}` has no answer to this request for {purpose} ({digest}): the project, its data \
             or a prompt is not as it was; record it again with --record-models"
        );
        Error::new(&self.name, ErrorKind::BadRequest, message)
    }
}

impl Model for Replayed {
    fn name(&self) -> &str {
        &self.name
    }

    fn chat(&self, request: Arc<Request>) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(std::future::ready(self.answer(&request)))
    }
}

impl Tape {
    fn next(&self, model: &str, request: Digest) -> Option<Said> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = said.get_mut(&(model.to_owned(), request))?;
        if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::Message;

    /// Answers with a number that goes up, and refuses what asks for it.
    struct Counting(Mutex<u32>);

    impl Models for Arc<Counting> {
        fn model(&self, _: &str) -> Result<Arc<dyn Model>, Error> {
            Ok(Arc::clone(self) as Arc<dyn Model>)
        }
    }

    impl Model for Counting {
        fn name(&self) -> &str {
            "test/counting"
        }

        fn chat(&self, request: Arc<Request>) -> BoxFuture<'_, Result<Answer, Error>> {
            let mut count = self.0.lock().unwrap();
            *count += 1;
            let refused = matches!(&request.messages[..], [Message::User { text }] if text == "refuse");
            let result = match refused {
                true => Err(Error {
                    tokens: Tokens { input: 7, ..Tokens::default() },
                    cost_microusd: 14,
                    ..Error::new(self.name(), ErrorKind::Refused, "no")
                }),
                false => Ok(Answer { text: count.to_string(), ..Answer::default() }),
            };
            Box::pin(std::future::ready(result))
        }
    }

    fn request(text: &str) -> Arc<Request> {
        Arc::new(Request {
            purpose: Purpose::Act,
            prompt: Digest::of_bytes(b""),
            system: String::new(),
            messages: vec![Message::User { text: text.to_owned() }],
            tools: Vec::new(),
            output: None,
            max_output_tokens: None,
        })
    }

    fn record(path: &Path, questions: &[&str]) -> Vec<Result<Answer, Error>> {
        let recorder = Recorder::open(Arc::new(Arc::new(Counting(Mutex::new(0)))), path).unwrap();
        let model = recorder.model("test/counting").unwrap();
        questions.iter().map(|text| block_on(model.chat(request(text)))).collect()
    }

    fn replay(path: &Path, questions: &[&str]) -> Vec<Result<Answer, Error>> {
        let model = Replayer::open(path).unwrap().model("test/counting").unwrap();
        questions.iter().map(|text| block_on(model.chat(request(text)))).collect()
    }

    #[test]
    fn a_session_answers_as_the_models_did_errors_included() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.jsonl");
        let questions = ["a", "b", "refuse", "a"];
        let said = record(&path, &questions);
        assert_eq!(replay(&path, &questions), said);
    }

    #[test]
    fn equal_requests_are_answered_in_order_and_the_last_answer_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.jsonl");
        record(&path, &["a", "a"]);
        let texts: Vec<String> =
            replay(&path, &["a", "a", "a"]).into_iter().map(|a| a.unwrap().text).collect();
        assert_eq!(texts, ["1", "2", "2"]);
    }

    #[test]
    fn recording_adds_to_a_session() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.jsonl");
        record(&path, &["a"]);
        record(&path, &["b"]);
        assert!(replay(&path, &["a", "b"]).iter().all(Result::is_ok));
    }

    #[test]
    fn a_request_that_was_not_recorded_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.jsonl");
        record(&path, &["a"]);
        let error = replay(&path, &["b"]).remove(0).unwrap_err();
        assert_eq!(error.kind, ErrorKind::BadRequest);
        assert!(error.message.contains(&request("b").digest().to_string()), "{error}");
        assert!(error.message.contains("session.jsonl"), "{error}");
        assert!(error.message.contains("--record-models"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_session_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.jsonl");
        record(&path, &["a"]);
        let good = std::fs::read_to_string(&path).unwrap();
        for bad in ["{\"v\": 1}", "plan", &good.trim().replace("\"v\":1", "\"v\":2")] {
            std::fs::write(&path, format!("{good}{bad}\n")).unwrap();
            let error = Replayer::open(&path).err().unwrap().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
        assert!(matches!(Replayer::open(&dir.path().join("none")), Err(RecordingError::File { .. })));
    }
}
