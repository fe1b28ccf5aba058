//! JSON values as CEL values, and back.

use std::collections::HashMap;

use cel::common::{
    traits::{self, Container, Indexer, Iterable, Sizer, Zeroer},
    types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt, Type},
    value::{Builtin, BuiltinRef, Val},
};
use serde_json::{Map, Number, Value};

use super::project::Convert;

/// Values that one evaluation may look at: a second of conversion at worst. What needs more is a
/// tool's work.
const VALUES_MAX: usize = 1_000_000;

/// Converts JSON to CEL: integers become `int` (`uint` beyond its range), other numbers `double`.
pub(super) struct FromJson {
    left: usize,
}

impl FromJson {
    pub(super) fn new() -> Self {
        Self { left: VALUES_MAX }
    }
}

impl<'v> Convert<'v> for FromJson {
    type Out = Box<dyn Val + 'v>;
    type Error = String;

    fn whole(&mut self, value: &'v Value) -> Result<Self::Out, String> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            format!("looks at more than {VALUES_MAX} values; let a tool compute the answer instead")
        })?;
        Ok(match value {
            Value::Null => Box::new(CelNull),
            Value::Bool(b) => Box::new(CelBool::from(*b)),
            Value::Number(n) => number(n),
            Value::String(s) => Box::new(CelString::from(s.as_str())),
            Value::Array(items) => {
                let items = items.iter().map(|item| self.whole(item)).collect::<Result<Vec<_>, _>>()?;
                self.list(items)
            }
            Value::Object(fields) => {
                let fields = fields.iter().map(|(k, v)| Ok((k.as_str(), self.whole(v)?))).collect::<Result<
                    Vec<_>,
                    String,
                >>(
                )?;
                self.object(fields)
            }
        })
    }

    fn list(&mut self, items: Vec<Self::Out>) -> Self::Out {
        Box::new(CelList::from(items))
    }

    fn object(&mut self, fields: Vec<(&'v str, Self::Out)>) -> Self::Out {
        Box::new(JsonMap::new(fields))
    }

    fn unused(&mut self) -> Self::Out {
        Box::new(CelNull)
    }
}

fn number<'v>(n: &Number) -> Box<dyn Val + 'v> {
    if let Some(i) = n.as_i64() {
        Box::new(CelInt::from(i))
    } else if let Some(u) = n.as_u64() {
        Box::new(CelUInt::from(u))
    } else {
        Box::new(CelDouble::from(n.as_f64().unwrap_or(f64::NAN)))
    }
}

/// Converts a CEL value to JSON. Keys of a map come out in their order as text.
pub(super) fn to_json(value: &cel::Value) -> Result<Value, String> {
    use cel::objects::Key;
    Ok(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(b) => Value::Bool(*b),
        cel::Value::Int(i) => Value::from(*i),
        cel::Value::UInt(u) => Value::from(*u),
        cel::Value::Float(f) => {
            Value::Number(Number::from_f64(*f).ok_or_else(|| format!("{f} has no form in JSON"))?)
        }
        cel::Value::String(s) => Value::String(s.as_ref().clone()),
        cel::Value::List(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        cel::Value::Map(map) => {
            let mut fields: Vec<(String, &cel::Value)> = map
                .map
                .iter()
                .map(|(key, value)| {
                    let key = match key {
                        Key::String(s) => s.as_ref().clone(),
                        Key::Int(i) => i.to_string(),
                        Key::Uint(u) => u.to_string(),
                        Key::Bool(b) => b.to_string(),
                    };
                    (key, value)
                })
                .collect();
            fields.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            Value::Object(
                fields
                    .into_iter()
                    .map(|(k, v)| Ok((k, to_json(v)?)))
                    .collect::<Result<Map<_, _>, String>>()?,
            )
        }
        other => return Err(format!("a value of type {} has no form in JSON", other.type_of())),
    })
}

/// A map that comprehensions walk in the order of its keys, so that an expression has one value
/// only. In everything else it is the interpreter's own map.
#[derive(Clone, Debug)]
struct JsonMap<'v> {
    map: CelMap<'v>,
    keys: Vec<CelString<'v>>,
}

impl<'v> JsonMap<'v> {
    fn new(mut fields: Vec<(&'v str, Box<dyn Val + 'v>)>) -> Self {
        fields.sort_by(|a, b| a.0.cmp(b.0));
        let keys = fields.iter().map(|(key, _)| CelString::from(*key)).collect();
        let map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> =
            fields.into_iter().map(|(key, value)| (CelMapKey::from(key), value)).collect();
        Self { map: map.into(), keys }
    }
}

impl Val for JsonMap<'_> {
    fn get_type(&self) -> &Type {
        self.map.get_type()
    }

    fn cel_type() -> &'static Type {
        CelMap::cel_type()
    }

    fn as_container(&self) -> Option<&dyn Container> {
        self.map.as_container()
    }

    fn as_indexer<'b, 'w>(&'b self) -> Option<&'b (dyn Indexer + 'w)>
    where
        Self: 'w,
    {
        Some(&self.map)
    }

    fn as_iterable<'b, 'w>(&'b self) -> Option<&'b (dyn Iterable + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        self.map.as_sizer()
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        self.map.as_zeroer()
    }

    fn equals(&self, other: &dyn Val) -> bool {
        self.map.equals(other)
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(self.clone())
    }

    fn as_builtin<'b, 'w>(&'b self) -> BuiltinRef<'b, 'w>
    where
        Self: 'w,
    {
        BuiltinRef::Map(&self.map)
    }

    fn into_builtin<'w>(self: Box<Self>) -> Option<Builtin<'w>>
    where
        Self: 'w,
    {
        Some(Builtin::Map(self.map))
    }
}

impl Iterable for JsonMap<'_> {
    fn iter<'b, 'w>(&'b self) -> Box<dyn traits::Iterator<'b, 'w> + 'b>
    where
        Self: 'w,
    {
        Box::new(Keys(self.keys.iter()))
    }
}

struct Keys<'b, 'v>(std::slice::Iter<'b, CelString<'v>>);

impl<'b, 'v: 'w, 'w> traits::Iterator<'b, 'w> for Keys<'b, 'v> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'w)> {
        self.0.next().map(|key| key as &(dyn Val + 'w))
    }
}
