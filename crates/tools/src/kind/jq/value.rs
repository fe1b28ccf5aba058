//! JSON values to jq's and back.

use foreplan_core::{failure::Failure, json::INTEGER_MAX};
use jaq_json::{Num, Val};
use serde_json::{Map, Number, Value};

use super::{
    super::{OUTPUT_BYTES_MAX, output_too_large},
    failed,
};

/// How deep an output may be nested: as deep as JSON readers go.
const DEPTH_MAX: usize = 120;

/// Below this, canonical JSON writes whole numbers without an exponent.
const WRITTEN_AS_INTEGER_BELOW: f64 = 1e21;

pub(super) fn from_json(value: &Value) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(b) => Val::Bool(*b),
        Value::Number(n) => Val::Num(match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Num::from_integral(n),
            (None, Some(n)) => Num::from_integral(n),
            (None, None) => Num::Float(n.as_f64().unwrap_or(f64::NAN)),
        }),
        Value::String(s) => Val::utf8_str(s.clone().into_bytes()),
        Value::Array(items) => items.iter().map(from_json).collect(),
        Value::Object(fields) => Val::obj(
            fields.iter().map(|(k, v)| (Val::utf8_str(k.clone().into_bytes()), from_json(v))).collect(),
        ),
    }
}

/// Returns the JSON of what a filter produced.
pub(super) fn into_json(value: Val) -> Result<Value, Failure> {
    Converter { bytes_left: OUTPUT_BYTES_MAX }.convert(&value, DEPTH_MAX)
}

struct Converter {
    bytes_left: usize,
}

impl Converter {
    fn convert(&mut self, value: &Val, depth_left: usize) -> Result<Value, Failure> {
        let Some(depth_left) = depth_left.checked_sub(1) else {
            return Err(failed("the output is nested too deeply"));
        };
        self.spend(2)?;
        match value {
            Val::Null => Ok(Value::Null),
            Val::Bool(b) => Ok(Value::Bool(*b)),
            Val::Num(number) => convert_number(number),
            Val::TStr(bytes) => self.text(bytes).map(Value::String),
            Val::BStr(_) => Err(failed("the output holds bytes, which are no JSON; use `@base64`")),
            Val::Arr(items) => items.iter().map(|item| self.convert(item, depth_left)).collect(),
            Val::Obj(fields) => {
                let mut object = Map::with_capacity(fields.len());
                for (key, value) in fields.iter() {
                    let Val::TStr(key) = key else {
                        return Err(failed("the output holds an object with a key that is no text"));
                    };
                    object.insert(self.text(key)?, self.convert(value, depth_left)?);
                }
                Ok(Value::Object(object))
            }
        }
    }

    fn text(&mut self, bytes: &[u8]) -> Result<String, Failure> {
        self.spend(bytes.len() + 2)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes_left =
            self.bytes_left.checked_sub(bytes).ok_or_else(|| output_too_large("the filter's value"))?;
        Ok(())
    }
}

/// Returns the number as JSON has it: whole numbers as integers, as `6 / 2` is one; what is no number
/// as null, as jq prints it.
fn convert_number(number: &Num) -> Result<Value, Failure> {
    let too_large = || Err(failed("the output holds an integer beyond 2^53-1; use `tostring`"));
    let float = match number {
        Num::Int(n) if n.unsigned_abs() as u64 <= INTEGER_MAX => return Ok(Value::from(*n as i64)),
        Num::Int(_) | Num::BigInt(_) => return too_large(),
        Num::Float(n) => *n,
        Num::Dec(text) => text.parse().unwrap_or(f64::NAN),
    };
    if float.fract() == 0.0 && float.abs() <= INTEGER_MAX as f64 {
        return Ok(Value::from(float as i64));
    }
    if float.fract() == 0.0 && float.abs() < WRITTEN_AS_INTEGER_BELOW {
        return too_large();
    }
    Ok(Number::from_f64(float).map_or(Value::Null, Value::Number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_survive_the_way_there_and_back() {
        let value = json!({"a": [1, -2, 1.5, "ä", null, true], "b": {"c": 9007199254740991_i64}});
        assert_eq!(into_json(from_json(&value)), Ok(value));
    }

    #[test]
    fn whole_numbers_are_integers() {
        assert_eq!(into_json(Val::Num(Num::Float(3.0))).map(|n| n.is_i64()), Ok(true));
        assert_eq!(into_json(Val::Num(Num::Float(f64::NAN))), Ok(Value::Null));
    }
}
