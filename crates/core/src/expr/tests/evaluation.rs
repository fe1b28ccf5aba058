use proptest::prelude::*;
use serde_json::{Value, json};

use crate::expr::{Cel, CelError};

fn eval(source: &str, vars: &Value) -> Result<Value, CelError> {
    let vars: Vec<(&str, &Value)> = vars.as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v)).collect();
    Cel::parse(source)?.evaluate(&vars)
}

fn reason(source: &str, vars: Value) -> String {
    eval(source, &vars).unwrap_err().reason
}

#[test]
fn json_values_keep_their_types() {
    let vars = json!({"a": {"i": 3, "d": 3.5, "s": "ä", "l": [1, "x"], "n": null, "b": true, "u": u64::MAX}});
    for (source, expected) in [
        ("a.i + 1", json!(4)),
        ("a.d * 2.0", json!(7.0)),
        ("double(a.i) + a.d", json!(6.5)),
        ("a.s + 'x'", json!("äx")),
        ("a.l[1]", json!("x")),
        ("a.n == null", json!(true)),
        ("a.u", json!(u64::MAX)),
        ("a.l", json!([1, "x"])),
        ("a", vars["a"].clone()),
        ("{'k': a.i, 'c': 1}", json!({"c": 1, "k": 3})),
        ("size(a.l) == 2 && !has(a.none) && has(a.i)", json!(true)),
        ("a.l.exists(x, x == 'x')", json!(true)),
        ("type(a.i) == int && type(a.d) == double", json!(true)),
        ("[1, 'x'] == a.l && a.l == [1, 'x']", json!(true)),
        ("{'k': 1} == {'k': 1}", json!(true)),
        ("a['s'].matches('^.$')", json!(true)),
    ] {
        assert_eq!(eval(source, &vars), Ok(expected), "{source}");
    }
}

#[test]
fn mixed_arithmetic_needs_a_conversion() {
    assert!(reason("a + 1.5", json!({"a": 1})).contains("Unsupported binary operator"));
}

#[test]
fn objects_are_walked_in_the_order_of_their_keys() {
    let fields: Value =
        (0..40).map(|i| (format!("k{i:02}"), json!(i))).rev().collect::<serde_json::Map<_, _>>().into();
    let keys: Vec<String> = (0..40).map(|i| format!("k{i:02}")).collect();
    let vars = json!({"a": fields});
    assert_eq!(eval("a.map(k, k)", &vars), Ok(json!(keys)));
    assert_eq!(eval("{'x': a}.x.filter(k, true)", &vars), Ok(json!(keys)));
    assert_eq!(eval("a == {'z': 1} || {'z': 1} == a", &vars), Ok(json!(false)));
}

#[test]
fn steps_are_found_by_their_names_and_through_steps() {
    let vars = json!({"count": {"total": 2}, "find-top": {"rows": [{"n": 7}]}});
    let source = "count.total == 2 && steps.count.total == 2 && steps[\"find-top\"].rows[0].n == 7";
    assert_eq!(eval(source, &vars), Ok(json!(true)));
    assert_eq!(Cel::parse(source).unwrap().names(), ["count", "find-top"]);
}

#[test]
fn steps_may_be_given_as_a_whole() {
    let vars = json!({"steps": {"smoke": {"status": "failed"}}, "failure": {"code": "x"}});
    assert_eq!(
        eval("steps.smoke.status == 'failed' && size(steps) == 1 && failure.code == 'x'", &vars),
        Ok(json!(true))
    );
}

#[test]
fn a_missing_name_or_field_is_said() {
    assert!(reason("a.b.c", json!({"a": {"b": {"d": 1}}})).contains("No such key: c"));
    assert!(reason("a.b", json!({})).contains("Undeclared reference to 'a'"));
    assert!(reason("a[3]", json!({"a": [1, 2, 3]})).contains("Index out of bounds"));
    assert!(reason("a[1].x", json!({"a": [1, 2, 3]})).contains("no matching overload"));
}

#[test]
fn a_condition_is_true_or_false() {
    let cel = Cel::parse("1 + 1").unwrap();
    assert!(cel.holds(&[]).unwrap_err().reason.contains("is a number"));
    assert_eq!(Cel::parse("1 < 2").unwrap().holds(&[]), Ok(true));
}

#[test]
fn what_would_run_long_is_refused() {
    let too_long = format!("'{}'", "x".repeat(5_000));
    assert!(Cel::parse(&too_long).unwrap_err().reason.contains("longer than"));
    assert!(Cel::parse(&"1+".repeat(1_000)).unwrap_err().reason.contains("words and signs"));
    let nested = "a.all(x, a.all(y, x == y))";
    assert!(Cel::parse(nested).unwrap_err().reason.contains("one loop inside another"));
    assert!(Cel::parse("a.filter(x, x > 1).map(x, x * 2).all(x, x > 2)").is_ok());
}

#[test]
fn an_expression_that_looks_at_too_much_is_refused() {
    let vars = json!({"a": {"rows": vec![0; 1_000_001], "n": 1}});
    assert!(reason("size(a.rows) > 1", vars.clone()).contains("looks at more than"));
    assert_eq!(eval("a.n == 1", &vars), Ok(json!(true)));
}

#[test]
fn only_functions_that_exist_parse() {
    let reason = Cel::parse("now() > 1").unwrap_err().reason;
    assert!(reason.contains("no function `now`"), "{reason}");
    assert!(Cel::parse("timestamp('2026-01-01T00:00:00Z') < x").is_err());
    assert!(Cel::parse("a.b.").unwrap_err().to_string().contains("`a.b.`"));
}

#[test]
fn a_loop_variable_is_no_name() {
    let cel = Cel::parse("rows.all(r, r.n > limit) && rows.exists(limit, limit == 1)").unwrap();
    assert_eq!(cel.names(), ["limit", "rows"]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1.0e9f64..1.0e9).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[a-c$]{1,2}", inner), 0..6)
                .prop_map(|f| Value::Object(f.into_iter().collect())),
        ]
    })
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// Pieces of the language, so that random texts get past the parser.
fn any_source() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "steps",
        ".",
        "a.b",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ",",
        ":",
        "?",
        "+",
        "-",
        "*",
        "/",
        "%",
        "!",
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "in",
        "'x'",
        "\"",
        "'",
        "1",
        "0u",
        "2.5",
        "1e999",
        "9223372036854775807",
        "null",
        "true",
        "size(",
        "has(",
        ".all(",
        ".map(x,",
        ".exists_one(x,",
        ".filter(x,",
        "int(",
        "string(",
        "type(",
        "\\",
        "r'",
        "b'x'",
        "`",
        " ",
        "\n",
        "ä",
        "\u{0}",
        ".?",
        "[?",
        "optional.of(",
        "dyn(",
        "matches(",
        "//",
    ]);
    prop_oneof![prop::collection::vec(piece, 0..24).prop_map(|p| p.concat()), "\\PC{0,40}", any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_value_passes_through_unchanged(value in any_json()) {
        let sees = Cel::parse("a").unwrap().evaluate(&[("a", &value)]).unwrap();
        prop_assert_eq!(sees, sorted(value));
    }

    #[test]
    fn no_source_and_no_value_panics(source in any_source(), value in any_json()) {
        if let Ok(cel) = Cel::parse(&source) {
            let vars = [("a", &value), ("b", &value)];
            let first = cel.evaluate(&vars);
            prop_assert_eq!(first.clone(), cel.evaluate(&vars));
            if let Err(e) = first {
                prop_assert!(!e.reason.contains("interpreter failed"), "{}", e);
            }
        }
    }
}
