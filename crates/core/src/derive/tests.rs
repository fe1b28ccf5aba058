use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::{digest::Digest, id::StepId, plan::CompiledPlan, tool::Effect};

/// A tool that needs and makes artifacts of type string.
fn tool(name: &str, needs: &[&str], makes: &[&str], cost: u64) -> ToolDescriptor {
    let properties = |names: &[&str]| -> Value {
        names.iter().map(|n| ((*n).to_owned(), json!({"type": "string"}))).collect::<Map<_, _>>().into()
    };
    ToolDescriptor {
        name: name.into(),
        description: format!("Does {name}. And more."),
        input: json!({"type": "object", "properties": properties(needs), "required": needs}),
        output: json!({"type": "object", "properties": properties(makes)}),
        effect: Effect::Read,
        capabilities: vec!["local".into()],
        digest: Digest::of_bytes(name.as_bytes()),
        cost,
        writes: Vec::new(),
        verify: None,
        artifacts: BTreeMap::new(),
        timeout: None,
    }
}

fn irreversible(tool: ToolDescriptor) -> ToolDescriptor {
    ToolDescriptor { effect: Effect::Irreversible, ..tool }
}

fn names(produce: &[&str]) -> Vec<String> {
    produce.iter().map(|name| (*name).to_owned()).collect()
}

fn derive_from(tools: Vec<ToolDescriptor>, produce: &[&str], params: Value) -> Result<Derived, Error> {
    let inventory = Inventory::from_iter(tools);
    let params = params.as_object().cloned().unwrap();
    derive(&DeriveRequest::new(&inventory, &names(produce), &params))
}

fn tools_of(derived: &Derived) -> Vec<&str> {
    derived.plan.steps.iter().filter_map(|step| Some(step.tool.as_ref()?.as_str())).collect()
}

fn report_tools() -> Vec<ToolDescriptor> {
    let mut draft = tool("draft_report", &["intent_counts", "top_intent"], &["text"], 1);
    draft.artifacts.insert("text".to_owned(), "report".to_owned());
    vec![
        draft,
        tool("find_top_intent", &["intent_counts"], &["top_intent"], 1),
        tool("count_intents", &["tickets"], &["intent_counts"], 1),
        tool("load_tickets", &["path"], &["tickets", "text"], 1),
    ]
}

#[test]
fn a_plan_is_derived_backwards_from_what_is_wanted() {
    let derived = derive_from(report_tools(), &["report"], json!({"path": "tickets.json"})).unwrap();
    assert_eq!(tools_of(&derived), ["load_tickets", "count_intents", "find_top_intent", "draft_report"]);
    assert!(derived.optimal);
    assert_eq!(derived.cost, 4);
    let plan = &derived.plan;
    assert_eq!(plan.steps[0].input, json!({"path": {"$ref": "params.path"}}));
    assert_eq!(plan.steps[0].title, "Does load_tickets");
    assert_eq!(plan.steps[0].outcome.as_deref(), Some("produces `tickets`"));
    assert_eq!(
        plan.steps[3].input,
        json!({"intent_counts": {"$ref": "count_intents.intent_counts"}, "top_intent": {"$ref": "find_top_intent.top_intent"}})
    );
    assert_eq!(plan.result, Some(json!({"$ref": "draft_report.text"})));
}

#[test]
fn several_artifacts_make_an_object_by_name() {
    let tools = vec![tool("a", &[], &["x"], 1), tool("b", &[], &["y"], 1)];
    let derived = derive_from(tools, &["y", "x", "p"], json!({"p": 1})).unwrap();
    assert_eq!(
        derived.plan.result,
        Some(json!({"y": {"$ref": "b.y"}, "x": {"$ref": "a.x"}, "p": {"$ref": "params.p"}}))
    );
}

#[test]
fn a_tool_that_serves_two_is_paid_once() {
    // By trees, `left` and `right` (2 each) are cheaper than paying `both` (3) twice.
    let tools = vec![
        tool("both", &[], &["l", "r"], 3),
        tool("left", &[], &["l"], 2),
        tool("right", &[], &["r"], 2),
        tool("join", &["l", "r"], &["out"], 1),
    ];
    let derived = derive_from(tools, &["out"], json!({})).unwrap();
    assert_eq!(tools_of(&derived), ["both", "join"]);
    assert_eq!((derived.cost, derived.optimal), (4, true));
}

