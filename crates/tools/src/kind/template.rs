//! `[[tools.template]]`: a minijinja text over the input.

use std::{collections::BTreeMap, io, sync::Arc};

use foreplan_core::{
    failure::{Failure, chain},
    tool::Effect,
};
use futures::future::{BoxFuture, FutureExt};
use minijinja::{Environment, UndefinedBehavior, value::Serde};
use serde_json::{Map, Value, json};

use super::{OUTPUT_BYTES_MAX, blocking, output_too_large, refused, sole_field_schema};
use crate::{
    call::{Call, Handler},
    declare::{Error, Shape, Side, Template},
    project::Project,
    tool::Tool,
};

/// Instructions of one rendering: about a second of work, and far more than a report needs.
const FUEL: u64 = 5_000_000;

/// The name under which the environment holds the only template.
const NAME: &str = "template";

impl Template {
    pub(crate) fn tool(&self, project: &Project) -> Result<Tool, Error> {
        let common = self.common();
        let field = common.sole_field("text")?;
        let text = self.text(project)?;
        let side = Side { fields: self.input.as_ref(), file: self.input_schema.as_ref() };
        let input = side.input(common, project, [])?;
        let output = match common.r#as {
            Some(_) => sole_field_schema(field, json!({"type": "string"})),
            None => json!({"type": "object"}),
        };
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment
            .add_template_owned(NAME, text.clone())
            .map_err(|e| common.error("template", chain(&e)))?;
        let handler = Renderer(Arc::new(Inner { environment, field: field.to_owned() }));
        let identity = json!({"kind": "template", "template": text, "as": field});
        let signature = common.signature(Shape { input, output }, Effect::Read)?;
        Ok(common.finish(Tool::new(signature, identity, Arc::new(handler)), BTreeMap::new()))
    }

    fn text(&self, project: &Project) -> Result<String, Error> {
        let common = self.common();
        match (&self.template, &self.template_file) {
            (Some(text), None) => Ok(text.clone()),
            (None, Some(path)) => {
                let file =
                    project.existing(path).map_err(|e| common.error("template_file", e.to_string()))?;
                std::fs::read_to_string(file)
                    .map_err(|e| common.error("template_file", format!("`{path}` cannot be read: {e}")))
            }
            (None, None) => Err(common.error("template", "give the text, or `template_file`")),
            (Some(_), Some(_)) => Err(common.error("template", "there is `template_file` too; keep one")),
        }
    }
}

struct Renderer(Arc<Inner>);

struct Inner {
    environment: Environment<'static>,
    field: String,
}

impl Handler for Renderer {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.render(&call.input)).boxed()
    }
}

impl Inner {
    fn render(&self, input: &Value) -> Result<Value, Failure> {
        let failed = |e: &minijinja::Error| refused("template_error", chain(e));
        let template = self.environment.get_template(NAME).map_err(|e| failed(&e))?;
        let mut text = Bounded::default();
        let rendered = template.render_captured_to(Serde(input), &mut text).map(|_| ());
        if text.full {
            return Err(output_too_large("the text"));
        }
        rendered.map_err(|e| failed(&e))?;
        let text = String::from_utf8(text.bytes).map_err(|e| refused("invalid_utf8", e.to_string()))?;
        Ok(Value::Object(Map::from_iter([(self.field.clone(), text.into())])))
    }
}

#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_BYTES_MAX {
            self.full = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
