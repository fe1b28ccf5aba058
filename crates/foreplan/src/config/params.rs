//! Params: declared in the project file, given as text on the command line.

use foreplan_core::json;
use serde_json::{Map, Number, Value};

use super::{Param, ParamType, Problem, nearest};

/// Reads the text of a param as its type says.
///
/// # Errors
///
/// If the text is no value of the type, or none of the values that the declaration allows.
pub fn parse(name: &str, text: &str, declared: &Param) -> Result<Value, Problem> {
    let refused = |what: String| Problem::new(format!("params.{name}"), what);
    let value = match declared.kind {
        ParamType::String => Value::String(text.to_owned()),
        ParamType::Integer => {
            let number: i64 =
                text.parse().map_err(|_| refused(format!("`{text}` is not an integer like 3")))?;
            if number.unsigned_abs() > json::INTEGER_MAX {
                return Err(
                    refused(format!("{number} is beyond 2^53-1")).fix("declare the param as a string")
                );
            }
            number.into()
        }
        ParamType::Number => text
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| refused(format!("`{text}` is not a number like 2.5")))?,
        ParamType::Boolean => {
            Value::Bool(text.parse().map_err(|_| refused(format!("`{text}` is neither `true` nor `false`")))?)
        }
        ParamType::Array | ParamType::Object => json::parse_value(text)
            .map_err(|e| refused(format!("this is not a JSON {}: {e}", declared.kind.as_str())))?,
    };
    fits(name, &value, declared)?;
    Ok(value)
}

/// Checks a value against its declaration.
pub(super) fn fits(name: &str, value: &Value, declared: &Param) -> Result<(), Problem> {
    if !declared.kind.admits(value) {
        let message = format!("the value {value} is no {}", declared.kind.as_str());
        return Err(Problem::new(format!("params.{name}"), message));
    }
    if !declared.values.is_empty() && !declared.values.contains(value) {
        let allowed: Vec<String> = declared.values.iter().map(plain).collect();
        let given = plain(value);
        let hint = nearest(&given, allowed.iter().map(String::as_str))
            .map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        return Err(Problem::new(format!("params.{name}"), format!("`{given}` is not allowed"))
            .fix(format!("{hint}Allowed: {}", allowed.join(", "))));
    }
    Ok(())
}

/// Puts the values of params into the places `{name}` of a text; `{{` and `}}` stand for braces.
///
/// # Errors
///
/// If the text names a param that has no value.
pub(super) fn fill(text: &str, params: &Map<String, Value>) -> Result<String, Problem> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        if from.starts_with("{{") || from.starts_with("}}") {
            filled.push_str(&from[..1]);
            rest = &from[2..];
            continue;
        }
        let name = from.strip_prefix('{').and_then(|f| f.split_once('}'));
        let Some((name, after)) = name.filter(|(name, _)| is_name(name)) else {
            filled.push_str(&from[..1]);
            rest = &from[1..];
            continue;
        };
        let value = params.get(name).ok_or_else(|| unknown(name, params.keys().map(String::as_str)))?;
        filled.push_str(&plain(value));
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Says that there is no param of this name.
pub(super) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Problem {
    let fix = match nearest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => match known.collect::<Vec<_>>().join(", ") {
            all if all.is_empty() => format!("the project declares no params; add `[params.{name}]`"),
            all => format!("params of the project: {all}"),
        },
    };
    Problem::new(format!("params.{name}"), format!("there is no param `{name}`")).fix(fix)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