#[test]
fn a_search_that_ends_early_gives_a_plan_and_says_so() {
    let inventory = Inventory::from_iter(vec![
        tool("both", &[], &["l", "r"], 3),
        tool("left", &[], &["l"], 2),
        tool("right", &[], &["r"], 2),
    ]);
    let (produce, params) = (names(&["l", "r"]), Map::new());
    let request = DeriveRequest { nodes_max: 1, ..DeriveRequest::new(&inventory, &produce, &params) };
    let derived = derive(&request).unwrap();
    assert_eq!((derived.optimal, derived.cost, derived.nodes_expanded), (false, 4, 1));
    assert!(derived.plan.rationale.unwrap().contains("may exist"));
}

#[test]
fn an_irreversible_tool_is_used_only_for_what_produce_names() {
    let tools = || {
        vec![
            irreversible(tool("deploy", &["build"], &["release", "url"], 1)),
            tool("build", &[], &["build"], 1),
            tool("verify", &["url"], &["verified"], 1),
            tool("announce", &["release"], &["note"], 1),
        ]
    };
    assert_eq!(tools_of(&derive_from(tools(), &["release"], json!({})).unwrap()), ["build", "deploy"]);
    let with_note = derive_from(tools(), &["release", "note"], json!({})).unwrap();
    assert_eq!(tools_of(&with_note), ["build", "deploy", "announce"]);
    let message = derive_from(tools(), &["verified"], json!({})).unwrap_err().to_string();
    assert!(message.starts_with("`verified` needs `url` (by `verify`), which only `deploy`"), "{message}");
}

#[test]
fn of_equal_costs_the_plan_without_irreversible_steps_wins() {
    let tools = vec![irreversible(tool("a_send", &[], &["x"], 2)), tool("z_look", &[], &["x"], 2)];
    assert_eq!(tools_of(&derive_from(tools, &["x"], json!({})).unwrap()), ["z_look"]);
}

#[test]
fn ties_go_to_the_first_name() {
    let tools = vec![tool("b", &[], &["x"], 2), tool("a", &[], &["x"], 2)];
    assert_eq!(tools_of(&derive_from(tools, &["x"], json!({})).unwrap()), ["a"]);
}

#[test]
fn what_nobody_makes_is_named_with_the_chain_that_wants_it() {
    let mut tools = report_tools();
    tools.retain(|tool| tool.name.as_str() != "count_intents");
    tools.push(tool("count", &["tickets"], &["intents_count"], 1));
    let error = derive_from(tools, &["report"], json!({"path": "x"})).unwrap_err();
    let Error::NoProducer(no_producer) = &error else { panic!("{error}") };
    assert_eq!(no_producer.missing.len(), 1);
    assert_eq!(no_producer.missing[0].artifact, "intent_counts");
    let message = error.to_string();
    assert!(
        message.starts_with("`report` needs `intent_counts` (by `draft_report`), which no tool makes"),
        "{message}"
    );
    assert!(message.ends_with("nearest names: `intents_count`"), "{message}");
}

#[test]
fn text_is_no_artifact_unless_it_is_renamed() {
    let error = derive_from(vec![tool("print", &[], &["text"], 1)], &["text"], json!({})).unwrap_err();
    assert_eq!(error.code(), "no_producer");
}

#[test]
fn requirements_that_go_round_are_explained() {
    let tools = vec![
        tool("egg_layer", &["hen"], &["egg"], 1),
        tool("hatchery", &["egg"], &["hen"], 1),
        tool("cook", &["egg"], &["omelette"], 1),
    ];
    let message = derive_from(tools, &["omelette"], json!({})).unwrap_err().to_string();
    assert!(message.contains("cannot be made without itself (egg ← hen ← egg)"), "{message}");
}

#[test]
fn a_cycle_with_another_way_in_is_no_obstacle() {
    let tools = vec![
        tool("egg_layer", &["hen"], &["egg"], 1),
        tool("hatchery", &["egg"], &["hen"], 1),
        tool("farm", &[], &["hen"], 9),
    ];
    assert_eq!(tools_of(&derive_from(tools, &["egg"], json!({})).unwrap()), ["farm", "egg_layer"]);
}

