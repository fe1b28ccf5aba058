//! Whether what one step returns can be what another takes, by their schemas alone.

use serde_json::Value;

use super::{
    literal,
    schema::{Fuel, Node, Types, parts, types},
};

/// What two schemas say about handing a value of the one to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fits {
    /// Every value fits.
    Fits,
    /// No value fits, and why.
    CannotFit(String),
    /// Some may; it is checked when the value is there.
    Unknown,
}

/// Keywords that restrict nothing. `format` is one unless a validator is told otherwise.
const ANNOTATIONS: [&str; 13] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
];

/// Returns whether values of the schema `output` fit the schema `input`.
#[must_use]
pub fn fits(output: &Value, input: &Value) -> Fits {
    decide(&[Node::new(output)], Node::new(input))
}

/// Returns whether values that fit all of `output` fit `input`.
pub(super) fn decide(output: &[Node<'_>], input: Node<'_>) -> Fits {
    let fuel = Fuel::new();
    if output.iter().any(|node| always(*node, input, &fuel)) {
        return Fits::Fits;
    }
    match cannot(output, input, &Fuel::new()) {
        Some(reason) => Fits::CannotFit(reason),
        None => Fits::Unknown,
    }
}

/// Returns why no value of all of `output` fits `input`, if that is certain.
fn cannot(output: &[Node<'_>], input: Node<'_>, fuel: &Fuel) -> Option<String> {
    fuel.deeper(|| {
        let from = parts(output, fuel);
        let to = parts(&[input], fuel);
        let (has, wants) = (types(&from, fuel), types(&to, fuel));
        let both = has.and(wants);
        if both == Types::NONE {
            return Some(format!("is {}, and {} is wanted", has.words(), wants.words()));
        }
        values(&from, &to, fuel)
            .or_else(|| branches(output, input, &from, &to, fuel))
            .or_else(|| ranges(&from, &to, both))
            .or_else(|| if both == Types::OBJECT { fields(&from, &to, fuel) } else { None })
            .or_else(|| if both == Types::ARRAY { items(&from, &to, fuel) } else { None })
    })
    .flatten()
}

fn enumerated<'a>(node: Node<'a>) -> Option<Vec<&'a Value>> {
    if let Some(value) = node.keyword("const") {
        return Some(vec![value]);
    }
    node.keyword("enum")?.as_array().map(|values| values.iter().collect())
}

fn values(from: &[Node<'_>], to: &[Node<'_>], fuel: &Fuel) -> Option<String> {
    let refused = |values: &[&Value], by: &[Node<'_>]| {
        values.iter().all(|value| by.iter().any(|node| literal::refuses(value, *node, fuel)))
    };
    for list in from.iter().filter_map(|node| enumerated(*node)) {
        if refused(&list, to) {
            return Some("none of its possible values is accepted".to_owned());
        }
    }
    for list in to.iter().filter_map(|node| enumerated(*node)) {
        if refused(&list, from) {
            return Some("none of the accepted values can occur".to_owned());
        }
    }
    None
}

