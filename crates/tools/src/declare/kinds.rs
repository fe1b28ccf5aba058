//! The keys of each kind of tool.

use std::{collections::BTreeMap, time::Duration};

use foreplan_core::{id::ToolName, time, tool::Effect};
use serde::Deserialize;
use serde_json::Value;

use super::{As, Common, Fields, SecretRef};

/// Declares a kind: its own keys, and those that all kinds share. (`flatten` would do, but it
/// cannot refuse unknown keys.)
macro_rules! declaration {
    ($(#[$doc:meta])* $kind:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $kind {
            /// Unique within the project.
            pub name: ToolName,
            /// What it does, for planners and people.
            #[serde(default)]
            pub description: String,
            /// What a call does to the world.
            pub effect: Option<Effect>,
            /// The relative cost of a call, for `derive`.
            pub cost: Option<u64>,
            /// The read tool that tells whether a call happened.
            pub verify: Option<ToolName>,
            /// What a call writes, as templates over its input.
            #[serde(default)]
            pub writes: Vec<String>,
            /// How long a call may take.
            #[serde(default, with = "time::text::option")]
            #[schemars(with = "Option<String>")]
            pub timeout: Option<Duration>,
            /// What the output is called.
            pub r#as: Option<As>,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $kind {
            pub(crate) fn common(&self) -> Common<'_> {
                Common {
                    name: &self.name,
                    description: &self.description,
                    effect: self.effect,
                    cost: self.cost,
                    verify: self.verify.as_ref(),
                    writes: &self.writes,
                    timeout: self.timeout,
                    r#as: self.r#as.as_ref(),
                }
            }
        }
    };
}

declaration! {
    /// `[[tools.file]]`: reads a file. The effect is `read` unless declared otherwise; the output
    /// has one field, named by `as`, else like the tool.
    File {
        /// The file, inside the project.
        path: String,
        /// How to read it; from the extension if absent, else as text.
        format: Option<Format>,
    }
}

declaration! {
    /// `[[tools.jq]]`: a jq filter over the input, in this process. The effect is `read` unless
    /// declared otherwise: a filter cannot act.
    Jq {
        /// The fields of the input.
        input: Option<Fields>,
        /// A file with the input's JSON Schema.
        input_schema: Option<String>,
        /// The fields of the output.
        output: Option<Fields>,
        /// A file with the output's JSON Schema.
        output_schema: Option<String>,
        /// The filter, which must produce exactly one value.
        filter: String,
    }
}

declaration! {
    /// `[[tools.command]]`: runs a program, without a shell. It gets the input as JSON on its
    /// standard input.
    Command {
        /// The fields of the input; without them, the placeholders of `command`.
        input: Option<Fields>,
        /// A file with the input's JSON Schema.
        input_schema: Option<String>,
        /// The fields of the output.
        output: Option<Fields>,
        /// A file with the output's JSON Schema.
        output_schema: Option<String>,
        /// The program and its arguments; `{field}` stands for a field of the input.
        command: Vec<String>,
        /// The folder it runs in, inside the project.
        cwd: Option<String>,
        /// What it gets of the environment, by name.
        #[serde(default)]
        env: Vec<String>,
        /// Secrets that it gets as variables: variable → where the value is.
        #[serde(default)]
        secrets: BTreeMap<String, SecretRef>,
        /// The files whose content is part of the tool. Without it, those that `command` names and
        /// that exist when the tool is loaded.
        files: Option<Vec<String>>,
    }
}

declaration! {
    /// `[[tools.http]]`: makes a request.
    Http {
        /// The fields of the input; without them, the placeholders of the URL, headers and body.
        input: Option<Fields>,
        /// A file with the input's JSON Schema.
        input_schema: Option<String>,
        /// The fields of the output.
        output: Option<Fields>,
        /// A file with the output's JSON Schema.
        output_schema: Option<String>,
        /// `GET` if absent.
        method: Option<String>,
        /// The URL; `{field}` stands for a field of the input, percent-encoded, and may stand after
        /// the host only.
        url: String,
        /// The headers.
        #[serde(default)]
        headers: BTreeMap<String, Header>,
        /// The body: JSON in which `"{field}"` is the field's value. Without it, `POST`, `PUT` and
        /// `PATCH` send the whole input.
        body: Option<Value>,
    }
}

declaration! {
    /// `[[tools.template]]`: a minijinja text over the input. The effect is `read` unless declared
    /// otherwise; the output has one field, named by `as`, else `text`, which is then no artifact.
    Template {
        /// The fields of the input.
        input: Option<Fields>,
        /// A file with the input's JSON Schema.
        input_schema: Option<String>,
        /// The text.
        template: Option<String>,
        /// A file with the text.
        template_file: Option<String>,
    }
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON value.
    Json,
    /// One JSON value per line: a list.
    Jsonl,
    /// A line of column names, then rows: a list of objects. What reads as a number is one.
    Csv,
    /// Text.
    Text,
}

impl Format {
    /// Returns the word that declarations use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Text => "text",
        }
    }
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Header {
    /// A text; `{field}` stands for a field of the input.
    Text(String),
    /// A secret.
    Secret(HeaderSecret),
}

/// A secret in a header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderSecret {
    /// The variable that holds it.
    pub env: Option<String>,
    /// The file that holds it.
    pub file: Option<String>,
    /// What stands before it: `"Bearer "`.
    #[serde(default)]
    pub prefix: String,
}