#[test]
fn one_name_for_two_types_is_refused_naming_both_tools() {
    let mut other = tool("z_count", &["rows"], &["report"], 1);
    other.input["properties"]["rows"] = json!({"type": "array"});
    let tools = vec![tool("load", &[], &["rows"], 1), other];
    let message = derive_from(tools, &["report"], json!({})).unwrap_err().to_string();
    assert!(message.starts_with("`rows` is string for `load` and array for `z_count`"), "{message}");
}

#[test]
fn a_conflict_among_tools_that_take_no_part_is_no_error() {
    let mut other = tool("other", &["unmade"], &["rows"], 1);
    other.output["properties"]["rows"] = json!({"type": "array"});
    let tools = vec![tool("load", &[], &["rows"], 1), other];
    assert!(derive_from(tools, &["rows"], json!({})).is_ok());
}

#[test]
fn nothing_wanted_is_an_error() {
    assert_eq!(derive_from(report_tools(), &[], json!({})), Err(Error::NothingWanted));
}

#[test]
fn what_is_there_already_is_used_and_its_steps_are_kept() {
    let inventory = Inventory::from_iter(report_tools().into_iter().chain([tool(
        "count_slowly",
        &["tickets"],
        &["intent_counts"],
        5,
    )]));
    let (produce, params) = (names(&["report"]), Map::from_iter([("path".to_owned(), json!("x"))]));
    let first = derive(&DeriveRequest::new(&inventory, &produce, &params)).unwrap();
    let done = first.plan.steps[0].clone();
    let have = Have {
        artifacts: BTreeMap::from([("tickets".to_owned(), "load_tickets.tickets".parse().unwrap())]),
        steps: vec![done.clone()],
    };
    let avoid = BTreeSet::from(["count_intents".into()]);
    let request = DeriveRequest { have, avoid, ..DeriveRequest::new(&inventory, &produce, &params) };
    let again = derive(&request).unwrap();
    assert_eq!(tools_of(&again), ["load_tickets", "count_slowly", "find_top_intent", "draft_report"]);
    assert_eq!(again.plan.steps[0], done);
    assert_eq!(again.cost, 7);
    assert!(CompiledPlan::compile(Arc::new(again.plan)).is_ok());
}

#[test]
fn a_large_inventory_stays_within_its_nodes() {
    let mut tools = Vec::new();
    let layer = |at: usize, option: usize| format!("a{at}_{option}");
    for at in 0..6 {
        for option in 0..4 {
            let needs: Vec<String> =
                (0..4).filter(|o| at > 0 && *o != option).map(|o| layer(at - 1, o)).collect();
            let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
            for variant in 0..3 {
                let makes = [layer(at, option), layer(at, (option + variant) % 4)];
                let name = format!("t{at}_{option}_{variant}");
                tools.push(tool(&name, &needs, &[&makes[0], &makes[1]], 3 + variant as u64));
            }
        }
    }
    let derived = derive_from(tools, &["a5_0", "a5_1", "a5_2"], json!({})).unwrap();
    assert!(derived.nodes_expanded <= NODES_MAX);
    assert!(CompiledPlan::compile(Arc::new(derived.plan)).is_ok());
}

/// `length` artifacts, each made of the one before by two tools, the second of which costs more.
fn two_way_chain(prefix: &str, length: usize) -> Vec<ToolDescriptor> {
    (0..length)
        .flat_map(|at| {
            let (before, made) = (format!("{prefix}{}", at.saturating_sub(1)), format!("{prefix}{at}"));
            let needs: Vec<&str> = if at == 0 { vec![] } else { vec![&before] };
            [1, 2].map(|cost| tool(&format!("{prefix}{at}_{cost}"), &needs, &[&made], cost))
        })
        .collect()
}

#[test]
fn a_long_chain_is_proven_at_its_first_choice() {
    let derived = derive_from(two_way_chain("c", 600), &["c599"], json!({})).unwrap();
    assert_eq!((derived.cost, derived.optimal, derived.nodes_expanded), (600, true, 1));
}

#[test]
fn chains_that_share_nothing_are_proven_together() {
    let tools = ["x", "y", "z"].map(|prefix| two_way_chain(prefix, 30)).concat();
    let derived = derive_from(tools, &["x29", "y29", "z29"], json!({})).unwrap();
    assert_eq!((derived.cost, derived.optimal, derived.nodes_expanded), (90, true, 1));
}

