//! Every wrong project file is answered with its place and what to do.

use std::path::Path;

use foreplan_core::goal::{ApprovalMode, PlannerSpec};
use serde_json::json;

use super::*;

const RELEASE: &str = r#"
goal = "Release {version}"

[project]
name = "release"

[params.version]
type = "string"
description = "What to release"

[params.service]
default = "web"
enum = ["web", "api"]

[params.replicas]
type = "integer"
default = 2

[planner]
kind = "derive"
produce = ["report"]

[[replan.rules]]
when = 'failure.code == "missing_migration"'
insert = { id = "fix-{step}", tool = "apply_migration", input = {} }
times = 1

[[tools.command]]
name = "deploy"
command = ["true"]

[limits]
wall_time = "30m"
"#;

fn release() -> Project {
    Project::parse("/srv/release", RELEASE).unwrap()
}

fn problem(text: &str) -> Problem {
    match Project::parse("/srv/release", text) {
        Err(Error::Invalid(problem)) => *problem,
        other => panic!("not refused: {other:?}"),
    }
}

fn spec_problem(project: &Project, overrides: &Overrides) -> Problem {
    match project.spec(overrides) {
        Err(Error::Invalid(problem)) => *problem,
        other => panic!("not refused: {other:?}"),
    }
}

fn with_params(params: &[(&str, &str)]) -> Overrides {
    let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Overrides { params, ..Overrides::default() }
}

