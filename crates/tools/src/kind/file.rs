//! `[[tools.file]]`: reads a file of the project.

use std::{io::Read, sync::Arc};

use foreplan_core::{failure::Failure, json, tool::Effect};
use futures::future::{BoxFuture, FutureExt};
use serde_json::{Map, Value, json};

use super::{OUTPUT_BYTES_MAX, blocking, output_too_large, refused, sole_field_schema};
use crate::{
    call::{Call, Handler},
    declare::{Error, File, Format, Shape},
    project::{PathError, Project},
    tool::Tool,
};

impl File {
    pub(crate) fn tool(&self, project: &Project) -> Result<Tool, Error> {
        let common = self.common();
        let field = common.sole_field(common.name.as_str())?;
        project.lexical(&self.path).map_err(|e| common.error("path", e.to_string()))?;
        let format = self.format.unwrap_or_else(|| Format::of(&self.path));
        let content = match format {
            Format::Json => json!({}),
            Format::Jsonl => json!({"type": "array"}),
            Format::Csv => json!({"type": "array", "items": {"type": "object"}}),
            Format::Text => json!({"type": "string"}),
        };
        let shape = Shape { input: json!({"type": "object"}), output: sole_field_schema(field, content) };
        let reader =
            Reader { project: project.clone(), path: self.path.clone(), format, field: field.to_owned() };
        let identity = json!({"kind": "file", "path": self.path, "format": format.as_str()});
        let tool = Tool::new(common.signature(shape, Effect::Read)?, identity, Arc::new(reader));
        Ok(common.finish(tool, std::collections::BTreeMap::new()))
    }
}

impl Format {
    fn of(path: &str) -> Self {
        match std::path::Path::new(path).extension().and_then(|e| e.to_str()) {
            Some("json") => Self::Json,
            Some("jsonl" | "ndjson") => Self::Jsonl,
            Some("csv") => Self::Csv,
            _ => Self::Text,
        }
    }
}

#[derive(Clone)]
struct Reader {
    project: Project,
    path: String,
    format: Format,
    field: String,
}

impl Handler for Reader {
    fn call(&self, _: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        let reader = self.clone();
        blocking(move || reader.read()).boxed()
    }
}

impl Reader {
    fn read(&self) -> Result<Value, Failure> {
        let content = self.parse(&self.text()?)?;
        Ok(Value::Object(Map::from_iter([(self.field.clone(), content)])))
    }

    fn text(&self) -> Result<String, Failure> {
        let path = self.project.existing(&self.path).map_err(|e| {
            let code = match &e {
                PathError::Outside(_) => "path_outside_project",
                PathError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    "file_not_found"
                }
                PathError::Io { .. } => "file_unreadable",
            };
            refused(code, e.to_string())
        })?;
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(OUTPUT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
            .map_err(|e| refused("file_unreadable", format!("`{}` cannot be read: {e}", self.path)))?;
        if bytes.len() > OUTPUT_BYTES_MAX {
            return Err(output_too_large(&format!("the file `{}`", self.path)));
        }
        String::from_utf8(bytes)
            .map_err(|e| refused("invalid_utf8", format!("`{}` is not UTF-8: {}", self.path, e.utf8_error())))
    }

    fn parse(&self, text: &str) -> Result<Value, Failure> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let invalid = |code: &str, what: String| refused(code, format!("`{}`: {what}", self.path));
        match self.format {
            Format::Text => Ok(text.into()),
            Format::Json => json::parse_value(text).map_err(|e| invalid("invalid_json", e.to_string())),
            Format::Jsonl => text
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim().is_empty())
                .map(|(at, line)| {
                    json::parse_value(line)
                        .map_err(|e| invalid("invalid_json", format!("line {} of the file: {e}", at + 1)))
                })
                .collect(),
            Format::Csv => parse_csv(text).map_err(|e| invalid("invalid_csv", e)),
        }
    }
}

fn parse_csv(text: &str) -> Result<Value, String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers().map_err(|e| e.to_string())?.clone();
    if let Some(twice) =
        columns.iter().enumerate().find(|(at, name)| columns.iter().take(*at).any(|c| c == *name))
    {
        return Err(format!("two columns are named `{}`", twice.1));
    }
    reader
        .records()
        .map(|record| {
            let record = record.map_err(|e| e.to_string())?;
            let row = columns.iter().zip(&record).map(|(column, cell)| (column.to_owned(), cell_value(cell)));
            Ok(Value::Object(row.collect()))
        })
        .collect()
}

/// Returns a number where the cell is written as JSON writes plain ones; otherwise the text, so that
/// `007`, `1e5` and what no JSON reader holds exactly stay what they are.
fn cell_value(cell: &str) -> Value {
    let plain = cell.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'.');
    match json::parse_value(cell) {
        Ok(number @ Value::Number(_)) if plain => number,
        _ => cell.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_read_as_plain_numbers_are_numbers() {
        for (cell, value) in [
            ("3", json!(3)),
            ("-1.5", json!(-1.5)),
            ("007", json!("007")),
            ("1e5", json!("1e5")),
            ("9007199254740993", json!("9007199254740993")),
            ("2024-01-02", json!("2024-01-02")),
            ("true", json!("true")),
            ("", json!("")),
        ] {
            assert_eq!(cell_value(cell), value, "{cell}");
        }
    }

    #[test]
    fn rows_become_objects() {
        assert_eq!(
            parse_csv("id,name\n1,\"a, b\"\n2,c\n"),
            Ok(json!([{"id": 1, "name": "a, b"}, {"id": 2, "name": "c"}]))
        );
        assert!(parse_csv("id,name\n1\n").unwrap_err().contains("line: 2"));
        assert!(parse_csv("id,id\n1,2\n").unwrap_err().contains("two columns"));
    }
}
