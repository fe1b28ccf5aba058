//! What a model is told in an agent step, and what it may read of it. Pure.

use std::{collections::HashMap, sync::LazyLock};

use foreplan_core::{call::Purpose, digest::Digest};
use foreplan_model::{Message, OutputSchema, Request, ToolSpec, ToolUse};
use foreplan_protocol::AgentWork;
use foreplan_tools::Toolbox;
use minijinja::{Environment, context};
use serde_json::{Value, json};

/// The template of the prompt: what holds for every step above the line, the step below it.
const TEMPLATE: &str = include_str!("../../prompts/agent.v1.md");

/// What divides the template.
const DIVIDER: &str = "\n----\n";

/// Most bytes of one value that stand in the conversation. The rest is there to be read on: a model
/// pays for every turn with all that was said before.
pub(super) const TEXT_BYTES_MAX: usize = 8 * 1024;

/// The tool with which a model reads on.
pub(super) const READ_MORE: &str = "read_more";

pub(super) static PROMPT: LazyLock<Digest> = LazyLock::new(|| Digest::of_bytes(TEMPLATE.as_bytes()));

/// A conversation about one step.
pub(super) struct Conversation {
    system: String,
    messages: Vec<Message>,
    tools: Vec<ToolSpec>,
    output: Option<OutputSchema>,
    /// Values that were cut, by name.
    texts: HashMap<String, String>,
    results: u32,
}

impl Conversation {
    /// Begins a conversation. `None` if the prompt cannot be made.
    pub(super) fn new(
        role: Option<&str>,
        work: &AgentWork,
        input: &Value,
        context: &Value,
        toolbox: &Toolbox,
    ) -> Option<Self> {
        let mut conversation = Self {
            system: String::new(),
            messages: Vec::new(),
            tools: work.tools.iter().filter_map(|listed| spec(listed.tool.as_str(), toolbox)).collect(),
            output: work
                .output
                .as_ref()
                .map(|schema| OutputSchema { name: "result".to_owned(), schema: schema.clone() }),
            texts: HashMap::new(),
            results: 0,
        };
        let parts: Vec<Value> = context
            .as_object()
            .into_iter()
            .flatten()
            .map(|(id, value)| json!({"id": id, "text": conversation.shown(id, text_of(value))}))
            .collect();
        let input = match input {
            Value::Object(fields) if fields.is_empty() => None,
            input => Some(conversation.shown("input", text_of(input))),
        };
        let mut environment = Environment::new();
        environment.add_template("prompt", TEMPLATE).ok()?;
        let prompt = environment.get_template("prompt").ok()?.render(context! {
            role,
            title => &work.title,
            instructions => &work.instructions,
            outcome => &work.outcome,
            schema => work.output.as_ref().map(Value::to_string),
            input,
            context => minijinja::value::Serde(parts),
        });
        let prompt = prompt.ok()?;
        let (system, step) = prompt.split_once(DIVIDER)?;
        conversation.system = system.to_owned();
        conversation.messages.push(Message::User { text: step.to_owned() });
        if !conversation.texts.is_empty() {
            conversation.offer_more();
        }
        Some(conversation)
    }

    /// Returns what the model is asked next.
    pub(super) fn request(&self, tokens_left: u64) -> Request {
        Request {
            purpose: Purpose::Act,
            prompt: *PROMPT,
            system: self.system.clone(),
            messages: self.messages.clone(),
            tools: self.tools.clone(),
            output: self.output.clone(),
            max_output_tokens: u32::try_from(tokens_left).ok(),
        }
    }

    /// Adds what the model said.
    pub(super) fn said(&mut self, text: String, calls: Vec<ToolUse>) {
        self.messages.push(Message::Assistant { text, calls });
    }

    /// Adds what came of a call.
    pub(super) fn returned(&mut self, id: String, value: &Value) {
        self.results += 1;
        let name = format!("result-{}", self.results);
        let content = self.shown(&name, text_of(value));
        if !self.texts.is_empty() {
            self.offer_more();
        }
        self.messages.push(Message::Tool { id, content });
    }

