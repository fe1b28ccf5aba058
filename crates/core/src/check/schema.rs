//! Reading JSON Schemas: what kinds of values a schema admits, and what it says of a field.
//!
//! Only keywords that decide something for a plan are understood: `type`, `const`, `enum`,
//! `properties`, `required`, `additionalProperties`, `items`, ranges and lengths, `$ref` within the
//! document, `allOf`, `anyOf`, `oneOf`. All others are taken to admit everything.

use std::cell::Cell;

use serde_json::{Map, Value};

use crate::expr::Segment;

/// How many places of two schemas one question may look at: more than any schema that a person
/// wrote has, and a bound on schemas that refer to themselves.
const LOOKS_MAX: u32 = 4_000;

/// How deep schemas are followed: as deep as JSON is read, so that the stack suffices.
const DEPTH_MAX: u32 = 64;

/// A schema inside its document, against which `$ref` is resolved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a> {
    pub schema: &'a Value,
    pub root: &'a Value,
}

impl<'a> Node<'a> {
    /// Takes a whole document.
    pub(super) fn new(schema: &'a Value) -> Self {
        Self { schema, root: schema }
    }

    fn at(self, schema: &'a Value) -> Self {
        Self { schema, ..self }
    }

    pub(super) fn keyword(self, name: &str) -> Option<&'a Value> {
        self.schema.as_object()?.get(name)
    }

    /// Returns a number that the schema sets as a bound.
    pub(super) fn bound(self, name: &str) -> Option<f64> {
        self.keyword(name)?.as_f64()
    }

    /// Returns the branches of `anyOf` or `oneOf`.
    pub(super) fn branches(self) -> Option<Vec<Node<'a>>> {
        let list = self.keyword("anyOf").or_else(|| self.keyword("oneOf"))?.as_array()?;
        Some(list.iter().map(|branch| self.at(branch)).collect())
    }

    pub(super) fn required(self) -> impl Iterator<Item = &'a str> {
        self.keyword("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    pub(super) fn properties(self) -> Option<&'a Map<String, Value>> {
        self.keyword("properties")?.as_object()
    }

    /// Returns what this part of a schema alone says of a field; `None` where it says nothing.
    pub(super) fn property(self, name: &str) -> Option<Node<'a>> {
        if let Some(schema) = self.properties().and_then(|p| p.get(name)) {
            return Some(self.at(schema));
        }
        if self.keyword("patternProperties").is_some() {
            return None;
        }
        self.keyword("additionalProperties").map(|schema| self.at(schema))
    }

    /// Returns what this part of a schema alone says of an item; `None` where it says nothing.
    pub(super) fn item(self, at: usize) -> Option<Node<'a>> {
        if let Some(schema) = self.keyword("prefixItems").and_then(Value::as_array).and_then(|p| p.get(at)) {
            return Some(self.at(schema));
        }
        // An array under `items` is the form of older drafts.
        self.keyword("items").filter(|items| !items.is_array()).map(|schema| self.at(schema))
    }

    fn target(self) -> Option<Node<'a>> {
        let pointer = self.keyword("$ref")?.as_str()?.strip_prefix('#')?;
        self.root.pointer(pointer).map(|schema| self.at(schema))
    }
}

/// Kinds of values, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOL: Self = Self(2);
    pub(super) const INTEGER: Self = Self(4);
    pub(super) const FRACTION: Self = Self(8);
    pub(super) const NUMBER: Self = Self(4 | 8);
    pub(super) const STRING: Self = Self(16);
    pub(super) const ARRAY: Self = Self(32);
    pub(super) const OBJECT: Self = Self(64);
    pub(super) const ALL: Self = Self(127);

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOL,
            Value::Number(n) if n.is_f64() && n.as_f64().is_some_and(|f| f.fract() != 0.0) => Self::FRACTION,
            Value::Number(_) => Self::INTEGER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    fn named(name: &str) -> Self {
        match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOL,
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            // Our own word for a file that travels by digest, and whatever comes later.
            _ => Self::ALL,
        }
    }

    /// Returns the kinds that `type` names.
    pub(super) fn declared(schema: &Value) -> Self {
        match schema.get("type") {
            Some(Value::String(name)) => Self::named(name),
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).fold(Self::NONE, |all, name| all.or(Self::named(name)))
            }
            _ => Self::ALL,
        }
    }

    /// Returns the kinds in words: `a string or null`.
    pub(super) fn words(self) -> String {
        if self == Self::ALL {
            return "anything".to_owned();
        }
        let mut words = Vec::new();
        for (set, word) in [
            (Self::STRING, "a string"),
            (Self::NUMBER, "a number"),
            (Self::INTEGER, "an integer"),
            (Self::FRACTION, "a fraction"),
            (Self::BOOL, "a boolean"),
            (Self::ARRAY, "a list"),
            (Self::OBJECT, "an object"),
            (Self::NULL, "null"),
        ] {
            let covered = matches!(set, Self::INTEGER | Self::FRACTION) && Self::NUMBER.within(self);
            if set.within(self) && !covered {
                words.push(word);
            }
        }
        if words.is_empty() { "nothing".to_owned() } else { words.join(" or ") }
    }
}

