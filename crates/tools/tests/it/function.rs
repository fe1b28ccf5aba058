//! Rust functions as tools, through the toolbox.

use std::{sync::Arc, time::Duration};

use crate::common::{call, name};
use foreplan_core::{
    failure::{EffectState, Failure, FailureKind},
    tool::Effect,
};
use foreplan_tools::{Error, Secrets, Specialist, Tool, Toolbox};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize, JsonSchema)]
struct Tickets {
    tickets: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Count {
    count: usize,
}

fn count() -> Tool {
    Tool::function("count", "Counts tickets", Effect::Read, |input: Tickets| async move {
        Ok(Count { count: input.tickets.len() })
    })
}

fn returning(output: Value) -> Tool {
    Tool::function("value", "", Effect::Read, move |(): ()| {
        let output = output.clone();
        async move { Ok(output) }
    })
}

fn toolbox(tools: impl IntoIterator<Item = Tool>) -> Toolbox {
    Toolbox::new(tools, []).unwrap()
}

#[tokio::test]
async fn a_function_is_called_with_its_types() {
    let tools = toolbox([count()]);
    let output = tools.call(&name("count"), call(json!({"tickets": ["a", "b"]}))).await;
    assert_eq!(output, Ok(json!({"count": 2})));
}

#[test]
fn schemas_come_from_the_types() {
    let tool = count();
    let tickets = json!({"type": "array", "items": {"type": "string"}});
    assert_eq!(
        tool.descriptor().input,
        json!({"type": "object", "properties": {"tickets": tickets}, "required": ["tickets"]})
    );
    assert_eq!(tool.descriptor().output["properties"]["count"]["type"], "integer");
}

#[tokio::test]
async fn an_input_that_does_not_fit_never_reaches_the_tool() {
    let tools = toolbox([count()]);
    let failure = tools.call(&name("count"), call(json!({"tickets": ["a", 2]}))).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::InputSchema, "input_schema"));
    assert!(failure.message.contains("`/tickets/1`"), "{failure}");
    assert_eq!(failure.effect, Some(EffectState::None));
}

#[tokio::test]
async fn an_output_that_does_not_fit_is_a_failure() {
    #[derive(Serialize)]
    struct Liar {
        count: &'static str,
    }
    impl JsonSchema for Liar {
        fn schema_name() -> std::borrow::Cow<'static, str> {
            "Liar".into()
        }
        fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
            Count::json_schema(generator)
        }
    }
    let tools =
        toolbox([Tool::function("liar", "", Effect::Read, |(): ()| async { Ok(Liar { count: "many" }) })]);
    let failure = tools.call(&name("liar"), call(json!({}))).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::OutputSchema, "output_schema"));
    assert!(failure.message.contains("`/count`"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_function_that_never_returns_is_timed_out() {
    let tools = toolbox([Tool::function("stuck", "", Effect::Read, |(): ()| async {
        std::future::pending::<()>().await;
        Ok(())
    })]);
    let failure = tools.call(&name("stuck"), call(json!({}))).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Timeout, "timeout"));

    let mut cancelled = call(json!({}));
    cancelled.timeout = Duration::from_secs(3600);
    cancelled.cancel.cancel();
    let failure = tools.call(&name("stuck"), cancelled).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Cancelled, "cancelled"));
}

#[tokio::test]
async fn an_unknown_tool_is_unserved() {
    let failure = toolbox([]).call(&name("nope"), call(json!({}))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unserved);
}

#[tokio::test]
async fn known_secrets_leave_neither_in_outputs_nor_failures_nor_logs() {
    let mut secrets = Secrets::default();
    secrets.add("hunter2");
    let fails = Tool::function("fails", "", Effect::Read, |(): ()| async {
        Err::<(), _>(Failure::new(FailureKind::Tool, "x", "login with hunter2 refused"))
    });
    let tools = Toolbox::builder()
        .tools([returning(json!({"hunter2": ["is hunter2"]})), fails])
        .secrets(&secrets)
        .build()
        .unwrap();
    let output = tools.call(&name("value"), call(json!({}))).await;
    assert_eq!(output, Ok(json!({"[redacted]": ["is [redacted]"]})));
    let failure = tools.call(&name("fails"), call(json!({}))).await.unwrap_err();
    assert_eq!(failure.message, "login with [redacted] refused");
}

#[test]
fn a_digest_covers_effect_schemas_and_verify_but_not_the_price() {
    let digest = |tool: Tool| tool.descriptor().digest;
    let base = digest(count());
    assert_eq!(digest(count().cost(9).timeout(Duration::from_secs(1)).writes(["x"])), base);
    assert_ne!(digest(count().verify("is_done")), base);
    let acts = Tool::function("count", "Counts tickets", Effect::Irreversible, |input: Tickets| async move {
        Ok(Count { count: input.tickets.len() })
    });
    assert_ne!(digest(acts), base);
}

fn specialist(capability: &str, tools: &[&str]) -> Specialist {
    let tools = tools.iter().map(|tool| name(tool)).collect();
    Specialist { capability: capability.into(), tools, concurrency: 4, agent: None }
}

#[test]
fn tools_without_a_specialist_are_served_by_default() {
    let tools = Toolbox::new([count(), returning(json!(1))], [specialist("data", &["count"])]).unwrap();
    let inventory = tools.inventory();
    let served_by = |tool: &str| inventory.get(tool).unwrap().capabilities.clone();
    assert_eq!(served_by("count"), ["data".into()]);
    assert_eq!(served_by("value"), ["default".into()]);
    assert_eq!(
        tools.specialists(),
        [
            specialist("data", &["count"]),
            Specialist {
                capability: "default".into(),
                tools: vec![name("value")],
                concurrency: 8,
                agent: None
            }
        ]
    );
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let cases: [(Vec<Tool>, Vec<Specialist>, Error); 6] = [
        (vec![count(), count()], vec![], Error::DuplicateTool(name("count"))),
        (
            vec![count()],
            vec![specialist("data", &["cuont"])],
            Error::UnknownTool { capability: "data".into(), tool: name("cuont"), known: "count".to_owned() },
        ),
        (
            vec![count().verify("is_done")],
            vec![],
            Error::UnknownVerify { tool: name("count"), verify: name("is_done"), known: "count".to_owned() },
        ),
        (
            vec![
                count().verify("acts"),
                Tool::function("acts", "", Effect::Irreversible, |(): ()| async { Ok(()) }),
            ],
            vec![],
            Error::VerifyActs { tool: name("count"), verify: name("acts"), effect: Effect::Irreversible },
        ),
        (
            vec![count()],
            vec![specialist("a", &["count"]), specialist("a", &[])],
            Error::DuplicateSpecialist("a".into()),
        ),
        (
            vec![count()],
            vec![Specialist { concurrency: 0, ..specialist("a", &["count"]) }],
            Error::NoConcurrency("a".into()),
        ),
    ];
    for (tools, specialists, expected) in cases {
        assert_eq!(Toolbox::new(tools, specialists).unwrap_err(), expected);
    }
}

#[tokio::test]
async fn a_toolbox_is_shared_between_tasks() {
    let tools = Arc::new(toolbox([count()]));
    let calls = (0..8).map(|_| {
        let tools = Arc::clone(&tools);
        tokio::spawn(async move { tools.call(&name("count"), call(json!({"tickets": []}))).await })
    });
    for outcome in futures::future::join_all(calls).await {
        assert_eq!(outcome.unwrap(), Ok(json!({"count": 0})));
    }
}
