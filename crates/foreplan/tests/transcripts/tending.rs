//! Starting a project, looking at it, being told, tidying up.

use std::fs;

use crate::support::Transcript;

#[test]
fn every_template_runs_without_an_edit() {
    let mut t = Transcript::empty();
    for template in ["report", "commands"] {
        t.foreplan(&format!("init {template} --template {template}"));
        t.foreplan(&format!("run {template}"));
    }
    t.foreplan("init report");
    t.foreplan("init other --template reprot");
    t.golden("init");
}

#[test]
fn a_project_says_what_it_has_and_what_is_missing() {
    let mut t = Transcript::of("chain");
    t.foreplan("tools");
    t.foreplan("tools --name proofread");
    t.foreplan("tools --name proofred");
    t.replace("foreplan.toml", "\"sh\", \"draft.sh\"", "\"no-such-program\"");
    t.foreplan("doctor");
    t.golden("tools-and-doctor");
}

#[test]
fn what_was_printed_and_added_can_be_looked_at_and_old_runs_go() {
    let mut t = Transcript::of("chain");
    t.foreplan("run");
    t.foreplan("logs last");
    t.foreplan("logs last proofread");
    t.foreplan("show last --context");
    t.foreplan("runs --stats");
    t.foreplan("watch last --exit-status");
    t.foreplan("prune --ended 1h");
    t.foreplan("prune --ended 0s --dry-run");
    t.foreplan("prune --ended 0s");
    t.foreplan("runs");
    assert_eq!(fs::read_dir(t.path(".foreplan/logs")).unwrap().count(), 0);
    t.golden("looking-and-pruning");
}

#[test]
fn who_should_know_is_told_when_a_run_waits() {
    let mut t = Transcript::of("release");
    let told =
        "[notify]\ncommand = [\"sh\", \"-c\", \"printf '%s' \\\"$1\\\" > told.txt\", \"sh\", \"{text}\"]\n";
    let project = fs::read_to_string(t.path("foreplan.toml")).unwrap();
    t.write("foreplan.toml", &format!("{project}\n{told}"));
    t.write(".env", "FOREPLAN_APPROVE=auto\nFOREPLAN_AS=grace\n");
    t.say(".env says FOREPLAN_APPROVE=auto and FOREPLAN_AS=grace");
    t.foreplan("run --param version='1.0; touch pwned'");
    t.say("told.txt:");
    t.say(&fs::read_to_string(t.path("told.txt")).unwrap().replace('\n', "\n# "));
    assert!(!t.path("pwned").exists(), "a placeholder is one argument");
    t.foreplan("answer last confirm no");
    t.golden("notify");
}

#[test]
fn the_same_key_is_the_same_run() {
    let mut t = Transcript::of("chain");
    t.write("text.txt", "the end");
    t.foreplan("run --key weekly");
    t.foreplan("run --key weekly");
    t.foreplan("runs");
    t.golden("key");
}

#[test]
fn one_run_of_a_group_waits_for_the_other() {
    let mut t = Transcript::of("report");
    let project = fs::read_to_string(t.path("foreplan.toml")).unwrap();
    t.write("foreplan.toml", &format!("{project}\n[concurrency]\ngroup = \"weekly\"\n"));
    let first = t.start_in_background("run");
    t.wait_for("started");
    let second = t.start_in_background("run");
    second.wait_for("one runs at a time");
    t.write("go", "");
    t.ended(first);
    t.ended(second);
    t.golden("group");
}
