//! An input as it is written, markers included, against the schema it must fit.

use serde_json::{Map, Value};

use super::{
    fits::{Fits, decide},
    schema::{Fuel, Node, Types, nearest, parts, types},
};
use crate::expr::{Marker, Path, marker};

/// How many places of one input are looked at: the values of the largest plan that is read, and a
/// bound on schemas that refer to themselves.
const LOOKS_MAX: u32 = 1_000_000;

/// What can stand behind a marker.
pub(super) enum Behind<'a> {
    /// A value that fits all of these.
    Schemas(Vec<Node<'a>>),
    /// Nobody knows.
    Any,
}

/// What a plan knows about the values that its markers stand for.
pub(super) trait Markers<'a> {
    /// Returns what stands behind a reference.
    fn reference(&mut self, path: &Path, default: Option<&Value>, place: &str) -> Behind<'a>;
    /// Looks at a template.
    fn template(&mut self, text: &str, place: &str);
    /// Notes a reference of which only the run can tell whether its value fits.
    fn unknown(&mut self, path: &str, place: &str);
}

/// A place where an input does not fit.
#[derive(Debug)]
pub(super) struct Misfit {
    /// Where, as `input.rows[0]`.
    pub place: String,
    /// Why.
    pub reason: String,
}

/// Returns whether a value, taken as it stands, certainly does not fit.
pub(super) fn refuses(value: &Value, node: Node<'_>, fuel: &Fuel) -> bool {
    let mut look = Look { markers: None, misfits: Vec::new(), fuel };
    look.value(value, "", node);
    !look.misfits.is_empty()
}

/// Returns where an input certainly does not fit its schema.
pub(super) fn misfits<'a>(
    value: &Value,
    field: &str,
    node: Node<'a>,
    markers: &mut dyn Markers<'a>,
) -> Vec<Misfit> {
    let fuel = Fuel::with(LOOKS_MAX);
    let mut look = Look { markers: Some(markers), misfits: Vec::new(), fuel: &fuel };
    look.value(value, field, node);
    look.misfits
}

struct Look<'l, 'a> {
    markers: Option<&'l mut dyn Markers<'a>>,
    misfits: Vec<Misfit>,
    fuel: &'l Fuel,
}

