//! A tool: what planners see of it, and how it is called.

use std::{any::Any, future::Future, marker::PhantomData, sync::Arc, time::Duration};

use foreplan_core::{
    digest::Digest,
    failure::{EffectState, Failure, FailureKind},
    id::ToolName,
    tool::{Effect, ToolDescriptor},
};
use futures::future::BoxFuture;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::call::{Call, Handler};

/// What a tool costs unless it says otherwise.
const COST_DEFAULT: u64 = 1;

/// A tool of this process.
#[derive(Clone)]
pub struct Tool {
    pub(crate) descriptor: ToolDescriptor,
    /// What the digest covers beyond the descriptor: argv, URL, filter, and so on; no secrets.
    identity: Value,
    pub(crate) handler: Arc<dyn Handler>,
}

/// What a tool is called, takes, returns, and does to the world.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// Unique within a toolbox.
    pub name: ToolName,
    /// What it does, for planners and people.
    pub description: String,
    /// What a call does to the world.
    pub effect: Effect,
    /// JSON Schema of the input: an object.
    pub input: Value,
    /// JSON Schema of the output.
    pub output: Value,
}

impl Tool {
    /// Makes a tool of any kind. The digest covers `identity`: whatever makes the tool do something
    /// else when it changes, without secrets.
    pub fn new(signature: Signature, identity: Value, handler: Arc<dyn Handler>) -> Self {
        let Signature { name, description, effect, input, output } = signature;
        let descriptor = ToolDescriptor {
            name,
            description,
            input,
            output,
            effect,
            capabilities: Vec::new(),
            digest: Digest([0; 32]),
            cost: COST_DEFAULT,
            writes: Vec::new(),
            verify: None,
            artifacts: std::collections::BTreeMap::new(),
            timeout: None,
        };
        Self { descriptor, identity, handler }.sealed()
    }

    /// Makes a tool of a function. The schemas come from the types; an input of `()` takes any
    /// object and ignores it. The digest does not cover the function's code.
    ///
    /// ```
    /// # use foreplan_core::{failure::Failure, tool::Effect};
    /// # use foreplan_tools::Tool;
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Numbers { numbers: Vec<f64> }
    /// #[derive(serde::Serialize, schemars::JsonSchema)]
    /// struct Sum { sum: f64 }
    ///
    /// let tool = Tool::function("add", "Adds numbers", Effect::Read, |input: Numbers| async move {
    ///     Ok(Sum { sum: input.numbers.iter().sum() })
    /// });
    /// ```
    pub fn function<In, Out, F, Fut>(
        name: impl Into<ToolName>,
        description: impl Into<String>,
        effect: Effect,
        function: F,
    ) -> Self
    where
        In: DeserializeOwned + JsonSchema + Send + 'static,
        Out: Serialize + JsonSchema + 'static,
        F: Fn(In) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Out, Failure>> + Send + 'static,
    {
        let input = schema_of::<In>();
        let takes_nothing = input == json!({"type": "null"});
        let input = if takes_nothing { json!({"type": "object"}) } else { input };
        let signature = Signature {
            name: name.into(),
            description: description.into(),
            effect,
            input,
            output: schema_of::<Out>(),
        };
        let handler = Function { function, takes_nothing, input: PhantomData::<fn(In)> };
        Self::new(signature, json!({"kind": "function"}), Arc::new(handler))
    }

    /// Sets the relative cost of a call, for `derive`.
    #[must_use]
    pub fn cost(mut self, cost: u64) -> Self {
        self.descriptor.cost = cost;
        self
    }

    /// Sets how long a call may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.descriptor.timeout = Some(timeout);
        self
    }

    /// Names the read tool that tells whether a call happened.
    #[must_use]
    pub fn verify(mut self, tool: impl Into<ToolName>) -> Self {
        self.descriptor.verify = Some(tool.into());
        self.sealed()
    }

    /// Sets what a call writes, as templates over its input.
    #[must_use]
    pub fn writes<S: Into<String>>(mut self, writes: impl IntoIterator<Item = S>) -> Self {
        self.descriptor.writes = writes.into_iter().map(Into::into).collect();
        self
    }

    /// Names the artifact that a field of the output is, where it differs from the field.
    #[must_use]
    pub fn artifact(mut self, field: impl Into<String>, name: impl Into<String>) -> Self {
        self.descriptor.artifacts.insert(field.into(), name.into());
        self
    }

    /// Returns what planners and the checker see. The toolbox adds the capabilities.
    #[must_use]
    pub fn descriptor(&self) -> &ToolDescriptor {
        &self.descriptor
    }

    fn sealed(mut self) -> Self {
        let tool = &self.descriptor;
        self.descriptor.digest = Digest::of(&json!({
            "name": tool.name,
            "input": tool.input,
            "output": tool.output,
            "effect": tool.effect,
            "verify": tool.verify,
            "identity": self.identity,
        }));
        self
    }
}

impl std::fmt::Debug for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tool").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

/// Returns the schema of a type without references and without the type's name, so that a renamed
/// type leaves the tool's digest as it is.
fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("$schema");
        fields.remove("title");
    }
    schema
}

struct Function<F, In> {
    function: F,
    takes_nothing: bool,
    input: PhantomData<fn(In)>,
}

impl<F, In, Out, Fut> Handler for Function<F, In>
where
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + 'static,
    F: Fn(In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, Failure>> + Send + 'static,
{
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        let input = if self.takes_nothing { &Value::Null } else { call.input.as_ref() };
        let input = In::deserialize(input);
        Box::pin(async move {
            let input = input.map_err(|e| {
                Failure::new(FailureKind::InputSchema, "input_schema", e.to_string())
                    .effect(EffectState::None)
            })?;
            to_value((self.function)(input).await?)
        })
    }
}

/// Returns the JSON of what a function returned. A value is passed on as it is.
fn to_value<Out: Serialize + 'static>(output: Out) -> Result<Value, Failure> {
    let mut output = Some(output);
    if let Some(value) = (&mut output as &mut dyn Any).downcast_mut::<Option<Value>>() {
        return Ok(value.take().unwrap_or_default());
    }
    serde_json::to_value(output).map_err(|e| {
        Failure::new(FailureKind::OutputSchema, "output_schema", format!("the output is no JSON: {e}"))
    })
}
