//! What `fits` decides, and that it is never wrong.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::check::{Fits, fits};

fn text() -> Value {
    json!({"type": "string"})
}

fn integer() -> Value {
    json!({"type": "integer"})
}

fn number() -> Value {
    json!({"type": "number"})
}

fn list_of(item: Value) -> Value {
    json!({"type": "array", "items": item})
}

fn person() -> Value {
    json!({"type": "object", "properties": {"name": text(), "age": integer()}, "required": ["name"]})
}

#[test]
fn what_always_fits_is_known() {
    for (output, input) in [
        (text(), json!(true)),
        (text(), text()),
        (integer(), number()),
        (list_of(integer()), json!({"type": "array"})),
        (list_of(integer()), list_of(number())),
        (person(), json!({"type": "object"})),
        (
            person(),
            json!({"type": "object", "required": ["name"], "properties": {"name": {"type": ["string", "null"]}}}),
        ),
        (json!({"enum": ["a", "b"]}), json!({"enum": ["a", "b", "c"]})),
        (json!({"type": "integer", "minimum": 3}), json!({"type": "number", "minimum": 1})),
        (json!({"$ref": "#/$defs/T", "$defs": {"T": {"type": "string"}}}), text()),
        (json!({"anyOf": [text(), {"type": "null"}]}), json!({"type": ["null", "string"]})),
    ] {
        assert_eq!(fits(&output, &input), Fits::Fits, "{output} into {input}");
    }
}

#[test]
fn what_never_fits_is_known_with_its_reason() {
    for (output, input, reason) in [
        (text(), integer(), "is a string, and an integer is wanted"),
        (
            person(),
            json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "integer"}}}),
            "its field `name` is a string",
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            json!({"type": "object", "required": ["x"]}),
            "has no field `x`",
        ),
        (
            person(),
            json!({"type": "object", "additionalProperties": false}),
            "its field `name` is not accepted",
        ),
        (json!({"const": "a"}), json!({"enum": ["b", "c"]}), "none of its possible values"),
        (
            json!({"type": "integer", "minimum": 11}),
            json!({"type": "integer", "maximum": 10}),
            "always too large",
        ),
        (json!({"type": "array", "minItems": 1, "items": text()}), list_of(integer()), "its first item"),
        (json!({"anyOf": [text(), {"type": "null"}]}), number(), "a number is wanted"),
        (
            text(),
            json!({"allOf": [{"type": ["string", "null"]}, {"type": ["null", "array"]}]}),
            "null is wanted",
        ),
        (
            json!({"$ref": "#/$defs/T", "$defs": {"T": {"type": "string"}}}),
            json!({"$ref": "#/$defs/T", "$defs": {"T": {"type": "null"}}}),
            "null",
        ),
    ] {
        match fits(&output, &input) {
            Fits::CannotFit(why) => assert!(why.contains(reason), "{why}"),
            other => panic!("{other:?}: {output} into {input}"),
        }
    }
}

#[test]
fn what_may_fit_is_left_to_the_run() {
    for (output, input) in [
        (json!(true), integer()),
        (number(), integer()),
        (list_of(text()), list_of(integer())),
        (person(), json!({"type": "object", "required": ["age"]})),
        (text(), json!({"type": "string", "pattern": "^a"})),
        (json!({"type": ["string", "null"]}), text()),
    ] {
        assert_eq!(fits(&output, &input), Fits::Unknown, "{output} into {input}");
    }
}

