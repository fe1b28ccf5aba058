//! Bad input: a clear error at its place, and nothing lost.

use crate::support::Transcript;

#[test]
fn a_wrong_project_file_is_shown_at_its_line() {
    let mut t = Transcript::of("chain");
    t.replace("foreplan.toml", "effect = \"idempotent\"", "efect = \"idempotent\"");
    t.foreplan("run");
    t.replace("foreplan.toml", "efect = \"idempotent\"", "effect = \"harmless\"");
    t.foreplan("tools");
    t.replace("foreplan.toml", "effect = \"harmless\"", "timeout = 3");
    t.foreplan("doctor");
    t.golden("wrong-project-file");
}

#[test]
fn a_wrong_plan_is_shown_at_its_step() {
    let mut t = Transcript::of("chain");
    for (name, text) in [
        ("not-json.json", "steps:"),
        ("twice.json", r#"{"format": 1, "steps": [], "steps": []}"#),
        ("large.json", r#"{"format": 9007199254740993, "steps": []}"#),
        ("shape.json", r#"{"format": 1, "steps": [{"id": "a", "tool": "draft", "nedds": []}]}"#),
        (
            "cycle.json",
            r#"{"format": 1, "steps": [{"id": "a", "tool": "draft", "needs": ["b"]},
                {"id": "b", "tool": "draft", "needs": ["a"]}]}"#,
        ),
        (
            "same-id.json",
            r#"{"format": 1, "steps": [{"id": "a", "tool": "draft"}, {"id": "a", "tool": "draft"}]}"#,
        ),
        (
            "wrong.json",
            r#"{"format": 1, "steps": [{"id": "a", "tool": "drfat"},
                {"id": "b", "tool": "publish", "input": {"text": 5}},
                {"id": "c", "tool": "publish", "input": {"text": {"$ref": "d.text"}}}]}"#,
        ),
    ] {
        t.write(name, text);
        t.foreplan(&format!("check {name}"));
    }
    t.golden("wrong-plan");
}

#[test]
fn what_names_nothing_is_refused_and_says_what_there_is() {
    let mut t = Transcript::of("release");
    t.foreplan("runs");
    assert!(!t.path(".foreplan").exists(), "looking makes no store");
    t.foreplan("run --param verison=2");
    t.foreplan("run --goal 'something else' --produce x --param version=1 --key k --detach");
    t.foreplan("show 123456");
    t.foreplan("show last123 --context");
    t.foreplan("answer last build yes");
    t.foreplan("approve last deploy --digest sha256:12");
    t.foreplan("cancel last --reason enough");
    t.foreplan("pause last");
    t.foreplan("resume last");
    t.foreplan("retry last --from biuld");
    t.golden("refusals");
}

#[test]
fn a_journal_that_was_edited_is_named_and_not_continued() {
    let mut t = Transcript::of("chain");
    t.foreplan("run");
    let store = rusqlite::Connection::open(t.path(".foreplan/journal.db")).unwrap();
    let changed = "update entries set bytes = cast(replace(cast(bytes as text), 'teh end', 'the end') as blob) where seq = 3";
    assert_eq!(store.execute(changed, []).unwrap(), 1);
    drop(store);
    t.say("somebody changes what entry 3 says");
    t.foreplan("audit last --verify");
    t.foreplan("show last");
    t.foreplan("retry last");
    t.golden("edited-journal");
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let mut t = Transcript::of("chain");
    t.foreplan("run");
    let store = rusqlite::Connection::open(t.path(".foreplan/journal.db")).unwrap();
    store.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    t.foreplan("runs");
    t.foreplan("run");
    t.golden("newer-store");
}
