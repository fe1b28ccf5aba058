//! What can be found wrong before any call.

use std::time::Duration;

use foreplan_core::tool::Effect;
use foreplan_tools::declare::Declarations;
use serde_json::json;

use crate::common::{TestProject, name};

fn command(more: &str) -> String {
    format!("[[command]]\nname = \"t\"\n{more}\n")
}

#[test]
fn a_declaration_says_all_that_a_tool_is() {
    let project = TestProject::new(&[]);
    let tools = project
        .load(
            r#"
            [[command]]
            name = "deploy"
            description = "Deploys"
            command = ["sh", "deploy.sh", "{version}"]
            input = { version = "string", service = "string?" }
            effect = "idempotent"
            verify = "is_deployed"
            writes = ["service:{service}"]
            timeout = "2m"
            env = ["PATH"]
            cost = 5
            as = { text = "deployment" }
            "#,
        )
        .unwrap()
        .tools;
    let tool = tools[0].descriptor();
    assert_eq!(
        (tool.name.as_str(), tool.description.as_str(), tool.effect, tool.cost),
        ("deploy", "Deploys", Effect::Idempotent, 5)
    );
    assert_eq!(tool.verify, Some(name("is_deployed")));
    assert_eq!(tool.writes, ["service:{service}"]);
    assert_eq!(tool.timeout, Some(Duration::from_secs(120)));
    assert_eq!(tool.artifacts.get("text").map(String::as_str), Some("deployment"));
    assert_eq!(tool.output["properties"], json!({"text": {"type": "string"}}));
    assert_eq!(
        tool.input,
        json!({
            "type": "object",
            "properties": {"version": {"type": "string"}, "service": {"type": "string"}},
            "required": ["version"],
            "additionalProperties": false,
        })
    );
}

#[test]
fn what_is_not_declared_is_irreversible_and_follows_from_the_placeholders() {
    let project = TestProject::new(&[]);
    let tools = project.load(&command("command = [\"deploy\", \"{version}\"]")).unwrap().tools;
    let tool = tools[0].descriptor();
    assert_eq!((tool.effect, tool.cost), (Effect::Irreversible, 1));
    assert_eq!(tool.input["required"], json!(["version"]));
    assert_eq!(tool.output, json!({"type": "object"}));
}

#[test]
fn a_schema_may_be_a_file() {
    let schema = json!({"type": "object", "required": ["a"]});
    let project = TestProject::new(&[("in.json", &schema.to_string()), ("broken.json", "{")]);
    let tools = project.load(&command("command = [\"x\"]\ninput_schema = \"in.json\"")).unwrap().tools;
    assert_eq!(tools[0].descriptor().input, schema);
    for path in ["missing.json", "broken.json", "../in.json"] {
        let error =
            project.load(&command(&format!("command = [\"x\"]\ninput_schema = \"{path}\""))).unwrap_err();
        assert_eq!(error.field, "input_schema");
        assert!(error.message.contains(path), "{error}");
    }
}

#[test]
fn a_mistake_is_named_with_its_tool_and_key() {
    let project = TestProject::new(&[]);
    for (declaration, field, part) in [
        ("command = []", "command", "at least a program"),
        ("command = [\"{program}\"]", "command", "must not choose the program"),
        ("command = [\"sh\", \"-c\", \"echo {a}\"]", "command", "is code"),
        ("command = [\"x\", \"{a}\"]\ninput = { b = \"string\" }", "command", "no field of `input`"),
        ("command = [\"x\", \"{a}\"]\ninput = { a = \"string?\" }", "command", "is optional"),
        ("command = [\"x\"]\nas = \"report\"", "as", "as = { text = \"report\" }"),
        ("command = [\"x\"]\ninput = {}\ninput_schema = \"a.json\"", "input_schema", "keep one"),
        ("command = [\"x\"]\nfiles = [\"missing\"]", "files", "`missing`"),
    ] {
        let error = project.load(&command(declaration)).unwrap_err();
        assert_eq!((error.tool.as_str(), error.field), ("t", field), "{error}");
        assert!(error.message.contains(part), "{error}");
    }
    let error = project.load("[[file]]\nname = \"a/b\"\npath = \"x\"").unwrap_err();
    assert_eq!(error.field, "name");
}

#[test]
fn unknown_keys_are_refused_where_they_stand() {
    for (text, part) in [
        ("[[comand]]\nname = \"t\"", "`comand`"),
        ("[[command]]\nname = \"t\"\ncommand = []\nefect = \"read\"", "`efect`"),
        ("[[command]]\nname = \"t\"\ncommand = []\neffect = \"write\"", "`write`"),
        ("[[jq]]\nname = \"t\"", "`filter`"),
        ("[[jq]]\nname = \"t\"\nfilter = \".\"\ninput = { a = \"list\" }", "`list` is no type"),
        ("[[command]]\nname = \"t\"\ncommand = []\ntimeout = \"soon\"", "`soon` is not a duration"),
    ] {
        let error = toml::from_str::<Declarations>(text).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("line "), "{error}");
    }
}

#[cfg(not(feature = "http"))]
#[test]
fn a_build_without_requests_says_so() {
    let error = TestProject::new(&[]).load("[[http]]\nname = \"t\"\nurl = \"http://a\"").unwrap_err();
    assert!(error.message.contains("feature `http`"), "{error}");
}
