//! One case for each kind of bad plan.

use serde_json::{Value, json};

use super::{World, report, steps, with};
use crate::goal::{PlannerSpec, Review};

#[track_caller]
fn only(plan: Value, expected: &[&str]) {
    let errors = World::new().errors(plan);
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for text in expected {
        assert!(errors.iter().any(|e| e.contains(text)), "no `{text}` in {errors:#?}");
    }
}

#[test]
fn a_cycle_is_named() {
    only(
        with(0, json!({"needs": ["draft"]})),
        &["[cycle] step `count`: these steps wait for each other: count → draft → load → count"],
    );
}

#[test]
fn an_unknown_tool_is_named_with_the_nearest() {
    only(
        with(1, json!({"tool": "count_intent"})),
        &["step `count`, tool: there is no tool `count_intent`; did you mean `count_intents`?"],
    );
}

#[test]
fn a_missing_step_is_named_with_the_nearest() {
    only(
        with(1, json!({"input": {"tickets": {"$ref": "laod.tickets"}}})),
        &["step `count`, input.tickets: there is no step `laod`; did you mean `load`?"],
    );
    only(with(1, json!({"needs": ["nobody-at-all"]})), &["step `count`, needs: there is no step"]);
}

#[test]
fn a_missing_field_is_named_with_the_nearest() {
    only(
        with(1, json!({"input": {"tickets": {"$ref": "load.tikets"}}})),
        &[
            "step `count`, input.tickets: `load.tikets` leads to no value: what is there has no field `tikets`; did you mean `tickets`?",
        ],
    );
    only(with(1, json!({"when": "load.none > 1"})), &["step `count`, when: `load.none` leads to no value"]);
    only(
        with(2, json!({"expect": "output.report == steps[\"load\"].tickets[0].none"})),
        &["has no field `none`"],
    );
    only(
        with(2, json!({"input": {"intent_counts": {"$template": "{{ load.tickets[0].id.x }}"}}})),
        &["is an integer, which has no fields", "a template is a string, and an object is wanted"],
    );
}

#[test]
fn a_condition_may_ask_whether_a_field_is_there() {
    only(
        with(2, json!({"expect": "output.raport != ''"})),
        &[
            "step `draft`, expect: `output.raport` leads to no value: what is there has no field `raport`; did you mean `report`?",
        ],
    );
    only(with(2, json!({"expect": "!has(output.note) || output.note.text != '' || has(load.none)"})), &[]);
}

#[test]
fn a_wrongly_typed_input_is_named() {
    only(
        with(1, json!({"input": {"tickets": "many"}})),
        &["[input] step `count`, input.tickets: is a string, and a list is wanted"],
    );
    only(
        with(1, json!({"input": {"tickets": {"$ref": "draft.report"}}, "needs": []})),
        &["`draft.report` is a string, and a list is wanted", "wait for each other"],
    );
    only(with(1, json!({"input": {}})), &["step `count`, input: lacks the field `tickets`"]);
    only(
        with(1, json!({"input": {"tickets": [], "topp": 3}})),
        &["has the field `topp`, which is not accepted; did you mean `top`?"],
    );
    only(
        with(1, json!({"input": {"tickets": [], "top": 11}})),
        &["input.top: is 11, which is above what is accepted (10)"],
    );
    only(
        with(1, json!({"input": {"tickets": [], "mode": "slow"}})),
        &["is \"slow\", and one of \"fast\", \"exact\" is wanted"],
    );
    only(
        with(1, json!({"input": {"tickets": [], "top": {"$literal": 1.5}}})),
        &["input.top: is a fraction, and an integer is wanted"],
    );
    only(with(1, json!({"input": [1]})), &["input: is a list, and an object is wanted"]);
}

#[test]
fn what_only_a_validator_knows_is_named_too() {
    only(
        with(1, json!({"input": {"tickets": [], "code": "abc"}})),
        &["step `count`, input.code: \"abc\" does not match"],
    );
}

#[test]
fn two_steps_with_one_id_are_named() {
    only(
        with(1, json!({"id": "load", "input": {"tickets": []}})),
        &["[duplicate_step] step `load`", "there is no step `count`"],
    );
}

#[test]
fn more_steps_than_the_limit_are_refused() {
    let mut world = World::new();
    world.limits.steps = 2;
    assert_eq!(
        world.errors(report()),
        [
            "[too_many_steps] steps: the plan has 3 steps, and 2 are allowed; use `for_each`, or raise `limits.steps`"
        ]
    );
}