/// What a question may still look at.
pub(super) struct Fuel {
    looks: Cell<u32>,
    depth: Cell<u32>,
}

impl Fuel {
    pub(super) fn new() -> Self {
        Self::with(LOOKS_MAX)
    }

    /// Takes another bound on the places to look at.
    pub(super) fn with(looks: u32) -> Self {
        Self { looks: Cell::new(looks), depth: Cell::new(0) }
    }

    /// Goes one level deeper, or returns `None` where it has gone far enough.
    pub(super) fn deeper<T>(&self, look: impl FnOnce() -> T) -> Option<T> {
        let left = self.looks.get().checked_sub(1)?;
        self.looks.set(left);
        if self.depth.get() >= DEPTH_MAX {
            return None;
        }
        self.depth.set(self.depth.get() + 1);
        let result = look();
        self.depth.set(self.depth.get() - 1);
        Some(result)
    }
}

/// Returns the schemas that a value of all of `nodes` must fit at once: they themselves, what they
/// refer to, and their `allOf`.
pub(super) fn parts<'a>(nodes: &[Node<'a>], fuel: &Fuel) -> Vec<Node<'a>> {
    let mut all: Vec<Node<'a>> = nodes.to_vec();
    let mut next = 0;
    while let Some(&node) = all.get(next) {
        next += 1;
        let more = node.keyword("allOf").and_then(Value::as_array).into_iter().flatten();
        for part in node.target().into_iter().chain(more.map(|schema| node.at(schema))) {
            // A schema that refers to itself says the same once more.
            let seen = all.iter().any(|n| std::ptr::eq(n.schema, part.schema));
            if !seen && fuel.deeper(|| ()).is_some() {
                all.push(part);
            }
        }
    }
    all
}

/// Returns a set that holds every kind of value that all of `parts` admit.
pub(super) fn types(parts: &[Node<'_>], fuel: &Fuel) -> Types {
    parts.iter().fold(Types::ALL, |all, part| all.and(own_types(*part, fuel)))
}

fn own_types(node: Node<'_>, fuel: &Fuel) -> Types {
    if node.schema == &Value::Bool(false) {
        return Types::NONE;
    }
    let mut all = Types::declared(node.schema);
    if let Some(value) = node.keyword("const") {
        all = all.and(Types::of(value));
    }
    if let Some(values) = node.keyword("enum").and_then(Value::as_array) {
        all = all.and(values.iter().fold(Types::NONE, |set, value| set.or(Types::of(value))));
    }
    if let Some(branches) = node.branches() {
        let union = branches.iter().try_fold(Types::NONE, |set, branch| {
            fuel.deeper(|| set.or(types(&parts(&[*branch], fuel), fuel)))
        });
        all = all.and(union.unwrap_or(Types::ALL));
    }
    all
}

/// What a schema says of a place inside its values.
pub(super) enum Found<'a> {
    /// The schemas that a value there must fit.
    Schemas(Vec<Node<'a>>),
    /// Nothing is said.
    Any,
    /// There is no such place, and why.
    Never(String),
}

/// Returns what `nodes` say of the place that `segments` lead to.
pub(super) fn find<'a>(nodes: &[Node<'a>], segments: &[Segment], fuel: &Fuel) -> Found<'a> {
    let Some((segment, rest)) = segments.split_first() else {
        return Found::Schemas(nodes.to_vec());
    };
    match fuel.deeper(|| step_into(nodes, segment, fuel)) {
        None | Some(Found::Any) => Found::Any,
        Some(Found::Never(why)) => Found::Never(why),
        Some(Found::Schemas(below)) => find(&below, rest, fuel),
    }
}

