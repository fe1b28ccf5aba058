//! Templates as tools.

use serde_json::json;

use crate::common::TestProject;

fn template(text: &str, more: &str) -> String {
    format!("[[template]]\nname = \"t\"\ntemplate = '''{text}'''\n{more}\n")
}

#[tokio::test]
async fn a_template_is_filled_with_the_input() {
    let project = TestProject::new(&[("report.j2", "{{ n }} <b>")]);
    let text = "{% for row in rows %}{{ row.id }}: {{ row.name }}\n{% endfor %}";
    let rows = json!({"rows": [{"id": 1, "name": "a & b"}, {"id": 2, "name": "c"}]});
    assert_eq!(
        project.call(&template(text, "as = \"report\""), rows.clone()).await,
        Ok(json!({"report": "1: a & b\n2: c\n"}))
    );
    assert_eq!(project.call(&template(text, ""), rows).await, Ok(json!({"text": "1: a & b\n2: c\n"})));
    let from_file = "[[template]]\nname = \"t\"\ntemplate_file = \"report.j2\"";
    assert_eq!(project.call(from_file, json!({"n": 3})).await, Ok(json!({"text": "3 <b>"})));
}

#[tokio::test]
async fn a_template_that_cannot_be_filled_is_a_failure() {
    let project = TestProject::new(&[]);
    for (text, code, part) in [
        ("{{ nobody }}", "template_error", "undefined"),
        (
            "{% for i in range(90000) %}{% for j in range(90000) %}{{ j }}{% endfor %}{% endfor %}",
            "template_error",
            "fuel",
        ),
        ("{% for i in range(90000) %}{{ big }}{% endfor %}", "output_too_large", "8 MiB"),
        ("{% include 'other' %}", "template_error", "other"),
    ] {
        let failure = project.failure(&template(text, ""), json!({"big": "x".repeat(1000)})).await;
        assert_eq!(failure.code, code, "{text}: {failure}");
        assert!(failure.message.contains(part), "{text}: {failure}");
    }
}

#[test]
fn a_template_that_does_not_parse_is_refused_when_it_is_loaded() {
    let project = TestProject::new(&[]);
    assert_eq!(project.load(&template("{{ a", "")).unwrap_err().field, "template");
    assert_eq!(project.load("[[template]]\nname = \"t\"").unwrap_err().field, "template");
}

#[test]
fn an_unnamed_text_is_no_artifact() {
    let project = TestProject::new(&[]);
    let output =
        |more: &str| project.load(&template("x", more)).unwrap().tools[0].descriptor().output.clone();
    assert_eq!(output(""), json!({"type": "object"}));
    assert_eq!(output("as = \"report\"")["properties"], json!({"report": {"type": "string"}}));
}