#[test]
fn a_project_file_becomes_a_run_spec() {
    let spec = release().spec(&with_params(&[("version", "1.4.2"), ("replicas", "3")])).unwrap();
    assert_eq!(spec.goal, "Release 1.4.2");
    assert_eq!(spec.project, "release");
    assert_eq!(
        serde_json::Value::Object(spec.params),
        json!({"version": "1.4.2", "service": "web", "replicas": 3})
    );
    assert_eq!(spec.planner, PlannerSpec::Derive { produce: vec!["report".into()] });
    assert_eq!(spec.approval.mode, ApprovalMode::Risky);
    assert_eq!(spec.limits.wall_time.as_secs(), 1800);
    assert_eq!(spec.replan.rules.len(), 1);
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_valid_key() {
    let found = problem("goal = \"x\"\n\n[planner]\nkind = \"derive\"\nprodcue = [\"a\"]\n");
    assert_eq!(found.at(), Some((5, 1)));
    assert_eq!(found.key, "planner.prodcue");
    assert_eq!(found.fix.as_deref(), Some("did you mean `produce`?"));
    assert_eq!(
        found.to_string(),
        "/srv/release/foreplan.toml:5:1: `planner.prodcue`: unknown key `prodcue`\n  \
         |\n5 | prodcue = [\"a\"]\n  | ^^^^^^^"
    );
}

#[test]
fn an_unknown_section_names_the_nearest_one() {
    let found = problem("[planer]\nkind = \"derive\"\n");
    assert_eq!((found.at(), found.fix.as_deref()), (Some((1, 2)), Some("did you mean `planner`?")));
}

#[test]
fn a_wrong_type_names_its_line() {
    let found = problem("[limits]\nsteps = \"many\"\n");
    assert_eq!((found.at(), found.key.as_str()), (Some((2, 9)), "limits.steps"));
    assert!(found.message.contains("invalid type"), "{found}");
}

#[test]
fn a_wrong_word_names_those_that_are_possible() {
    let found = problem("[approval]\nmode = \"riskey\"\n");
    assert_eq!(found.key, "approval.mode");
    assert!(found.fix.as_deref().is_some_and(|fix| fix.contains("`risky`")), "{found:?}");
}

#[test]
fn a_wrong_duration_shows_what_one_looks_like() {
    let found = problem("[approval]\ntimeout = \"soon\"\n");
    assert!(found.to_string().contains("not a duration like `30s`"), "{found}");
    assert_eq!(found.at().map(|(line, _)| line), Some(2));
}

#[test]
fn text_that_is_not_toml_names_line_and_column() {
    let found = problem("goal = \"x\n");
    assert_eq!(found.at().map(|(line, _)| line), Some(1));
    assert!(found.message.starts_with("this is not TOML"), "{found}");
}

#[test]
fn a_rule_with_two_answers_is_refused_at_its_place() {
    let found = problem("[[replan.rules]]\nwhen = \"true\"\nretry = true\nskip = true\n");
    assert_eq!(found.key, "replan.rules[0]");
    assert_eq!(found.at().map(|(line, _)| line), Some(1));
    let found = problem("[[replan.rules]]\nwhen = \"failure.\"\nretry = true\n");
    assert_eq!((found.key.as_str(), found.at().map(|(line, _)| line)), ("replan.rules[0].when", Some(2)));
}

#[test]
fn a_default_that_its_enum_does_not_allow_is_refused() {
    let found = problem("[params.service]\ndefault = \"wbe\"\nenum = [\"web\", \"api\"]\n");
    assert_eq!((found.key.as_str(), found.at().map(|(line, _)| line)), ("params.service.default", Some(2)));
    assert!(found.fix.as_deref().is_some_and(|fix| fix.contains("did you mean `web`?")));
}

#[test]
fn a_specialist_with_an_unknown_tool_is_refused() {
    let found = problem(
        "[[tools.command]]\nname = \"deploy\"\ncommand = [\"true\"]\n[[specialists]]\ncapability = \"ci\"\ntools = [\"deplyo\"]\n",
    );
    assert_eq!((found.key.as_str(), found.at().map(|(line, _)| line)), ("specialists[0].tools", Some(6)));
    assert_eq!(found.fix.as_deref(), Some("did you mean `deploy`?"));
}

#[test]
fn params_are_read_by_their_type() {
    let project = release();
    let found = spec_problem(&project, &with_params(&[("version", "1"), ("replicas", "two")]));
    assert_eq!(
        (found.key.as_str(), found.message.as_str()),
        ("params.replicas", "`two` is not an integer like 3")
    );
    let found = spec_problem(&project, &with_params(&[("version", "1"), ("replicas", "9007199254740993")]));
    assert!(found.message.contains("beyond 2^53-1"));
    let found = spec_problem(&project, &with_params(&[("version", "1"), ("service", "wbe")]));
    assert_eq!(found.fix.as_deref(), Some("did you mean `web`? Allowed: web, api"));
}

#[test]
fn an_unknown_param_names_the_nearest_and_a_missing_one_its_flag() {
    let project = release();
    let found = spec_problem(&project, &with_params(&[("versoin", "1")]));
    assert_eq!(found.fix.as_deref(), Some("did you mean `version`?"));
    let found = spec_problem(&project, &Overrides::default());
    assert_eq!(found.fix.as_deref(), Some("give it: --param version=…"));
    assert_eq!(found.at().map(|(line, _)| line), Some(7));
}

#[test]
fn params_given_where_no_project_declares_any_miss_the_project() {
    let absent = Project::absent("/srv/x");
    assert_eq!(absent.given(&[]).unwrap().len(), 0);
    let error = absent.given(&with_params(&[("version", "1")]).params).unwrap_err();
    assert!(matches!(&error, Error::NotFound { from } if from == Path::new("/srv/x")), "{error}");
}

#[test]
fn a_goal_that_names_no_param_is_refused_at_the_goal() {
    let project =
        Project::parse("/srv/x", "goal = \"a {verison}\"\n[params.version]\ndefault = \"1\"\n").unwrap();
    let overrides = Overrides { produce: vec!["x".into()], ..Overrides::default() };
    assert_eq!(spec_problem(&project, &overrides).fix.as_deref(), Some("did you mean `version`?"));
    let project = Project::parse("/srv/x", "goal = \"a {{b}} { c }\"\n").unwrap();
    assert_eq!(project.spec(&overrides).unwrap().goal, "a {b} { c }");
}

#[test]
fn derive_does_not_take_a_goal_without_artifacts() {
    let mut overrides = with_params(&[("version", "1")]);
    overrides.goal = Some("another".into());
    let found = spec_problem(&release(), &overrides);
    assert_eq!(found.fix.as_deref(), Some("name the artifacts wanted as well: --produce NAME"));
    overrides.produce = vec!["summary".into()];
    assert_eq!(
        release().spec(&overrides).unwrap().planner,
        PlannerSpec::Derive { produce: vec!["summary".into()] }
    );
}

#[test]
fn a_runbook_is_read_and_its_plan_checked_for_form() {
    let folder = tempfile::tempdir().unwrap();
    let text = "goal = \"x\"\n[planner]\nkind = \"runbook\"\nplan = \"plan.json\"\n";
    let project = Project::parse(folder.path(), text).unwrap();
    assert!(matches!(project.spec(&Overrides::default()), Err(Error::Read { .. })));
    std::fs::write(folder.path().join("plan.json"), r#"{"format": 1, "steps": [], "steps": []}"#).unwrap();
    assert!(spec_problem(&project, &Overrides::default()).message.contains("`steps` stands twice"));
    std::fs::write(folder.path().join("plan.json"), r#"{"format": 1, "steps": [{"id": "a", "tool": "t"}]}"#)
        .unwrap();
    assert!(matches!(
        project.spec(&Overrides::default()).unwrap().planner,
        PlannerSpec::Runbook { plan } if plan.steps.len() == 1
    ));
}

#[test]
fn the_nearest_project_above_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(folder.path().join(FILE_NAME), "").unwrap();
    assert_eq!(find(&deep).unwrap(), folder.path());
    assert_eq!(find(&folder.path().join(FILE_NAME)).unwrap(), folder.path());
}

#[test]
fn a_tool_that_cannot_be_made_is_refused_at_its_key() {
    let refused = |text: &str| match Project::parse("/srv/x", text).unwrap().toolbox() {
        Err(Error::Invalid(problem)) => (problem.key.clone(), problem.at().map(|(line, _)| line)),
        other => panic!("not refused: {other:?}"),
    };
    let jq = "[[tools.jq]]\nname = \"a\"\nfilter = \".\"\n";
    assert_eq!(refused(&format!("{jq}{jq}")), ("tools.jq[1].name".to_owned(), Some(5)));
    let broken = "[[tools.jq]]\nname = \"a\"\nfilter = \".[\"\n";
    assert_eq!(refused(broken), ("tools.jq[0].filter".to_owned(), Some(3)));
    let verify = "[[tools.command]]\nname = \"d\"\ncommand = [\"true\"]\nverify = \"gone\"\n";
    assert_eq!(refused(verify), ("tools.command[0].verify".to_owned(), Some(4)));
}
