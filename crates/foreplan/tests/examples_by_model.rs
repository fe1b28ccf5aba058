//! The examples of the documentation, planned and replanned by a model instead.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{path::Path, sync::Arc};

use foreplan::{
    Approval, Outcome, System,
    config::{Overrides, Project},
};
use foreplan_core::{
    id::RunId,
    view::{Status, StepStatus},
};
use foreplan_testkit::{ScriptedModels, copy_project};
use serde_json::{Value, json};

const MODEL: &str = "test/strong";

fn example(name: &str) -> tempfile::TempDir {
    copy_project(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples").join(name))
}

/// Runs an example whose `[planner]` section is a model, over its own tools.
async fn run(folder: &Path, models: &ScriptedModels, params: &[(&str, &str)]) -> Outcome {
    let project = Project::load(folder).unwrap();
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let spec = project.spec(&Overrides { params, ..Overrides::default() }).unwrap();
    let system = System::builder()
        .toolbox(Arc::new(project.toolbox().unwrap()))
        .models(Arc::new(models.clone()))
        .on_approval(|_| Approval::Approve { by: "ann".to_owned() })
        .build()
        .await
        .unwrap();
    let run = system.submit(RunId(uuid::Uuid::now_v7()), Arc::new(spec), "ann").await.unwrap();
    let outcome = system.drive(run).await.unwrap();
    system.shutdown().await;
    outcome
}

/// Puts a model in the place of what the project file says about planning and replanning.
fn planned_by_model(folder: &Path) {
    let path = folder.join("foreplan.toml");
    let mut file: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    let planner: toml::Table = format!("kind = \"model\"\nmodel = \"{MODEL}\"").parse().unwrap();
    file.insert("planner".to_owned(), planner.into());
    file.remove("replan");
    std::fs::write(&path, file.to_string()).unwrap();
}

fn step(id: &str, tool: &str, input: Value, needs: &[&str], expect: Value) -> Value {
    json!({
        "id": id, "title": id, "do": {"tool": tool, "input": input}, "needs": needs, "when": null, "for_each": null,
        "expect": expect,
    })
}

fn plan(steps: &[Value], result: Value) -> Value {
    json!({"answer": {"kind": "plan", "rationale": "", "steps": steps, "result": result}})
}

#[tokio::test]
async fn support_report_planned_by_a_model_writes_the_report_with_one_call() {
    let project = example("support-report");
    planned_by_model(project.path());
    let refers = |place: &str| json!({"ref": place});
    let steps = [
        step("load", "load_tickets", json!({}), &[], Value::Null),
        step("count", "count_intents", json!({"tickets": refers("load.tickets")}), &[], Value::Null),
        step(
            "top",
            "find_top_intent",
            json!({"intent_counts": refers("count.intent_counts")}),
            &[],
            Value::Null,
        ),
        step(
            "draft",
            "draft_report",
            json!({
                "tickets": refers("load.tickets"), "top_intents": refers("top.top_intents"),
                "top_count": refers("top.top_count"),
            }),
            &[],
            Value::Null,
        ),
    ];
    let models = ScriptedModels::answering([plan(&steps, refers("draft.report"))]);
    let outcome = run(project.path(), &models, &[]).await;
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    let report = outcome.result.clone().unwrap();
    assert!(report.as_str().unwrap().contains("a total of 5 support tickets were handled"), "{report}");
    assert_eq!((outcome.usage.model_calls, outcome.usage.react_calls_at_least), (1, 5));
    let forecast = &outcome.plan.as_ref().unwrap().forecast;
    assert_eq!((forecast.critical_path.len(), forecast.model_calls_max), (4, 0));
}

#[tokio::test]
async fn a_release_that_lacks_a_migration_is_mended_by_a_replanning_model() {
    let project = example("release-checklist");
    planned_by_model(project.path());
    let release = |build: Value| json!({"service": {"value": "web"}, "version": {"ref": "params.version"}, "build": build});
    let build = json!({"ref": "build.build"});
    let steps = [
        step(
            "build",
            "build",
            json!({"service": {"value": "web"}, "version": {"ref": "params.version"}}),
            &[],
            Value::Null,
        ),
        step("smoke", "smoke_test", release(build.clone()), &[], json!("output.passed")),
        step("deploy", "deploy", release(build), &["smoke"], json!("output.live == params.version")),
        step(
            "verify",
            "verify_release",
            release(json!({"ref": "deploy.build"})),
            &[],
            json!("output.healthy"),
        ),
    ];
    let migrate = step("migrate", "apply_migration", json!({}), &[], Value::Null);
    let patch = json!({"decision": {
        "kind": "patch", "reason": "the database lacks the migration that the build brings",
        "insert": [{"step": migrate, "before": ["smoke"]}], "replace": [], "drop": [],
    }});
    let models = ScriptedModels::answering([plan(&steps, json!({"ref": "deploy.live"})), patch]);
    let outcome = run(project.path(), &models, &[("version", "1.4.3")]).await;
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.reason);
    assert_eq!(outcome.result, Some(json!("1.4.3")));
    assert!(outcome.steps.iter().all(|step| step.status == StepStatus::Succeeded));
    let [replan] = outcome.replans.as_slice() else { panic!("{:?}", outcome.replans) };
    assert_eq!((replan.decision.as_str(), replan.by.as_str()), ("patch", "model"));
    assert_eq!(outcome.usage.model_calls, 2);
    let log = std::fs::read_to_string(project.path().join("state/deploy.log")).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    let told = format!("{:?}", models.asked()[1].messages);
    assert!(told.contains("missing_migration") && models.asked().len() == 2, "{told}");
}
