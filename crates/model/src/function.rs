//! A model that the embedding program brings.

use std::sync::Arc;

use futures::future::{BoxFuture, ready};

use crate::{Answer, Error, Model, Models, Request};

/// A model that is a function of the request. It answers to every name.
pub struct Function<F>(Arc<Named<F>>);

struct Named<F> {
    name: String,
    answer: F,
}

impl<F> Function<F>
where
    F: Fn(&Request) -> Result<Answer, Error> + Send + Sync + 'static,
{
    /// Makes a model with the name that the record shows.
    pub fn new(name: impl Into<String>, answer: F) -> Self {
        Self(Arc::new(Named { name: name.into(), answer }))
    }
}

impl<F> Model for Named<F>
where
    F: Fn(&Request) -> Result<Answer, Error> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn chat(&self, request: Arc<Request>) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(ready((self.answer)(&request)))
    }
}

impl<F> Models for Function<F>
where
    F: Fn(&Request) -> Result<Answer, Error> + Send + Sync + 'static,
{
    fn model(&self, _: &str) -> Result<Arc<dyn Model>, Error> {
        Ok(Arc::clone(&self.0) as _)
    }
}
