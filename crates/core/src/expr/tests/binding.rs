use proptest::prelude::*;
use serde_json::{Value, json};

use super::World;
use crate::{
    digest::Digest,
    expr::{BindError, Cel, bind, evaluate, holds, needed_by_condition, needed_payloads, render},
    payload::PayloadRef,
};

fn payload() -> PayloadRef {
    PayloadRef { sha256: Digest::of_bytes(b"x"), bytes: 100_000 }
}

#[test]
fn markers_become_their_values() {
    let mut world = World::new()
        .with("load", json!({"rows": [{"n": 1}, {"n": 2}]}))
        .with("find-top", json!({"top": "refund"}));
    world.item = Some((json!({"name": "x"}), 4));
    let input = json!({
        "n": {"$ref": "load.rows[1].n"}, "all": {"$ref": "load"}, "gone": {"$ref": "load.none", "default": [7]},
        "v": {"$ref": "params.version"}, "params": {"$ref": "params"}, "item": {"$ref": "item.name"}, "index": {"$ref": "index"},
        "lit": {"$literal": {"$ref": "x"}}, "nested": [{"deep": {"$template": "{{ load.rows | length }} {{ steps['find-top'].top }} {{ params.top }} {{ item.name }}{{ index }}"}}],
        "plain": "{{ not a template }}",
    });
    assert_eq!(
        bind(&input, &world).unwrap(),
        json!({
            "n": 2, "all": {"rows": [{"n": 1}, {"n": 2}]}, "gone": [7], "v": "1.4.2",
            "params": {"version": "1.4.2", "top": 3}, "item": "x", "index": 4, "lit": {"$ref": "x"},
            "nested": [{"deep": "2 refund 3 x4"}], "plain": "{{ not a template }}",
        })
    );
}

#[test]
fn a_skipped_step_needs_a_default() {
    let world = World::new().skipped("load");
    let skipped = Err(BindError::Skipped("load".into()));
    assert_eq!(bind(&json!({"$ref": "load.x"}), &world), skipped);
    assert_eq!(bind(&json!({"$ref": "load.x", "default": null}), &world), Ok(Value::Null));
    assert_eq!(bind(&json!({"$template": "{{ load.x }}"}), &world), skipped);
    assert_eq!(render("{{ steps.load.x }}", &world), Err(BindError::Skipped("load".into())));
    assert_eq!(evaluate(&Cel::parse("load.x > 1").unwrap(), &world, &[]), skipped);
}

#[test]
fn a_whole_payload_passes_and_a_field_of_it_must_be_loaded() {
    let world = World::new().stored("load", payload());
    assert_eq!(bind(&json!([{"$ref": "load"}]), &world), Ok(json!([payload().to_value()])));
    let needed = Err(BindError::NeedsPayload(payload()));
    assert_eq!(bind(&json!({"a": {"$ref": "load.rows"}}), &world), needed);
    assert_eq!(bind(&json!({"$template": "{{ load }}"}), &world), needed);
    assert_eq!(evaluate(&Cel::parse("size(load.rows) > 1").unwrap(), &world, &[]), needed);
}

#[test]
fn all_payloads_that_are_needed_are_found_at_once() {
    let other = PayloadRef { sha256: Digest::of_bytes(b"y"), bytes: 70_000 };
    let world = World::new().stored("load", payload()).stored("more", other).stored("whole", other);
    let input = json!({"a": {"$ref": "load.rows"}, "b": [{"$ref": "load.total"}, {"$template": "{{ more.text }}"}], "c": {"$ref": "whole"}});
    let mut expected = vec![payload(), other];
    expected.sort_by_key(|p| p.sha256);
    assert_eq!(needed_payloads(&input, &world), expected);
    assert_eq!(
        needed_payloads(&json!({"c": {"$ref": "whole"}, "d": {"$literal": {"$ref": "load.x"}}}), &world),
        []
    );
    assert_eq!(needed_by_condition(&Cel::parse("load.total > params.top").unwrap(), &world), [payload()]);
}

#[test]
fn a_reference_that_leads_nowhere_is_said() {
    let world = World::new().with("load", json!({"rows": []}));
    assert_eq!(
        bind(&json!({"$ref": "load.rows[0]"}), &world),
        Err(BindError::Missing("load.rows[0]".into()))
    );
    assert_eq!(bind(&json!({"$ref": "nobody"}), &world), Err(BindError::Missing("nobody".into())));
    assert_eq!(bind(&json!({"$ref": "item"}), &world), Err(BindError::Missing("item".into())));
    assert_eq!(bind(&json!({"$ref": "params.none"}), &world), Err(BindError::Missing("params.none".into())));
    assert!(matches!(bind(&json!({"$reff": "a"}), &world), Err(BindError::Marker(_))));
    let undefined = render("{{ load.none }}", &world).unwrap_err().to_string();
    assert!(undefined.contains("undefined value"), "{undefined}");
}

#[test]
fn rendering_is_bounded() {
    let world = World::new().with("load", json!({"text": "x".repeat(200_000)}));
    let spins = "{% for a in range(9000) %}{% for b in range(9000) %}{% endfor %}{% endfor %}";
    assert!(render(spins, &world).unwrap_err().to_string().contains("fuel"));
    let grows = "{% for a in range(900) %}{{ load.text }}{% endfor %}";
    assert!(render(grows, &world).unwrap_err().to_string().contains("longer than"));
}

#[test]
fn conditions_see_the_scope_and_what_is_added() {
    let world = World::new().with("count", json!({"total": 5}));
    let cel = Cel::parse("output.total == count.total && input.x == params.top").unwrap();
    let (output, input) = (json!({"total": 5}), json!({"x": 3}));
    assert_eq!(holds(&cel, &world, &[("output", &output), ("input", &input)]), Ok(true));
    assert!(matches!(holds(&cel, &world, &[]), Err(BindError::Expression(_))));
}

fn plain_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        "[{}%$a-z .]{0,12}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("[a-z]{1,4}|[$](ref|template|literal|x)|default", inner), 0..4)
                .prop_map(|f| Value::Object(f.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn an_escaped_value_binds_to_itself(value in plain_json()) {
        prop_assert_eq!(bind(&json!({"a": {"$literal": value}}), &World::new()), Ok(json!({"a": value})));
    }

    #[test]
    fn binding_never_panics(value in plain_json(), text in "([{][{%] ?|[%}][}]|for|in|if|set|steps|load|[a-z.|'0-9()+*\\[\\]-]| ){0,24}") {
        let world = World::new().with("load", value.clone());
        let _ = bind(&value, &world);
        let _ = render(&text, &world);
    }
}
