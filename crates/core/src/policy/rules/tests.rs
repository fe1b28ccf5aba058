use serde_json::json;

use super::*;
use crate::failure::FailureKind;

/// Asks `rules` about `smoke`, the second of three steps, which failed with `missing_migration`.
fn ask(rules: Value, rule_uses: &[(u32, u32)]) -> Answered {
    ask_in(rules, rule_uses, json!([]))
}

fn ask_in(rules: Value, rule_uses: &[(u32, u32)], more_steps: Value) -> Answered {
    let rules: Vec<Rule> = serde_json::from_value(rules).unwrap();
    let mut steps = json!([
        {"id": "build", "tool": "build"},
        {"id": "smoke", "tool": "smoke", "title": "Try it", "needs": ["build"],
         "input": {"url": {"$ref": "build.url"}}, "on_failure": {"attempts": 3}},
        {"id": "deploy", "tool": "deploy", "needs": ["smoke"]},
    ]);
    steps.as_array_mut().unwrap().extend(more_steps.as_array().unwrap().clone());
    let plan: Plan = serde_json::from_value(json!({"format": 1, "steps": steps})).unwrap();
    answer(
        &rules,
        &Situation {
            failure: &Failure::new(FailureKind::Tool, "missing_migration", "0042 is pending"),
            step: &plan.steps[1],
            effect: Some(Effect::Read),
            attempts: 2,
            plan: &plan,
            statuses: &BTreeMap::from([
                ("build".parse().unwrap(), "succeeded".to_owned()),
                ("smoke".parse().unwrap(), "failed".to_owned()),
            ]),
            outputs: &BTreeMap::from([("build".parse().unwrap(), Output::inline(json!({"url": "u"})))]),
            params: json!({"version": "1.4.3"}).as_object().unwrap(),
            rule_uses: &rule_uses.iter().copied().collect(),
        },
    )
}

fn decision_of(rule: Value) -> ReplanDecision {
    let answered = ask(json!([rule]), &[]);
    assert_eq!(answered.findings, []);
    answered.answer.unwrap().decision
}

fn patched(rule: Value, more_steps: Value) -> Plan {
    let answered = ask_in(json!([rule]), &[], more_steps.clone());
    let Some(Answer { decision: ReplanDecision::Patch(patch), .. }) = answered.answer else {
        panic!("{answered:?}")
    };
    let mut steps = json!([
        {"id": "build", "tool": "build"}, {"id": "smoke", "tool": "smoke", "needs": ["build"]},
    ]);
    steps.as_array_mut().unwrap().extend(more_steps.as_array().unwrap().clone());
    patch.apply(&serde_json::from_value(json!({"format": 1, "steps": steps})).unwrap()).unwrap()
}

fn step_json(plan: &Plan, id: &str) -> Value {
    serde_json::to_value(plan.steps.iter().find(|step| step.id.as_str() == id).unwrap()).unwrap()
}

#[test]
fn each_rule_decides_what_it_says() {
    let when = "true";
    assert_eq!(decision_of(json!({"when": when, "retry": true})), ReplanDecision::Retry);
    assert_eq!(decision_of(json!({"when": when, "skip": true})), ReplanDecision::Skip);
    assert_eq!(decision_of(json!({"when": when, "full_replan": true})), ReplanDecision::FullReplan);
    assert_eq!(decision_of(json!({"when": when, "finish": true})), ReplanDecision::Finish);
    assert_eq!(
        decision_of(json!({"when": when, "fail": "{step} is lost"})),
        ReplanDecision::Fail { reason: "smoke is lost".to_owned() }
    );
    assert_eq!(
        decision_of(json!({"when": when, "ask": "retry {step}?"})),
        ReplanDecision::Ask { question: "retry smoke?".to_owned() }
    );
}

#[test]
fn conditions_see_the_failure_the_step_the_steps_and_the_params() {
    for when in [
        r#"failure.code == "missing_migration" && failure.kind == "tool" && failure.retryable"#,
        r#"failure.message.contains("0042") && failure.effect == null"#,
        r#"step.id == "smoke" && step.tool == "smoke" && step.title == "Try it""#,
        r#"step.attempts == 2 && step.effect == "read" && has(step.input.url)"#,
        r#"steps.build.status == "succeeded" && steps.build.output.url == "u""#,
        r#"steps.deploy.status == "pending" && steps.smoke.output == null"#,
        r#"params.version == "1.4.3""#,
    ] {
        let answered = ask(json!([{"when": when, "retry": true}]), &[]);
        assert!(answered.answer.is_some(), "{when}: {answered:?}");
    }
}

