//! The reference pages name every verb, flag and key that there is.

use std::{collections::BTreeSet, path::Path};

use foreplan_tests::Project;
use serde_json::Value;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn help(args: &[&str]) -> String {
    let asked = Project::empty().foreplan(&[args, &["--help"]].concat());
    assert_eq!(asked.code, 0, "{asked:?}");
    asked.stdout
}

/// Returns the verbs below a help text: the first word of each line under `Commands:`.
fn verbs(text: &str) -> Vec<String> {
    let Some((_, commands)) = text.split_once("Commands:\n") else { return Vec::new() };
    let lines = commands.lines().take_while(|line| !line.is_empty());
    let verbs = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    verbs
        .filter_map(|line| line.split_whitespace().next())
        .filter(|v| *v != "help")
        .map(str::to_owned)
        .collect()
}

fn flags(text: &str) -> BTreeSet<String> {
    let words =
        text.lines().filter(|line| line.trim_start().starts_with('-')).flat_map(str::split_whitespace);
    let flags = words.filter(|word| word.starts_with("--")).map(|word| word.trim_end_matches([',', '.']));
    flags.filter(|flag| !["--help", "--version"].contains(flag)).map(str::to_owned).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[test]
fn the_page_of_the_command_line_names_every_verb_and_flag() {
    let page = page("cli.md");
    let mut missing = BTreeSet::new();
    let whole = help(&[]);
    assert!(verbs(&whole).len() > 20, "{whole}");
    for verb in verbs(&whole) {
        let text = help(&[&verb]);
        let below = verbs(&text);
        let texts = below.iter().map(|sub| help(&[&verb, sub])).chain([text.clone()]);
        let missed = texts.flat_map(|text| flags(&text)).filter(|flag| !has_word(&page, flag));
        missing.extend(missed.map(|flag| format!("{verb} {flag}")));
        missing.extend([verb].into_iter().chain(below).filter(|verb| !has_word(&page, verb)));
    }
    assert!(missing.is_empty(), "docs/reference/cli.md does not name: {missing:#?}");
}

fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get("properties") {
                found.extend(properties.keys().cloned());
            }
            fields.values().for_each(|value| keys(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn the_page_of_the_project_file_names_every_key() {
    // A rule may insert a step: its keys are those of a plan.
    let pages = [page("project-file.md"), page("plan.md")].concat();
    let printed = Project::empty().foreplan(&["schema", "project"]);
    let schema: Value = serde_json::from_str(&printed.stdout).expect("a schema");
    let mut found = BTreeSet::new();
    keys(&schema, &mut found);
    assert!(found.len() > 60, "{found:?}");
    found.retain(|key| !has_word(&pages, key));
    assert!(found.is_empty(), "docs/reference/project-file.md does not name: {found:#?}");
}
