//! A question to a model whose answer is judged: what is wrong with it goes back to the model, a
//! bounded number of times.

use foreplan_core::{budget::Usage, call::Call, finding::Finding};
use serde_json::Value;

use crate::{Asked, Clock, Error, Message, Model, Request, ask, structured};

/// Findings that a model is told at once; it mends a few better than all.
const FINDINGS_TOLD_MAX: usize = 20;

/// How much of its own answer a model is shown again, in bytes.
const ANSWER_SHOWN_BYTES_MAX: usize = 32 * 1024;

/// What came of a conversation.
#[derive(Debug)]
pub struct Conversed<T> {
    /// What the answer was judged to be, or why there is none.
    pub outcome: Result<T, Unanswered>,
    /// What the calls used.
    pub usage: Usage,
    /// The record of the calls.
    pub calls: Vec<Call>,
}

/// Why a conversation came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Unanswered {
    /// The model did not answer.
    Model(Error),
    /// Its last answer was not acceptable either, for these reasons.
    Invalid(Vec<Finding>),
}

/// Asks a model, and asks it to mend its answer as long as `judge` has findings, at most
/// `repairs_max` times.
///
/// # Cancel safety
///
/// Dropped before it returns, the calls are on no record; the provider may have charged for them.
pub async fn converse<T>(
    model: &dyn Model,
    mut request: Request,
    clock: &Clock,
    repairs_max: u32,
    mut judge: impl FnMut(Value) -> Result<T, Vec<Finding>>,
) -> Conversed<T> {
    let (mut usage, mut calls) = (Usage::default(), Vec::new());
    let mut repairs = 0;
    let outcome = loop {
        let Asked { result, call, usage: used } = ask(model, request.clone(), clock).await;
        usage.add(&used);
        calls.push(call);
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => break Err(Unanswered::Model(error)),
        };
        let judged = structured(&answer)
            .map_err(|why| vec![Finding::error("answer", why.to_string())])
            .and_then(&mut judge);
        match judged {
            Ok(accepted) => break Ok(accepted),
            Err(findings) if repairs >= repairs_max => break Err(Unanswered::Invalid(findings)),
            Err(findings) => {
                repairs += 1;
                request.messages.push(Message::Assistant { text: shown(answer.text), calls: Vec::new() });
                request.messages.push(Message::User { text: complaint(&findings) });
            }
        }
    };
    Conversed { outcome, usage, calls }
}

fn complaint(findings: &[Finding]) -> String {
    let mut text = String::from("This cannot be accepted:\n");
    let errors: Vec<&Finding> = findings.iter().filter(|finding| finding.is_error()).collect();
    for finding in errors.iter().take(FINDINGS_TOLD_MAX) {
        text.push_str(&format!("- {finding}\n"));
    }
    if errors.len() > FINDINGS_TOLD_MAX {
        text.push_str(&format!("- and {} more\n", errors.len() - FINDINGS_TOLD_MAX));
    }
    text.push_str("Answer again, as a whole, in the same form.");
    text
}

fn shown(mut text: String) -> String {
    if text.trim().is_empty() {
        return "(nothing)".to_owned();
    }
    if text.len() > ANSWER_SHOWN_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ANSWER_SHOWN_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use foreplan_core::{call::Purpose, digest::Digest, time::Timestamp};
    use futures::future::{BoxFuture, ready};

    use super::*;
    use crate::{Answer, ErrorKind};

    /// Answers what it was given, in order, and keeps what it was asked.
    struct Scripted {
        answers: Mutex<Vec<Result<&'static str, ErrorKind>>>,
        asked: Mutex<Vec<Arc<Request>>>,
    }

    impl Model for Scripted {
        fn name(&self) -> &str {
            "test/scripted"
        }

        fn chat(&self, request: Arc<Request>) -> BoxFuture<'_, Result<Answer, Error>> {
            self.asked.lock().unwrap().push(request);
            let next = self.answers.lock().unwrap().remove(0);
            let answer = next.map(|text| Answer { text: text.to_owned(), ..Answer::default() });
            Box::pin(ready(answer.map_err(|kind| Error::new(self.name(), kind, "no"))))
        }
    }

    async fn talk(answers: Vec<Result<&'static str, ErrorKind>>) -> (Conversed<i64>, Vec<Arc<Request>>) {
        let model = Scripted { answers: Mutex::new(answers), asked: Mutex::default() };
        let request = Request {
            purpose: Purpose::Plan,
            prompt: Digest::of_bytes(b"prompt"),
            system: "s".to_owned(),
            messages: vec![Message::User { text: "u".to_owned() }],
            tools: Vec::new(),
            output: None,
            max_output_tokens: None,
        };
        let clock: Clock = Arc::new(Timestamp::default);
        let judge = |value: Value| match value["n"].as_i64() {
            Some(n) if n < 10 => Ok(n),
            _ => Err(vec![Finding::error("large", "n must be below 10"), Finding::advice("x", "nice")]),
        };
        let conversed = converse(&model, request, &clock, 2, judge).await;
        (conversed, model.asked.into_inner().unwrap())
    }

    #[tokio::test]
    async fn what_is_wrong_goes_back_to_the_model_with_its_answer() {
        let (conversed, asked) = talk(vec![Ok("{\"n\": 70}"), Ok("{\"n\": 7}")]).await;
        assert_eq!(conversed.outcome, Ok(7));
        assert_eq!((conversed.usage.model_calls, conversed.calls.len()), (2, 2));
        assert_eq!(
            asked[1].messages[1],
            Message::Assistant { text: "{\"n\": 70}".to_owned(), calls: vec![] }
        );
        let Message::User { text } = &asked[1].messages[2] else { panic!("no complaint") };
        assert!(text.contains("n must be below 10") && !text.contains("nice"), "{text}");
    }

    #[tokio::test]
    async fn repairs_end_and_the_last_findings_are_told() {
        let (conversed, asked) = talk(vec![Ok("{\"n\": 70}"), Ok("no"), Ok("")]).await;
        assert_eq!(asked.len(), 3);
        let Err(Unanswered::Invalid(findings)) = conversed.outcome else { panic!("an answer") };
        assert_eq!(findings[0].message, "the answer is empty; answer with JSON");
    }

    #[tokio::test]
    async fn a_model_that_does_not_answer_is_not_asked_again() {
        let (conversed, asked) = talk(vec![Err(ErrorKind::Refused)]).await;
        assert!(matches!(conversed.outcome, Err(Unanswered::Model(_))));
        assert_eq!(asked.len(), 1);
        assert_eq!(conversed.calls[0].failure.as_ref().unwrap().code, "refused");
    }
}