impl<'a> Look<'_, 'a> {
    fn value(&mut self, value: &Value, place: &str, node: Node<'a>) {
        if self.markers.is_some()
            && let Value::Object(fields) = value
        {
            match marker(fields) {
                Ok(Marker::Ref { path, default }) => return self.reference(path, default, place, node),
                Ok(Marker::Template(text)) => return self.template(text, place, node),
                Ok(Marker::Literal(literal)) => {
                    let markers = self.markers.take();
                    self.value(literal, place, node);
                    self.markers = markers;
                    return;
                }
                // Compiling says so.
                Err(_) => return,
                Ok(Marker::None) => {}
            }
        }
        let fuel = self.fuel;
        fuel.deeper(|| self.plain(value, place, node));
    }

    fn plain(&mut self, value: &Value, place: &str, node: Node<'a>) {
        let parts = parts(&[node], self.fuel);
        let wants = types(&parts, self.fuel);
        let is = Types::of(value);
        if !is.within(wants) {
            return self.misfit(place, format!("is {}, and {} is wanted", is.words(), wants.words()));
        }
        for part in &parts {
            self.listed(value, place, *part);
            self.branches(value, place, *part);
        }
        match value {
            Value::Object(fields) => self.fields(fields, place, &parts),
            Value::Array(items) => {
                self.bounds(items.len() as f64, place, &parts, ["minItems", "maxItems"], "items");
                for (at, item) in items.iter().enumerate() {
                    let below: Vec<Node<'a>> = parts.iter().filter_map(|part| part.item(at)).collect();
                    self.below(item, &below, || format!("{place}[{at}]"));
                }
            }
            Value::String(text) => {
                let keywords = ["minLength", "maxLength"];
                if parts.iter().any(|part| keywords.iter().any(|k| part.keyword(k).is_some())) {
                    self.bounds(text.chars().count() as f64, place, &parts, keywords, "characters");
                }
            }
            Value::Number(number) => self.number(number.as_f64(), place, &parts),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Looks at a value inside, which some parts of the schema say nothing about. What stands there
    /// is looked at in any case, for its markers.
    fn below(&mut self, value: &Value, nodes: &[Node<'a>], place: impl Fn() -> String) {
        static ANYTHING: Value = Value::Bool(true);
        if nodes.is_empty() {
            if self.markers.is_some() {
                self.value(value, &place(), Node::new(&ANYTHING));
            }
            return;
        }
        let place = place();
        nodes.iter().for_each(|node| self.value(value, &place, *node));
    }

    fn fields(&mut self, fields: &Map<String, Value>, place: &str, parts: &[Node<'a>]) {
        for name in parts.iter().flat_map(|part| part.required()) {
            if !fields.contains_key(name) {
                self.misfit(place, format!("lacks the field `{name}`"));
            }
        }
        for (name, value) in fields {
            let below: Vec<Node<'a>> = parts.iter().filter_map(|part| part.property(name)).collect();
            if below.iter().any(|node| node.schema == &Value::Bool(false)) {
                let known: Vec<&str> = parts
                    .iter()
                    .filter_map(|part| part.properties())
                    .flat_map(|p| p.keys().map(String::as_str))
                    .filter(|known| !fields.contains_key(*known))
                    .collect();
                let hint = nearest(name, known.into_iter())
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                self.misfit(place, format!("has the field `{name}`, which is not accepted{hint}"));
            } else {
                self.below(value, &below, || format!("{place}.{name}"));
            }
        }
    }

    fn listed(&mut self, value: &Value, place: &str, part: Node<'a>) {
        let list = match (part.keyword("const"), part.keyword("enum").and_then(Value::as_array)) {
            (Some(only), _) => std::slice::from_ref(only),
            (None, Some(list)) => list.as_slice(),
            (None, None) => return,
        };
        // Only plain scalars compare without doubt: markers may stand inside, and 1 is 1.0.
        let certain = match value {
            Value::String(_) | Value::Bool(_) | Value::Null => true,
            Value::Number(n) => !list.iter().any(|v| v.as_f64() == n.as_f64()),
            Value::Array(_) | Value::Object(_) => false,
        };
        if certain && !list.contains(value) {
            let words: Vec<String> = list.iter().take(8).map(ToString::to_string).collect();
            self.misfit(place, format!("is {value}, and one of {} is wanted", words.join(", ")));
        }
    }

    fn branches(&mut self, value: &Value, place: &str, part: Node<'a>) {
        let Some(branches) = part.branches() else { return };
        let before = self.misfits.len();
        let mut first = None;
        for branch in &branches {
            self.value(value, place, *branch);
            let found = self.misfits.split_off(before);
            if found.is_empty() {
                return;
            }
            first.get_or_insert(found);
        }
        match first {
            Some(found) if branches.len() == 1 => self.misfits.extend(found),
            Some(found) => {
                let why = found.first().map_or("", |m| m.reason.as_str());
                self.misfit(place, format!("fits none of the alternatives: for the first, it {why}"));
            }
            None => {}
        }
    }

    fn bounds(&mut self, count: f64, place: &str, parts: &[Node<'a>], keywords: [&str; 2], what: &str) {
        for part in parts {
            if let Some(least) = part.bound(keywords[0]).filter(|least| count < *least) {
                self.misfit(place, format!("has {count} {what}, and at least {least} are wanted"));
            }
            if let Some(most) = part.bound(keywords[1]).filter(|most| count > *most) {
                self.misfit(place, format!("has {count} {what}, and at most {most} are wanted"));
            }
        }
    }

    fn number(&mut self, number: Option<f64>, place: &str, parts: &[Node<'a>]) {
        let Some(number) = number else { return };
        for part in parts {
            let bound = |keyword| part.bound(keyword);
            let low = bound("minimum")
                .filter(|b| number < *b)
                .or(bound("exclusiveMinimum").filter(|b| number <= *b));
            let high = bound("maximum")
                .filter(|b| number > *b)
                .or(bound("exclusiveMaximum").filter(|b| number >= *b));
            if let Some(bound) = low {
                self.misfit(place, format!("is {number}, which is below what is accepted ({bound})"));
            }
            if let Some(bound) = high {
                self.misfit(place, format!("is {number}, which is above what is accepted ({bound})"));
            }
        }
    }

    fn reference(&mut self, text: &str, default: Option<&Value>, place: &str, node: Node<'a>) {
        let Ok(path) = text.parse::<Path>() else { return };
        let Some(markers) = self.markers.as_deref_mut() else { return };
        let Behind::Schemas(behind) = markers.reference(&path, default, place) else { return };
        match decide(&behind, node) {
            Fits::Fits => {}
            // The default may be what fits.
            Fits::CannotFit(_) | Fits::Unknown if default.is_some() => {}
            Fits::CannotFit(reason) => self.misfit(place, format!("`{text}` {reason}")),
            Fits::Unknown => markers.unknown(text, place),
        }
    }

    fn template(&mut self, text: &str, place: &str, node: Node<'a>) {
        static TEXT: std::sync::LazyLock<Value> =
            std::sync::LazyLock::new(|| serde_json::json!({"type": "string"}));
        if let Some(markers) = self.markers.as_deref_mut() {
            markers.template(text, place);
        }
        if let Fits::CannotFit(reason) = decide(&[Node::new(&TEXT)], node) {
            self.misfit(place, format!("a template {reason}"));
        }
    }

    fn misfit(&mut self, place: &str, reason: String) {
        self.misfits.push(Misfit { place: place.to_owned(), reason });
    }
}