#[test]
fn the_first_match_wins_and_the_record_says_which() {
    let answered = ask(
        json!([
            {"when": r#"failure.code == "other""#, "finish": true},
            {"when": r#"failure.code == "missing_migration""#, "skip": true},
            {"when": "true", "retry": true},
        ]),
        &[],
    );
    let answer = answered.answer.unwrap();
    assert_eq!((answer.rule, answer.decision), (1, ReplanDecision::Skip));
    assert_eq!(answer.reason, "rule 2 (`failure.code == \"missing_migration\"`) skips `smoke`");
}

#[test]
fn a_rule_that_has_answered_its_times_is_passed_over() {
    let rules = json!([{"when": "true", "times": 1, "skip": true}, {"when": "true", "retry": true}]);
    assert_eq!(ask(rules.clone(), &[(1, 9)]).answer.unwrap().rule, 0);
    assert_eq!(ask(rules, &[(0, 1)]).answer.unwrap().rule, 1);
}

#[test]
fn a_condition_that_cannot_be_evaluated_is_reported_and_passed_over() {
    let answered = ask(
        json!([
            {"when": "failure.code ==", "skip": true},
            {"when": "steps.nowhere.status == 'failed'", "skip": true},
            {"when": "failure.code", "skip": true},
            {"when": "true", "retry": true},
        ]),
        &[],
    );
    assert_eq!(answered.answer.unwrap().rule, 3);
    let places: Vec<_> = answered.findings.iter().filter_map(|f| f.field.as_deref()).collect();
    assert_eq!(places, ["replan.rules[0].when", "replan.rules[1].when", "replan.rules[2].when"]);
}

#[test]
fn a_rule_that_decides_nothing_or_too_much_is_reported_and_passed_over() {
    let answered = ask(json!([{"when": "true"}, {"when": "true", "retry": true, "skip": true}]), &[]);
    assert_eq!(answered.answer, None);
    assert!(answered.findings[0].message.contains("decides 0 things"));
    assert!(answered.findings[1].message.contains("decides 2 things"));
}

#[test]
fn an_inserted_step_is_named_after_the_failed_one_which_waits_for_it() {
    let rule = json!({"when": "true", "insert": {
        "id": "fix-{step}", "tool": "apply_migration", "title": "Repair {step}",
        "input": {"list": ["{step}", 1], "version": {"$ref": "params.version"}},
    }});
    let plan = patched(rule, json!([]));
    let ids: Vec<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["build", "fix-smoke", "smoke"]);
    assert_eq!(plan.steps[2].needs.iter().map(StepId::as_str).collect::<Vec<_>>(), ["build", "fix-smoke"]);
    assert_eq!(
        step_json(&plan, "fix-smoke"),
        json!({"id": "fix-smoke", "title": "Repair smoke", "tool": "apply_migration",
               "input": {"list": ["smoke", 1], "version": {"$ref": "params.version"}}})
    );
}

#[test]
fn a_step_that_is_inserted_again_gets_an_id_of_its_own() {
    let rule = json!({"when": "true", "insert": {"id": "fix-{step}", "tool": "t"}});
    let earlier = json!([{"id": "fix-smoke", "tool": "t"}, {"id": "fix-smoke_2", "tool": "t"}]);
    let plan = patched(rule, earlier);
    assert!(plan.steps.iter().any(|step| step.id.as_str() == "fix-smoke_3"));
}

#[test]
fn replacing_keeps_the_fields_that_the_rule_does_not_name() {
    let rule = json!({"when": "true", "replace": {"tool": "smoke_slowly", "title": null, "timeout": "5m"}});
    let step = step_json(&patched(rule, json!([])), "smoke");
    assert_eq!(step["tool"], "smoke_slowly");
    assert_eq!(step["needs"], json!(["build"]));
    assert_eq!(step["input"], json!({"url": {"$ref": "build.url"}}));
    assert_eq!(step["on_failure"]["attempts"], 3);
    assert_eq!(step.get("title"), None);
    assert_eq!(step["timeout"], "5m");
}

#[test]
fn a_step_may_be_replaced_by_one_of_another_kind() {
    let rule =
        json!({"when": "true", "replace": {"human": {"question": "does {step} pass?"}, "input": null}});
    let step = step_json(&patched(rule, json!([])), "smoke");
    assert_eq!(step["human"]["question"], "does smoke pass?");
    assert_eq!(step.get("tool"), None);
}

#[test]
fn a_rule_that_makes_no_step_is_reported_with_its_place() {
    let answered = ask(
        json!([
            {"when": "true", "insert": {"id": "fix-{step}", "tol": "t"}},
            {"when": "true", "insert": {"tool": "t"}},
            {"when": "true", "replace": "t"},
            {"when": "true", "retry": true},
        ]),
        &[],
    );
    assert_eq!(answered.answer.unwrap().rule, 3);
    let found: Vec<String> = answered.findings.iter().map(ToString::to_string).collect();
    assert!(
        found[0].starts_with("replan.rules[0].insert: makes no step") && found[0].contains("tol"),
        "{found:?}"
    );
    assert!(found[1].contains("missing field `id`"), "{found:?}");
    assert!(found[2].contains("not an object"), "{found:?}");
}
