//! The examples under `docs/examples`, each run on a copy as its README says.

use foreplan_tests::Project;

#[test]
fn support_report_prints_the_report_with_its_figures() {
    let project = Project::example("support-report");
    let done = project.foreplan(&["run"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(
        done.stdout.trim(),
        "This week, a total of 5 support tickets were handled. The most frequent issue was refund, appearing 3 \
         times. It is recommended to prioritize improving the refund workflow and FAQ copy."
    );
    let counts = &project.show("last")["steps"][1]["output"]["intent_counts"];
    assert_eq!(*counts, serde_json::json!({"refund": 3, "password": 1, "address": 1}));
}

#[test]
fn support_report_says_something_else_about_other_tickets() {
    let project = Project::example("support-report");
    project.write("tickets.json", r#"[{"intent": "login", "text": "?"}, {"intent": "login", "text": "!"}]"#);
    let done = project.foreplan(&["run"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("2 support tickets") && done.stdout.contains("login, appearing 2 times"));
}

#[test]
fn support_report_says_so_when_two_intents_tie() {
    let project = Project::example("support-report");
    project.write("tickets.json", r#"[{"intent": "login", "text": "?"}, {"intent": "refund", "text": "!"}]"#);
    let done = project.foreplan(&["run"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("2 issues tied for the most frequent: login and refund"), "{}", done.stdout);
}

#[test]
fn support_report_without_the_tool_that_counts_names_what_nobody_makes() {
    let project = Project::example("support-report");
    let text = project
        .read("foreplan.toml")
        .replace("output = { intent_counts = \"object\" }", "output = { other = \"object\" }");
    project.write("foreplan.toml", &text);
    let done = project.foreplan(&["run"]);
    assert_eq!(done.code, 4, "{}", done.stderr);
    assert!(done.stderr.contains("intent_counts"), "{}", done.stderr);
}

#[test]
fn release_paths_end_as_reality_says() {
    let project = Project::example("release-checklist");
    let run = |version: &str| {
        project.foreplan(&["run", "--param", &format!("version={version}"), "--approve", "auto"])
    };

    let plain = run("1.4.2");
    assert_eq!(plain.code, 0, "{}", plain.stderr);
    assert_eq!(project.show("last")["replans"], serde_json::json!([]));

    let repaired = run("1.4.3");
    assert_eq!(repaired.code, 0, "{}", repaired.stderr);
    let shown = project.show("last");
    assert_eq!(shown["replans"].as_array().map(Vec::len), Some(1), "{}", shown["replans"]);
    assert_eq!(shown["replans"][0]["decision"], "patch");
    assert_eq!(shown["replans"][0]["by"], "rules");

    let again = run("1.4.3");
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(project.show("last")["replans"], serde_json::json!([]));

    let failed = run("1.5.0");
    assert_eq!(failed.code, 10, "{}", failed.stderr);
    let shown = project.show("last");
    let status = |id: &str| {
        let steps = shown["steps"].as_array().unwrap();
        steps.iter().find(|s| s["id"].as_str().unwrap().starts_with(id)).unwrap()["status"].clone()
    };
    assert_eq!(status("deploy"), "succeeded");
    assert_eq!(status("verify"), "failed");

    let unknown = run("9.9.9");
    assert_eq!(unknown.code, 10, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("no such release"), "{}", unknown.stderr);

    assert_eq!(project.read("state/deploy.log").lines().count(), 4, "one line for each deploy that happened");
}

#[test]
fn release_waits_for_approval_without_a_terminal() {
    let project = Project::example("release-checklist");
    let done = project.foreplan(&["run", "--param", "version=1.4.2"]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("foreplan approve"), "{}", done.stderr);
    assert_eq!(project.read("state/deploy.log"), "");

    let shown = project.show("last");
    assert_eq!(shown["status"], "waiting");
    assert_eq!(shown["waiting_for"]["kind"], "plan_approval");
    let digest = shown["waiting_for"]["digest"].as_str().unwrap().to_owned();

    let moved = format!("sha256:{}", "0".repeat(64));
    let refused = project.foreplan(&["approve", "last", "--digest", &moved]);
    assert_ne!(refused.code, 0, "{}", refused.stderr);

    let approved = project.foreplan(&["approve", "last", "--digest", &digest]);
    assert_eq!(approved.code, 0, "{}", approved.stderr);
    assert_eq!(project.read("state/deploy.log").lines().count(), 1);
    let verified = project.foreplan(&["audit", "last", "--verify"]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
}

#[test]
fn python_rest_api_is_scaffolded_and_answers_its_health_check() {
    let project = Project::example("python-rest-api");
    let done = project.foreplan(&["run", "--approve", "auto"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
}

#[test]
fn data_pipeline_retries_what_fails_once_and_leaves_each_effect_once() {
    let project = Project::example("data-pipeline");
    let done = project.foreplan(&["run", "--approve", "auto"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let shown = project.show("last");
    let steps = shown["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 12);
    assert_eq!(steps.iter().filter(|s| s["attempts"] == 2).count(), 1);
    assert_eq!(project.read("state/effects.log").lines().count(), 12);
}

#[test]
fn an_approval_of_one_version_is_none_of_another() {
    let project = Project::example("release-checklist");
    let planned = project.foreplan(&["plan", "--param", "version=1.4.2", "-o", "approved.json"]);
    assert_eq!(planned.code, 0, "{}", planned.stderr);

    let other = project.foreplan(&["apply", "approved.json", "--param", "version=1.4.3"]);
    assert_eq!(other.code, 4, "{}", other.stderr);
    assert!(other.stderr.contains("`version` changed"), "{}", other.stderr);
    assert_eq!(project.read("state/deploy.log"), "");

    let same = project.foreplan(&["apply", "approved.json"]);
    assert_eq!(same.code, 0, "{}", same.stderr);
    assert_eq!(project.read("state/deploy.log").lines().count(), 1);
}

#[test]
fn adoption_report_runs_offline_from_the_session_that_is_shipped_with_it() {
    let project = Project::example("adoption-report");
    let done = project.foreplan(&["run", "--replay-models", "session.jsonl"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("5 of the 6 that were asked run them"), "{}", done.stdout);
    let shown = project.show("last");
    assert_eq!(shown["steps"][0]["output"]["findings"].as_array().map(Vec::len), Some(3));
    assert_eq!(shown["usage"]["model_calls"], 5);
    assert_eq!(shown["usage"]["react_calls_at_least"], 4);
}

#[test]
fn adoption_report_with_other_data_is_not_in_the_session_and_says_so() {
    let project = Project::example("adoption-report");
    project.write("survey.csv", "company,size,industry,stage\nC01,small,retail,none\n");
    let done = project.foreplan(&["run", "--replay-models", "session.jsonl"]);
    assert_eq!(done.code, 10, "{}", done.stderr);
    assert!(done.stderr.contains("session"), "{}", done.stderr);
}
