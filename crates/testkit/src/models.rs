//! Models that answer what a test says.

use std::sync::{Arc, Mutex, PoisonError};

use foreplan_model::{Answer, Error, Model, Models, Request};
use futures::future::{BoxFuture, ready};
use serde_json::Value;

type Script = dyn Fn(usize, &Request) -> Result<Answer, Error> + Send + Sync;

/// Models of any name that answer by a script, and keep what they were asked.
#[derive(Clone)]
pub struct ScriptedModels {
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    asked: Mutex<Vec<Arc<Request>>>,
}

impl ScriptedModels {
    /// Makes models that answer by `script`, which gets the number of the request, from 0, over all
    /// of them.
    pub fn new(script: impl Fn(usize, &Request) -> Result<Answer, Error> + Send + Sync + 'static) -> Self {
        Self { shared: Arc::new(Shared { script: Box::new(script), asked: Mutex::default() }) }
    }

    /// Makes models that give these answers, one after the other: text as it is, anything else as JSON.
    ///
    /// # Panics
    ///
    /// If more is asked.
    pub fn answering(answers: impl IntoIterator<Item = Value>) -> Self {
        let answers: Vec<Value> = answers.into_iter().collect();
        Self::new(move |at, request| {
            let answer =
                answers.get(at).unwrap_or_else(|| panic!("one request too many: {:?}", request.messages));
            let text = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
            Ok(Answer { text, ..Answer::default() })
        })
    }

    /// Returns what was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Arc<Request>> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Models for ScriptedModels {
    fn model(&self, name: &str) -> Result<Arc<dyn Model>, Error> {
        Ok(Arc::new(Scripted { name: name.to_owned(), shared: Arc::clone(&self.shared) }))
    }
}

struct Scripted {
    name: String,
    shared: Arc<Shared>,
}

impl Model for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn chat(&self, request: Arc<Request>) -> BoxFuture<'_, Result<Answer, Error>> {
        let at = {
            let mut asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(Arc::clone(&request));
            asked.len() - 1
        };
        Box::pin(ready((self.shared.script)(at, &request)))
    }
}