#[test]
fn cel_that_does_not_parse_is_named_at_its_field() {
    only(with(1, json!({"when": "load.tickets >"})), &["[expression] step `count`, when: `load.tickets >`"]);
    only(with(1, json!({"expect": "size(output"})), &["[expression] step `count`, expect"]);
    let mut plan = report();
    plan["done_when"] = json!("1 +");
    only(plan, &["[expression] done_when: `1 +`"]);
}

#[test]
fn cel_that_names_what_is_not_there_is_named() {
    only(with(1, json!({"when": "laod.tickets == []"})), &["when: there is no step `laod`"]);
    only(with(1, json!({"when": "output.x == 1"})), &["when: there is no `output` here"]);
    only(
        with(1, json!({"expect": "params.versoin == output.intent_counts.a"})),
        &["there is no param `versoin`; did you mean `version`?"],
    );
    only(with(1, json!({"expect": "now() > 1"})), &["there is no function `now`"]);
    let mut plan = report();
    plan["done_when"] = json!("size(nobody_here.tickets) > 1");
    only(plan, &["done_when: there is no step `nobody_here`"]);
}

#[test]
fn params_that_are_not_there_are_named() {
    only(
        with(1, json!({"input": {"tickets": {"$ref": "params.tickets"}}})),
        &["[unknown_param] step `count`, input.tickets: there is no param `tickets`; there are `version`"],
    );
    only(with(1, json!({"input": {"tickets": {"$ref": "params.tickets", "default": []}}})), &[]);
}

#[test]
fn a_result_that_cannot_be_reached_is_named() {
    let mut plan = report();
    plan["result"] = json!({"a": {"$ref": "drafd.report"}, "b": {"$ref": "draft.repord"}, "c": {"$template": "{{ item }}"}});
    only(plan.clone(), &["[variable] result.c: there is no `item` here"]);
    plan["result"].as_object_mut().unwrap().remove("c");
    only(
        plan,
        &[
            "result.a: there is no step `drafd`, so the result cannot be reached; did you mean `draft`?",
            "result.b: `draft.repord` leads to no value",
        ],
    );
}

#[test]
fn another_format_is_refused() {
    let mut plan = report();
    plan["format"] = json!(2);
    only(plan, &["[format] format: this is format 2"]);
    only(json!({"format": 1, "steps": []}), &["[no_steps]"]);
}

#[test]
fn a_tool_that_nobody_serves_is_named() {
    only(
        with(0, json!({"tool": "orphan"})),
        &["[unserved] step `load`, tool: no capability serves `orphan`"],
    );
    only(
        with(0, json!({"capability": "ops"})),
        &["step `load`, capability: `ops` does not serve `load_tickets`; served by: data"],
    );
    only(with(0, json!({"capability": "moon"})), &["nobody serves the capability `moon`"]);
    only(
        with(0, json!({"tool": "broken"})),
        &["[verify_tool] step `load`, tool: `broken` is verified by `nobody`"],
    );
}

#[test]
fn attempts_and_timeouts_stay_within_bounds() {
    only(
        with(0, json!({"on_failure": {"attempts": 21}})),
        &["[attempts] step `load`, on_failure.attempts: 21 attempts are asked for, and 1 to 20 are allowed"],
    );
    only(with(0, json!({"on_failure": {"attempts": 0}})), &["[attempts]"]);
    only(with(0, json!({"timeout": "0s"})), &["[timeout]"]);
}

#[test]
fn a_for_each_needs_a_list_that_it_allows() {
    let each = |for_each: Value| {
        with(2, json!({"tool": "shout", "for_each": for_each, "input": {"text": {"$ref": "item"}}}))
    };
    let named = |for_each: Value, expected: &str| {
        let errors = World::new().errors(each(for_each));
        assert!(errors.iter().any(|e| e.contains(expected)), "{errors:#?}");
    };
    named(json!({"in": [1, 2, 3], "max": 2}), "for_each.in: the list has 3 items, and 2 are allowed");
    named(json!({"in": "abc"}), "`in` is a string, and a list is wanted");
    named(json!({"in": {"$ref": "count.intent_counts"}}), "`in` is an object, and a list is wanted");
    named(json!({"in": {"$ref": "load.none"}}), "for_each.in: `load.none` leads to no value");
    named(json!({"in": [1], "max": 0}), "for_each.max: `max` is 0");
    named(json!({"in": [1], "max": 1_000_000}), "from 1 to 10000");
    named(json!({"in": [1], "max_parallel": 0}), "for_each.max_parallel");
    named(json!({"in": {"$ref": "load.tickets"}}), "input.text: `item` is an object, and a string is wanted");
}

