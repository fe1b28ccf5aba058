//! Filters as tools.

use std::{sync::Arc, time::Duration};

use foreplan_core::{failure::FailureKind, tool::Effect};
use serde_json::json;

use crate::common::{TestProject, call, name};

fn jq(filter: &str, more: &str) -> String {
    format!("[[jq]]\nname = \"t\"\nfilter = '''{filter}'''\n{more}\n")
}

#[tokio::test]
async fn a_filter_makes_the_output_of_the_input() {
    let project = TestProject::new(&[]);
    let tool = jq(
        "{intent_counts: (.tickets | group_by(.intent) | map({key: .[0].intent, value: length}) | from_entries)}",
        "input = { tickets = \"array\" }\noutput = { intent_counts = \"object\" }",
    );
    let tickets = json!([{"intent": "refund"}, {"intent": "password"}, {"intent": "refund"}]);
    assert_eq!(
        project.call(&tool, json!({"tickets": tickets})).await,
        Ok(json!({"intent_counts": {"password": 1, "refund": 2}}))
    );
    assert_eq!(project.load(&tool).unwrap().tools[0].descriptor().effect, Effect::Read);
    let failure = project.failure(&tool, json!({"ticket": []})).await;
    assert_eq!(failure.kind, FailureKind::InputSchema);
}

#[tokio::test]
async fn a_filter_that_fails_is_typed() {
    let project = TestProject::new(&[]);
    for (filter, code, message) in [
        (".a + 1", "jq_error", "cannot calculate"),
        ("error(\"no tickets\")", "jq_error", "no tickets"),
        ("error({code: \"tie\", message: \"two are first\"})", "tie", "two are first"),
        ("empty", "jq_error", "no value"),
        ("1, 2", "jq_error", "more than one"),
        ("halt", "jq_error", "halt"),
        ("pow(2; 60)", "jq_error", "2^53"),
        ("[range(900000) | \"abcdefghij\"]", "output_too_large", "8 MiB"),
    ] {
        let failure = project.failure(&jq(filter, ""), json!({"a": "x"})).await;
        assert_eq!(failure.code, code, "{filter}: {failure}");
        assert!(failure.message.contains(message), "{filter}: {failure}");
        assert!(!failure.is_retryable(), "{filter}");
    }
}

#[tokio::test]
async fn a_filter_that_never_ends_is_stopped() {
    let project = TestProject::new(&[]);
    for filter in [
        "def f: f; f",
        "last(repeat(1))",
        "last(range(infinite))",
        "until(false; .)",
        "reduce range(0; infinite) as $i (0; .)",
    ] {
        let tools = project.toolbox(&jq(filter, ""));
        let mut short = call(json!({}));
        short.timeout = Duration::from_millis(50);
        let failure = tools.call(&name("t"), short).await.unwrap_err();
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Timeout, "timeout"), "{filter}");
    }
}

#[tokio::test]
async fn a_filter_that_never_ends_can_be_cancelled() {
    let tools = Arc::new(TestProject::new(&[]).toolbox(&jq("def f: f; f", "")));
    let call = call(json!({}));
    let cancel = call.cancel.clone();
    let running = tokio::spawn(async move { tools.call(&name("t"), call).await });
    cancel.cancel();
    assert_eq!(running.await.unwrap().unwrap_err().kind, FailureKind::Cancelled);
}

#[tokio::test]
async fn a_filter_that_calls_itself_too_deeply_does_not_end_the_process() {
    let project = TestProject::new(&[]);
    let failure = project.failure(&jq("def f: 1 + f; f", ""), json!({})).await;
    assert_eq!(failure.code, "jq_error");
    assert!(failure.message.contains("too deeply"), "{failure}");
}

#[tokio::test]
async fn counting_is_as_in_jq() {
    let project = TestProject::new(&[]);
    let filter = "[[range(3)], [range(1; 3)], [range(5; 0; -2)], [range(0; 3; 2)], [range(2; 1)]]";
    assert_eq!(
        project.call(&jq(filter, ""), json!({})).await,
        Ok(json!([[0, 1, 2], [1, 2], [5, 3, 1], [0, 2], []]))
    );
}

#[test]
fn a_filter_that_does_not_parse_is_refused_when_it_is_loaded() {
    let project = TestProject::new(&[]);
    let error = project.load(&jq("{a: [1, 2}", "")).unwrap_err();
    assert_eq!((error.tool.as_str(), error.field), ("t", "filter"));
}