fn branches(
    output: &[Node<'_>],
    input: Node<'_>,
    from: &[Node<'_>],
    to: &[Node<'_>],
    fuel: &Fuel,
) -> Option<String> {
    let all = |reasons: Vec<Option<String>>| {
        let reasons: Option<Vec<String>> = reasons.into_iter().collect();
        reasons.and_then(|mut reasons| reasons.pop())
    };
    let wanted = to
        .iter()
        .filter_map(|node| node.branches())
        .find_map(|branches| all(branches.iter().map(|branch| cannot(output, *branch, fuel)).collect()));
    wanted.or_else(|| {
        from.iter()
            .filter_map(|node| node.branches())
            .find_map(|branches| all(branches.iter().map(|branch| cannot(&[*branch], input, fuel)).collect()))
    })
}

fn least(parts: &[Node<'_>], keyword: &str) -> Option<f64> {
    parts.iter().filter_map(|node| node.bound(keyword)).reduce(f64::max)
}

fn most(parts: &[Node<'_>], keyword: &str) -> Option<f64> {
    parts.iter().filter_map(|node| node.bound(keyword)).reduce(f64::min)
}

fn ranges(from: &[Node<'_>], to: &[Node<'_>], both: Types) -> Option<String> {
    let (low, high, what) = if both.within(Types::NUMBER) {
        ("minimum", "maximum", "value")
    } else if both == Types::STRING {
        ("minLength", "maxLength", "length")
    } else if both == Types::ARRAY {
        ("minItems", "maxItems", "number of items")
    } else {
        return None;
    };
    let apart = |low: Option<f64>, high: Option<f64>, strict: bool| {
        low.zip(high).is_some_and(|(low, high)| low > high || (strict && low >= high))
    };
    let mut strict = vec![(low, high, false)];
    if both.within(Types::NUMBER) {
        strict.extend([("exclusiveMinimum", high, true), (low, "exclusiveMaximum", true)]);
    }
    for (low, high, strict) in strict {
        if apart(least(from, low), most(to, high), strict) {
            return Some(format!("its {what} is always too large"));
        }
        if apart(least(to, low), most(from, high), strict) {
            return Some(format!("its {what} is always too small"));
        }
    }
    None
}

fn fields(from: &[Node<'_>], to: &[Node<'_>], fuel: &Fuel) -> Option<String> {
    let mut names: Vec<&str> = from.iter().chain(to).flat_map(|node| node.required()).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().find_map(|name| {
        let has: Vec<Node<'_>> = from.iter().filter_map(|node| node.property(name)).collect();
        let needed = to.iter().any(|node| node.required().any(|r| r == name));
        if needed && has.iter().any(|node| node.schema == &Value::Bool(false)) {
            return Some(format!("has no field `{name}`"));
        }
        to.iter()
            .filter_map(|node| node.property(name))
            .find_map(|wanted| {
                if wanted.schema == &Value::Bool(false) {
                    return Some("is not accepted".to_owned());
                }
                if has.is_empty() { None } else { cannot(&has, wanted, fuel) }
            })
            .map(|reason| format!("its field `{name}` {reason}"))
    })
}

fn items(from: &[Node<'_>], to: &[Node<'_>], fuel: &Fuel) -> Option<String> {
    let count = least(from, "minItems").into_iter().chain(least(to, "minItems")).fold(0.0, f64::max);
    // The first item stands for all: one that cannot fit is enough.
    if count < 1.0 {
        return None;
    }
    let has: Vec<Node<'_>> = from.iter().filter_map(|node| node.item(0)).collect();
    if has.is_empty() {
        return None;
    }
    to.iter()
        .filter_map(|node| node.item(0))
        .find_map(|wanted| cannot(&has, wanted, fuel))
        .map(|reason| format!("its first item {reason}"))
}

/// Returns whether every value of `output` certainly fits `input`.
fn always(output: Node<'_>, input: Node<'_>, fuel: &Fuel) -> bool {
    fuel.deeper(|| {
        if admits_all(input.schema) {
            return true;
        }
        if output.schema == input.schema && !refers(input.schema) {
            return true;
        }
        let to = parts(&[input], fuel);
        let from = parts(&[output], fuel);
        if let Some(branches) = from.iter().find_map(|node| node.branches())
            && branches.iter().all(|branch| always(*branch, input, fuel))
        {
            return true;
        }
        to.iter().all(|part| part_always(&from, *part, fuel))
    })
    .unwrap_or(false)
}

fn admits_all(schema: &Value) -> bool {
    match schema {
        Value::Bool(admits) => *admits,
        Value::Object(fields) => fields.keys().all(|key| ANNOTATIONS.contains(&key.as_str())),
        _ => false,
    }
}

fn refers(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| key == "$ref" || key == "$dynamicRef" || refers(value))
        }
        Value::Array(items) => items.iter().any(refers),
        _ => false,
    }
}

fn part_always(from: &[Node<'_>], part: Node<'_>, fuel: &Fuel) -> bool {
    let Some(keywords) = part.schema.as_object() else { return admits_all(part.schema) };
    keywords.iter().all(|(keyword, value)| match keyword.as_str() {
        "type" => types(from, fuel).within(Types::declared(part.schema)) && exact(value),
        "const" | "enum" => from
            .iter()
            .filter_map(|node| enumerated(*node))
            .any(|has| enumerated(part).is_some_and(|wants| has.iter().all(|value| wants.contains(value)))),
        "anyOf" => part
            .branches()
            .is_some_and(|branches| branches.iter().any(|b| from.iter().any(|node| always(*node, *b, fuel)))),
        "required" => part.required().all(|name| from.iter().any(|node| node.required().any(|r| r == name))),
        "properties" => part.properties().into_iter().flatten().all(|(name, _)| {
            let has: Vec<Node<'_>> = from.iter().filter_map(|node| node.property(name)).collect();
            part.property(name).is_some_and(|wanted| {
                admits_all(wanted.schema)
                    || has
                        .iter()
                        .any(|node| node.schema == &Value::Bool(false) || always(*node, wanted, fuel))
            })
        }),
        "additionalProperties" => admits_all(value) || no_others(from, part),
        "items" => {
            !value.is_array()
                && (admits_all(value)
                    || from.iter().any(|node| {
                        node.keyword("prefixItems").is_none()
                            && node
                                .item(0)
                                .zip(part.item(0))
                                .is_some_and(|(has, wants)| always(has, wants, fuel))
                    }))
        }
        "minimum" | "minLength" | "minItems" => {
            part.bound(keyword).zip(least(from, keyword)).is_some_and(|(wants, has)| has >= wants)
        }
        "maximum" | "maxLength" | "maxItems" => {
            part.bound(keyword).zip(most(from, keyword)).is_some_and(|(wants, has)| has <= wants)
        }
        // What they refer to and contain is among the parts.
        "$ref" => value.as_str().is_some_and(|r| r.starts_with('#') && part.root.pointer(&r[1..]).is_some()),
        "allOf" => value.is_array(),
        other => ANNOTATIONS.contains(&other),
    })
}

/// Returns whether a `type` names only kinds of JSON Schema.
fn exact(types: &Value) -> bool {
    let known = |name: &Value| {
        let names = ["null", "boolean", "integer", "number", "string", "array", "object"];
        name.as_str().is_some_and(|name| names.contains(&name))
    };
    types.as_array().map_or_else(|| known(types), |names| names.iter().all(known))
}

/// Returns whether no value of `from` has a field that `part` does not declare.
fn no_others(from: &[Node<'_>], part: Node<'_>) -> bool {
    from.iter().any(|node| {
        node.keyword("additionalProperties") == Some(&Value::Bool(false))
            && node.keyword("patternProperties").is_none()
            && node.properties().into_iter().flatten().all(|(name, schema)| {
                schema == &Value::Bool(false) || part.properties().is_some_and(|p| p.contains_key(name))
            })
    })
}