    /// Says why an answer cannot be taken.
    pub(super) fn corrected(&mut self, text: String, why: &str) {
        self.messages.push(Message::Assistant { text, calls: Vec::new() });
        self.messages.push(Message::User { text: why.to_owned() });
    }

    /// Reads on in a value that was cut.
    pub(super) fn read_more(&self, input: &Value) -> Value {
        let of = input.get("of").and_then(Value::as_str).unwrap_or_default();
        let from =
            input.get("from").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let Some(text) = self.texts.get(of) else {
            let mut names: Vec<&str> = self.texts.keys().map(String::as_str).collect();
            names.sort_unstable();
            return json!({"error": format!("nothing of that name was cut; there are: {}", names.join(", "))});
        };
        let from = text.floor_char_boundary(from);
        let to = text.floor_char_boundary(from.saturating_add(TEXT_BYTES_MAX));
        json!({"text": &text[from..to], "next": (to < text.len()).then_some(to), "bytes": text.len()})
    }

    fn shown(&mut self, name: &str, text: String) -> String {
        if text.len() <= TEXT_BYTES_MAX {
            return text;
        }
        let cut = text.floor_char_boundary(TEXT_BYTES_MAX);
        let note = json!({"of": name, "from": cut});
        let shown = format!("{}\n… {} bytes more: {READ_MORE} {note}", &text[..cut], text.len() - cut);
        self.texts.insert(name.to_owned(), text);
        shown
    }

    fn offer_more(&mut self) {
        if self.tools.iter().any(|tool| tool.name == READ_MORE) {
            return;
        }
        self.tools.push(ToolSpec {
            name: READ_MORE.to_owned(),
            description: "Reads on in a value that was shown only in part".to_owned(),
            input: json!({
                "type": "object",
                "properties": {"of": {"type": "string"}, "from": {"type": "integer", "minimum": 0}},
                "required": ["of", "from"],
                "additionalProperties": false,
            }),
        });
    }
}

fn spec(name: &str, toolbox: &Toolbox) -> Option<ToolSpec> {
    let tool = toolbox.get(name)?.descriptor();
    Some(ToolSpec { name: name.to_owned(), description: tool.description.clone(), input: tool.input.clone() })
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use foreplan_core::budget::StepMax;

    use super::*;

    fn work() -> AgentWork {
        AgentWork {
            digest: Digest([0; 32]),
            title: "Write the report".to_owned(),
            outcome: Some("one page".to_owned()),
            instructions: "Sum up.".to_owned(),
            tools: Vec::new(),
            output: Some(json!({"type": "object"})),
            context: std::collections::BTreeMap::new(),
            max: StepMax::default(),
        }
    }

    fn begin(context: &Value) -> Conversation {
        let toolbox = Toolbox::new([], []).unwrap();
        Conversation::new(Some("You write."), &work(), &json!({"week": 47}), context, &toolbox).unwrap()
    }

    #[test]
    fn the_prompt_holds_the_role_the_step_its_input_and_its_context_and_nothing_else() {
        let request = begin(&json!({"search": {"found": 2}})).request(100);
        assert!(request.system.contains("You write.") && request.system.contains(r#"{"type":"object"}"#));
        let Message::User { text } = &request.messages[0] else { panic!("{:?}", request.messages) };
        for part in
            ["# Write the report", "Sum up.", "one page", r#"{"week":47}"#, "`search`", r#"{"found":2}"#]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(request.tools.is_empty());
        assert_eq!(request.max_output_tokens, Some(100));
    }

    #[test]
    fn a_large_value_is_cut_and_can_be_read_to_its_end() {
        let long = "ä".repeat(TEXT_BYTES_MAX);
        let conversation = begin(&json!({"search": long}));
        assert_eq!(conversation.request(1).tools[0].name, READ_MORE);
        let (mut read, mut from) = (String::new(), Some(0));
        while let Some(at) = from {
            let more = conversation.read_more(&json!({"of": "search", "from": at}));
            read.push_str(more["text"].as_str().unwrap());
            from = more["next"].as_u64();
        }
        assert_eq!(read, long);
        assert!(conversation.read_more(&json!({"of": "x"}))["error"].as_str().unwrap().contains("search"));
    }
}
