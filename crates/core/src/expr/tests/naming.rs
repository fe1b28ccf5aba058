use serde_json::{Value, json};

use crate::{expr::references, plan::Step};

fn step(fields: Value) -> Step {
    let mut step = json!({"id": "s", "tool": "t"});
    if fields.get("human").is_some() {
        step.as_object_mut().unwrap().remove("tool");
    }
    step.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(step).unwrap()
}

fn named(fields: Value) -> Vec<String> {
    let found = references(&step(fields)).unwrap_or_else(|e| panic!("{e:?}"));
    let mut names: Vec<String> = found
        .iter()
        .map(|r| {
            let place: String = r.segments.iter().map(ToString::to_string).collect();
            format!("{}{place}{} @ {}", r.step, if r.optional { "?" } else { "" }, r.field)
        })
        .collect();
    names.sort();
    names
}

fn finding(fields: Value) -> String {
    let found = references(&step(fields)).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].to_string()
}

#[test]
fn markers_name_steps_wherever_they_stand() {
    let names = named(json!({
        "input": {"a": {"$ref": "load.rows[0].x"}, "b": [1, {"c": {"$ref": "count", "default": null}}],
                  "p": {"$ref": "params.x"}, "plain": {"$schema": "x", "k": 1}},
    }));
    assert_eq!(names, ["count? @ input.b[1].c", "load.rows[0].x @ input.a"]);
}

#[test]
fn literals_hide_what_looks_like_a_marker() {
    assert_eq!(named(json!({"input": {"a": {"$literal": {"$ref": "load.x"}}}})), [""; 0]);
}

#[test]
fn templates_name_steps_directly_and_through_steps() {
    let text = "{{ load.rows | length }} {{ steps.count.total }} {{ steps['find-top'].rows[0]['n'] }}\
        {% for row in list.rows[1:3] if row.ok %}{{ row.name }} {{ loop.index }}{% else %}{{ none_left.text }}{% endfor %}\
        {% set x = made %}{{ x }}{{ params.version }}{{ range(3) }}{{ a.items() }}{{ b ~ c }}{{ 'x' if d is defined else e }}\
        {% if f.x > 1 and not g %}{% elif h in [i, {'k': j}] %}{% endif %}{{ k | default(l) }}";
    assert_eq!(
        named(json!({"input": {"t": {"$template": text}}})),
        [
            "a @ input.t",
            "b @ input.t",
            "c @ input.t",
            "count.total @ input.t",
            "d @ input.t",
            "e @ input.t",
            "f.x @ input.t",
            "find-top.rows[0].n @ input.t",
            "g @ input.t",
            "h @ input.t",
            "i @ input.t",
            "j @ input.t",
            "k @ input.t",
            "l @ input.t",
            "list.rows @ input.t",
            "load.rows @ input.t",
            "made @ input.t",
            "none_left.text @ input.t",
        ]
    );
}

#[test]
fn conditions_and_questions_name_steps() {
    assert_eq!(
        named(
            json!({"when": "count.total > 0 && steps[\"a-b\"].ok", "expect": "size(output.x) > load.n && params.y && input.z"})
        ),
        ["a-b.ok @ when", "count.total @ when", "load.n @ expect"]
    );
    assert_eq!(
        named(json!({"human": {"question": "Ship {{ build.version }} to {{ params.host }}?"}})),
        ["build.version @ human.question"]
    );
}

#[test]
fn item_and_index_belong_to_a_for_each() {
    let for_each = json!({"in": {"$ref": "list.rows"}});
    assert_eq!(
        named(
            json!({"for_each": for_each, "input": {"x": {"$ref": "item.a"}, "i": {"$ref": "index"}, "t": {"$template": "{{ item.b }}"}},
            "expect": "output.n > index"})
        ),
        ["list.rows @ for_each.in"]
    );
    assert!(finding(json!({"input": {"x": {"$ref": "item.a"}}})).contains("items of a `for_each`"));
    assert!(finding(json!({"input": {"x": {"$template": "{{ index }}"}}})).contains("input.x"));
    assert!(finding(json!({"for_each": {"in": [{"$ref": "item.x"}]}})).starts_with("for_each.in[0]"));
    assert!(finding(json!({"for_each": for_each, "when": "index > 1"})).starts_with("when"));
}

#[test]
fn what_is_malformed_is_found_at_its_field() {
    for (fields, expected) in [
        (json!({"input": {"a": {"$ref": "x..y"}}}), "input.a: `x..y` is not a reference"),
        (json!({"input": {"a": {"$ref": 3}}}), "input.a: `$ref` must be text"),
        (json!({"input": {"a": {"$ref": "x", "defualt": 3}}}), "input.a: `$ref` stands alone"),
        (json!({"input": {"a": {"$reff": "x"}}}), "input.a: there is no marker `$reff`"),
        (json!({"input": {"a": {"$template": "x", "b": 1}}}), "input.a: `$template` must be the only key"),
        (json!({"input": {"a": [{"$template": "{{ x"}]}}), "input.a[0]: template, line 1"),
        (
            json!({"input": {"a": {"$template": "{{ x | nosuch }}"}}}),
            "input.a: template: there is no filter `nosuch`",
        ),
        (json!({"input": {"a": {"$template": "{% include 'x' %}"}}}), "other templates"),
        (json!({"input": {"a": {"$template": "{{ steps[params.x] }}"}}}), "needs the name of one step"),
        (json!({"when": "a >"}), "when: `a >`"),
        (json!({"when": "output.x > 1"}), "when: there is no `output` here"),
        (json!({"when": "size(steps) > 1"}), "when: `steps` needs the name"),
        (json!({"expect": "steps[input.x].y"}), "expect: `steps` needs the name"),
        (json!({"expect": "failure.code == ''"}), "expect: there is no `failure` here"),
    ] {
        let found = finding(fields);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn templates_that_would_nest_too_deep_are_refused() {
    let long = format!("{{{{ 1{} }}}}", " + 1".repeat(600));
    assert!(finding(json!({"input": {"a": {"$template": long}}})).contains("words and signs"));
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(400), ")".repeat(400));
    assert!(finding(json!({"input": {"a": {"$template": deep}}})).contains("recursion"));
}
