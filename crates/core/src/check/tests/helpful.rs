//! Advice, rules, envelopes.

use serde_json::{Value, json};

use super::{World, report, steps, told, with};
use crate::{check::envelope, finding::Severity, policy::Rule};

fn advice(plan: Value) -> Vec<String> {
    let checked = World::new().check(plan);
    assert_eq!(told(&checked, Severity::Error), [""; 0]);
    told(&checked, Severity::Advice)
}

#[track_caller]
fn one(plan: Value, expected: &str) {
    let advice = advice(plan);
    assert!(advice.len() == 1 && advice[0].contains(expected), "{advice:#?}");
}

#[test]
fn a_sound_plan_gets_no_advice() {
    assert_eq!(advice(report()), [""; 0]);
}

#[test]
fn a_plan_of_two_steps_may_not_pay() {
    let mut plan = report();
    plan["steps"].as_array_mut().unwrap().remove(2);
    plan["result"] = json!({"$ref": "count"});
    one(plan, "[few_steps]");
}

#[test]
fn an_output_that_nobody_uses_is_told() {
    let mut plan = report();
    plan["steps"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": "extra", "title": "Load once more", "tool": "load_tickets"}));
    one(plan.clone(), "[unused_output] step `extra`");
    plan["steps"][3]["expect"] = json!("size(output.tickets) > 0");
    assert_eq!(advice(plan.clone()), [""; 0]);
    plan["steps"][3].as_object_mut().unwrap().remove("expect");
    plan["done_when"] = json!("size(extra.tickets) > 100");
    assert_eq!(advice(plan), [""; 0]);
}

#[test]
fn vague_titles_are_told_once() {
    let mut plan = report();
    plan["steps"][0]["title"] = json!("");
    plan["steps"][1]["title"] = json!("Count");
    one(plan.clone(), "[vague_title] `load`, `count`: no title says what is done");
    plan["steps"][0]["outcome"] = json!("all tickets of the week");
    one(plan, "[vague_title] `count`:");
}

#[test]
fn irreversible_items_state_their_maximum() {
    let plan = with(
        2,
        json!({"tool": "deploy", "for_each": {"in": {"$ref": "load.tickets"}, "max": 7}, "input": {"service": {"$ref": "item.text"}}}),
    );
    let mut plan = plan;
    plan["result"] = json!({"$ref": "draft"});
    let advice = advice(plan);
    assert!(
        advice.iter().any(|a| a.contains("`deploy` is irreversible and may be called up to 7 times")),
        "{advice:#?}"
    );
}

#[test]
fn what_only_the_run_can_tell_is_told() {
    let mut world = World::new();
    let mut tools: Vec<_> = world.inventory.tools().map(|t| t.as_ref().clone()).collect();
    tools.push(super::tool(
        "maybe",
        json!(true),
        super::object(json!({"text": {"type": ["string", "null"]}})),
        crate::tool::Effect::Read,
    ));
    world.inventory = tools.into_iter().collect();
    let mut plan = report();
    plan["steps"].as_array_mut().unwrap().extend([
        json!({"id": "m", "title": "Maybe a text", "tool": "maybe"}),
        json!({"id": "s", "title": "Shout it", "tool": "shout", "input": {"text": {"$ref": "m.text"}}, "expect": "output.text != ''"}),
    ]);
    let checked = world.check(plan);
    assert_eq!(told(&checked, Severity::Error), [""; 0]);
    let advice = told(&checked, Severity::Advice);
    assert_eq!(
        advice,
        [
            "[unchecked_input] step `s`: whether input.text (from `m.text`) fits the tool's input shows only when the step runs"
        ]
    );
}

#[test]
fn writes_that_may_be_the_same_are_advice() {
    let deploy = |id: &str| json!({"id": id, "title": "Deploy it", "tool": "deploy", "input": {"service": {"$ref": "params.version"}}});
    one(
        steps(json!([deploy("a"), deploy("b"), {"id": "c", "title": "Look", "tool": "is_deployed"}])),
        "may both write the same `service:{service}`",
    );
}

fn rule(fields: Value) -> Rule {
    serde_json::from_value(fields).unwrap()
}

fn rule_errors(fields: Value) -> Vec<String> {
    let mut world = World::new();
    world.rules = vec![rule(fields)];
    told(&world.check(report()), Severity::Error)
}

#[test]
fn rules_are_checked_with_the_plan() {
    let good = [
        json!({"when": "failure.code == 'x' && step.tool == 'deploy'", "insert": {"id": "fix-{step}", "tool": "shout", "input": {"text": "{step}"}}, "times": 1}),
        json!({"when": "steps.load.status == 'failed' && params.version == '1'", "replace": {"tool": "shout", "input": {"text": {"$ref": "item"}}}}),
        json!({"when": "true", "retry": true}),
        json!({"when": "true", "fail": "no"}),
    ];
    for rule in good {
        assert_eq!(rule_errors(rule.clone()), [""; 0], "{rule}");
    }
    for (rule, expected) in [
        (json!({"when": "failure.code ==", "retry": true}), "[expression] replan.rules[0].when"),
        (json!({"when": "load.x == 1", "retry": true}), "there is no `load` here; a rule sees `failure`"),
        (json!({"when": "true"}), "this one has none"),
        (json!({"when": "true", "retry": true, "skip": true}), "this one has retry and skip"),
        (
            json!({"when": "true", "insert": {"id": "fix-{step}", "tool": "shuot"}}),
            "replan.rules[0].insert.tool: there is no tool `shuot`; did you mean `shout`?",
        ),
        (json!({"when": "true", "insert": {"id": "fix-{step}"}}), "exactly one of `tool`"),
        (
            json!({"when": "true", "insert": {"id": "FIX", "tool": "shout"}}),
            "[rule_step] replan.rules[0].insert",
        ),
        (json!({"when": "true", "replace": {"toool": "shout"}}), "unknown field `toool`"),
        (json!({"when": "true", "insert": "shout"}), "a step is an object"),
        (
            json!({"when": "true", "insert": {"id": "fix-{step}", "tool": "shout", "input": {}}}),
            "replan.rules[0].insert.input: lacks the field `text`",
        ),
    ] {
        let errors = rule_errors(rule);
        assert!(errors.len() == 1 && errors[0].contains(expected), "{errors:#?}");
    }
}

#[test]
fn steps_of_rules_are_checked_as_steps_of_plans_are() {
    let insert = |fields: Value| {
        let mut step = json!({"id": "fix-{step}", "tool": "count_intents"});
        step.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"when": "true", "insert": step})
    };
    let replace = |fields: Value| json!({"when": "true", "replace": fields});
    for (rule, expected) in [
        (
            insert(json!({"input": {"tickets": 3}})),
            "insert.input.tickets: is an integer, and a list is wanted",
        ),
        (insert(json!({"input": {"tickets": "{step}"}})), "insert.input.tickets: a template"),
        (insert(json!({"input": {"tickets": [], "code": "abc"}})), "replan.rules[0].insert.input.code"),
        (insert(json!({"input": {"tickets": [], "top": 99}})), "above what is accepted (10)"),
        (insert(json!({"input": {"tickets": {"$ref": "params.verison"}}})), "there is no param `verison`"),
        (
            insert(json!({"input": {"tickets": []}, "output": {"type": "string"}})),
            "insert.output: no output of",
        ),
        (
            insert(json!({"input": {"tickets": []}, "capability": "nobody"})),
            "insert.capability: nobody serves",
        ),
        (
            insert(json!({"input": {"tickets": []}, "on_failure": {"attempts": 0}})),
            "insert.on_failure.attempts",
        ),
        (insert(json!({"tool": "orphan"})), "insert.tool: no capability serves `orphan`"),
        (replace(json!({"tool": "shout", "input": {}})), "replace.input: lacks the field `text`"),
        (replace(json!({"tool": "orphan"})), "replace.tool: no capability serves `orphan`"),
        (replace(json!({"agent": {"instructions": "i", "tools": ["shuot"]}})), "replace.agent.tools[0]"),
    ] {
        let errors = rule_errors(rule);
        assert!(errors.len() == 1 && errors[0].contains(expected), "{expected}: {errors:#?}");
    }
    for rule in [
        insert(json!({"input": {"tickets": [], "mode": "{step}"}})),
        insert(json!({"input": {"tickets": {"$ref": "load.tickets"}}})),
        insert(json!({"input": {"tickets": {"$literal": ["{step}", {"$ref": "x"}]}}})),
        insert(json!({"input": {"tickets": [{"$ref": "{step}.rows", "default": 1}]}})),
        replace(json!({"tool": "shout"})),
        replace(json!({"input": {"text": 3}})),
    ] {
        assert_eq!(rule_errors(rule.clone()), [""; 0], "{rule}");
    }
}

#[test]
fn an_envelope_holds_every_tool_that_may_be_called() {
    let mut world = World::new();
    world.rules = vec![rule(
        json!({"when": "true", "insert": {"id": "fix-{step}", "tool": "deploy", "input": {"service": "{step}"}}}),
    )];
    let mut plan = report();
    plan["assumptions"] = json!([{"text": "t", "tool": "shout", "input": {"text": "x"}, "expect": "true"}]);
    let checked = world.check(plan);
    assert!(checked.is_adoptable(), "{:#?}", checked.findings);
    let compiled = checked.compiled.unwrap();
    let envelope = envelope(&compiled, &world.context());
    let tools: Vec<&str> = envelope.tools.keys().map(|t| t.as_str()).collect();
    assert_eq!(tools, ["count_intents", "deploy", "draft_report", "is_deployed", "load_tickets", "shout"]);
    assert_eq!(envelope.plan, compiled.digest());
    assert_eq!(envelope.limits, world.limits);
}