#[test]
fn an_output_that_its_tool_cannot_return_is_named() {
    only(
        with(2, json!({"output": {"type": "object", "required": ["summary"]}})),
        &[
            "[output_schema] step `draft`, output: no output of `draft_report` can fit: it has no field `summary`",
        ],
    );
    only(
        with(2, json!({"output": {"type": "no-such-type"}})),
        &["[schema] step `draft`, output: is no JSON Schema"],
    );
}

#[test]
fn steps_that_nobody_can_execute_are_named() {
    only(
        steps(json!([
            {"id": "a", "title": "A", "agent": {"instructions": "x", "tools": ["shout", "shuot"]}},
            {"id": "d", "title": "D", "agent": {"instructions": "x", "tools": ["shout"]}},
            {"id": "c", "title": "C", "human": {"question": "ok {{ a }}?"}},
        ])),
        &[
            "step `a`, agent.tools[1]: there is no tool `shuot`; did you mean `shout`?",
            "[unserved] step `d`, agent: no specialist has a model, so nobody carries out agent steps",
        ],
    );
}

#[test]
fn goals_need_a_text_a_planner_and_room_below() {
    let goals = || {
        steps(json!([
            {"id": "a", "title": "A", "goal": {"text": "find it"}, "input": {"x": 1}},
            {"id": "b", "title": "B", "goal": {"text": " ", "produce": ["report"]}, "input": [1]},
        ]))
    };
    only(
        goals(),
        &["[no_goal] step `b`, goal.text: say", "[input_schema] step `b`, input: the input of a goal"],
    );
    let mut world = World::new();
    world.planner = PlannerSpec::Derive { produce: vec!["all".to_owned()] };
    world.limits.depth = 0;
    let told = world.errors(goals());
    for expected in ["[no_planner] step `a`, goal.produce", "[too_deep] step `a`", "[too_deep] step `b`"] {
        assert!(told.iter().any(|finding| finding.contains(expected)), "{expected}: {told:?}");
    }
    assert!(!told.iter().any(|finding| finding.contains("[no_planner] step `b`")), "{told:?}");
}

#[test]
fn a_review_that_nobody_makes_is_named() {
    let plan = || steps(json!([{"id": "a", "title": "A", "tool": "load_tickets", "review": true}]));
    only(plan(), &["[no_reviewer] step `a`, review: the step asks for a review"]);
    let mut world = World::new();
    world.review = Some(Review { model: "judge".to_owned(), plans: true, results: false });
    assert_eq!(world.errors(plan()), Vec::<String>::new());
}

#[test]
fn assumptions_only_read_and_know_params_only() {
    let mut plan = report();
    plan["assumptions"] = json!([
        {"text": "a", "tool": "deploy", "input": {"service": "web"}, "expect": "output.done"},
        {"text": "b", "tool": "shout", "input": {"text": {"$ref": "load.tickets"}}, "expect": "output.text == load.tickets && input.y"},
        {"text": "c", "tool": "shuot", "expect": "true"},
        {"text": "d", "tool": "shout", "input": {"text": {"$ref": "params.version"}}, "expect": "output.text == params.version"},
        {"text": "e", "tool": "shout", "input": {"text": 3}, "expect": "output.text == params.none"},
    ]);
    only(
        plan,
        &[
            "[assumption_effect] assumptions[0].tool: `deploy` is irreversible",
            "[assumption_reference] assumptions[1].input.text: `load` is no param",
            "assumptions[1].input.text: `load.tickets` is a list, and a string is wanted",
            "[variable] assumptions[1].expect: there is no `input` here",
            "assumptions[2].tool: there is no tool `shuot`",
            "assumptions[4].input.text: is an integer, and a string is wanted",
            "assumptions[4].expect: there is no param `none`",
        ],
    );
}

#[test]
fn unordered_steps_that_write_the_same_are_named() {
    let deploy = |id: &str, service: Value, needs: Value| json!({"id": id, "title": "Deploy it", "tool": "deploy", "needs": needs, "input": {"service": service}});
    only(
        steps(json!([
            deploy("a", json!("web"), json!([])),
            deploy("b", json!("api"), json!([])),
            deploy("c", json!("web"), json!(["b"]))
        ])),
        &["[unordered_writes] step `c`: `a` and `c` both write `service:web` in no order"],
    );
    only(
        steps(json!([
            deploy("a", json!("web"), json!([])),
            deploy("b", json!("api"), json!(["a"])),
            deploy("c", json!("web"), json!(["b"]))
        ])),
        &[],
    );
    let mut each = deploy("a", json!("web"), json!([]));
    each["for_each"] = json!({"in": [1, 2]});
    only(
        steps(json!([each])),
        &["[unordered_writes] step `a`, for_each.max_parallel: all items write `service:web` at once"],
    );
}