fn step_into<'a>(nodes: &[Node<'a>], segment: &Segment, fuel: &Fuel) -> Found<'a> {
    let parts = parts(nodes, fuel);
    let types = types(&parts, fuel);
    let mut below = Vec::new();
    let mut declared: Vec<&str> = Vec::new();
    let mut closed = false;
    match segment {
        Segment::Field(name) => {
            if types.and(Types::OBJECT) == Types::NONE {
                return Found::Never(format!("is {}, which has no fields", types.words()));
            }
            for part in &parts {
                let own = part.property(name).filter(|p| p.schema != &Value::Bool(false));
                below.extend(own);
                let says_others =
                    part.keyword("additionalProperties").is_some_and(|s| s != &Value::Bool(false))
                        || part.keyword("patternProperties").is_some();
                if let Some(properties) = part.properties() {
                    declared.extend(properties.keys().map(String::as_str));
                    // Who declares fields declares all that plans may use.
                    closed |= own.is_none() && !says_others && !properties.is_empty();
                }
                closed |= own.is_none() && part.keyword("additionalProperties") == Some(&Value::Bool(false));
            }
        }
        Segment::Index(at) => {
            if types.and(Types::ARRAY) == Types::NONE {
                return Found::Never(format!("is {}, which has no items", types.words()));
            }
            below.extend(parts.iter().filter_map(|part| part.item(*at)));
        }
    }
    if !below.is_empty() {
        return Found::Schemas(below);
    }
    let through = parts.iter().filter_map(|part| part.branches()).map(|b| into_branches(&b, segment, fuel));
    for found in through {
        match found {
            Found::Any => closed = false,
            Found::Schemas(_) => return found,
            Found::Never(_) if declared.is_empty() => return found,
            Found::Never(_) => closed = true,
        }
    }
    match segment {
        Segment::Field(name) if closed => Found::Never(no_field(name, &declared)),
        _ => Found::Any,
    }
}

/// A place that one branch has and another has not may be there.
fn into_branches<'a>(branches: &[Node<'a>], segment: &Segment, fuel: &Fuel) -> Found<'a> {
    let mut never = None;
    let mut found = Vec::new();
    for branch in branches {
        match fuel.deeper(|| step_into(&[*branch], segment, fuel)) {
            None | Some(Found::Any) => return Found::Any,
            Some(Found::Schemas(schemas)) => found.push(schemas),
            Some(Found::Never(why)) => never = Some(why),
        }
    }
    match (found.len(), never) {
        (1, _) => Found::Schemas(found.swap_remove(0)),
        (0, Some(why)) => Found::Never(why),
        _ => Found::Any,
    }
}

fn no_field(name: &str, declared: &[&str]) -> String {
    match nearest(name, declared.iter().copied()) {
        Some(near) => format!("has no field `{name}`; did you mean `{near}`?"),
        None if declared.is_empty() => format!("has no field `{name}`"),
        None => format!("has no field `{name}`; it has `{}`", declared.join("`, `")),
    }
}

/// Returns the name that is close enough to have been meant.
pub(super) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .map(|n| (strsim::damerau_levenshtein(n, name), n))
        .min()
        .filter(|(distance, _)| *distance <= (2 + name.len() / 4).min(name.len().saturating_sub(1)))
        .map(|(_, n)| n)
}

/// Returns whether every keyword of a schema is one that is looked at here.
pub(super) fn understood(schema: &Value) -> bool {
    const KEYWORDS: [&str; 17] = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "title",
        "description",
        "default",
        "examples",
        "$schema",
        "format",
    ];
    match schema {
        Value::Bool(_) => true,
        Value::Object(fields) => fields.iter().all(|(keyword, value)| match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values().all(understood),
            ("additionalProperties" | "items", schema) => understood(schema),
            ("default" | "examples", _) => true,
            (keyword, _) => KEYWORDS.contains(&keyword),
        }),
        _ => false,
    }
}
