//! Converts only those parts of a JSON value that an expression looks at.

use serde_json::Value;

use super::path::Segment;

/// How a JSON value becomes a value of an expression language.
pub(super) trait Convert<'v> {
    /// A value of the expression language.
    type Out;
    /// Why a value cannot be converted.
    type Error;

    /// Converts a value as a whole.
    fn whole(&mut self, value: &'v Value) -> Result<Self::Out, Self::Error>;
    /// Makes a list.
    fn list(&mut self, items: Vec<Self::Out>) -> Self::Out;
    /// Makes an object.
    fn object(&mut self, fields: Vec<(&'v str, Self::Out)>) -> Self::Out;
    /// Stands for an item that nobody looks at.
    fn unused(&mut self) -> Self::Out;
}

/// Converts what lies at `places` inside `value`, and the way there. A place that does not exist is
/// left out, so that looking there fails as it would with the whole value.
pub(super) fn project<'v, C: Convert<'v>>(
    value: &'v Value,
    places: &[&[Segment]],
    to: &mut C,
) -> Result<C::Out, C::Error> {
    if places.iter().any(|place| place.is_empty()) {
        return to.whole(value);
    }
    match value {
        Value::Object(fields) => {
            let mut out = Vec::new();
            let mut done: Vec<&str> = Vec::new();
            for place in places {
                let Some(Segment::Field(name)) = place.first() else { return to.whole(value) };
                if done.contains(&name.as_str()) {
                    continue;
                }
                done.push(name);
                if let Some((key, inner)) = fields.get_key_value(name) {
                    let below = below(places, |s| matches!(s, Segment::Field(n) if n == name));
                    out.push((key.as_str(), project(inner, &below, to)?));
                }
            }
            Ok(to.object(out))
        }
        Value::Array(items) => {
            let mut end = 0;
            for place in places {
                let Some(Segment::Index(at)) = place.first() else { return to.whole(value) };
                end = end.max(at.saturating_add(1));
            }
            let mut out = Vec::new();
            for (at, item) in items.iter().enumerate().take(end) {
                let below = below(places, |s| *s == Segment::Index(at));
                out.push(if below.is_empty() { to.unused() } else { project(item, &below, to)? });
            }
            Ok(to.list(out))
        }
        _ => to.whole(value),
    }
}

fn below<'a>(places: &[&'a [Segment]], first: impl Fn(&Segment) -> bool) -> Vec<&'a [Segment]> {
    places
        .iter()
        .filter_map(|place| place.split_first())
        .filter(|(head, _)| first(head))
        .map(|(_, tail)| tail)
        .collect()
}