#[test]
fn schemas_that_refer_to_themselves_come_to_an_end() {
    let tree = json!({"$ref": "#/$defs/T", "$defs": {"T": {"anyOf": [{"$ref": "#/$defs/T"}, {"$ref": "#/$defs/U"}]}, "U": {"allOf": [{"$ref": "#/$defs/T"}, {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/U"}]}]}}});
    let list = json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]});
    for output in [&tree, &list] {
        for input in [&tree, &list] {
            let _ = fits(output, input);
        }
    }
}

fn any_schema() -> impl Strategy<Value = Value> {
    let kind =
        prop::sample::select(vec!["null", "boolean", "integer", "number", "string", "array", "object"]);
    let scalar = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(1),
        json!(2.5),
        json!("a"),
        json!("bb"),
        json!([]),
        json!({"a": 1}),
    ]);
    let leaf = prop_oneof![
        4 => kind.clone().prop_map(|k| json!({"type": k})),
        1 => prop::collection::vec(kind, 1..3).prop_map(|mut k| { k.sort_unstable(); k.dedup(); json!({"type": k}) }),
        1 => any::<bool>().prop_map(Value::from),
        1 => scalar.clone().prop_map(|c| json!({"const": c})),
        1 => prop::collection::vec(scalar, 1..4).prop_map(|c| json!({"enum": c})),
        1 => (0..4i64, 0..4i64).prop_map(|(a, b)| json!({"type": "integer", "minimum": a, "maximum": b})),
        1 => (0..4i64).prop_map(|a| json!({"type": "number", "exclusiveMinimum": a})),
        1 => (0..4i64).prop_map(|a| json!({"type": "integer", "exclusiveMaximum": a, "minimum": 1})),
        1 => (0..3u32, 0..3u32).prop_map(|(a, b)| json!({"type": "string", "minLength": a, "maxLength": b})),
        1 => Just(json!({"$ref": "#/$defs/T"})),
    ];
    let nested = leaf.prop_recursive(3, 24, 3, |inner| {
        let fields = prop::collection::btree_map("[ab]", inner.clone(), 0..3);
        let required = prop::collection::btree_set("[ab]", 0..2);
        prop_oneof![
            3 => (fields, required, prop::option::of(inner.clone())).prop_map(|(p, r, extra)| {
                let mut schema = json!({"type": "object", "properties": p, "required": r});
                if let Some(extra) = extra { schema["additionalProperties"] = extra; }
                schema
            }),
            2 => (inner.clone(), 0..3u32, prop::option::of(0..3u32)).prop_map(|(i, min, max)| {
                let mut schema = json!({"type": "array", "items": i, "minItems": min});
                if let Some(max) = max { schema["maxItems"] = max.into(); }
                schema
            }),
            1 => prop::collection::vec(inner.clone(), 1..3).prop_map(|b| json!({"anyOf": b})),
            1 => prop::collection::vec(inner.clone(), 1..3).prop_map(|b| json!({"oneOf": b})),
            1 => prop::collection::vec(inner, 1..3).prop_map(|b| json!({"allOf": b})),
        ]
    });
    (nested, prop::sample::select(vec![json!({"type": "string"}), json!({"type": "integer", "minimum": 2})]))
        .prop_map(|(schema, t)| match schema {
            Value::Object(mut fields) => {
                fields.insert("$defs".to_owned(), json!({"T": t}));
                Value::Object(fields)
            }
            other => other,
        })
}

/// Small values, so that many of them fit some schema.
fn any_instance() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(2.5),
        json!(0.5),
        json!(1.0),
        json!(""),
        json!("a"),
        json!("bb"),
        json!("ccc"),
    ]);
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[abc]", inner, 0..3)
                .prop_map(|f| Value::Object(f.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_decision_holds_for_every_value(
        output in any_schema(),
        input in any_schema(),
        instances in prop::collection::vec(any_instance(), 40),
    ) {
        let decision = fits(&output, &input);
        let (returns, takes) = (jsonschema::validator_for(&output).unwrap(), jsonschema::validator_for(&input).unwrap());
        for value in instances.iter().filter(|value| returns.is_valid(value)) {
            match &decision {
                Fits::Fits => prop_assert!(takes.is_valid(value), "{value} of {output} does not fit {input}"),
                Fits::CannotFit(why) => prop_assert!(!takes.is_valid(value), "{value} of {output} fits {input}: {why}"),
                Fits::Unknown => {}
            }
        }
    }

    #[test]
    fn what_is_refused_as_written_is_refused_by_a_validator(schema in any_schema(), value in any_instance()) {
        let node = crate::check::schema::Node::new(&schema);
        if crate::check::literal::refuses(&value, node, &crate::check::schema::Fuel::new()) {
            prop_assert!(!jsonschema::is_valid(&schema, &value), "{value} fits {schema}");
        }
    }
}