#[test]
fn choices_beyond_the_depth_of_the_search_end_it_and_not_the_process() {
    // Every second link has a tool that also makes another link: no bound can tell early.
    let mut tools = two_way_chain("c", 560);
    for at in (0..560).step_by(2) {
        let (first, second) = (format!("c{at}"), format!("c{}", (at + 240) % 560));
        tools.push(tool(&format!("pair{at}"), &[], &[&first, &second], 3));
    }
    let produce: Vec<String> = (0..560).map(|at| format!("c{at}")).collect();
    let produce: Vec<&str> = produce.iter().map(String::as_str).collect();
    let derived = derive_from(tools, &produce, json!({})).unwrap();
    assert!(!derived.optimal);
    assert!(derived.nodes_expanded < NODES_MAX / 4, "{}", derived.nodes_expanded);
    assert!(CompiledPlan::compile(Arc::new(derived.plan)).is_ok());
}

const ARTIFACTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn some_artifacts(max: usize) -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(ARTIFACTS.to_vec(), 0..=max)
}

fn any_tools() -> impl Strategy<Value = Vec<ToolDescriptor>> {
    let one = (some_artifacts(2), some_artifacts(3), 0..6_u64, prop::bool::weighted(0.15));
    prop::collection::vec(one, 1..=8).prop_map(|tools| {
        tools
            .into_iter()
            .enumerate()
            .map(|(at, (needs, makes, cost, once))| {
                let tool = tool(&format!("t{at}"), &needs, &makes, cost);
                if once { irreversible(tool) } else { tool }
            })
            .collect()
    })
}

/// The cheapest of all sets of tools that, one after another, make everything wanted.
fn brute_force(tools: &[ToolDescriptor], produce: &[String], given: &BTreeSet<String>) -> Option<u64> {
    (0..1_usize << tools.len())
        .filter_map(|set| {
            let chosen: Vec<&ToolDescriptor> = tools
                .iter()
                .enumerate()
                .filter(|(at, _)| set & (1 << at) != 0)
                .map(|(_, tool)| tool)
                .collect();
            let mut have = given.clone();
            for _ in 0..chosen.len() {
                for tool in &chosen {
                    if needed_by(tool).iter().all(|need| have.contains(need)) {
                        let allowed = |artifact: &String| {
                            tool.effect != Effect::Irreversible || produce.contains(artifact)
                        };
                        have.extend(made_by(tool).into_iter().map(|made| made.artifact).filter(allowed));
                    }
                }
            }
            produce.iter().all(|want| have.contains(want)).then(|| chosen.iter().map(|t| t.cost).sum())
        })
        .min()
}

proptest! {
    #[test]
    fn derive_agrees_with_brute_force(
        tools in any_tools(),
        produce in prop::sample::subsequence(ARTIFACTS.to_vec(), 1..=3),
        params in some_artifacts(2),
    ) {
        let given: BTreeSet<String> = params.iter().map(|name| (*name).to_owned()).collect();
        let expected = brute_force(&tools, &names(&produce), &given);
        let params: Map<String, Value> = given.iter().map(|name| (name.clone(), json!("v"))).collect();
        match derive_from(tools.clone(), &produce, params.clone().into()) {
            Ok(derived) => {
                prop_assert!(derived.optimal);
                prop_assert_eq!(Some(derived.cost), expected);
                prop_assert_eq!(&derived, &derive_from(tools.into_iter().rev().collect(), &produce, params.into()).unwrap());
                let ids: Vec<StepId> = derived.plan.steps.iter().map(|step| step.id.clone()).collect();
                let compiled = CompiledPlan::compile(Arc::new(derived.plan)).unwrap();
                // Every step stands after those that it needs.
                for (at, _) in ids.iter().enumerate() {
                    prop_assert!(compiled.node(at as u32).deps.iter().all(|dep| (*dep as usize) < at));
                }
            }
            Err(error) => {
                prop_assert_eq!(expected, None, "{}", error);
                let Error::NoProducer(why) = error else { return Err(TestCaseError::fail("conflict")) };
                prop_assert!(!why.missing.is_empty());
            }
        }
    }
}
