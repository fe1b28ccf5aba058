//! Files as tools.

use serde_json::json;

use crate::common::TestProject;

fn file(path: &str, more: &str) -> String {
    format!("[[file]]\nname = \"t\"\npath = \"{path}\"\n{more}\n")
}

#[tokio::test]
async fn a_file_is_read_as_its_extension_says() {
    let project = TestProject::new(&[
        ("a.json", "{\"a\": [1]}"),
        ("a.jsonl", "{\"a\": 1}\n\n[2]\n"),
        ("a.csv", "id,name\n1,x\n2,\"y, z\"\n"),
        ("a.txt", "hello\n"),
    ]);
    for (path, content, schema) in [
        ("a.json", json!({"a": [1]}), json!({})),
        ("a.jsonl", json!([{"a": 1}, [2]]), json!({"type": "array"})),
        (
            "a.csv",
            json!([{"id": 1, "name": "x"}, {"id": 2, "name": "y, z"}]),
            json!({"type": "array", "items": {"type": "object"}}),
        ),
        ("a.txt", json!("hello\n"), json!({"type": "string"})),
    ] {
        let tool = file(path, "as = \"content\"");
        assert_eq!(project.call(&tool, json!({})).await, Ok(json!({"content": content})));
        let descriptor = project.load(&tool).unwrap().tools[0].descriptor().clone();
        assert_eq!(
            descriptor.output,
            json!({"type": "object", "properties": {"content": schema}, "required": ["content"]})
        );
        assert_eq!(descriptor.effect, foreplan_core::tool::Effect::Read);
    }
    assert_eq!(
        project.call(&file("a.csv", "format = \"text\""), json!({})).await.unwrap()["t"],
        "id,name\n1,x\n2,\"y, z\"\n"
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let project = TestProject::new(&[
        ("twice.json", "{\"a\": 1,\n \"a\": 2}"),
        ("broken.jsonl", "{}\n{"),
        ("short.csv", "a,b\n1\n"),
    ]);
    project.write("binary.txt", [0xff, 0xfe]);
    project.write("large.txt", vec![b'x'; 9 * 1024 * 1024]);
    for (path, code, part) in [
        ("missing.json", "file_not_found", "`missing.json`"),
        ("twice.json", "invalid_json", "stands twice"),
        ("broken.jsonl", "invalid_json", "line 2 of the file"),
        ("short.csv", "invalid_csv", "line: 2"),
        ("binary.txt", "invalid_utf8", "not UTF-8"),
        ("large.txt", "output_too_large", "8 MiB"),
    ] {
        let failure = project.failure(&file(path, ""), json!({})).await;
        assert_eq!(failure.code, code);
        assert!(failure.message.contains(part) && !failure.is_retryable(), "{failure}");
    }
}

#[tokio::test]
async fn a_file_outside_the_project_is_not_read() {
    let project = TestProject::new(&[]);
    for path in ["/etc/passwd", "../secret.json"] {
        assert_eq!(project.load(&file(path, "")).unwrap_err().field, "path");
    }
    std::os::unix::fs::symlink("/etc/passwd", project.dir.path().join("link.txt")).unwrap();
    assert_eq!(project.failure(&file("link.txt", ""), json!({})).await.code, "path_outside_project");
}

#[test]
fn a_digest_covers_the_path_and_not_the_content() {
    let project = TestProject::new(&[("a.json", "1")]);
    let digest = |path: &str| project.load(&file(path, "as = \"x\"")).unwrap().tools[0].descriptor().digest;
    let before = digest("a.json");
    project.write("a.json", "2");
    assert_eq!(digest("a.json"), before);
    assert_ne!(digest("b.json"), before);
}
