//! Markers in inputs: one-key objects that stand for a value.

use serde_json::{Map, Value};

/// What an object in an input is.
#[derive(Debug, PartialEq)]
pub(crate) enum Marker<'a> {
    /// `{"$ref": "step.field", "default": …}`
    Ref {
        /// The place, as written.
        path: &'a str,
        /// What stands in for a value that is not there.
        default: Option<&'a Value>,
    },
    /// `{"$template": "…"}`
    Template(&'a str),
    /// `{"$literal": …}`
    Literal(&'a Value),
    /// An ordinary object.
    None,
}

/// Returns what `fields` is.
///
/// # Errors
///
/// Why it is no marker although it looks like one.
pub(crate) fn marker(fields: &Map<String, Value>) -> Result<Marker<'_>, String> {
    // Markers have one key, or two; everything larger is looked through only for a misplaced one.
    if !fields.keys().any(|key| key.starts_with('$')) {
        return Ok(Marker::None);
    }
    let alone = fields.len() == 1;
    if let Some(path) = fields.get("$ref") {
        let default = fields.get("default");
        if fields.len() > 1 + usize::from(default.is_some()) {
            return Err("`$ref` stands alone or with `default`; use `$literal` to escape it".to_owned());
        }
        let path = path.as_str().ok_or("`$ref` must be text like `step.field[0]`")?;
        return Ok(Marker::Ref { path, default });
    }
    if let Some(text) = fields.get("$template") {
        let text = text.as_str().ok_or("`$template` must be text")?;
        return if alone { Ok(Marker::Template(text)) } else { Err(stands_alone("$template")) };
    }
    if let Some(value) = fields.get("$literal") {
        return if alone { Ok(Marker::Literal(value)) } else { Err(stands_alone("$literal")) };
    }
    match fields.keys().next() {
        Some(key) if alone => Err(format!(
            "there is no marker `{key}`; there are `$ref`, `$template` and `$literal` (which escapes)"
        )),
        _ => Ok(Marker::None),
    }
}

fn stands_alone(key: &str) -> String {
    format!("`{key}` must be the only key of its object")
}
